"""Values that are not written yet, so that constants can still go into the weights beside them.

A `Product` (Gemm or Conv) takes a scale and a shift per output channel: batch normalisation, output scaling. A `Scaled`
value is one that constants were added to or multiplied with; a product of it takes them into its weights: input
normalisation. Both are ordinary values to everybody else: asked for the name, they write themselves, once. The
translator asks for the name of every value with more than one user, so only what nobody else sees is ever folded.

Folding happens in float64 and is exact up to rounding. One case would not be: (x - mean) / std with a mean that is
large against std loses digits in float32 when the subtraction moves behind the product, so such a shift stays.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...arrays import Array
from ...bundle.operations import Shape
from .recorder import Recorder, Value

__all__ = ["Condition", "Joined", "Product", "Scaled", "Step", "Unwritten", "per_channel"]

_Add = Callable[[Array, Array | None], str]

# A shift may move behind a product if it is at most this many times what is left after it, which normalisation makes of
# order 1: rounding errors then grow by no more than three of the 24 bits.
_LARGEST_SHIFT = 8.0


class Unwritten(Value):
    """A value whose node is written when its name is asked for; views of it share that node."""

    def __init__(
        self, recorder: Recorder, shape: Shape, write: Callable[[], str], origin: tuple[str, str] | None = None
    ) -> None:
        super().__init__(recorder, "", shape)
        self._origin = place = origin or recorder.origin
        self._write = _Once(lambda: recorder.placed(place, write))

    @property
    def root(self) -> str:
        """The name of the value, which is written now if it was not."""
        return self._write()

    def viewed(self, shape: Sequence[int]) -> Value:
        """The same value as torch sees it after a view; what it is made of stays known."""
        other = copy.copy(self)  # with the same `_Once`, so that the node is written once for all views
        other.shape = tuple(int(n) for n in shape)
        return other

    def written(self) -> Value:
        """This value as one that has been written, into which nothing folds any more."""
        return Value(self._recorder, self.root, self.shape)


class _Once:
    """What writes a node, and the name that it gave it: called again, it gives the same."""

    def __init__(self, write: Callable[[], str]) -> None:
        self._write, self._name = write, ""

    def __call__(self) -> str:
        self._name = self._name or self._write()
        return self._name


class Condition(Unwritten):
    """True or false, for which ONNX has a type of its own; written, it is the number 1 or 0 that torch makes of it.

    Args:
        truth: The value of that type.
        write: Writes the number.
    """

    def __init__(self, recorder: Recorder, truth: Value, write: Callable[[], str]) -> None:
        super().__init__(recorder, truth.shape, write)
        self._truth = truth

    @property
    def truth(self) -> Value:
        """The value of ONNX's type, in the shape that torch sees."""
        return self._truth.viewed(self.shape)


class Product(Unwritten):
    """A Gemm or Conv to come.

    Args:
        recorder: Where to.
        weight: float64, output channels first.
        bias: float64 (channels,), or `None`.
        frame: A shape of its elements with the output channels on axis 1.
        shape: The shape that torch sees.
        add: Adds the node for a weight and a bias.
    """

    def __init__(
        self,
        recorder: Recorder,
        weight: Array,
        bias: Array | None,
        frame: Shape,
        shape: Shape,
        add: _Add,
        origin: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(recorder, shape, lambda: add(weight, bias), origin)
        self._weight, self._bias, self._frame, self._add = weight, bias, frame, add

    def folded(self, step: Step) -> Value | None:
        """This product with a step in its weights; `None` if the step's constants differ within a channel."""
        factor, shift = (per_channel(part, step.shape, self._frame, 1) for part in (step.factor, step.shift))
        if factor is None or shift is None:
            return None
        scaled = self._weight * factor.reshape(-1, *(1 for _ in self._weight.shape[1:]))
        moved = shift if self._bias is None else self._bias * factor + shift
        # a bias of zeros would only be one more operand of the node
        bias = moved if np.any(moved) else None
        return Product(self._recorder, scaled, bias, self._frame, step.shape, self._add, self._origin)


@dataclass(frozen=True)
class Step:
    """One elementwise operation with constants: value * factor + shift, in the shape torch sees."""

    factor: Array | float
    shift: Array | float
    shape: Shape


class Scaled(Unwritten):
    """A value with steps to come; each remembers how it is written when nobody takes it over."""

    def __init__(self, recorder: Recorder, source: Value, step: Step, write: Callable[[], str]) -> None:
        super().__init__(recorder, step.shape, write)
        self._source, self._step = source, step

    def into(self, shape: Shape, axis: int, shifts: bool) -> tuple[Value, Array, Array]:
        """Hand over as many of the last steps as a product can take.

        Args:
            shape: The shape in which the product sees the value.
            axis: Its input channels.
            shifts: Whether it can take a shift; a convolution that pads with zeros cannot.

        Returns:
            What is left, and factor and shift per channel.
        """
        rest: Value = self
        total, offset = np.ones(shape[axis]), np.zeros(shape[axis])
        # From the last step inwards: a step's result is scaled by all that come after it, so its own shift is too.
        while isinstance(rest, Scaled):
            # What a step's constants are per channel depends on the shape that torch saw when the step was made, which
            # a view may have changed since: the step remembers it, `rest.shape` does not.
            step = rest._step
            factor, shift = (per_channel(part, step.shape, shape, axis) for part in (step.factor, step.shift))
            if factor is None or shift is None:
                break
            moved = offset + total * shift
            # A convolution pads with zeros after the shift; with the shift in its bias, they would be shifted too.
            if np.any(shift) and (not shifts or np.abs(moved).max() > _LARGEST_SHIFT):
                break
            total, offset, rest = total * factor, moved, rest._source
        return rest, total, offset


class Joined(Unwritten):
    """Values side by side on a new first axis: whoever asks for one of them gets it as it is."""

    def __init__(self, recorder: Recorder, parts: Sequence[Value], shape: Shape, write: Callable[[], str]) -> None:
        super().__init__(recorder, shape, write)
        self._parts, self._joined = tuple(parts), shape  # a view changes `shape`, and then no part is left whole

    def part(self, axis: int, index: int) -> Value | None:
        """One of the values, if that is what is asked for: along the axis that joined them, and before any view."""
        return self._parts[index] if axis % len(self._joined) == 0 and self.shape == self._joined else None


def per_channel(constant: Array | float, seen: Shape, shape: Shape, axis: int) -> Array | None:
    """A constant as one number per channel, or `None` if it differs within one.

    Args:
        constant: Broadcasts to the shape seen.
        seen: The shape that torch sees.
        shape: Another shape of the same elements.
        axis: Where the channels are in that.
    """
    if np.ndim(constant) == 0:
        return np.full(shape[axis], float(constant))
    if math.prod(seen) != math.prod(shape):  # the operation broadcasts its value, so a channel has other elements
        return None
    whole = np.broadcast_to(np.asarray(constant, np.float64), seen).reshape(shape)
    flat = np.moveaxis(whole, axis, 0).reshape(shape[axis], -1)
    return flat[:, 0].copy() if bool((flat == flat[:, :1]).all()) else None
