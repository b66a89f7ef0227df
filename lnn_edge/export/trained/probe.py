"""A probe of a user's step: what it returns, and which state it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...bundle.spec import Tensor
from ...wording import typed
from ..forward.advice import advice_on
from ..forward.leaves import Leaf, leaf_name
from ..trace.trace import users_line
from .step_function import StateTree, StepFunction, same_tensors, zeros_like

__all__ = ["StepProbe"]

_REPEATS = 5


class StepProbe:
    """A step called on a few samples, to learn what no signature says.

    Args:
        step: The step.
        module: The model that it is called with.
        inputs: The inputs, for messages.
        samples: A few samples, each (1, ...) per input.

    Raises:
        TypeError, ValueError: All its methods, if the step does what cannot be exported.
    """

    def __init__(
        self, step: StepFunction, module: nn.Module, inputs: Sequence[Tensor], samples: Sequence[Sequence[torch.Tensor]]
    ) -> None:
        self._step, self._module = step, module
        self._inputs, self._samples = inputs, samples

    def begun(self, start: Any) -> tuple[list[Leaf], Any]:
        """The outputs of the step, and the state that its first sample meets: zeros, or what the caller passed."""
        sample = self._samples[0]
        output, after = self._tried(sample, start)
        leaves = _outputs(output)
        StateTree.of(after)
        if not all(self._repeats(own, start) for own in self._samples):
            raise ValueError(
                "the step gives another result when it is called again with the same sample and state: it draws random "
                "numbers, or keeps state in the model. All state must be in the `state` that it takes and returns"
            )
        begin = zeros_like(after) if start is None else start
        StateTree.of(begin).flat(self._tried(sample, after)[1])  # packed alike and of the same shapes ever after
        if start is None and not all(
            same_tensors(self._tried(own, None), self._tried(own, begin)) for own in self._samples
        ):
            own = "initial_state=the state for one row, (1, width), or a function that makes it from the model"
            passed = typed(own, "--initial-state NAME, of a function that makes it from the model")
            raise ValueError(
                "the step called with the state None does not start from zeros, and export cannot see what it starts "
                f"from. Pass it: {passed}"
            )
        return leaves, begin

    def _repeats(self, sample: Sequence[torch.Tensor], state: Any) -> bool:
        """Whether the step gives the same again; what is drawn from few values may do so by chance."""
        first = self._tried(sample, state)
        return all(same_tensors(first, self._tried(sample, state)) for _ in range(_REPEATS))

    def _tried(self, sample: Sequence[torch.Tensor], state: Any) -> tuple[Any, Any]:
        """Call the step on samples; what the user's own code raises is said with what it was called with."""
        rows = len(sample[0])
        try:
            with torch.no_grad():
                result = self._step.called(self._module, sample, state, torch.ones(rows, 1))
        except Exception as error:
            shapes = ", ".join(f"{t.name} {list(x.shape)}" for t, x in zip(self._inputs, sample, strict=True))
            start = typed("initial_state=...", "--initial-state NAME")
            hint = f"If it cannot start from None, pass {start}" if state is None else ""
            advice = advice_on(error) or hint
            met = "None" if state is None else "that it starts from or returned"
            raise ValueError(
                f"the step raised {type(error).__name__}: {error}{users_line(error)}, called with {shapes} and the "
                f"state {met}{'. ' if advice else ''}{advice}"
            ) from error
        return self._step.checked(result)


def _outputs(output: Any) -> list[Leaf]:
    """The outputs of a step for one row, each (1, ...)."""
    leaves = pytree.tree_leaves_with_path(output)
    for _, leaf in leaves:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            kind = leaf.dtype if isinstance(leaf, torch.Tensor) else type(leaf).__name__
            raise TypeError(f"the step returned {kind} among its outputs, expected tensors of real numbers")
        if leaf.dim() and leaf.shape[0] != 1:
            raise ValueError(f"the step returned an output of shape {list(leaf.shape)} for one row, expected [1, ...]")
    if not leaves:
        raise TypeError(f"the step returned the output {output!r}, expected tensors of real numbers")
    names = ["output"] if len(leaves) == 1 else [leaf_name(path, k) for k, (path, _) in enumerate(leaves)]
    return [
        Leaf(k, name, None, tuple(leaf.shape[1:]) or (1,))
        for k, (name, (_, leaf)) in enumerate(zip(names, leaves, strict=True))
    ]
