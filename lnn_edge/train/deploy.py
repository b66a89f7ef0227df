"""Export of a fitted estimator: columns by name, and what training saw as ranges, limits and legal dt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..arrays import Array
from ..bundle.columns import escaped, parse_column
from ..bundle.spec import MAX_WINDOW, Feature
from ..export import ExportReport, export_model
from ..export.forward.scaling import Scaling
from ..export.limits import check_margin, widened
from .data.metadata import Metadata
from .network.module import LiquidModule

__all__ = ["export_fitted", "make_features"]


def export_fitted(
    network: LiquidModule,
    metadata: Metadata,
    arrays: Mapping[str, Array],
    path: str | os.PathLike[str],
    *,
    inputs: Sequence[str | Feature] | None,
    outputs: Sequence[str | Feature] | None,
    names: Sequence[str],
    margin: float | None,
    options: dict[str, Any],
) -> ExportReport:
    """Export; see `LiquidNeuralNetwork.export`."""
    seen = make_features("inputs", _known(names) if inputs is None else inputs, arrays["x_range"], margin)
    results = _known(metadata.output_names) if outputs is None else outputs
    given = make_features("outputs", results, arrays["y_range"], None)
    example, center = metadata.example(arrays), arrays.get("x_center")
    if center is not None:
        example = [rows.astype(np.float64) + center for rows in example]
        options.setdefault("scale_inputs", Scaling(center, np.ones(len(center)), center != 0.0))
    if "y_center" in arrays:
        around = arrays["y_center"]
        options.setdefault("scale_outputs", Scaling(around, np.ones(len(around)), around != 0.0))
    options.setdefault("example", example)
    if metadata.readout is not None and metadata.readout > 1:
        all_of_them = metadata.readout > MAX_WINDOW
        options.setdefault("readout", "mean" if all_of_them else f"mean:{metadata.readout}")
    options.setdefault("labels", metadata.class_array())
    return export_model(network, path, inputs=seen, outputs=given, **_timed(metadata, options))


def _known(names: Sequence[str]) -> list[Feature]:
    """Names that came with the data, colons and all."""
    return [escaped(Feature(name)) for name in names]


def make_features(what: str, names: Sequence[str | Feature], seen: Array, margin: float | None) -> list[Feature]:
    """Columns with the range that training saw, and that range widened as limits, as `export_model` takes them.

    Args:
        what: "inputs" or "outputs", for messages.
        names: Names, `name:unit:low:high`, or features that know some of it themselves.
        seen: Lowest and highest of each column, (2, columns).
        margin: How far limits lie outside, in widths of the range; `None` for no limits.

    Raises:
        ValueError: If the number of names or the margin is wrong.
    """
    margin = check_margin(margin)
    if isinstance(names, str) or len(names) != seen.shape[1]:
        raise ValueError(f"`{what}` is {names!r}, expected {seen.shape[1]} names, one per column")
    return [
        escaped(_feature(name, float(low), float(high), margin)) for name, low, high in zip(names, *seen, strict=True)
    ]


def _feature(name: str | Feature, low: float, high: float, margin: float | None) -> Feature:
    feature = parse_column(name if isinstance(name, Feature) else str(name))
    if feature.range is None:
        feature = msgspec.structs.replace(feature, range=(low, high))
    return widened(feature, low, high, margin)


def _timed(metadata: Metadata, options: dict[str, Any]) -> dict[str, Any]:
    """The time arguments of `export_model`, from what the timespans of training were."""
    if "timespan" in options:
        raise TypeError("`timespan` follows from the timespans of training; leave it out")
    if metadata.time_unit is None:
        return options
    period = options.get("period_s") or metadata.time_unit
    timed = {"time": "measured", **options, "period_s": period, "timespan": period / metadata.time_unit}
    if timed["time"] == "measured" and timed.get("dt_range_s") is None and metadata.span_range is not None:
        low, high = metadata.span_range
        timed["dt_range_s"] = (min(low, period) / 2.0, max(high, period) * 2.0)
    return timed
