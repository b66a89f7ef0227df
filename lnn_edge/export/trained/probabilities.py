"""Probabilities of classes: what a softmax makes of a network's logits, as the last operation of the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import torch

from ...arrays import Array
from ...bundle.operations import Node, Operation
from ...bundle.program import Program, StepProgram
from ...bundle.spec import Core, Readout, StatePair, Tensor, Time
from ...verify.samples import Excitation
from ...wording import choices, chosen, typed
from ..forward.forward import Known
from ..forward.scaling import Scale, by_tensor
from .protocol import Results, Trained

__all__ = ["WithProbabilities", "checked_probabilities"]

_SUM = 1e-4  # how near to 1 the sums of probabilities come in float32


class WithProbabilities:
    """A trained model one of whose outputs, logits, becomes the probabilities of its classes; see `Trained`.

    One logit becomes two columns, the probability that it is not so and that it is.

    Args:
        model: The model.
        output: Name of the output, from `checked_probabilities`.
    """

    def __init__(self, model: Trained, output: str) -> None:
        self._model, self._output = model, output
        self.batch, self.batch_first = model.batch, model.batch_first
        self.inputs: tuple[Tensor, ...] = model.inputs
        self.states: tuple[StatePair, ...] = model.states
        self.cores: tuple[Core, ...] = model.cores
        self.readout: Readout | None = model.readout
        self.outputs = tuple(self._widened(tensor) for tensor in model.outputs)

    @property
    def fixed_number(self) -> str:
        """See `Trained`."""
        return self._model.fixed_number

    @property
    def why_unequal(self) -> str:
        """See `Trained`."""
        return self._model.why_unequal

    def accepts(self, samples: Mapping[str, Array]) -> bool:
        """See `Trained.accepts`."""
        return self._model.accepts(samples)

    def program(self, time: Time) -> StepProgram:
        """See `Steppable.program`."""
        step = self._model.program(time)
        own = step.program
        (logits,) = (output.value for output in own.outputs if output.name == self._output)
        (classes,) = (tensor.shape[1] for tensor in self.outputs if tensor.name == self._output)
        nodes = self._nodes(own, logits)
        outputs = tuple(
            msgspec.structs.replace(output, value=nodes[-1].made()[0], shape=(classes,))
            if output.name == self._output
            else output
            for output in own.outputs
        )
        program = Program(own.inputs, own.elapsed, own.states, (*own.nodes, *nodes), outputs)
        return StepProgram(program, step.tensors)

    def whole(self, samples: Excitation, time: Time) -> Known:
        """See `Trained.whole`: the softmax of what the author's forward gives."""
        return {
            name: (steps, _probabilities(values) if name == self._output else values)
            for name, (steps, values) in self._model.whole(samples, time).items()
        }

    def stepped(self, samples: Excitation, time: Time) -> Results:
        """See `Trained.stepped`."""
        return {
            name: _probabilities(values) if name == self._output else values
            for name, values in self._model.stepped(samples, time).items()
        }

    def _widened(self, tensor: Tensor) -> Tensor:
        if tensor.name != self._output or tensor.shape[1] > 1:
            return tensor
        return msgspec.structs.replace(tensor, shape=(tensor.shape[0], 2))

    def _nodes(self, program: Program, logits: str) -> list[Operation]:
        taken = {n for node in program.nodes for n in (*node.taken(), *node.made())} | {i.name for i in program.inputs}

        def free(name: str) -> str:
            return name if name not in taken else free(f"{name}_")

        made = free("probabilities")
        if self.outputs == self._model.outputs:
            return [Operation(op="Softmax", inputs=(logits,), output=made)]
        against, both = free("probabilities.against"), free("probabilities.both")
        return [
            Operation(op="Neg", inputs=(logits,), output=against),
            Operation(op="Concat", inputs=(against, logits), output=both),
            Operation(op="Sigmoid", inputs=(both,), output=made),
        ]


def _probabilities(logits: Array) -> Array:
    """Softmax over the last axis; of one column the sigmoid of its negative and its own."""
    values = torch.from_numpy(np.ascontiguousarray(logits, np.float32))
    if values.shape[-1] == 1:
        return torch.sigmoid(torch.cat([-values, values], -1)).numpy()
    return torch.softmax(values, -1).numpy()


def checked_probabilities(
    asked: object, model: Trained, samples: Excitation, time: Time, scaling: Scale = None
) -> str | None:
    """The name of the output that is to become probabilities; `None` for none.

    Args:
        asked: What the user said: `True` for the only output, or the name of one.
        model: The model.
        samples: Samples to look at what it gives.
        time: How it sees time.
        scaling: How outputs are scaled, which logits are not.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is no such output, it is no vector of logits, or holds probabilities or classes already, or
            the forward pools logits over time.
    """
    if asked is None or asked is False:
        return None
    tensor = _named(asked, model.outputs)
    if len(tensor.shape) != 2:
        raise ValueError(
            f"output '{tensor.name}' has shape {list(tensor.shape[1:])} per sample, expected a logit for each class, "
            "one axis: leave `probabilities` out"
        )
    if model.readout is not None and model.readout.kind != "last":
        raise ValueError(
            "the forward returns a mean over time of its logits, and probabilities of a mean are no mean of "
            "probabilities. Let it return the logits of each sample and export with "
            f"{chosen('readout', 'mean')}, which is the mean of their probabilities, or take the "
            "softmax before the mean"
        )
    if tensor.name in by_tensor("scale_outputs", scaling, model.outputs):
        others = typed(", scale_outputs={'...': (mean, std)}", "")
        raise ValueError(
            f"`scale_outputs` scales output '{tensor.name}', which holds logits, and what its probabilities are made "
            f"of has no units. Leave it out, or name the other outputs{others}"
        )
    values = model.stepped(samples, time)[tensor.name]
    if values.shape[-1] == 1 and np.array_equal(values, np.rint(values)):
        raise ValueError(
            f"output '{tensor.name}' holds whole numbers, the classes themselves and no logits (an argmax, or a "
            "threshold): let the forward return what they are made of"
        )
    if _are_probabilities(values, model.program(time).program, tensor.name):
        raise ValueError(
            f"output '{tensor.name}' holds probabilities already, none below 0 and a sum of 1 in each row: leave "
            "`probabilities` out"
        )
    return tensor.name


def _named(asked: object, outputs: Sequence[Tensor]) -> Tensor:
    named = {tensor.name: tensor for tensor in outputs}
    if asked is True and len(named) == 1:
        return outputs[0]
    if asked is True:
        raise ValueError(
            f"the model has the outputs {list(named)}: say which of them, probabilities='{outputs[0].name}'"
        )
    if not isinstance(asked, str):
        raise TypeError(f"`probabilities` is {asked!r}, expected True, or the name of an output")
    if asked not in named:
        raise ValueError(f"`probabilities` is '{asked}'. {choices(asked, named)}")
    return named[asked]


def _are_probabilities(values: Array, program: Program, output: str) -> bool:
    """By the numbers; of a single column by what made it, as logits may lie between 0 and 1."""
    if values.shape[-1] > 1:
        return bool(values.min() >= 0 and np.abs(values.sum(axis=-1) - 1.0).max() < _SUM)
    (value,) = (own.value for own in program.outputs if own.name == output)
    maker: dict[str, Node] = {name: node for node in program.nodes for name in node.made()}
    while value in maker and maker[value].kind in ("Reshape", "Transpose"):
        value = maker[value].taken()[0]
    return value in maker and maker[value].kind == "Sigmoid"
