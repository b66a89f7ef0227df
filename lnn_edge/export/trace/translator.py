"""The translator from a torch.export program to a step program, for what surrounds the cores.

What was traced is one sample of one row: axes of length 1 in front are those of rows and time, which a step program
does not write. Views are only noted; a Reshape is recorded where a node takes another shape than was made. What depends
on weights alone is computed here, once.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ncps
import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from ...arrays import Array
from ...bundle.operations import Shape
from ...wording import chosen
from .decompose import decomposed, operation_name
from .folding import Product, Scaled, Step, Unwritten
from .recorder import Recorder, Value, for_one_row
from .registry import LeftToTorch, Refused, takes_unwritten

__all__ = ["Translator", "translate"]

# Code that is not the user's, for the places of nodes: ours, torch's, and that of libraries of modules.
_NOT_THE_USERS = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), str(Path(ncps.__file__).parent))


_INSTEAD = (
    "write it with arithmetic, torch.where and the usual layers, or end the model before it, and compute the rest from "
    "its output"
)

_INSTEAD_OF = {  # by the beginning of an operation's name
    "fft_": "a Fourier transform over the features of one sample is a product with constant matrices, x @ cosines and "
    "x @ sines",
    "item": "it takes a number out of the samples, where a graph sees nothing. Compute with tensors, without float(), "
    ".item(), .tolist() or math of Python",
}

RecordCore = Callable[[int, Value, list[Value], Value | torch.Tensor | None], list[Value]]


def translate(
    recorder: Recorder,
    program: ExportedProgram,
    inputs: Sequence[Value | torch.Tensor],
    rules: Mapping[str, Callable[..., Any]],
    record_core: RecordCore,
) -> list[Value]:
    """Add a traced program to a step program.

    Args:
        recorder: Where to.
        program: From `torch.export.export`, with static shapes.
        inputs: Values for the program's user inputs, in order; a tensor is a constant.
        rules: How to translate each torch operation, by its name; see `registry`.
        record_core: Adds one core: (index, input, states, timespan or None) to [output, *states].

    Returns:
        Values of the program's user outputs, in order.

    Raises:
        TypeError: If the program uses an operation that cannot be translated; the message names it.
    """
    return Translator(recorder, program, rules, record_core).run(list(inputs))


class Translator:
    """Walks the program once; the rules in `ops` use its doors to ask for values in the shape they need."""

    def __init__(
        self,
        recorder: Recorder,
        program: ExportedProgram,
        rules: Mapping[str, Callable[..., Any]],
        record_core: RecordCore,
    ) -> None:
        self._rules = rules
        self.recorder = recorder
        self._program = program
        self._record_core = record_core
        self._values: dict[torch.fx.Node, Any] = {}
        self._whole: torch.fx.Node | None = None  # the node of the user's program whose decomposition is walked
        # What a rule may ask for: the name under which it is called, and the dtypes of its operand and its result.
        self.name = ""
        self.dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32)

    def run(self, inputs: list[Value | torch.Tensor]) -> list[Value]:
        """Translate the whole program; see `translate`."""
        signature = self._program.graph_signature
        users = set(signature.user_inputs)
        stored = dict(self._program.state_dict) | dict(self._program.constants)
        places = dict(signature.inputs_to_parameters) | dict(signature.inputs_to_buffers)
        places |= dict(signature.inputs_to_lifted_tensor_constants)
        names = [node.name for node in self._program.graph.nodes if node.op == "placeholder"]
        given = [inputs.pop(0) if name in users else stored[places[name]].detach() for name in names]
        # what the user's code writes into an input or buffer comes before what it returns
        returned = [spec.kind is OutputKind.USER_OUTPUT for spec in signature.output_specs]
        walked = self._walked(self._program.graph_module, given)
        results = (self.value(value) for value, own in zip(walked, returned, strict=True) if own)
        return [value.written() if isinstance(value, Unwritten) else value for value in results]

    def _walked(self, program: torch.fx.GraphModule, given: list[Any]) -> Any:
        """Results of a traced program or of a part of one."""
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = given.pop(0)
            elif node.op == "get_attr":
                self._values[node] = getattr(program, node.target)
            elif node.op == "call_function" and node.users:
                if self._whole is None:
                    self.recorder.at(_origin(node))
                self._values[node] = self._called(node)
            elif node.op == "output":
                return self._argument(node.args[0])
        raise TypeError("the traced program has no output")

    def _argument(self, argument: Any) -> Any:
        return torch.fx.node.map_arg(argument, lambda node: self._values[node])

    def _called(self, node: torch.fx.Node) -> Any:
        arguments, keywords = self._argument(node.args), self._argument(node.kwargs)
        if node.target is operator.getitem:
            return _alone(arguments[0][arguments[1]], node)
        if node.target is torch.ops.higher_order.wrap_with_set_grad_enabled:  # a part under torch.enable_grad()
            _enabled, part, *given = _written(arguments)
            return self._walked(part, given)
        if node.target is torch.ops.higher_order.wrap_with_autocast:
            raise TypeError(
                "the model computes under torch.autocast, and export in float32: leave it out of the "
                f"forward, and export with {chosen('precision', 'float16')} for half precision"
            )
        if node.target is torch.ops.lnn_edge.core.default:
            x, states, timespans, index, _outputs = arguments
            return self._record_core(index, self.value(x), [self.value(state) for state in states], timespans)
        leaves = torch.utils._pytree.tree_leaves((arguments, keywords))
        if not any(isinstance(leaf, Value) for leaf in leaves):
            target: Any = node.target
            return target(*arguments, **keywords)  # weights only: computed here, once
        return self._translated(node, arguments, keywords)

    def _translated(self, node: torch.fx.Node, arguments: Any, keywords: Any) -> Any:
        name, result = operation_name(node.target), node.meta["val"]
        if isinstance(result, torch.Tensor) and any(isinstance(n, int) and n == 0 for n in result.shape):
            return torch.zeros(tuple(result.shape), dtype=result.dtype)  # x[:, 1:] of one sample: no number to compute
        if name not in self._rules:
            return self._decomposed(node, arguments, keywords)
        rule = self._rules[name]
        if not (takes_unwritten(rule) and _all_different(node)):
            arguments, keywords = _written((arguments, keywords))
        self.name, self.dtypes = name, _dtypes(node)
        try:
            shape = [_shape(part) for part in result] if isinstance(result, (list, tuple)) else _shape(result)
            value = rule(self, shape, *arguments, **keywords)
        except LeftToTorch:
            return self._decomposed(node, arguments, keywords)
        except Refused as error:
            raise TypeError(f"torch operation '{self._named(node)}' (at: {self._at(node)}): {error}") from error
        except Exception as error:  # what no rule foresees
            raise TypeError(
                f"the model uses the torch operation '{self._named(node)}' in a form that export cannot translate (at: "
                f"{self._at(node)}): {_INSTEAD}"
            ) from error
        if isinstance(value, torch.Tensor):
            return value.to(result.dtype)  # a constant, which may meet weights
        return _alone(value, node)

    def _decomposed(self, node: torch.fx.Node, arguments: Any, keywords: Any) -> Any:
        """What torch makes of an operation without a rule, or of one whose rule leaves this form to torch."""
        nodes = torch.utils._pytree.tree_leaves((node.args, node.kwargs))
        leaves, spec = torch.utils._pytree.tree_flatten(_written((arguments, keywords)))
        samples = [_sample(leaf, own) for leaf, own in zip(leaves, nodes, strict=True)]
        try:
            part = decomposed(node.target, samples, spec, self._rules)
        except Exception:  # it looks at values, which a trace does not have
            part = None
        if part is None:
            if not isinstance(node.target, torch._ops.OpOverload):  # a part of torch.func.vmap, grad or jvp
                raise TypeError(
                    f"the model transforms a function with torch.func (at: {self._at(node)}), which export cannot "
                    "translate. In place of vmap, write it for the axes in front: operations of torch keep those"
                )
            name = self._named(node)
            instead = next((text for start, text in _INSTEAD_OF.items() if name.startswith(start)), _INSTEAD)
            raise TypeError(
                f"the model uses the torch operation '{name}', which export cannot translate (at: {self._at(node)}): "
                f"{instead}"
            )
        before, self._whole = self._whole, self._whole or node
        given = [leaf for leaf in leaves if isinstance(leaf, (Value, torch.Tensor))]
        result = self._walked(part, given)
        self._whole = before
        return result

    def _named(self, node: torch.fx.Node) -> str:
        """The operation as the user's program calls it, not what it is made of."""
        return operation_name((self._whole or node).target)

    def _at(self, node: torch.fx.Node) -> str:
        return _place(self._whole or node)

    def value(self, value: Any) -> Value:
        """A constant becomes a value only where an operation needs one as such."""
        if isinstance(value, Value):
            return value
        array = _double(value)
        array = array.reshape(1, 1) if array.ndim == 0 else array
        return Value(self.recorder, self.recorder.constant(array.reshape(for_one_row(array.shape))), array.shape)

    def made(self, seen: Shape, op: str, *operands: Value | str, **options: Any) -> Value:
        """The result of an operation, in the shape that torch sees; see `Recorder.operation`."""
        names = [operand.name() if isinstance(operand, Value) else operand for operand in operands]
        return self.recorder.value(self.recorder.operation(op, *names, **options), seen)

    def framed(self, x: Value, *axes: int) -> tuple[str, list[int]]:
        """A value for an operation along some of the axes that torch sees: its name, and where they are there."""
        places = [int(axis) % len(x.shape) for axis in axes]
        front = min(len(x.shape) - len(for_one_row(x.shape)), *places)
        return x.shaped(x.shape[front:]), [place - front for place in places]

    def operand(self, value: Any, shape: Shape) -> str:
        """An operand of an elementwise operation, which aligns operands at their last axes."""
        if isinstance(value, Value):
            return value.name()
        array, rank = _double(value), len(for_one_row(shape))
        return self.recorder.constant(array.reshape(array.shape[max(0, array.ndim - rank) :]))

    def elementwise(self, name: str, shape: Shape, *operands: Any) -> Value:
        """A broadcasting operation. With constants it may become part of the weights beside it; see `folding`.

        Args:
            name: The operation.
            shape: What torch sees as the result of the rule; operands that make less of it make their own.
            operands: Values, tensors and numbers.
        """
        own = np.broadcast_shapes(*(tuple(x.shape) for x in operands if isinstance(x, (Value, torch.Tensor))))
        shape = shape if math.prod(own) == math.prod(shape) else own

        def write() -> str:
            return self.recorder.operation(name, *(self.operand(value, shape) for value in operands))

        return _folded(self.recorder, name, shape, operands, write) or Value(self.recorder, write(), shape)

    def unary(self, name: str, value: Value, **attributes: Any) -> Value:
        """An operation on each element."""
        return Value(self.recorder, self.recorder.operation(name, value.root, **attributes), value.shape)


def _alone(value: Any, node: torch.fx.Node) -> Any:
    """A value that several see is not folded into one of them."""
    return value.written() if len(node.users) > 1 and isinstance(value, (Product, Scaled)) else value


def _double(value: Any) -> Array:
    return np.asarray(value.detach().double() if isinstance(value, torch.Tensor) else value, np.float64)


def _written(values: Any) -> Any:
    """Values into which nothing folds any more."""
    return torch.utils._pytree.tree_map_only(Unwritten, Unwritten.written, values)


def _sample(leaf: Any, node: Any) -> Any:
    """A tensor in place of a value, to trace with."""
    if not isinstance(leaf, Value):
        return leaf
    fake = node.meta["val"]
    return torch.zeros(tuple(fake.shape), dtype=fake.dtype)


def _all_different(node: torch.fx.Node) -> bool:
    given = [
        leaf for leaf in torch.utils._pytree.tree_leaves((node.args, node.kwargs)) if isinstance(leaf, torch.fx.Node)
    ]
    return len(set(given)) == len(given)


def _folded(
    recorder: Recorder, name: str, shape: Shape, operands: Sequence[Any], write: Callable[[], str]
) -> Value | None:
    """An elementwise operation of a value with constants as part of the product before it, or of one to come."""
    values = [value for value in operands if isinstance(value, Value)]
    step = _as_step(name, shape, operands)
    if step is None or len(values) != 1 or math.prod(values[0].shape) != math.prod(shape):
        return None
    if bool(np.all(step.factor == 1.0)) and not np.any(step.shift):
        return values[0].viewed(shape)
    if not (np.isfinite(step.factor).all() and np.isfinite(step.shift).all()):
        return None  # minus infinity before a softmax is a mask, and no bias
    if isinstance(values[0], Product):
        return values[0].folded(step)
    return Scaled(recorder, values[0], step, write)


def _as_step(name: str, shape: Shape, operands: Sequence[Any]) -> Step | None:
    """value * factor + shift, if that is what an operation of a value and a constant does."""
    if len(operands) != 2 or name not in ("Add", "Sub", "Mul", "Div"):
        return None
    first = isinstance(operands[0], Value)
    constant = operands[1 if first else 0]
    if isinstance(constant, Value):
        return None
    array = _double(constant)
    if name == "Mul" or (name == "Div" and first and bool(np.all(array))):
        return Step(array if name == "Mul" else 1.0 / array, 0.0, shape)
    if name == "Div":
        return None  # a number over a value
    return Step(1.0 if first or name == "Add" else -1.0, -array if name == "Sub" and first else array, shape)


def _dtypes(node: torch.fx.Node) -> tuple[torch.dtype, torch.dtype]:
    """What torch counts in: in the first operand of an operation, and in its result."""
    operand = next((arg.meta["val"] for arg in node.args if isinstance(arg, torch.fx.Node)), None)
    found = [value.dtype for value in (operand, node.meta["val"]) if isinstance(value, torch.Tensor)]
    return (found[0], found[-1]) if found else (torch.float32, torch.float32)


def _shape(fake: torch.Tensor) -> Shape:
    if not all(isinstance(n, int) for n in fake.shape):
        raise Refused(
            "gives as many elements as the samples say, and a step has shapes that do not change; choose with "
            "torch.where(condition, x, 0)"
        )
    return tuple(fake.shape)


def _origin(node: torch.fx.Node) -> tuple[str, str]:
    """Where in the user's model a node comes from, `file.py:14 head`, and the name of the module there."""
    modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    module = modules[-1].removeprefix("inner").removeprefix(".") if modules else ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [f"{Path(file).name}:{line}" for file, line in frames if not file.startswith(_NOT_THE_USERS)]
    where = " ".join(filter(None, [*own[-1:], module]))
    return "".join(c if c.isprintable() else "?" for c in where), module


def _ours(line: str) -> bool:
    return any(f'"{folder}' in line for folder in _NOT_THE_USERS)


def _place(node: torch.fx.Node) -> str:
    """The line of the user's code; what a step of theirs calls, torch does not say, but in which module it is."""
    lines = (node.meta.get("stack_trace") or "").strip().splitlines()
    own = [line for file, line in itertools.pairwise(lines) if "File " in file and not _ours(file)]
    where, module = _origin(node)
    return own[-1].strip() if own else module or where or node.name
