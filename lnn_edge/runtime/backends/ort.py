"""The `onnxruntime` backend: model.onnx on the CPU, every buffer bound once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...arrays import Array, finite_check
from ...bundle.directory import Bundle
from ...bundle.manifest import Manifest
from ...bundle.spec import Dtype
from ...errors import BackendError, BundleError
from .layout import slab

# From 1.29 on onnxruntime reports models and figures to its makers: a database in the user's cache folder, threads, and
# connections. Nothing of that belongs on a robot. It looks once, while it is imported; a choice of the user's stands.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

__all__ = ["CpuBackend", "CpuStepper"]

_CACHE_LINE = 64  # bytes; also the widest vector register
_TYPES = {"float32": "tensor(float)", "int32": "tensor(int32)", "uint8": "tensor(uint8)"}


class CpuBackend:
    """One onnxruntime session; see `lnn_edge.backend_protocols.Backend`."""

    def __init__(self, bundle: Bundle, threads: int, _options: Mapping[str, str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A step takes microseconds and then waits for the next sample; spinning workers would burn a core meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # Bytes that begin as onnxruntime's own format does would be read as that, which nothing has checked.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # The graph holds its weights. One that names other files for them finds none: they were never hashed.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        try:
            self.session = ort.InferenceSession(bundle.files["model.onnx"], options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own that share no base but Exception
            raise BundleError(f"bundle '{bundle.path}': model.onnx cannot be loaded: {error}") from error
        self._manifest = bundle.manifest
        _check_signature(bundle, self.session)
        self.description = f"onnxruntime {ort.__version__} on the CPU, {threads} thread{'s' if threads > 1 else ''}"

    def stepper(self) -> CpuStepper:
        """Make the buffers for one stream."""
        return CpuStepper(self.session, self._manifest)


class CpuStepper:
    """Two result arenas: each run reads its state from one and writes into the other."""

    def __init__(self, session: ort.InferenceSession, manifest: Manifest) -> None:
        self._session = session
        self._state_names = [(s.input, s.output) for s in manifest.states]
        self.sample: Mapping[str, Array] = _arena(manifest.sample_inputs(), manifest.sample_dtypes())[1]
        arenas = (_arena(manifest.results()), _arena(manifest.results()))
        self.places: tuple[Mapping[str, Array], Mapping[str, Array]] = (arenas[0][1], arenas[1][1])
        # By the place that a run reads from: what it runs, and the check of what it writes.
        self._runs = tuple((self._bind(k), finite_check(arenas[1 - k][0])) for k in (0, 1))

    def _bind(self, source: int) -> ort.IOBinding:
        binding = self._session.io_binding()
        results, states = self.places[1 - source], self.places[source]
        sources = dict(self.sample) | {name: states[output] for name, output in self._state_names}
        for name, array in sources.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in results.items():
            binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return binding

    def run(self, source: int) -> bool:
        """See `lnn_edge.backend_protocols.Stepper.run`."""
        binding, is_finite = self._runs[source]
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            if not _is_of_onnxruntime(error):
                raise
            raise BackendError(f"onnxruntime failed during the step, the state is untouched: {error}") from error
        return is_finite()

    def write_state(self, place: int, state: Mapping[str, Array]) -> None:
        """See `lnn_edge.backend_protocols.Stepper.write_state`."""
        arrays = self.places[place]
        for name, output in self._state_names:
            arrays[output][...] = state[name]


def _is_of_onnxruntime(error: Exception) -> bool:
    """Whether onnxruntime itself failed, and not a signal's handler that Python ran while the call returned.

    Its exceptions have no common base class and some are plain RuntimeErrors; but a handler has a frame of its own.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    deepest = None if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return deepest == __name__ or str(deepest).partition(".")[0] == "onnxruntime"


def _arena(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, Dtype] | None = None
) -> tuple[Array, dict[str, Array]]:
    """Zeroed memory, and views of it for every tensor, each starting on a cache line of its own."""
    places = slab(shapes, _CACHE_LINE, dtypes)
    raw = np.zeros(places.nbytes + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    flat = raw[start : start + places.nbytes].view(np.float32)
    return flat, places.views(flat)


def _check_signature(bundle: Bundle, session: ort.InferenceSession) -> None:
    """The graph must take and give exactly what the manifest says; anything else would bind wrong memory."""
    manifest, dtypes = bundle.manifest, bundle.manifest.sample_dtypes()
    inputs = manifest.sample_inputs() | {s.input: s.shape for s in manifest.states}
    for what, expected, found in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", manifest.results(), session.get_outputs()),
    ):
        actual = {a.name: (tuple(a.shape), a.type) for a in found}
        wanted = {name: (shape, _TYPES[dtypes.get(name, "float32")]) for name, shape in expected.items()}
        if actual != wanted:
            raise BundleError(
                f"bundle '{bundle.path}': the {what} of model.onnx are {_signature(actual)}, but the manifest says "
                f"{_signature(wanted)}. Export it again"
            )


def _signature(tensors: Mapping[str, tuple[tuple[Any, ...], str]]) -> str:
    return ", ".join(f"{name} {list(shape)} {kind}" for name, (shape, kind) in sorted(tensors.items()))
