"""The inputs that a step is proven on: recorded, random, constant, stepped and extreme samples, in several dt regimes.

Segments lie one after the other and each starts with a reset; so do the recordings inside the recorded segment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..arrays import Array
from ..bundle.spec import Tensor, Time
from ..given_numbers import MOST_STEPS, is_whole, whole_number
from .samples import Excitation, SampleRequest
from .tolerance import EXTREME

__all__ = ["DT_REGIMES", "SINGLE_STEPS", "check_steps", "excite", "excite_again", "steps_of_each"]

SINGLE_STEPS = "single steps"  # the segment of calls from states that exact arithmetic reaches, in a sensitive model


_SHORT = 4  # constant, stepped and extreme segments are this many times shorter than the others: they settle
_EXTREME = 10.0  # times the largest recorded magnitude
_CONSTANT_FOR = 64  # samples of a sequence where constants of many values are to be seen

_Part = tuple[str, dict[str, Array], Array, Array]  # a segment: its name, samples by input, dt and resets

DT_REGIMES = {  # with measured time: which dt each segment is stepped with
    "recorded": "the period with 20 % of jitter",
    "windows": "the period with 20 % of jitter",
    "random": "anything legal, log-uniform",
    "constant": "the period exactly",
    "step": "the period, one in ten after a gap",
    EXTREME: "the shortest and the longest legal",
}


def excite(request: SampleRequest) -> Excitation:
    """Build the samples.

    Raises:
        ValueError: If `steps` is below `least`, or no recording is as long as a call, or as a window.
    """
    check_steps(request.steps, request.least)
    rng, unroll = np.random.default_rng(request.seed), request.unroll
    steps, short = (-(-count // unroll) * unroll for count in (request.steps, max(1, request.steps // _SHORT)))
    scales = {t.name: _scale(request.recorded, t) for t in request.tensors}
    parts: list[_Part] = []
    if request.recorded is not None:
        recorded = {name: _whole_calls(rows, unroll, "call", "`unroll`") for name, rows in request.recorded.items()}
        request = dataclasses.replace(request, recorded=recorded)
        reset = _recorded_reset([len(r) for r in recorded[request.tensors[0].name]], steps)
        repeated = {t.name: _repeated(recorded[t.name], steps) for t in request.tensors}
        parts.append(("recorded", repeated, _jittered(rng, request.time, steps, request.rows), reset))
    if request.window is not None:
        parts.append(_windows(rng, request, scales, request.window, short))
    parts += _made(rng, request, scales, steps, short)
    return _joined(parts, request)


def steps_of_each(steps: int, recorded: bool) -> int:
    """Fewest steps of the random samples, and of recorded ones if there are some, with which `excite` makes `steps`.

    The three other kinds are `_SHORT` times shorter.
    """
    kinds = 1 + recorded
    least = steps * _SHORT // (kinds * _SHORT + 3)
    return next(count for count in range(least, steps + 1) if kinds * count + 3 * (count // _SHORT) >= steps)


def check_steps(steps: int, least: int) -> None:
    """Refuse a proof that is too short.

    Raises:
        TypeError: If `steps` is no whole number.
        ValueError: If it is below `least`, or more than memory should hold.
    """
    if is_whole(steps) and steps < least:
        raise ValueError(f"`steps` is {steps}, expected at least {least} steps for a proof")
    whole_number("steps", steps, least, MOST_STEPS)


def _windows(
    rng: np.random.Generator, request: SampleRequest, scales: Mapping[str, Array], window: int, steps: int
) -> _Part:
    """Windows for so many steps, at least two, of the recordings if there are any."""
    count = max(2, -(-steps // window)) * window
    reset = np.resize(_first(window), count)
    samples = {t.name: _drawn("random", rng, t, scales[t.name], reset) for t in request.tensors}
    if request.recorded is not None:
        cut = {name: _whole_calls(rows, window, "window", "`window`") for name, rows in request.recorded.items()}
        samples = {name: _repeated(rows, count) for name, rows in cut.items()}
    return "windows", samples, _jittered(rng, request.time, count, request.rows), reset


def excite_again(request: SampleRequest) -> Excitation:
    """Build samples for a bundle on its own: random, constant, stepped and extreme ones, by the ranges of its inputs.

    The steps are those of all segments together, a whole number of calls.
    """
    short = request.steps // (3 + _SHORT) // request.unroll * request.unroll
    scales = {t.name: _scale(None, t) for t in request.tensors}
    parts = _made(np.random.default_rng(request.seed), request, scales, request.steps - 3 * short, short)
    return _joined([part for part in parts if len(part[3])], request)


def _made(
    rng: np.random.Generator, request: SampleRequest, scales: Mapping[str, Array], steps: int, short: int
) -> list[_Part]:
    """What no recording has: so many random samples, and so many of each other kind."""
    parts = []
    changing = any(t.constant for t in request.tensors)
    for name, count, regime in (
        ("random", steps, _spread),
        ("constant", short, _nominal),
        ("step", short, _gapped),
        (EXTREME, short, _edges),
    ):
        reset = _first(count)
        if changing:  # half of it in short sequences, each with constants of its own
            reset[: count // 2 : -(-_CONSTANT_FOR // request.unroll) * request.unroll] = 1
        samples = {t.name: _drawn(name, rng, t, scales[t.name], reset) for t in request.tensors}
        parts.append((name, samples, regime(rng, request.time, count, request.rows), reset))
    return parts


def _drawn(kind: str, rng: np.random.Generator, tensor: Tensor, scale: Array, reset: Array) -> Array:
    """Samples of one kind; a constant input changes where a sequence begins."""
    count = int(reset.sum()) if tensor.constant else len(reset)
    draw = _SHAPES if tensor.dtype == "float32" else _WHOLE
    samples: Array = draw[kind](rng, count, tensor.shape, scale)
    if tensor.center:
        samples = samples + np.array(tensor.center)
    return samples[np.cumsum(reset) - 1] if tensor.constant else samples


def _joined(parts: list[_Part], request: SampleRequest) -> Excitation:
    time = request.time
    stops = np.cumsum([len(reset) for *_, reset in parts]).tolist()
    segments = tuple((part[0], stop - len(part[3]), stop) for part, stop in zip(parts, stops, strict=True))
    inputs = {
        tensor.name: _legal_values(np.concatenate([samples[tensor.name] for _, samples, _, _ in parts]), tensor)
        for tensor in request.tensors
    }
    dt = np.concatenate([part[2] for part in parts]).astype(np.float32) if time.mode == "measured" else None
    if dt is not None and time.dt_range_s is not None:
        dt = _within(dt, time.dt_range_s)
    return Excitation(inputs, dt, np.concatenate([reset for *_, reset in parts]).astype(np.uint8), segments)


def _legal_values(samples: Array, tensor: Tensor) -> Array:
    """As the input's dtype, inside the limits that the runtime enforces."""
    if tensor.dtype != "float32":
        return samples.astype(tensor.dtype)  # drawn and recorded inside them
    kind = np.float64 if tensor.center else np.float32
    limits = [f.limits or (-np.inf, np.inf) for f in tensor.features]
    if limits:
        low, high = (np.array(side, kind) for side in zip(*limits, strict=True))
        samples = np.clip(samples.astype(kind), low, high)
    return samples.astype(kind)


def _within(dt: Array, legal: tuple[float, float]) -> Array:
    """Clip to the legal range as float32 sees it, so that rounding does not make a legal dt illegal."""
    low, high = np.float32(legal[0]), np.float32(legal[1])
    low = low if float(low) >= legal[0] else np.nextafter(low, np.float32(np.inf))
    high = high if float(high) <= legal[1] else np.nextafter(high, np.float32(0))
    return np.clip(dt, low, high)


def _first(count: int) -> Array:
    reset = np.zeros(count, np.uint8)
    reset[:1] = 1
    return reset


def _whole_calls(recordings: list[Array], count: int, what: str, argument: str) -> list[Array]:
    """Recordings without the samples at their ends that fill no call, or no window."""
    whole = [rows[: len(rows) // count * count] for rows in recordings if len(rows) >= count]
    if not whole:
        raise ValueError(
            f"the example's longest recording has {max(map(len, recordings))} samples, fewer than the {count} of one "
            f"{what}. Pass a longer example, or a smaller {argument}"
        )
    return whole


def _recorded_reset(lengths: list[int], steps: int) -> Array:
    whole = np.concatenate([_first(length) for length in lengths])
    return np.resize(whole, steps)


def _repeated(recordings: list[Array], steps: int) -> Array:
    whole = np.concatenate(recordings)
    return np.resize(whole, (steps, *whole.shape[1:]))


def _scale(recorded: dict[str, list[Array]] | None, tensor: Tensor) -> Array:
    """Size of typical samples: per feature where the tensor is a feature vector, else one number.

    Of whole numbers the lowest and the highest, (2, ...).
    """
    if tensor.dtype != "float32":
        return _span(None if recorded is None else np.concatenate(recorded[tensor.name]), tensor)
    if recorded is not None:
        whole = np.concatenate(recorded[tensor.name])
        axes = tuple(range(whole.ndim - 1)) if len(tensor.shape) == 2 else None
        largest: Array = np.abs(whole - _center(tensor)).max(axis=axes)
    else:
        ends = np.array([f.range or (-1.0, 1.0) for f in tensor.features] or [(-1.0, 1.0)]).T
        largest = np.abs(ends - _center(tensor)).max(axis=0)
    return np.maximum(largest, 1e-3)


def _center(tensor: Tensor) -> Array:
    return np.array(tensor.center or 0.0)


def _span(recorded: Array | None, tensor: Tensor) -> Array:
    """Lowest and highest whole numbers that a model takes: by its limits, or as far as was seen."""
    sides = [f.limits or f.range or (0, 1) for f in tensor.features]
    if sides:
        return np.array(list(zip(*sides, strict=True)), np.int64)
    if tensor.dtype == "uint8" or recorded is None:
        return np.array([0, 255 if tensor.dtype == "uint8" else 1])
    return np.array([recorded.min(), recorded.max()], np.int64)


def _random(rng: np.random.Generator, count: int, shape: tuple[int, ...], scale: Array) -> Array:
    return rng.standard_normal((count, *shape)) * scale / 2.0


def _constant(rng: np.random.Generator, count: int, shape: tuple[int, ...], scale: Array) -> Array:
    return np.broadcast_to(rng.uniform(-1.0, 1.0, shape) * scale, (count, *shape))


def _step(rng: np.random.Generator, count: int, shape: tuple[int, ...], scale: Array) -> Array:
    """Jumps between random levels every 16 samples."""
    levels = rng.uniform(-1.0, 1.0, (-(-count // 16), *shape)) * scale
    return np.repeat(levels, 16, axis=0)[:count]


def _extreme(rng: np.random.Generator, count: int, shape: tuple[int, ...], scale: Array) -> Array:
    """Far beyond what was recorded, with random signs, every second sample zero."""
    samples = rng.choice([-1.0, 1.0], (count, *shape)) * scale * _EXTREME
    samples[1::2] = 0.0
    return samples


_SHAPES = {"random": _random, "constant": _constant, "step": _step, EXTREME: _extreme}


def _any_number(rng: np.random.Generator, count: int, shape: tuple[int, ...], span: Array) -> Array:
    numbers: Array = rng.integers(span[0], span[1] + 1, (count, *shape))
    return numbers


def _one_number(rng: np.random.Generator, count: int, shape: tuple[int, ...], span: Array) -> Array:
    return np.repeat(_any_number(rng, 1, shape, span), count, axis=0)


def _held_numbers(rng: np.random.Generator, count: int, shape: tuple[int, ...], span: Array) -> Array:
    return np.repeat(_any_number(rng, -(-count // 16), shape, span), 16, axis=0)[:count]


def _ends(rng: np.random.Generator, count: int, shape: tuple[int, ...], span: Array) -> Array:
    numbers: Array = np.where(rng.random((count, *shape)) < 0.5, span[0], span[1])
    return numbers


_WHOLE = {"random": _any_number, "constant": _one_number, "step": _held_numbers, EXTREME: _ends}


def _period(time: Time) -> float:
    return time.period_s or 1.0


def _legal(time: Time) -> tuple[float, float]:
    return time.dt_range_s or (_period(time), _period(time))


def _nominal(_rng: np.random.Generator, time: Time, count: int, batch: int) -> Array:
    return np.full((count, batch, 1), _period(time))


def _jittered(rng: np.random.Generator, time: Time, count: int, batch: int) -> Array:
    """The period with 20 percent of jitter."""
    return _period(time) * (1.0 + 0.2 * rng.uniform(-1.0, 1.0, (count, batch, 1)))


def _gapped(rng: np.random.Generator, time: Time, count: int, batch: int) -> Array:
    """The period, with one sample in ten after a gap of up to the longest legal dt."""
    gaps = rng.uniform(_period(time), _legal(time)[1], (count, batch, 1))
    return np.where(rng.random((count, batch, 1)) < 0.1, gaps, _period(time))


def _spread(rng: np.random.Generator, time: Time, count: int, batch: int) -> Array:
    """Anything legal, uniform in the logarithm."""
    low, high = _legal(time)
    return np.exp(rng.uniform(np.log(low), np.log(high), (count, batch, 1)))


def _edges(rng: np.random.Generator, time: Time, count: int, batch: int) -> Array:
    """The shortest and the longest legal dt."""
    return rng.choice(list(_legal(time)), (count, batch, 1))
