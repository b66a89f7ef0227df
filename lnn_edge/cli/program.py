"""The program `lnn-edge`: its parser, and what becomes an exit code and one line on standard error."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .. import __version__
from ..backends import BACKENDS, unfinished
from ..errors import BackendError, BackendUnavailable, BundleError, VerificationError
from ..files.staging import sweep
from ..files.whole import named_in_errors
from ..progress import tell
from ..wording import choices, in_a_shell
from .commands import bench, build, codegen, doctor, export, inspect, replay, run, verify
from .console import check_json_path, escape_what_is_unprintable, print_text, remarks, replace_closed_streams
from .exit_codes import BAD_BUNDLE, FAILED, INTERRUPTED, NOT_EQUAL, NOT_READY, OK, USAGE
from .os_errors import STANDARD_OUTPUT, is_of_the_machine, os_error_text
from .paths import check_paths, use_standard_names
from .signals import Stop, stoppable

__all__ = ["COMMANDS", "SUBJECT", "main"]

SUBJECT = "Liquid neural networks from ncps.torch to the robot: export, prove, stream, measure."
COMMANDS = (export, verify, inspect, build, codegen, run, replay, bench, doctor)
_EXIT_CODES = """exit codes:
  0 done; 1 unexpected error; 2 usage or bad input; 3 verification failed; 4 deadline or target missed;
  5 environment not ready; 6 bundle invalid; 130 interrupted; 129, 143 ended by a signal"""
_EXAMPLES = """examples:
  lnn-edge export train.py:make_model gait.lnn --weights gait.safetensors --period-s 0.1
  lnn-edge run gait.lnn --input walk.csv
  lnn-edge bench gait.lnn --rate 100
  lnn-edge doctor"""


# What a file that stands where no argument is wants to be, where the command has such an option: the first that fits.
_FILES = (
    ("--input", ("",)),
    ("--example", (".csv", ".npy", ".npz")),
    ("--weights", (".safetensors", ".pt", ".pth", ".pkl", ".ckpt")),
)


class _Parser(argparse.ArgumentParser):
    """Argparse, with the nearest valid name in its errors."""

    def _print_message(self, message: str, file: object = None) -> None:
        """Argparse's own swallows what goes wrong, so that help on a full disk would be a success."""
        if file is sys.stdout:
            with named_in_errors(STANDARD_OUTPUT):
                print_text(message)
        else:
            tell(message)

    def error(self, message: str) -> NoReturn:
        bad = re.search(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", message)
        unknown = re.search(r"unrecognized arguments: (-\S+)", message)
        if bad:
            names = re.findall(r"[\w.-]+", bad.group(3))
            message = f"{bad.group(1)} is '{bad.group(2)}'. {choices(bad.group(2), names)}"
        elif unknown:
            options = [option for action in self._actions for option in action.option_strings]
            message = f"unknown option '{unknown.group(1)}'. {choices(unknown.group(1).split('=')[0], options)}"
        tell(f"{self.prog}: {message}\nType: {self.prog} --help\n")
        raise SystemExit(USAGE)

    def options(self) -> dict[str, str]:
        """Options by the names that functions have for them: `--dt-range-s` for `dt_range_s`."""
        return {action.dest: action.option_strings[-1] for action in self._actions if action.option_strings}

    def refuse(self, unknown: Sequence[str], typed: argparse.Namespace) -> NoReturn:
        """Refuse what no argument takes; of a file's name say the option that takes it."""
        first = unknown[0]
        options = {option for action in self._actions for option in action.option_strings}
        wanted = next((option for option, ends in _FILES if option in options and first.endswith(ends)), None)
        if first.startswith("-") or wanted is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        bundle = getattr(typed, "bundle", None)
        begun = self.prog if bundle is None else f"{self.prog} {shlex.quote(bundle)}"
        advice = (
            f"Type: {begun} {wanted} {shlex.quote(first)}" if bundle else f"Pass it as {wanted} {shlex.quote(first)}"
        )
        self.error(f"unrecognized arguments: {' '.join(unknown)}. A file is named by its option. {advice}")


def _make_parser(typed: Sequence[str]) -> argparse.ArgumentParser:
    """Of the command that stands first, alone: the arguments of all nine take as long as to load a bundle."""
    parser = _Parser(
        prog="lnn-edge",
        description=SUBJECT,
        epilog=f"{_EXAMPLES}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lnn-edge {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for module in [own for own in COMMANDS if own.NAME in typed[:1]] or COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every failure ends with one line that says why and what to try."""
    replace_closed_streams()
    with stoppable() as stop:
        try:
            arguments = _parsed(argv)
        except SystemExit as end:  # `--help` has been printed, or what is wrong
            return _printed(end)
        except OSError as error:  # it could not be printed
            return _unprinted(error)
        except KeyboardInterrupt:
            stop.hold()
            return _interrupted(stop.exit_code)
        code = _guarded(arguments, stop)
        stop.hold()
    return stop.exit_code if code == INTERRUPTED else code


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    typed = sys.argv[1:] if argv is None else argv
    parser = _make_parser(typed)
    if not typed:  # who types the bare name asks what there is
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    arguments, unknown = parser.parse_known_args(typed)
    if unknown:
        arguments.parser.refuse(unknown, arguments)
    return arguments


def _printed(end: SystemExit) -> int:
    try:
        with named_in_errors(STANDARD_OUTPUT):
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            return _unprinted(error)
        _abandon_output()
    raise end


def _unprinted(error: OSError) -> int:
    _abandon_output()
    if isinstance(error, BrokenPipeError):
        return OK
    error.filename = STANDARD_OUTPUT
    return _failed(os_error_text(error), FAILED if is_of_the_machine(error) else USAGE)


def _guarded(arguments: argparse.Namespace, stop: Stop) -> int:
    try:
        _sweep_beside(getattr(arguments, "bundle", None))
        escape_what_is_unprintable()
        use_standard_names(arguments)
        check_paths(arguments)
        check_json_path(getattr(arguments, "json", None))
        code = _run(arguments, stop)
        with named_in_errors(STANDARD_OUTPUT):
            sys.stdout.flush()
    except KeyboardInterrupt:
        stop.hold()  # a second one, of an impatient hand, would end this with a traceback
        return _interrupted(stop.exit_code)
    except BrokenPipeError:  # the reader of our output has gone; that is its right
        _abandon_output()
        return OK
    except VerificationError as error:
        return _failed(error, NOT_EQUAL)
    except BundleError as error:
        return _failed(error, BAD_BUNDLE)
    except (BackendUnavailable, ImportError) as error:
        return _failed(error, NOT_READY)
    except BackendError as error:
        return _failed(error, FAILED)
    except OSError as error:
        _flush_or_abandon_output()
        return _failed(os_error_text(error), FAILED if is_of_the_machine(error) else USAGE)
    except (ValueError, TypeError) as error:
        return _failed(_in_options(error, arguments), USAGE)
    except MemoryError as error:
        return _failed(f"the memory does not suffice: {error}. Type fewer steps, rows or samples, or: free -h", FAILED)
    except Exception as error:  # the last line of defence: say that it is our fault, and keep the traceback
        traceback.print_exc()
        return _failed(f"unexpected error: {error!r}. Please report it with the text above", FAILED)
    return code


def _run(arguments: argparse.Namespace, stop: Stop) -> int:
    try:
        with remarks(), in_a_shell():
            code: int = arguments.run(arguments)
    except Exception as error:
        if stop.came:  # a library that was being imported makes an error of its own of it
            raise KeyboardInterrupt from error
        raise
    return code


def _in_options(error: Exception, arguments: argparse.Namespace) -> str:
    """The text of an error of a function with its arguments as the options that they were typed as."""
    told = _told(error)
    if arguments.run not in (export.run, verify.run):  # where a name between backticks may be that of a tensor
        return told
    options = arguments.parser.options()
    return re.sub(r"`(\w+)`", lambda found: options.get(found[1], found[0]), told)


def _flush_or_abandon_output() -> None:
    """Print what can still be printed; else Python would try once more at its end, and end with its own message."""
    try:
        sys.stdout.flush()
    except OSError:
        _abandon_output()


def _abandon_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sweep_beside(bundle: str | None) -> None:
    """Remove what a killed command left beside a bundle, whatever this one does."""
    if bundle is not None:
        with suppress(OSError, ValueError, RuntimeError):  # of such a path the command itself says what is wrong
            sweep(Path(bundle).resolve().parent)


def _interrupted(code: int) -> int:
    _failed("interrupted; nothing half-written is left", code)
    if any(unfinished(entry) for entry in BACKENDS):  # the user has said twice not to wait
        sys.stdout.flush()
        os._exit(code)
    return code


def _failed(reason: object, code: int) -> int:
    tell(f"lnn-edge: {_told(reason)}\n")
    return code


def _told(reason: object) -> str:
    notes = "".join(f" ({note})" for note in getattr(reason, "__notes__", ()))
    return f"{reason}{notes}"
