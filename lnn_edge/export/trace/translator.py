"""The translator from a torch.export program to lean ONNX, for what surrounds the cores.

Every value is kept in whatever shape its producer made; views, squeezes and the time axis of length one are only
noted. A node for reshaping appears where an operator really needs another shape, so a network whose samples are vectors
runs on two axes throughout. What depends on weights alone is computed here, once.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from ..graph.builder import GraphBuilder, Shape, Value
from .folding import Product, Scaled, Step, Unwritten
from .registry import takes_unwritten

__all__ = ["Translator", "translate"]


CoreLowering = Callable[[int, Value, list[Value], Value | torch.Tensor | None], list[Value]]


def translate(
    graph: GraphBuilder,
    program: ExportedProgram,
    inputs: Sequence[Value | torch.Tensor],
    rules: Mapping[str, Callable[..., Any]],
    lower_core: CoreLowering,
) -> list[Value]:
    """Add a program to a graph.

    Args:
        graph: Where to.
        program: From `torch.export.export`, with static shapes.
        inputs: Values for the program's user inputs, in order; a tensor is a constant.
        rules: How to translate each torch operation, by its name; see `registry`.
        lower_core: Adds one liquid core: (index, input, states, timespan or None) to [output, *states].

    Returns:
        Values of the program's user outputs, in order.

    Raises:
        TypeError: If the program uses an operation that cannot be translated; the message names it.
    """
    return Translator(graph, program, rules, lower_core).run(list(inputs))


class Translator:
    """Walks the program once; the rules in `ops` use its doors to ask for values in the shape they need."""

    def __init__(
        self,
        graph: GraphBuilder,
        program: ExportedProgram,
        rules: Mapping[str, Callable[..., Any]],
        lower_core: CoreLowering,
    ) -> None:
        self._rules = rules
        self.graph = graph
        self._program = program
        self._lower_core = lower_core
        self._reshaped: dict[tuple[str, Shape], str] = {}
        self._values: dict[torch.fx.Node, Any] = {}

    def run(self, inputs: list[Value | torch.Tensor]) -> list[Value]:
        """Translate the whole program; see `translate`."""
        signature = self._program.graph_signature
        users = set(signature.user_inputs)
        stored = dict(self._program.state_dict) | dict(self._program.constants)
        places = dict(signature.inputs_to_parameters) | dict(signature.inputs_to_buffers)
        places |= dict(signature.inputs_to_lifted_tensor_constants)
        names = [node.name for node in self._program.graph.nodes if node.op == "placeholder"]
        given = [inputs.pop(0) if name in users else stored[places[name]].detach() for name in names]
        results = (self.value(value) for value in self._walked(self._program.graph_module, given))
        return [value.written() if isinstance(value, Unwritten) else value for value in results]

    def _walked(self, program: torch.fx.GraphModule, given: list[Any]) -> Any:
        """Results of a traced program or of a part of one."""
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = given.pop(0)
            elif node.op == "get_attr":
                self._values[node] = getattr(program, node.target)
            elif node.op == "call_function" and node.users:
                self._values[node] = self._called(node)
            elif node.op == "output":
                return self._argument(node.args[0])
        raise TypeError("the traced program has no output")

    def _argument(self, argument: Any) -> Any:
        return torch.fx.node.map_arg(argument, lambda node: self._values[node])

    def _called(self, node: torch.fx.Node) -> Any:
        arguments, keywords = self._argument(node.args), self._argument(node.kwargs)
        if node.target is operator.getitem:
            return arguments[0][arguments[1]]
        if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled:  # a part under torch.enable_grad()
            _enabled, part, *given = _written(arguments)
            return self._walked(part, given)
        if node.target is torch.ops.lnn_edge.core.default:
            x, states, timespans, index, _outputs = arguments
            given = self._flat(timespans) if isinstance(timespans, Value) else timespans
            return self._lower_core(index, self._flat(x), [self._flat(state) for state in states], given)
        leaves = torch.utils._pytree.tree_leaves((arguments, keywords))
        if not any(isinstance(leaf, Value) for leaf in leaves):
            target: Any = node.target
            return target(*arguments, **keywords)  # weights only: computed here, once
        return self._translated(node, arguments, keywords)

    def _translated(self, node: torch.fx.Node, arguments: Any, keywords: Any) -> Any:
        name = str(node.target).removeprefix("aten.").partition(".")[0]
        if name not in self._rules:
            raise TypeError(
                f"the model uses the torch operation '{name}', which export cannot translate (at: {_place(node)}). "
                f"It knows: {', '.join(sorted(self._rules))}"
            )
        rule = self._rules[name]
        if not (takes_unwritten(rule) and _all_different(node)):
            arguments, keywords = _written((arguments, keywords))
        result = node.meta["val"]
        shape = [_shape(part) for part in result] if isinstance(result, (list, tuple)) else _shape(result)
        try:
            value = rule(self, shape, *arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"torch operation '{name}' (at: {_place(node)}): {error}") from error
        if len(node.users) > 1 and isinstance(value, (Product, Scaled)):
            return value.written()  # a value that several see is not folded into one of them
        return value

    def value(self, value: Any) -> Value:
        """A constant becomes a value only where an operator needs one as such."""
        if isinstance(value, Value):
            return value
        array = np.asarray(value.detach().double() if isinstance(value, torch.Tensor) else value, np.float64)
        array = array.reshape(1, 1) if array.ndim == 0 else array
        return Value(self.graph.constant(array), array.shape, array.shape)

    def _flat(self, value: Any) -> Value:
        """The value in the shape torch sees, for the cores, which look at the name alone."""
        whole = self.value(value)
        return Value(self.shaped(whole, whole.logical), whole.logical, whole.logical)

    def shaped(self, value: Value, shape: Sequence[int]) -> str:
        """The name of the value in exactly this shape; a Reshape is added only if it has another one."""
        wanted = tuple(int(n) for n in shape)
        if value.physical == wanted:
            return value.name()
        key = (value.name(), wanted)
        if key not in self._reshaped:
            self._reshaped[key] = self.graph.node("Reshape", value.name(), self.graph.integers(wanted))
        return self._reshaped[key]

    def operand(self, value: Any, logical: Shape, kept: list[int]) -> str:
        """An operand of an elementwise operation, reduced to the axes where the result is longer than one."""
        source = value.logical if isinstance(value, Value) else tuple(np.shape(value))
        padded = (1,) * (len(logical) - len(source)) + tuple(source)
        shape = tuple(padded[k] for k in kept)
        if isinstance(value, Value):
            return self.shaped(value, shape)
        array = np.asarray(value.detach().double() if isinstance(value, torch.Tensor) else value, np.float64)
        return self.graph.constant(array.reshape(shape))

    def elementwise(self, name: str, logical: Shape, *operands: Any) -> Value:
        """A broadcasting operation on the first axis and on those where the result is longer than one.

        With constants it may become part of the weights beside it; see `folding`.
        """
        kept = [k for k, n in enumerate(logical) if k == 0 or n != 1]
        kept = kept if len(kept) > 1 else list(range(len(logical)))[:2]
        physical = tuple(logical[k] for k in kept)

        def write() -> str:
            return self.graph.node(name, *(self.operand(value, logical, kept) for value in operands))

        return _folded(name, logical, physical, operands, write) or Value(write(), physical, logical)

    def unary(self, name: str, value: Value, **attributes: Any) -> Value:
        """An operation on each element; the shape does not matter."""
        return Value(self.graph.node(name, value.name(), **attributes), value.physical, value.logical)

    def plain(self, value: Any) -> str:
        """The value in the shape torch sees."""
        whole = self.value(value)
        return self.shaped(whole, whole.logical)


def _written(values: Any) -> Any:
    """Values into which nothing folds any more."""
    return torch.utils._pytree.tree_map_only(Unwritten, Unwritten.written, values)


def _all_different(node: torch.fx.Node) -> bool:
    given = [
        leaf for leaf in torch.utils._pytree.tree_leaves((node.args, node.kwargs)) if isinstance(leaf, torch.fx.Node)
    ]
    return len(set(given)) == len(given)


def _folded(
    name: str, logical: Shape, physical: Shape, operands: Sequence[Any], write: Callable[[], str]
) -> Value | None:
    """An elementwise operation of a value with constants as part of the product before it, or of one to come."""
    values = [value for value in operands if isinstance(value, Value)]
    step = _as_step(name, logical, operands)
    if step is None or len(values) != 1 or math.prod(values[0].logical) != math.prod(logical):
        return None
    if bool(np.all(step.factor == 1.0)) and not np.any(step.shift):
        return values[0].viewed(logical)
    if isinstance(values[0], Product):
        return values[0].folded(step)
    return Scaled(values[0], step, physical, write)


def _as_step(name: str, logical: Shape, operands: Sequence[Any]) -> Step | None:
    """value * factor + shift, if that is what an operation of a value and a constant does."""
    if len(operands) != 2 or name not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = isinstance(operands[0], Value)
    constant = operands[1 if first else 0]
    if isinstance(constant, Value):
        return None
    array = np.asarray(constant.detach().double() if isinstance(constant, torch.Tensor) else constant, np.float64)
    if name == "Mul" or (name == "Div" and first and bool(np.all(array))):
        return Step(array if name == "Mul" else 1.0 / array, 0.0, logical)
    if name == "Div":
        return None  # a number over a value
    return Step(1.0 if first or name == "Add" else -1.0, -array if name == "Sub" and first else array, logical)


def _shape(fake: torch.Tensor) -> Shape:
    return tuple(int(n) for n in fake.shape)


def _place(node: torch.fx.Node) -> str:
    trace = (node.meta.get("stack_trace") or "").strip().splitlines()
    return trace[-1].strip() if trace else node.name
