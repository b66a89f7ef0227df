"""How fast are the exported step graphs, compared with what torch.onnx.export makes of the same layer?

Both graphs compute one step, (input, state) -> (output, state), and run the same way: onnxruntime on the CPU, one
thread, batch 1, every buffer bound. They take turns in one process, a short burst of steps each, so that whatever else
the machine does meets both; the table shows the median burst of each and the ratio of the two.

    python benchmarks/step_graphs.py
    python benchmarks/step_graphs.py --runs 1000 --json step_graphs.json

The stock graph needs onnxscript beside the export extra: pip install onnxscript
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn

from lnn_edge.bundle.spec import Time
from lnn_edge.export.cores.recurrent import is_recurrent, recurrent_from_module
from lnn_edge.export.step_graph import step_graph
from lnn_edge.export.trained.core_step import CoreStep
from lnn_edge.export.trained.open import open_module
from lnn_edge.export.trained.protocol import Steppable

BURST = 20  # steps timed as one: long enough for the clock, short enough that a disturbance hits few of them
WARM_UP = 5  # bursts before the first that counts


@dataclass(frozen=True)
class Case:
    """A layer of the table, and whether its graph takes the measured time."""

    name: str
    make: Callable[[], nn.Module]
    measured: bool = False


@dataclass(frozen=True)
class Result:
    """Median microseconds per step of both graphs, their ratio, the nodes of ours and how far the two are apart."""

    name: str
    ours_us: float
    stock_us: float
    ratio: float
    nodes: int
    max_difference: float


class ConvPolicy(nn.Module):
    """Images of 28 x 28 through convolutions into a CfC with a head, as policies that drive by camera are built."""

    use_mixed, state_size, sample_shape = False, 64, (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(400, 64), nn.ReLU(),
        )  # fmt: skip
        self.rnn, self.head = CfC(64, 64), nn.Linear(64, 4)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        y, hx = self.rnn(features, hx, timespans)
        return self.head(y), hx


CASES = (
    Case("LTC(20, AutoNCP(28, 4))", lambda: LTC(20, AutoNCP(28, 4))),
    Case("CfC(20, AutoNCP(28, 4))", lambda: CfC(20, AutoNCP(28, 4))),
    Case("CfC(20, 64)", lambda: CfC(20, 64)),
    Case("LTC(20, 64)", lambda: LTC(20, 64)),
    Case("CfC(8, AutoNCP(19, 1))", lambda: CfC(8, AutoNCP(19, 1))),
    Case("LTC(20, AutoNCP(28, 4), mixed_memory=True)", lambda: LTC(20, AutoNCP(28, 4), mixed_memory=True)),
    Case("LTC(20, AutoNCP(64, 4))", lambda: LTC(20, AutoNCP(64, 4))),
    Case("LTC(64, AutoNCP(128, 10))", lambda: LTC(64, AutoNCP(128, 10))),
    Case("LTC(20, AutoNCP(28, 4)), measured time", lambda: LTC(20, AutoNCP(28, 4)), measured=True),
    Case("CfC(20, AutoNCP(28, 4)), measured time", lambda: CfC(20, AutoNCP(28, 4)), measured=True),
    Case("CfC(20, 64), measured time", lambda: CfC(20, 64), measured=True),
    Case("conv encoder, CfC(64, 64), head", ConvPolicy),
    Case("GRU(20, 32)", lambda: nn.GRU(20, 32, batch_first=True)),
    Case("GRU(64, 128)", lambda: nn.GRU(64, 128, batch_first=True)),
    Case("LSTM(20, 32)", lambda: nn.LSTM(20, 32, batch_first=True)),
    Case("LSTM(64, 128)", lambda: nn.LSTM(64, 128, batch_first=True)),
    Case("RNN(20, 32)", lambda: nn.RNN(20, 32, batch_first=True)),
)


class StepGraph:
    """One session with every buffer bound; inputs are bound by position, so both graphs get the same values."""

    def __init__(self, model: bytes, values: Sequence[np.ndarray]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self._inputs = [np.ascontiguousarray(value, np.float32) for value in values]
        for argument, array in zip(self._session.get_inputs(), self._inputs, strict=True):
            self._binding.bind_input(argument.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        self.outputs = {o.name: np.empty(o.shape, np.float32) for o in self._session.get_outputs()}
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def burst(self) -> float:
        """Run some steps; seconds per step."""
        run, binding = self._session.run_with_iobinding, self._binding
        start = time.perf_counter()
        for _ in range(BURST):
            run(binding)
        return (time.perf_counter() - start) / BURST


class StockStep(nn.Module):
    """The step a user would export without this package: the layer, called on a sequence of length one."""

    def __init__(self, layer: nn.Module, measured: bool) -> None:
        super().__init__()
        self._layer = layer
        self._measured = measured

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if is_recurrent(self._layer):
            return self._torch_step(x, *(state[None] for state in more))
        timespans, (h, *memory) = (more[0], more[1:]) if self._measured else (None, more)
        y, state = self._layer(x.unsqueeze(1), (h, *memory) if memory else h, timespans=timespans)
        return (y[:, 0], *state) if memory else (y[:, 0], state)

    def _torch_step(self, x: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, new = self._layer(x.unsqueeze(1), states if len(states) > 1 else states[0])
        return (y[:, 0], *(state[0] for state in (new if isinstance(new, tuple) else (new,))))


def main() -> None:
    arguments = _parse_arguments()
    results = []
    torch.set_num_threads(1)
    for case in CASES:
        if not arguments.only or any(part in case.name for part in arguments.only):
            results.append(measure(case, arguments.runs))
            if arguments.json != "-":
                print_result(results[-1], header=len(results) == 1)
    machine = describe_machine()
    report = {"machine": machine, "runs": arguments.runs, "steps_per_run": BURST, "results": list(map(asdict, results))}
    if arguments.json == "-":
        print(json.dumps(report, indent=2))
        return
    print(f"median of {arguments.runs} interleaved runs of {BURST} steps; {machine}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")


def measure(case: Case, runs: int) -> Result:
    """Build both graphs of a case and time them in turns."""
    torch.manual_seed(0)
    module = case.make().eval()
    values = example(module, case.measured)
    model, nodes, states = own_graph(module, case.measured)
    ours, stock = StepGraph(model, values), StepGraph(stock_graph(module, case.measured, values), values)
    own_times, stock_times = alternate((ours, stock), runs)
    names = ["output", *states]
    apart = max(
        float(np.abs(ours.outputs[name] - other).max())
        for name, other in zip(names, stock.outputs.values(), strict=True)
    )
    return Result(case.name, own_times * 1e6, stock_times * 1e6, own_times / stock_times, nodes, apart)


def alternate(graphs: Sequence[StepGraph], runs: int) -> list[float]:
    """Time graphs in turns; median seconds per step of each."""
    times: list[list[float]] = [[] for _ in graphs]
    for run in range(WARM_UP + runs):
        for graph, own in zip(graphs, times, strict=True):
            seconds = graph.burst()
            if run >= WARM_UP:
                own.append(seconds)
    return [statistics.median(own) for own in times]


def example(module: nn.Module, measured: bool) -> list[np.ndarray]:
    """Input, with measured time dt, and states: random values of the size they have in use."""
    rng = np.random.default_rng(0)
    if is_recurrent(module):
        widths = recurrent_from_module("rnn", module).state_widths
    else:
        widths = (module.state_size,) * (1 + module.use_mixed)
    states = [rng.uniform(-0.5, 0.5, (1, width)) for width in widths]
    time_values = [np.full((1, 1), 0.8)] if measured else []
    shape = module.sample_shape if isinstance(module, ConvPolicy) else (module.input_size,)
    return [value.astype(np.float32) for value in (rng.uniform(-1, 1, (1, *shape)), *time_values, *states)]


def own_graph(module: nn.Module, measured: bool) -> tuple[bytes, int, list[str]]:
    """Our step as ONNX, its number of nodes, and the names that its states have on their way out."""
    time_values = Time("measured", 1.0, 1.0, (0.05, 20.0)) if measured else Time("fixed")
    own = steppable(module)
    model = step_graph(own.program(time_values))
    return model.SerializeToString(), len(model.graph.node), [state.output for state in own.states]


def steppable(module: nn.Module) -> Steppable:
    """The module as what a step program is made of."""
    if is_recurrent(module):
        return CoreStep(recurrent_from_module("rnn", module), batch=1)
    shape = (3, 1, *module.sample_shape) if isinstance(module, ConvPolicy) else (3, 1, module.input_size)
    return open_module(module).trained(1, {"input": [np.zeros(shape, np.float32)]})


def stock_graph(module: nn.Module, measured: bool, values: Sequence[np.ndarray]) -> bytes:
    """What torch.onnx.export makes of the layer called on one sample."""
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        sys.exit("step_graphs: the stock export needs onnxscript. Type: pip install onnxscript")
    arguments = tuple(torch.from_numpy(value) for value in values)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it mentions torchvision, which nothing here needs
        program = torch.onnx.export(StockStep(module, measured), arguments, dynamo=True, verbose=False)
    return program.model_proto.SerializeToString()


def describe_machine() -> str:
    """CPU, onnxruntime and threads in a line."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{cpu}, onnxruntime {ort.__version__}, torch {torch.__version__}, 1 thread"


def print_result(result: Result, header: bool) -> None:
    """A line of the table."""
    if header:
        print(f"{'layer':<44} {'ours us':>8} {'stock us':>9} {'ratio':>6} {'nodes':>6} {'difference':>11}")
    print(
        f"{result.name:<44} {result.ours_us:>8.1f} {result.stock_us:>9.1f} {result.ratio:>6.2f} {result.nodes:>6} "
        f"{result.max_difference:>11.1e}",
        flush=True,
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400, help=f"bursts of {BURST} steps per graph (default 400)")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only the layers whose name holds TEXT")
    parser.add_argument(
        "--json", metavar="FILE", help="also write the results as JSON; - prints it instead of the table"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
