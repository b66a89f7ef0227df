"""Turn of a loop: from what its feed took to what the robot gets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from ....errors import StateError
from ....wording import choices, one_line
from ...guard.guarded import Guarded
from ...guard.outputs import as_output, safe_output
from ...guard.status import Status, Tick
from ..inputs.feed import Taken
from ..timer import Timer
from .functions import FunctionCounts, FunctionFault, UserFunction

__all__ = ["OnFault", "Turn"]

OnFault = Literal["hold", "safe", "stop"]
_ON_FAULT = ("hold", "safe", "stop")
_NO_FAULTS = frozenset({Status.OK, Status.LATE, Status.OFF_PACE, Status.WARMING_UP, Status.STOPPED})


class Turn:
    """Steps samples, and answers faults.

    Args:
        guarded: What steps.
        on_fault, before, after: As `Loop`.
        limit_ns: How long each function may take, nanoseconds.
        timer: The clock.
        note: Takes the kind and the fault of a function.
        leave: Takes the SystemExit of one.

    Attributes:
        fatal: Why the loop has to end, in words; `None` where it goes on.

    Raises:
        TypeError, ValueError: If an argument does not fit.
    """

    def __init__(
        self,
        guarded: Guarded,
        on_fault: OnFault | Callable[[Tick], Any] | None,
        before: Callable[[Any], Any] | None,
        after: Callable[[Tick], object] | None,
        limit_ns: int,
        timer: Timer,
        note: Callable[[str, object], None],
        leave: Callable[[SystemExit], object],
    ) -> None:
        self.fatal: str | None = None
        self._guarded, self._note = guarded, note
        self._safe = safe_output(guarded.model.manifest, guarded.guard.safe)
        self._answer = _answer(on_fault, guarded, self._safe)

        def timed(name: str, call: Callable[..., Any] | None) -> UserFunction | None:
            return None if call is None else UserFunction(name, call, limit_ns, timer, leave)

        self._before, self._after = timed("before", before), timed("after", after)
        self._on_fault = timed("on_fault", on_fault) if callable(on_fault) else None

    @property
    def functions(self) -> dict[str, FunctionCounts]:
        """What became of the functions that there are, by their place."""
        given = {"before": self._before, "after": self._after, "on_fault": self._on_fault}
        return {name: own.counts for name, own in given.items() if own is not None}

    def step(self, taken: Taken) -> Tick:
        """The tick of a sample, or of what there is in its place."""
        x, t_s, status, _ = taken
        try:
            if status is not None or self._before is not None:
                return self._step(taken)
            return self._guarded.tick(x, t_s=t_s)
        except StateError as error:  # the guard's policy is to raise
            return self._astray(x, error)
        except RuntimeError as error:  # another thread is using the stream
            return Tick(Status.FUNCTION_FAILED, self._fallback(), None, 0, False, None, x, error, False)

    def _step(self, taken: Taken) -> Tick:
        if self._guarded.stopped:
            return self._guarded.tick(None)
        if taken.status is not None:
            return self._guarded.miss(taken.status, taken.error, taken.x)
        x, fault = taken.x, None
        before = self._before
        if before is not None:
            found, fault = before(x), before.fault
            if fault is not None and fault.__cause__ is not None:  # it raised: there is no sample to step
                return self._guarded.miss(Status.FUNCTION_FAILED, fault, x)
            x = x if found is None else found
        try:
            tick = self._guarded.tick(x, t_s=taken.t_s)
        except StateError as error:
            tick = self._astray(x, error)
        return tick if fault is None else self._at_fault(tick, fault)

    def _astray(self, x: Any, error: StateError) -> Tick:
        """The last tick of a loop whose guard raises."""
        self.fatal = f"{Status.STATE_OUT_OF_BOUNDS.text}: {one_line(error)}"
        return Tick(Status.STATE_OUT_OF_BOUNDS, self._fallback(), None, 0, False, None, x, error, False)

    def answer(self, tick: Tick) -> Tick:
        """A tick as the robot gets it, and has got it."""
        if tick.status not in _NO_FAULTS:
            tick = self._answered(tick)
            if self._answer == "stop" and tick.status is not Status.FUNCTION_FAILED:  # these end no loop
                self.fatal = f"{tick.status.text}: {one_line(tick.error)}"
        after = self._after
        if after is not None:
            after(tick)
            if after.fault is not None:
                tick = self._at_fault(tick, after.fault)
        return tick

    def _at_fault(self, tick: Tick, fault: FunctionFault) -> Tick:
        """A tick during which a function failed; what was wrong with it before says more."""
        self._note(f"function `{fault.name}`", fault)
        return tick._replace(status=Status.FUNCTION_FAILED, error=fault) if tick.status in _NO_FAULTS else tick

    def _answered(self, tick: Tick) -> Tick:
        """A tick whose output cannot be trusted, with what the robot gets in its place."""
        if tick.status is Status.FUNCTION_FAILED and tick.stepped:  # a slow function: the output is right
            return tick
        function = self._on_fault
        if function is None:
            y = self._fallback(tick.y)
        else:
            y = self._answer_of(function, tick)
        if y is not tick.y:
            with suppress(RuntimeError):  # see `step`
                self._guarded.sent = y
        return tick._replace(y=y)

    def _answer_of(self, function: UserFunction, tick: Tick) -> Any:
        """The output that a function gives, the last one that could be trusted where it gives none."""
        found = function(tick)
        if found is not None:
            try:
                found = as_output(self._guarded.model.manifest, found)
            except Exception as error:  # an object that is no array may raise anything
                function.refuse(f"returned no output: {one_line(error)}", error)
                found = None
        if function.fault is not None:
            self._note("function `on_fault`", function.fault)
        return self._fallback() if found is None else found

    def _fallback(self, guards: Any = None) -> Any:
        """What the robot gets where there is no output to trust; `guards` is what the guard would give."""
        hold = self._guarded.hold
        if self._answer in ("guard", "stop"):
            if guards is not None:
                return guards
            return self._safe if self._guarded.guard.on_fault == "safe" or hold is None else hold
        return self._safe if self._answer == "safe" or hold is None else hold


def _answer(given: Any, guarded: Guarded, safe: Any) -> str:
    """How faults are answered: "guard" where it is the guard's choice.

    Raises:
        ValueError: If there is no such answer, or no safe output.
    """
    if given is None:
        return "guard"
    if callable(given):
        return "hold"
    if not isinstance(given, str) or given not in _ON_FAULT:
        raise ValueError(f"`on_fault` is {given!r}, expected a function or one of these. {choices(given, _ON_FAULT)}")
    if given == "safe" and safe is None:
        name = guarded.model.outputs[0].name
        raise ValueError(
            f"`on_fault` is 'safe', but '{guarded.model.name}' has no safe output. Type: "
            f"model.guarded(lnn_edge.Guard(safe={{{name!r}: (0.0, ...)}}))"
        )
    return str(given)
