"""Checks in a user's forward, and constants that it computes with: what a trace cannot see, and does not need to.

A branch whose other side only raises is no decision: `if not torch.isfinite(x).all(): raise ...`. Such places are found
by running the forward on real samples, and again with one answer turned around. From then on the forward is called as
if its checks passed. A branch that does anything but raise stays a decision, which a trace refuses.
"""

from __future__ import annotations

import dis
import itertools
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Checks", "find_checks"]

_Place = tuple[str, object, str]  # a file, an expression or line in it, and what is asked for there

_NOT_THE_USERS = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), "<frozen")
# Of the samples, at which a value must be the same to be one of the model's own, as far as the forward takes them.
_FACTORS = (-0.5, 0.0, 300.0, 0.5)
_NUMBERS = {"__float__": float, "__int__": int, "__index__": int, "item": None, "nonzero": None}


@dataclass
class _Seen:
    """What a forward asked its tensors for, by place: answers, and values; and the lines of the places."""

    answers: dict[_Place, set[bool]] = field(default_factory=dict)
    values: dict[_Place, list[Any]] = field(default_factory=dict)
    lines: dict[_Place, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Checks:
    """Answers at which the checks of a forward pass, and values that no sample changes, by place in its code.

    Attributes:
        decision: Where it decides something else, " (file.py, line 3: `code`)"; "" if it does not.
        number: Where it takes a number out of a tensor of samples, likewise.
        fixed: Where it takes out one that seems to be the model's own, as no sample has changed it yet, likewise.
    """

    answers: Mapping[_Place, bool] = field(default_factory=dict)
    values: Mapping[_Place, Any] = field(default_factory=dict)
    decision: str = ""
    number: str = ""
    fixed: str = ""

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Call the forward within, as if its checks passed; nothing is changed where it has none."""
        if not self.answers and not (self.values and torch.compiler.is_exporting()):
            yield
            return
        usual = torch.SymBool.__bool__
        torch.SymBool.__bool__ = _symbolic(self, usual)  # type: ignore[method-assign]
        try:
            with _Answering(self):
                yield
        finally:
            torch.SymBool.__bool__ = usual  # type: ignore[method-assign]


def find_checks(call: Callable[[float], Any]) -> Checks:
    """Run a forward on real samples, times a factor, to see what it asks for; nothing if it raises by itself."""
    seen = _Seen()
    try:
        with _Answering(Checks(), seen):
            call(1.0)
    except Exception:  # it is told where the forward is called next
        return Checks()
    single = {place: answers.copy().pop() for place, answers in seen.answers.items() if len(answers) == 1}
    checks = {place: answer for place, answer in single.items() if _only_raises(call, place, not answer)}
    decisions = [_line(place[0], seen.lines[place]) for place in seen.answers if place not in checks]
    values = _constants(call, Checks(checks), seen) if seen.values else {}
    lines = {place: _line(place[0], seen.lines[place]) for place in seen.values if place in seen.lines}
    numbers = [line for place, line in lines.items() if place not in values and place[2] != "mask"]
    fixed = [line for place, line in lines.items() if place in values]
    return Checks(checks, values, *("".join(found[:1]) for found in (decisions, numbers, fixed)))


def _line(file: str, number: int) -> str:
    code = linecache.getline(file, number).strip()
    return f" ({Path(file).name}, line {number}: `{code}`)"


def _only_raises(call: Callable[[float], Any], place: _Place, answer: bool) -> bool:
    """Whether the other side of a branch is a `raise` or `assert` of the user's."""
    try:
        with _Answering(Checks({place: answer}), once=True):
            call(1.0)
    except Exception as error:  # ours, which tells what it was called with, is raised from the user's
        last: Any = (error.__cause__ or error).__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        code = last.tb_frame.f_code
        raised = dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
        return raised and (code is torch._assert.__code__ or not code.co_filename.startswith(_NOT_THE_USERS))
    return False


def _constants(call: Callable[[float], Any], checks: Checks, first: _Seen) -> dict[_Place, Any]:
    """Values that are the same at every call and for other samples, such as a mask of the model's own."""
    found, others = {place: values[0] for place, values in first.values.items()}, 0
    for factor in (1.0, *_FACTORS):
        again = _Seen()
        try:
            with _Answering(checks, again):
                call(factor)
        except Exception:  # the user's own code, on samples as it never has them: that says nothing of its values
            continue
        others += factor not in (1.0, 0.0)
        found = {
            place: value
            for place, value in found.items()
            if place in again.values and all(_same(value, other) for other in again.values[place])
        }
    return found if others else {}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(torch.equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


class _Number(float):
    """A number taken out of a tensor, `x.max().item()`: comparing it asks for an answer as a tensor does."""

    answer: Callable[[bool], bool]

    def _compared(self, name: str, other: Any) -> Any:
        truth = getattr(float, name)(self, other)
        return truth if truth is NotImplemented else self.answer(truth)

    def __lt__(self, other: Any) -> Any:
        return self._compared("__lt__", other)

    def __le__(self, other: Any) -> Any:
        return self._compared("__le__", other)

    def __gt__(self, other: Any) -> Any:
        return self._compared("__gt__", other)

    def __ge__(self, other: Any) -> Any:
        return self._compared("__ge__", other)


class _Answering(TorchFunctionMode):
    """Answers where a forward asks tensors for true or false, numbers or places; with `seen`, notes them instead."""

    def __init__(self, checks: Checks, seen: _Seen | None = None, *, once: bool = False) -> None:
        super().__init__()
        self._checks, self._seen = checks, seen
        self._answers = dict(checks.answers)
        self._once = once  # a loop whose condition is turned around for good would never end

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        name, keywords = getattr(function, "__name__", ""), kwargs or {}
        if name == "__bool__" or (name == "item" and args[0].dtype == torch.bool):
            return self._answered(_place("answer"), lambda: function(*args, **keywords))
        if name == "_assert":  # its own `assert` would not be seen from here
            answer = self._answered(_place("answer"), lambda: bool(args[0]))
            return torch._assert(answer, *args[1:], **keywords)  # type: ignore[no-untyped-call]
        if name in _NUMBERS:
            return self._number(name, _place(name), lambda: function(*args, **keywords))
        if name == "__getitem__" and (masks := _masks(args[1])):
            return self._picked(function, args[0], args[1], masks)
        return function(*args, **keywords)

    def _answered(self, place: _Place, compute: Callable[[], Any]) -> Any:
        if place in self._answers:
            return self._answers.pop(place) if self._once else self._answers[place]
        answer = compute()
        if self._seen is not None and isinstance(answer, bool):
            self._seen.answers.setdefault(place, set()).add(answer)
            self._seen.lines[place] = _frame().f_lineno
        return answer

    def _number(self, name: str, place: _Place, compute: Callable[[], Any]) -> Any:
        if place in self._checks.values and torch.compiler.is_exporting():
            return self._checks.values[place]
        value = compute()
        if self._seen is not None:
            self._seen.values.setdefault(place, []).append(value)
            self._seen.lines[place] = _frame().f_lineno
        if name == "item" and type(value) is float:
            value = _Number(value)
            value.answer = self._compared
        return value

    def _compared(self, truth: bool) -> bool:
        return bool(self._answered(_place("comparison"), lambda: truth))

    def _picked(self, function: Any, x: torch.Tensor, index: Any, masks: list[torch.Tensor]) -> Any:
        """Elements where a mask holds: by their places, where the mask is a constant of the model."""
        place = _place("mask")
        if self._seen is not None:
            # where they hold, as a trace makes of a mask something that nobody knows
            self._seen.values.setdefault(place, []).append([k for mask in masks for k in mask.nonzero(as_tuple=True)])
            self._seen.lines[place] = _frame().f_lineno
        known = self._checks.values.get(place) if torch.compiler.is_exporting() else None
        if known is not None:
            rest, spread = iter(known), list[Any]()
            for part in index if isinstance(index, tuple) else (index,):
                spread += [next(rest) for _ in range(part.dim())] if _is_mask(part) else [part]
            index = tuple(spread)
        return function(x, index)


def _masks(index: Any) -> list[torch.Tensor]:
    return [part for part in (index if isinstance(index, tuple) else (index,)) if _is_mask(part)]


def _is_mask(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.dtype == torch.bool


def _frame() -> Any:
    """The frame of the user's code that asks for something: the one that is neither ours nor torch's."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frame = frame.f_back
    return frame


def _place(kind: str) -> _Place:
    """Where in the user's code something is asked for."""
    frame = _frame()
    # a comparison and the branch on it are two instructions, but on one line
    return (frame.f_code.co_filename, frame.f_lineno if kind == "comparison" else _instruction(frame), kind)


def _instruction(frame: Any) -> object:
    """Which expression of the source runs; Python 3.11 runs a call by another instruction once it has seen it often."""
    code = frame.f_code
    if sys.version_info < (3, 11):
        return frame.f_lasti
    return next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None))


def _symbolic(checks: Checks, usual: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """What stands for `bool` of a comparison with a number that a trace does not know."""

    def answered(value: Any) -> bool:
        known = checks.answers.get(_place("comparison"))
        return usual(value) if known is None else known

    return answered
