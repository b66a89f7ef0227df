"""The reading of a model: what its example shows of it, and what its inputs and outputs are called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ..arrays import Array
from ..bundle.spec import Readout, Tensor
from ..verify.excitation import excite
from ..verify.samples import SampleRequest
from .arguments import check_batch, check_guard_fits, check_labels, check_one_line, check_readout, named_tensors
from .cores.masks import warn_of_drifted_masks
from .forward.example import Example, first_that_works
from .limits import with_margin
from .proof.truth import check_causal
from .recordings import examples, warn_of_coarse_outputs, warn_of_spacing
from .request import ExportRequest
from .trained.open import OpenedModule, in_its_layout
from .trained.probabilities import WithProbabilities, checked_probabilities
from .trained.protocol import Trained
from .whole_numbers import with_legal_numbers

__all__ = ["Reading", "read_model"]


@dataclass(frozen=True)
class Reading:
    """A model that takes its example in the way in which it was read, and what is known of its tensors.

    Attributes:
        trained: The model.
        recorded: The example, per input a list of recordings; `None` if there is none.
        inputs: Its inputs with their names.
        outputs: Its outputs with theirs.
        readout: How one result comes out of its outputs.
        labels: Names of the classes.
        classified: The output that is probabilities; `None` for none.
    """

    trained: Trained
    recorded: dict[str, list[Array]] | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    readout: Readout | None
    labels: tuple[str, ...]
    classified: str | None


@dataclass(frozen=True)
class _Way:
    """A model that takes its example in this way."""

    trained: Trained
    recorded: dict[str, list[Array]] | None
    inputs: tuple[Tensor, ...]
    classified: str | None


def read_model(request: ExportRequest, opened: OpenedModule, example: Any) -> Reading:
    """Read an example in the way in which the model takes it, and name what the model takes and gives.

    Args:
        request: What was asked for.
        opened: The model.
        example: The user's.

    Raises:
        TypeError, ValueError: If the model takes the example in no way, or an argument does not fit the model.
    """
    batch = check_batch(request.batch)

    def read(laid_out: OpenedModule) -> _Way:
        ways = examples(laid_out, batch, example, request.constants, *request.scaling)
        return first_that_works(ways, partial(_read_in_this_way, request, laid_out))

    way = in_its_layout(opened, read)
    warn_of_spacing(way.inputs, way.recorded, example)
    warn_of_drifted_masks(opened.module)
    readout = check_readout(request.readout, way.trained.readout, request.windows)
    warn_of_coarse_outputs(request.scaling[1], way.trained.outputs)
    labels = check_labels(request.labels, way.trained.outputs)
    names = request.outputs if request.outputs is not None else labels or None
    outputs = named_tensors("outputs", way.trained.outputs, names)
    check_guard_fits(request.guard, outputs, request.time, request.unroll)
    check_one_line({"name": request.name, "inputs": way.inputs, "outputs": outputs, "labels": labels})
    return Reading(way.trained, way.recorded, way.inputs, outputs, readout, labels, way.classified)


def _read_in_this_way(request: ExportRequest, opened: OpenedModule, example: Example | None) -> _Way:
    """Step the model through the first samples of an example read so."""
    own = opened.trained(request.batch, example)
    recorded = None if example is None else {name: list(rows) for name, rows in example.rows.items()}
    named = with_margin(named_tensors("inputs", own.inputs, request.inputs, recorded), recorded, request.margin)
    inputs = with_legal_numbers(named, own, recorded)
    first = excite(SampleRequest(inputs, request.time, request.length.causal, recorded))
    classified = checked_probabilities(request.probabilities, own, first, request.time, request.scaling[1])
    trained = own if classified is None else WithProbabilities(own, classified)
    check_causal(trained, first, request.time, request.length.causal)
    return _Way(trained, recorded, inputs, classified)
