"""The user's choices about a loop, and the arguments that say so."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from ..arguments.numbers import number, positive, whole
from ..guard_file import GUARD_HELP, read_guard

if TYPE_CHECKING:
    from ...bundle.spec import Guard
    from ...runtime.model import Model

Late = Literal["skip", "catch up", "at once"]

__all__ = ["Late", "Looping", "add_loop_arguments", "looping"]

_RATES_HZ = (1e-3, 1e5)
_LEAST_MB, _MOST_MB = 1.0, 1e9  # a chunk has up to 1 MiB, and a file is to have its state and some of them
_MOST_CPUS = 4096
_LATE: dict[str, Late] = {"skip": "skip", "catch-up": "catch up", "at-once": "at once"}
_FLAGS = (
    "rate",
    "wait",
    "late",
    "on_fault",
    "fresh",
    "record",
    "record_csv",
    "state_every",
    "record_mb",
    "guard",
    "realtime",
    "cpus",
)
_FEED_ALONE = ("reset_column", "window", "every")


class Looping(Struct, frozen=True):
    """The arguments of a loop; `None` for what a loop does by itself.

    Args:
        rate_hz: Ticks per second; `None` for a tick with each row.
        wait, late, on_fault, fresh_s: As `Loop` takes them.
        record: File for every tick.
        state_every: The state is recorded with each of so many ticks; 0 for no more than replay needs.
        record_csv: File for the same as CSV.
        record_mb: Size after which the next file of a recording begins, MB.
        guard: File with the policies.
        policies: Those that were typed, by the names of `Guard`.
        realtime: Whether the thread gets a real-time priority and its memory is locked.
        cpus: CPUs that it may run on.
    """

    rate_hz: float | None
    wait: Literal["sleep", "spin", "rehearse"]
    late: Late
    on_fault: Literal["hold", "safe", "stop"] | None
    fresh_s: float | None
    record: str | None
    record_csv: str | None
    state_every: int
    record_mb: float | None
    guard: str | None
    policies: dict[str, Any]
    realtime: bool
    cpus: list[int] | None

    def own_guard(self, model: Model) -> Guard:
        """The guard of the file, else of the bundle, with the policies that were typed.

        Raises:
            OSError, ValueError: If the file cannot be read or holds none.
        """
        from ...bundle.spec import Guard

        guard = read_guard(self.guard) or model.manifest.guard or Guard()
        return msgspec.structs.replace(guard, **self.policies)


def add_loop_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = parser.add_argument_group(
        "loop",
        "With one of these the command is a robot's loop: the stream is guarded, nothing that a row, a clock\n"
        "or a disk does wrong ends it, and each line of the results says what became of its tick.",
    )
    group.add_argument("--rate", type=number(*_RATES_HZ), metavar="HZ", help="ticks per second, on an exact schedule")
    group.add_argument(
        "--wait",
        choices=("sleep", "spin", "rehearse"),
        help="how to wait for a tick: sleep (default); spin, which stays awake for the last 0.2 ms before it; or "
        "rehearse, which wakes a little early and steps a copy of the model first, so that the real step finds a warm "
        "CPU",
    )
    group.add_argument(
        "--late",
        choices=tuple(_LATE),
        help="with --rate, what becomes of ticks whose time is over: skip them (default), run all, or the newest",
    )
    group.add_argument(
        "--on-fault",
        choices=("hold", "safe", "stop"),
        help="what the robot gets where no output can be trusted: hold, the last one that could; safe, the guard's "
        "safe output; or stop, which ends the command (default: what the guard says, else hold)",
    )
    group.add_argument(
        "--fresh",
        type=positive,
        metavar="SECONDS",
        help="how old a sample may be; until then the newest one is used again, then the tick is stale (default with "
        "--rate: ten ticks)",
    )
    group.add_argument("--record", metavar="FILE", help="write every tick to FILE.mcap, for `replay` and for viewers")
    group.add_argument("--record-csv", metavar="CSV", help="with --record, write the same to a new file CSV as well")
    group.add_argument(
        "--state-every",
        type=whole(0, 1 << 31),
        metavar="K",
        help="with --record, keep the state with each K-th tick (default 0: where a recording begins)",
    )
    group.add_argument(
        "--record-mb",
        type=number(_LEAST_MB, _MOST_MB),
        metavar="MB",
        help="with --record, begin the next file (FILE-0001.mcap) at so many MB, at least 1 (default: after some nine "
        "hours, so that the index stays small)",
    )
    group.add_argument("--guard", metavar="FILE", help=f"{GUARD_HELP} (default: the bundle's)")
    group.add_argument(
        "--realtime",
        action="store_true",
        default=None,
        help="give the loop a real-time priority and lock its memory, as far as this machine lets it; says what it "
        "does not let",
    )
    group.add_argument(
        "--cpus", type=_cpus, metavar="N[,N]", help="CPUs that the loop may run on, as in --cpus 3 (see docs/robot.md)"
    )


def _cpus(text: str) -> list[int]:
    parse = whole(0, _MOST_CPUS)
    return [parse(own) for own in text.split(",")]


def looping(arguments: argparse.Namespace) -> Looping | None:
    """What was typed about a loop, `None` if nothing was.

    Raises:
        ValueError: If it does not belong together.
    """
    if all(getattr(arguments, name) is None for name in _FLAGS):
        if arguments.on_gap in ("clamp", "split"):
            raise ValueError(f"--on-gap {arguments.on_gap} is a policy of a loop: pass --rate HZ, or --on-fault hold")
        return None
    for name in _FEED_ALONE:
        if getattr(arguments, name) is not None:
            other = _typed(arguments)
            raise ValueError(f"--{name.replace('_', '-')} belongs to rows without a loop: leave it or {other} out")
    if arguments.late is not None and arguments.rate is None:
        raise ValueError("--late belongs to a loop with --rate HZ: pass both")
    for name in ("record_csv", "state_every", "record_mb"):
        if getattr(arguments, name) is not None and arguments.record is None:
            raise ValueError(f"--{name.replace('_', '-')} says how --record FILE is written: pass both")
    return Looping(
        rate_hz=arguments.rate,
        wait=arguments.wait or "sleep",
        late=_LATE[arguments.late or "skip"],
        on_fault=arguments.on_fault,
        fresh_s=arguments.fresh,
        record=arguments.record,
        record_csv=arguments.record_csv,
        state_every=arguments.state_every or 0,
        record_mb=arguments.record_mb,
        guard=arguments.guard,
        policies=_policies(arguments),
        realtime=bool(arguments.realtime),
        cpus=arguments.cpus,
    )


def _typed(arguments: argparse.Namespace) -> str:
    """The first argument of a loop that was typed."""
    return next(f"--{name.replace('_', '-')}" for name in _FLAGS if getattr(arguments, name) is not None)


def _policies(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `--on-bad` and the like say, in the words of a guard.

    Raises:
        ValueError: If one says that the command is to stop, which has an argument of its own in a loop.
    """
    found: dict[str, Any] = {}
    for name, words in (("on_bad", {"skip": "refuse"}), ("on_late", {"drop": "refuse"}), ("on_gap", {})):
        typed = getattr(arguments, name)
        if typed == "stop":
            own = name.replace("_", "-")
            raise ValueError(f"--{own} stop: a loop goes on. To end it at any fault: --on-fault stop")
        if typed is not None:
            found[name] = words.get(typed, typed)
    if arguments.hold_for is not None:
        found["hold_for_s"] = arguments.hold_for
    return found
