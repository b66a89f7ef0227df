"""A graph in half precision in ONNX's own evaluator, operator by operator in NumPy, behind the runtime's interface.

It computes in half where onnxruntime's CPU kernels compute in float32 between their casts, so it shows the drift that a
GPU would have. It is not for float32: its GatherElements is wrong beyond some 64 columns, and there the step program
is the better judge. Too slow for a backend of the table, and it needs onnx, so it serves the proof alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ...arrays import Array
from ...bundle.directory import Bundle
from ...bundle.manifest import Manifest
from ...runtime.model import Model

__all__ = ["EVALUATOR", "Evaluator", "EvaluatorStepper", "open_evaluator"]


EVALUATOR = "onnx.reference"


def open_evaluator(bundle: Bundle) -> Model:
    """Make a bundle ready to run in ONNX's evaluator."""
    return Model(bundle.path, bundle.manifest, Evaluator(bundle), EVALUATOR)


class Evaluator:
    """One evaluator, built once; see `lnn_edge.backend_protocols.Backend`."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:  # noqa: ARG002 - NumPy decides about threads
        graph = onnx.load_from_string(bundle.files["model.onnx"])
        self._inputs = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in graph.graph.input}
        self._evaluator = ReferenceEvaluator(graph)
        self._manifest = bundle.manifest
        self.description = f"{EVALUATOR} {onnx.__version__}"

    def stepper(self) -> EvaluatorStepper:
        """Make the buffers for one stream."""
        return EvaluatorStepper(self._evaluator, self._manifest, self._inputs)


class EvaluatorStepper:
    """Buffers of one stream; see `lnn_edge.backend_protocols.Stepper`."""

    def __init__(
        self, evaluator: ReferenceEvaluator, manifest: Manifest, inputs: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._evaluator = evaluator
        self._pairs = [(s.input, s.output) for s in manifest.states]
        states = {name for name, _ in self._pairs}
        self.sample: Mapping[str, Array] = {
            name: np.zeros(shape, np.float32) for name, shape in inputs.items() if name not in states
        }
        one, two = ({n: np.zeros(shape, np.float32) for n, shape in manifest.results().items()} for _ in range(2))
        self.places: tuple[Mapping[str, Array], Mapping[str, Array]] = (one, two)

    def run(self, source: int) -> bool:
        """See `lnn_edge.backend_protocols.Stepper.run`."""
        states = {name: self.places[source][output] for name, output in self._pairs}
        with np.errstate(all="ignore"):  # what overflows is found in the results
            results: Any = self._evaluator.run(None, {**self.sample, **states})
        for name, value in zip(self._evaluator.output_names, results, strict=True):
            self.places[1 - source][name][...] = value
        return all(np.isfinite(value).all() for value in results)

    def write_state(self, place: int, state: Mapping[str, Array]) -> None:
        """See `lnn_edge.backend_protocols.Stepper.write_state`."""
        for name, output in self._pairs:
            self.places[place][output][...] = state[name]
