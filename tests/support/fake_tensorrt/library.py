"""Behaviour of TensorRT, as far as this project asks for it; the surface (see surface.py) says what may be asked.

An engine is the ONNX graph behind a header, and runs through onnxruntime on the machine's memory.
"""

from __future__ import annotations

import json
import math
import weakref

import numpy as np
import onnx
import onnxruntime as ort

from . import rules
from .machine import Machine, Misuse, Segfault, Work
from .surface import FOR_RTX, build

MAGIC = b"fake engine\n"
TIMINGS = b"fake timings "
KERNELS = b"fake kernels "
VERBOSE, WARNING, ERROR = 4, 2, 1
ALIGNMENT = 256
DTYPES = {
    "tensor(float)": ("FLOAT", np.float32), "tensor(int32)": ("INT32", np.int32), "tensor(uint8)": ("UINT8", np.uint8)
}  # fmt: skip


def make_library(version: str, machine: Machine, world: dict):
    """The module `tensorrt` of one version on one machine; what a test wants to go wrong is in `world`."""
    for_rtx = version == FOR_RTX
    numbers = (11, 0) if for_rtx else tuple(int(part) for part in version.split("."))

    def new(kind, **values):
        made = object.__new__(getattr(module, kind))
        for name, value in values.items():
            object.__setattr__(made, f"_{name}", value)
        return made

    def need_driver():
        if not machine.has_driver:
            raise Segfault("TensorRT without a driver")

    def say(logger, severity, text):
        logger.log(module.ILogger.Severity(severity), text)

    class ILogger:
        def do_log(self, severity, msg):
            raise Misuse("the logger does not override log")

    class Builder:
        def begin(self, logger):
            if not for_rtx:  # whose builder needs none
                need_driver()
            if world.get("no builder"):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            if not getattr(logger, "_made", False):
                raise Misuse("ILogger.__init__ was not called")
            self._logger = logger

        def do_create_network(self, flags=0):
            return new("INetworkDefinition", flags=flags, model=b"")

        def do_create_builder_config(self):
            flags = {module.BuilderFlag.TF32}
            return new(
                "IBuilderConfig", flags=flags, cache=None, level=3, pools={}, monitor=None, logger=self._logger, aims=[]
            )

        def do_build_serialized_network(self, network, config):
            world["config"], world["network flags"] = config, network._flags
            if world.get("build"):
                say(self._logger, ERROR, world["build"])
                return None
            if config._cache is None and not for_rtx:
                raise Misuse("a build without a timing cache")
            header = {"version": version, "tf32": module.BuilderFlag.TF32 in config._flags, "device": machine.name}
            if for_rtx:
                header["targets"] = [aim.name for aim in config._aims]
            say(self._logger, VERBOSE, "After reformat layers: 1 layers")
            if not _reports(config, world):
                say(self._logger, ERROR, "Build was cancelled by the progress monitor.")
                return None
            world["builds"] = world.get("builds", 0) + 1
            return new("IHostMemory", data=MAGIC + json.dumps(header).encode() + b"\n" + network._model)

    class IProgressMonitor:
        def begin(self):
            pass

    def _reports(config, world):
        """Tell the monitor of two phases, one in the other; whether it wants the build to go on."""
        world.get("building", lambda: None)()
        monitor = config._monitor
        if monitor is None:
            return True
        monitor.phase_start("Building engine", None, 2)
        for step in range(2):
            monitor.phase_start("Choosing kernels", "Building engine", 4)
            for kernel in range(4):
                if not monitor.step_complete("Choosing kernels", kernel):
                    return False
                world.get("kernel", lambda: None)()
            monitor.phase_finish("Choosing kernels")
            if not monitor.step_complete("Building engine", step):
                return False
        monitor.phase_finish("Building engine")
        return True

    class IHostMemory:
        def get_nbytes(self):
            return len(self._data)

        def __bytes__(self):
            return self._data

    class IBuilderConfig:
        def do_set_memory_pool_limit(self, pool, pool_size):
            self._pools[pool] = pool_size

        def do_set_flag(self, flag):
            self._flags.add(flag)

        def do_clear_flag(self, flag):
            self._flags.discard(flag)

        def do_get_flag(self, flag):
            return flag in self._flags

        def get_builder_optimization_level(self):
            return self._level

        def set_builder_optimization_level(self, level):
            if not 0 <= level <= 5:
                raise Misuse(f"optimisation level {level}")
            self._level = level

        def get_progress_monitor(self):
            return self._monitor

        def set_progress_monitor(self, monitor):
            if not isinstance(monitor, module.IProgressMonitor) or not getattr(monitor, "_made", False):
                raise Misuse("IProgressMonitor.__init__ was not called")
            object.__setattr__(self, "_monitor", monitor)

        def get_num_compute_capabilities(self):
            return len(self._aims)

        def set_num_compute_capabilities(self, count):
            object.__setattr__(self, "_aims", [None] * count)

        def do_set_compute_capability(self, compute_capability, index):
            if world.get("no target"):
                return False
            self._aims[index] = compute_capability
            return True

        def do_create_timing_cache(self, serialized_timing_cache):
            if for_rtx:
                raise DeprecationWarning("Timing cache operations are no-ops in TensorRT-RTX.")
            return new("ITimingCache", data=bytes(serialized_timing_cache))

        def do_set_timing_cache(self, cache, ignore_mismatch):
            wanted = TIMINGS + f"{version} {machine.name}".encode()
            if cache._data not in (b"", wanted):
                say(self._logger, WARNING, "timing cache header mismatch")
                return False
            world["timings"], cache._data, self._cache = cache._data, wanted, cache
            return True

        def do_get_timing_cache(self):
            return self._cache

    class ITimingCache:
        def do_serialize(self):
            return new("IHostMemory", data=self._data)

    class OnnxParser:
        def begin(self, network, logger):
            self._network, self._errors = network, []
            flags = getattr(module.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
            self._refused = numbers < (10, 0) and not network._flags & (1 << int(flags))

        def do_parse(self, model, path=None):
            found = rules.problems(onnx.load_from_string(bytes(model)), numbers)
            if self._refused:
                found.append((-1, "", "", "In the current operation, network must be an explicit batch network"))
            self._errors = [
                new("ParserError", index=index, name=name, operator=op, text=text) for index, name, op, text in found
            ]
            self._network._model = bytes(model)
            return not found

        def get_num_errors(self):
            return len(self._errors)

        def do_get_error(self, index):
            return self._errors[index]

    class ParserError:
        def do_desc(self):
            return self._text

        def do_node(self):
            return self._index

        def do_node_name(self):
            return self._name

        def do_node_operator(self):
            return self._operator

    class Runtime:
        def begin(self, logger):
            need_driver()
            self._logger, self._host_code = logger, False

        def get_engine_host_code_allowed(self):
            return self._host_code

        def set_engine_host_code_allowed(self, allowed):
            if allowed:
                raise Misuse("host code in engines")

        def do_deserialize_cuda_engine(self, serialized_engine):
            plan = bytes(serialized_engine)
            world["loads"] = world.get("loads", 0) + 1
            if not plan.startswith(MAGIC):
                say(self._logger, ERROR, "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.")
                return None
            header, _, graph = plan[len(MAGIC) :].partition(b"\n")
            facts = json.loads(header)
            if facts["version"] != version:
                text = (
                    "The engine plan file is not compatible with this version of TensorRT, expecting library version "
                    f"{version} got {facts['version']}, please rebuild."
                )
                say(self._logger, ERROR, text)
                return None
            own = "SM{}{}".format(*machine.capability)
            if for_rtx and own not in facts["targets"]:
                say(self._logger, ERROR, f"Target GPU SM {own} is not supported by this TensorRT-RTX engine")
                return None
            session = ort.InferenceSession(graph, _session_options(), providers=["CPUExecutionProvider"])
            return new("ICudaEngine", session=session, tf32=facts["tf32"], logger=self._logger)

    class ICudaEngine:
        def tensors(self):
            session = self._session
            return [("INPUT", t) for t in session.get_inputs()] + [("OUTPUT", t) for t in session.get_outputs()]

        def find(self, name):
            return next((mode, t) for mode, t in ICudaEngine.tensors(self) if t.name == name)

        def get_num_io_tensors(self):
            return len(ICudaEngine.tensors(self))

        def do_get_tensor_name(self, index):
            return ICudaEngine.tensors(self)[index][1].name

        def do_get_tensor_mode(self, name):
            return getattr(module.TensorIOMode, ICudaEngine.find(self, name)[0])

        def do_get_tensor_shape(self, name):
            return new("Dims", shape=tuple(ICudaEngine.find(self, name)[1].shape))

        def do_get_tensor_dtype(self, name):
            own = DTYPES[ICudaEngine.find(self, name)[1].type][0]
            return getattr(module.DataType, world.get("dtypes", {}).get(name, own))

        def do_get_tensor_location(self, name):
            return module.TensorLocation.HOST if name in world.get("host", ()) else module.TensorLocation.DEVICE

        def do_is_shape_inference_io(self, name):
            return name in world.get("host", ())

        def do_create_runtime_config(self):
            return new("IRuntimeConfig", cache=None)

        def do_create_execution_context(self, strategy=None, runtime_config=None):
            if for_rtx != (runtime_config is not None):
                raise Misuse("kernels that nobody keeps" if for_rtx else "a runtime configuration")
            if for_rtx and not runtime_config._cache._data:
                world["compiled"] = world.get("compiled", 0) + 1
                runtime_config._cache._data = KERNELS + machine.name.encode()
            if world.get("no context"):
                say(self._logger, ERROR, "Cuda Runtime (out of memory)")
                return None
            memory = machine.call("cudaMalloc", 256)[1]
            context = new("IExecutionContext", engine=self, addresses={}, warm=None)
            weakref.finalize(context, machine.call, "cudaFree", memory).atexit = False
            return context

    class IRuntimeConfig:
        def do_create_runtime_cache(self):
            return new("IRuntimeCache", data=b"")

        def do_set_runtime_cache(self, cache=None):
            object.__setattr__(self, "_cache", cache)
            return True

    class IRuntimeCache:
        def do_serialize(self):
            return new("IHostMemory", data=self._data)

        def do_deserialize(self, blob):
            fits = bytes(blob) == KERNELS + machine.name.encode()
            object.__setattr__(self, "_data", bytes(blob) if fits else b"")
            return fits

    class Dims:
        def __len__(self):
            return len(self._shape)

        def __getitem__(self, index):
            return self._shape[index]

    class IExecutionContext:
        def do_set_tensor_address(self, name, memory):
            if memory % ALIGNMENT or world.get("refuses") == name:
                say(self._engine._logger, ERROR, f"the address of {name} is refused, data must be aligned")
                return False
            self._addresses[name] = memory
            self._warm = None
            return True

        def do_execute_async_v3(self, stream_handle):
            logger, engine = self._engine._logger, self._engine
            stream = machine.stream(stream_handle)
            names = [t.name for _, t in ICudaEngine.tensors(engine)]
            missing = [name for name in names if name not in self._addresses]
            if missing or world.get("enqueue"):
                say(logger, ERROR, world.get("enqueue") or f"Address is not set for input tensor {missing[0]}.")
                return False
            if stream.capture is not None and (world.get("capture") or self._warm != dict(self._addresses)):
                say(logger, ERROR, world.get("capture") or "operation not permitted when stream is capturing")
                machine.invalidate(stream_handle)
                return False
            self._warm = dict(self._addresses)
            machine.queue(stream_handle, Work("enqueue", _run(weakref.ref(self), dict(self._addresses), engine)))
            return True

    def _run(context, addresses, engine):
        tensors = [
            (mode, t.name, tuple(t.shape), np.dtype(DTYPES[t.type][1])) for mode, t in ICudaEngine.tensors(engine)
        ]
        places, inputs, outputs = [], {}, {}

        def run():
            if context() is None:
                raise Misuse("the execution context of this work is gone")
            sizes = [(n, kind.itemsize * math.prod(shape)) for _, n, shape, kind in tensors]
            here = [machine.view(addresses[n], size, f"'{n}'") for n, size in sizes]
            if not places or any(now is not before for now, before in zip(here, places, strict=True)):
                places[:] = here
                for (mode, name, shape, kind), memory in zip(tensors, here, strict=True):
                    (inputs if mode == "INPUT" else outputs)[name] = memory.view(kind).reshape(shape)
                _forbid_overlap(inputs, outputs)
            for view in outputs.values():  # what an engine does to a result before it is finished is its own affair
                view[...] = np.nan
            results = engine._session.run(list(outputs), inputs)
            for view, value in zip(outputs.values(), results, strict=True):
                view[...] = _tf32(value) if engine._tf32 else value

        return run

    behaviours = {
        kind.__name__: kind
        for kind in (
            ILogger, Builder, IHostMemory, IBuilderConfig, ITimingCache, OnnxParser, ParserError, Runtime, ICudaEngine,
            Dims, IExecutionContext, IProgressMonitor, IRuntimeConfig, IRuntimeCache,
        )
    }  # fmt: skip
    module = build(version, behaviours)
    return module


def _session_options():
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _forbid_overlap(inputs, outputs):
    for name, output in outputs.items():
        for other, value in [*inputs.items(), *((n, v) for n, v in outputs.items() if n != name)]:
            if np.shares_memory(output, value):
                raise Misuse(f"'{name}' is written into the memory of '{other}'")


def _tf32(value):
    """Ten bits of mantissa."""
    return (value.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
