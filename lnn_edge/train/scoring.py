"""Score of predictions against targets: accuracy of labels, coefficient of determination of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, r2_score

from ..arrays import Array
from ..wording import plural
from .data.metadata import Metadata
from .data.sequences import Sequences
from .data.targets import in_order_of, read_targets, read_weights

__all__ = ["score_outputs"]


def score_outputs(
    metadata: Metadata, sequences: Sequences, outputs: Sequence[Array], y: Any, sample_weight: Any
) -> float:
    """The score over all targets, one per step or one per sequence.

    Args:
        metadata: Of the model.
        sequences: The samples, in their raw units.
        outputs: Per sequence values or probabilities, (steps or 1, outputs).
        y: Targets as the user passes them.
        sample_weight: How much each of them counts, likewise; `None` for 1.

    Raises:
        ValueError: If y or the weights do not fit.
    """
    targets = read_targets(y, sequences, "steps" if metadata.level == "step" else "sequence")
    targets = targets if metadata.labels else in_order_of(targets, metadata.output_names)
    width = 1 if metadata.labels else metadata.outputs
    if targets.outputs != width:
        raise ValueError(f"y has {plural(targets.outputs, 'column')}, but the model was fitted with {width}")
    weights = None
    if sample_weight is not None:
        weights = np.concatenate(read_weights(sample_weight, sequences, metadata.level))
    truth, predicted = targets.joined(), np.concatenate(outputs)
    classes = metadata.class_array()
    if classes is not None:
        right = classes[predicted.argmax(axis=-1)]
        return float(accuracy_score(truth[:, 0], right, sample_weight=weights))
    return float(r2_score(truth, predicted.astype(np.float64), sample_weight=weights))
