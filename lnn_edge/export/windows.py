"""Windows: what a model that was trained on them gives when its state is kept, measured on the recorded samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..bundle.encoder import is_costly
from ..bundle.program import StepProgram
from ..bundle.spec import Readout, Tensor, Time
from ..reference.closed_loop import interpreted
from ..reference.interpreter import Interpreter
from ..runtime.readouts import LAST, read_out
from ..verify.excitation import excite
from ..verify.report import WindowFinding
from ..verify.samples import Excitation, SampleRequest

__all__ = ["equal_lengths", "find_window", "kept_state_changes"]

Recordings = Mapping[str, Sequence[Array]]  # per input, (T, batch, ...) each

_MOST_WINDOWS, _MOST_STEPS = 64, 1024  # of which at least three windows, as the first has no part in it
_MOST_COSTLY_STEPS = 96  # where the encoder of each step is costly
_FEWEST_RECORDINGS, _LONGEST_RECORDING = 8, 1024  # so many, so short: they are windows of something longer


@dataclass(frozen=True)
class _Cut:
    """Samples one after the other, where windows begin, and where a state that is kept begins anew."""

    inputs: dict[str, Array]
    windows: Array
    kept: Array


def find_window(
    step: StepProgram,
    inputs: Sequence[Tensor],
    time: Time,
    recorded: Recordings | None,
    windows: tuple[int, int] | None,
    readout: Readout | None,
) -> WindowFinding | None:
    """What a kept state changes, where the model is evaluated on windows, or its example looks like windows.

    Args:
        step: The step program.
        inputs: The inputs.
        time: How time enters.
        recorded: The example; without one, random samples stand in.
        windows: Length, and samples from one window to the next, if the user said so.
        readout: Of the outputs of a window.
    """
    length, every = windows or (equal_lengths(recorded),) * 2
    if length is None or every is None:
        return None
    if recorded is None:
        steps = _most(step, length) * length
        random = excite(SampleRequest(inputs, time, steps))
        recorded = {name: [value[:steps]] for name, value in random.inputs.items()}
    changes = kept_state_changes(step, inputs, time, recorded, length, readout)
    return WindowFinding(length, every, changes, windows is not None)


def equal_lengths(recorded: Recordings | None) -> int | None:
    """The length of the recordings if there are many equal short ones, as windows cut from a recording are."""
    lengths = [] if recorded is None else [len(rows) for rows in next(iter(recorded.values()))]
    many = len(lengths) >= _FEWEST_RECORDINGS and len(set(lengths)) == 1
    return lengths[0] if many and 2 <= lengths[0] <= _LONGEST_RECORDING else None


def kept_state_changes(
    step: StepProgram, inputs: Sequence[Tensor], time: Time, recorded: Recordings, window: int, readout: Readout | None
) -> dict[str, float]:
    """How far a kept state takes each output from what windows end in, in units of the output's standard deviation.

    The root mean square over the ends of windows that are not the first since the kept state began; the state is kept
    within recordings that hold several windows, and across shorter ones. In float64, so that rounding has no part in
    it. Empty if there are too few windows to tell, or an output never changes.
    """
    cut = _cut(recorded, window, _most(step, window))
    dt = None
    if time.mode == "measured":
        dt = np.full((len(cut.kept), inputs[0].shape[0], 1), time.period_s, np.float32)
    program = Interpreter(step)
    ends = np.arange(window - 1, len(cut.kept), window)
    later = np.flatnonzero(cut.kept[ends - window + 1] == 0)
    found = {}
    if len(later) < 2:
        return {}
    with np.errstate(all="ignore"):
        each, kept = (interpreted(program, Excitation(cut.inputs, dt, reset, ())) for reset in (cut.windows, cut.kept))
        for output in step.program.outputs:
            own = read_out(readout or LAST, each[output.name], cut.windows, ends[later]).astype(np.float64)
            # its last outputs are those of the newest window, whichever state they come from
            other = read_out(readout or LAST, kept[output.name], cut.windows, ends[later]).astype(np.float64)
            spread = own.std(axis=0)
            if np.isfinite(other).all() and spread.max() > 0:
                apart = np.sqrt(np.mean((other - own) ** 2, axis=0))
                found[output.name] = float((apart[spread > 0] / spread[spread > 0]).max())
    return found


def _most(step: StepProgram, window: int) -> int:
    """How many windows are looked at."""
    return min(_MOST_WINDOWS, max(3, (_MOST_COSTLY_STEPS if is_costly(step) else _MOST_STEPS) // window))


def _cut(recorded: Recordings, window: int, most: int) -> _Cut:
    """Whole windows one after the other, at most so many."""
    lengths = [len(rows) for rows in next(iter(recorded.values()))]
    counts, left = [], most
    for length in lengths:
        counts.append(min(length // window, left))
        left -= counts[-1]
    whole = [count * window for count in counts]
    inputs = {
        name: np.concatenate([own[:count] for own, count in zip(rows, whole, strict=True)])
        for name, rows in recorded.items()
    }
    total = sum(whole)
    windows, kept = np.zeros(total, np.uint8), np.zeros(total, np.uint8)
    windows[::window] = 1
    starts = np.cumsum([0, *whole])[:-1]
    kept[starts[np.array(counts) > 0] if max(counts) > 1 else 0] = 1
    return _Cut(inputs, windows, kept)
