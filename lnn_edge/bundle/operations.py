"""Operations of a step program: ONNX's names, each in one form, and the shape that follows from the operands.

A step is one sample of one row: the axis of the rows is never written, axes count behind it, and no operation has one
that could mix rows. An operand is a value, or a tensor of the program that is the same for every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec

from .spec import Frozen

__all__ = [
    "MAX_ELEMENTS",
    "MAX_OPERANDS",
    "OPERATIONS",
    "Few",
    "Form",
    "Kind",
    "Lookup",
    "Node",
    "Operation",
    "Shape",
    "Whole",
    "refuse_unless",
]

# Numbers are what any target can hold, and lists are short: a forged one costs nothing.
Whole = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Few = Annotated[tuple[Whole, ...], msgspec.Meta(max_length=64)]
Shape = tuple[int, ...]

MAX_OPERANDS = 1024
MAX_ELEMENTS = 1 << 26  # of a value, as in the manifest, and of what a value is padded to


class Kind(NamedTuple):
    """What a value is: its shape for one row, and whether it is true or false rather than a number."""

    shape: Shape
    truth: bool = False


class Lookup(Protocol):
    """What a node may ask for while it is checked; each raises ValueError if there is no such thing."""

    def value(self, name: str) -> Kind:
        """An operand: a value made before, or a tensor."""

    def tensor(self, name: str, shape: Sequence[int | None] | None = None) -> Shape:
        """Shape of a float64 tensor; `None` in an expected shape fits any size."""

    def smallest(self, name: str) -> float | None:
        """The smallest number of an operand that is a tensor; `None` for a value, which is not known yet."""

    def indices(self, name: str, below: int) -> Shape:
        """Shape of a tensor of whole numbers, each at least 0 and below a limit."""


def refuse_unless(holds: bool, problem: str) -> None:
    """Refuse a node.

    Raises:
        ValueError: If it does not hold.
    """
    if not holds:
        raise ValueError(problem)


class Node(Frozen, frozen=True, omit_defaults=True, kw_only=True):
    """What all nodes have: their place in the user's model, `file.py:14 rnn`, for people; and `op`, what they do."""

    where: str = ""

    @property
    def kind(self) -> str:
        """What the node does: `op` in the file."""
        raise NotImplementedError

    def taken(self) -> tuple[str, ...]:
        """Names of its operands, in order."""
        raise NotImplementedError

    def made(self) -> tuple[str, ...]:
        """Names of what it makes, in order."""
        raise NotImplementedError

    def check(self, look: Lookup) -> dict[str, Kind]:
        """What the node makes, by name.

        Raises:
            ValueError: If an operand, weight or attribute does not fit.
        """
        raise NotImplementedError


class Operation(Node, frozen=True, omit_defaults=True, kw_only=True):
    """A node that is no core: operands in order, one result, tensors by their names in ONNX, and attributes.

    Which of these an operation takes is in its form, see `OPERATIONS`; the others keep their defaults.
    """

    op: str
    inputs: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_OPERANDS)]
    output: str
    weights: dict[str, str] = msgspec.field(default_factory=dict)
    axis: Whole = 0
    axes: Few = ()
    shape: Few = ()
    perm: Few = ()
    start: Whole = 0
    stop: Whole = 0
    step: Whole = 1
    kernel: Few = ()
    strides: Few = ()
    pads: Few = ()  # at the beginnings of all axes, then at the ends
    dilations: Few = ()
    group: Whole = 1
    alpha: float = 0.0
    beta: float = 0.0
    epsilon: float = 0.0

    @property
    def kind(self) -> str:
        """See `Node.kind`."""
        return self.op

    def taken(self) -> tuple[str, ...]:
        """See `Node.taken`."""
        return self.inputs

    def made(self) -> tuple[str, ...]:
        """See `Node.made`."""
        return (self.output,)

    def check(self, look: Lookup) -> dict[str, Kind]:
        """See `Node.check`."""
        form = OPERATIONS[self.op]
        self._check_form(form)
        kinds = [look.value(name) for name in self.inputs]
        if form.truth is not None:
            for place, kind in enumerate(kinds):
                if kind.truth != (place < form.truths):
                    raise ValueError(f"'{self.inputs[place]}' is not {'a number' if kind.truth else 'true or false'}")
        shape = form.result(self, look, *[kind.shape for kind in kinds])
        return {self.output: Kind(shape, kinds[0].truth if form.truth is None else form.truth)}

    def _check_form(self, form: Form) -> None:
        given, needed = len(self.inputs), form.operands or 1
        if given < needed or form.operands not in (None, given):
            raise ValueError(f"{given} operands, expected {needed}")
        missing = [name for name in form.weights if name not in self.weights]
        unknown = [name for name in self.weights if name not in (*form.weights, *form.optional)]
        attributes = _attributes(self)
        if attributes != _DEFAULTS:  # a thousand nodes are checked each time a bundle is read
            unknown += [name for name in self._changed(attributes) if name not in form.takes]
        if missing or unknown:
            raise ValueError(f"without {missing}, with {unknown}, which it does not take")

    def _changed(self, attributes: tuple[Any, ...]) -> Iterator[str]:
        return (n for n, own, default in zip(_ATTRIBUTES, attributes, _DEFAULTS, strict=True) if own != default)


_FIELDS = list(zip(reversed(Operation.__struct_fields__), reversed(Operation.__struct_defaults__), strict=False))
_ATTRIBUTES = {name: default for name, default in _FIELDS if name not in ("where", "op", "inputs", "output", "weights")}
_DEFAULTS = tuple(_ATTRIBUTES.values())
_attributes = attrgetter(*_ATTRIBUTES)


class Form(msgspec.Struct, frozen=True):
    """The one form that an operation has.

    Args:
        result: The shape it makes, from the node, the lookup and the shapes of the operands.
        operands: How many; `None` for one or more.
        takes: Attributes.
        weights, optional: Tensors that it needs, and that it may have.
        truths: How many operands, from the first, are true or false; the others are numbers.
        truth: Whether the result is true or false; `None` for whatever the operand is.
    """

    result: Callable[..., Shape]
    operands: int | None = 1
    takes: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    truths: int = 0
    truth: bool | None = False


def _same(_node: Operation, _look: Lookup, shape: Shape) -> Shape:
    return shape


def _broadcast(_node: Operation | None, _look: Lookup | None, *shapes: Shape) -> Shape:
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    axes: list[int] = []  # from the last on; NumPy's own function makes arrays of them, which takes three times as long
    for sizes in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        longer = {*sizes} - {1}
        if len(longer) > 1:
            raise ValueError(f"operands {[list(shape) for shape in shapes]} do not broadcast")
        axes.append(longer.pop() if longer else 1)
    return tuple(axes[::-1])


def _reduction(node: Operation, _look: Lookup, shape: Shape) -> Shape:
    """The axes stay, with length 1."""
    ascending = list(node.axes) == sorted(set(node.axes))
    refuse_unless(
        bool(node.axes) and ascending and _exist(node.axes, shape), f"axes {list(node.axes)} of {list(shape)}"
    )
    return tuple(1 if k in node.axes else n for k, n in enumerate(shape))


def _along_axis(node: Operation, _look: Lookup, shape: Shape) -> Shape:
    if not 0 <= node.axis < len(shape):
        raise ValueError(f"axis {node.axis} of {list(shape)}")
    return shape


def _reshape(node: Operation, _look: Lookup, shape: Shape) -> Shape:
    fits = min(node.shape, default=1) >= 1 and math.prod(node.shape) == math.prod(shape)
    if not fits:
        raise ValueError(f"shape {list(node.shape)} of a value {list(shape)}")
    return node.shape


def _expand(node: Operation, _look: Lookup, shape: Shape) -> Shape:
    fits = min(node.shape, default=1) >= 1 and _broadcast(None, None, node.shape, shape) == node.shape
    refuse_unless(fits, f"shape {list(node.shape)} of a value {list(shape)}")
    return node.shape


def _transpose(node: Operation, _look: Lookup, shape: Shape) -> Shape:
    refuse_unless(sorted(node.perm) == list(range(len(shape))), f"perm {list(node.perm)} of {list(shape)}")
    return tuple(shape[k] for k in node.perm)


def _slice(node: Operation, look: Lookup, shape: Shape) -> Shape:
    _along_axis(node, look, shape)
    fits = 0 <= node.start < node.stop <= shape[node.axis] and node.step >= 1
    if not fits:
        raise ValueError(f"{node.start}:{node.stop}:{node.step} of axis {node.axis} of {list(shape)}")
    return _replaced(shape, node.axis, len(range(node.start, node.stop, node.step)))


def _gather(node: Operation, look: Lookup, shape: Shape) -> Shape:
    _along_axis(node, look, shape)
    name = node.weights["indices"]
    picked = look.indices(name, shape[node.axis])
    refuse_unless(len(picked) == 1, f"'{name}' has shape {list(picked)}, expected one axis")
    return _replaced(shape, node.axis, picked[0])


def _concat(node: Operation, look: Lookup, first: Shape, *others: Shape) -> Shape:
    _along_axis(node, look, first)
    fits = all(len(s) == len(first) and _replaced(s, node.axis, 1) == _replaced(first, node.axis, 1) for s in others)
    refuse_unless(fits, f"operands {[list(shape) for shape in (first, *others)]} along axis {node.axis}")
    return _replaced(first, node.axis, first[node.axis] + sum(shape[node.axis] for shape in others))


def _gemm(node: Operation, look: Lookup, shape: Shape) -> Shape:
    refuse_unless(len(shape) >= 1, "an operand without an axis")
    width = look.tensor(node.weights["B"], (shape[-1], None))[1]
    if "C" in node.weights:
        look.tensor(node.weights["C"], (width,))
    return (*shape[:-1], width)


def _matmul(_node: Operation, _look: Lookup, a: Shape, b: Shape) -> Shape:
    refuse_unless(len(a) >= 2 and len(b) >= 2 and a[-1] == b[-2], f"operands {list(a)} and {list(b)}")
    return (*_broadcast(None, None, a[:-2], b[:-2]), a[-2], b[-1])


def _conv(node: Operation, look: Lookup, shape: Shape) -> Shape:
    space, group = len(node.strides), node.group
    refuse_unless(space in (1, 2, 3) and len(shape) > space and group >= 1, f"strides or group for {list(shape)}")
    channels = shape[-space - 1]
    kernel = look.tensor(node.weights["W"], (None, channels // group, *[None] * space))
    refuse_unless(channels % group == 0 and kernel[0] % group == 0, f"group {group} of {channels} channels")
    if "B" in node.weights:
        look.tensor(node.weights["B"], (kernel[0],))
    dilated = len(node.dilations) == space and min(node.dilations) >= 1
    refuse_unless(dilated, f"dilations {list(node.dilations)}")
    reach = [d * (k - 1) + 1 for k, d in zip(kernel[2:], node.dilations, strict=True)]
    return (*shape[: -space - 1], kernel[0], *_windows(node, shape, reach))


def _layer_normalization(node: Operation, look: Lookup, shape: Shape) -> Shape:
    refuse_unless(len(shape) >= 1 and node.epsilon >= 0, f"epsilon {node.epsilon}, operand {list(shape)}")
    for name in ("scale", "bias"):
        look.tensor(node.weights[name], shape[-1:])
    return shape


def _pool(node: Operation, _look: Lookup, shape: Shape) -> Shape:
    space = len(node.kernel)
    refuse_unless(space in (1, 2, 3) and len(shape) > space, f"kernel {list(node.kernel)} for {list(shape)}")
    result = _windows(node, shape, node.kernel)
    half = all(2 * pad <= k for pad, k in zip(node.pads, node.kernel * 2, strict=True))
    refuse_unless(half, f"pads {list(node.pads)} beyond half of the kernel {list(node.kernel)}")
    return (*shape[:-space], *result)


def _windows(node: Operation, shape: Shape, reach: Sequence[int]) -> Shape:
    """How many windows fit on each of the last axes."""
    count = len(reach)
    lead, space = shape[:-count], shape[-count:]
    fits = len(node.strides) == count and len(node.pads) == 2 * count
    refuse_unless(
        fits and min(*reach, *node.strides) >= 1 and min(node.pads) >= 0, "its kernel, strides, pads or dilations"
    )
    padded = [n + node.pads[k] + node.pads[count + k] for k, n in enumerate(space)]
    refuse_unless(math.prod((*lead, *padded)) <= MAX_ELEMENTS, f"pads {list(node.pads)} of {list(shape)}")
    refuse_unless(all(n >= r for n, r in zip(padded, reach, strict=True)), f"a kernel larger than {list(space)}")
    return tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, node.strides, strict=True))


def _exist(axes: Sequence[int], shape: Shape) -> bool:
    return min(axes, default=0) >= 0 and max(axes, default=-1) < len(shape)


def _replaced(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _all(names: str, form: Form) -> dict[str, Form]:
    return dict.fromkeys(names.split(), form)


# Softplus is log(1 + exp(x)); Elu is alpha (exp(x) - 1) below 0, LeakyRelu alpha x; HardSigmoid is alpha x + beta
# within 0 and 1; what a MaxPool pads does not count, what an AveragePool pads counts as 0; a convolution does not flip
# its kernel.
OPERATIONS: Mapping[str, Form] = {
    **_all("Abs Atan Cos Erf Exp Floor Log Neg Relu Sigmoid Sin Softplus Sqrt Tanh", Form(_same)),
    **_all("Add Sub Mul Div Max Min Pow", Form(_broadcast, 2)),
    **_all("Equal Greater GreaterOrEqual Less LessOrEqual", Form(_broadcast, 2, truth=True)),
    **_all("And Or", Form(_broadcast, 2, truths=2, truth=True)),
    "Not": Form(_same, truths=1, truth=True),
    "Where": Form(_broadcast, 3, truths=1),
    **_all("Elu LeakyRelu", Form(_same, takes=("alpha",))),
    "HardSigmoid": Form(_same, takes=("alpha", "beta")),
    **_all("Softmax LogSoftmax", Form(_along_axis, takes=("axis",))),
    **_all("ReduceSum ReduceMean ReduceMax ReduceMin", Form(_reduction, takes=("axes",))),
    "Reshape": Form(_reshape, takes=("shape",), truth=None),
    "Expand": Form(_expand, takes=("shape",)),
    "Transpose": Form(_transpose, takes=("perm",)),
    "Slice": Form(_slice, takes=("axis", "start", "stop", "step")),
    "Gather": Form(_gather, takes=("axis",), weights=("indices",)),
    "Concat": Form(_concat, None, takes=("axis",)),
    "Gemm": Form(_gemm, weights=("B",), optional=("C",)),
    "MatMul": Form(_matmul, 2),
    "Conv": Form(_conv, takes=("strides", "pads", "dilations", "group"), weights=("W",), optional=("B",)),
    "LayerNormalization": Form(_layer_normalization, takes=("epsilon",), weights=("scale", "bias")),
    **_all("MaxPool AveragePool", Form(_pool, takes=("kernel", "strides", "pads"))),
}
