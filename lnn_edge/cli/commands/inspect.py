"""`lnn-edge inspect`: what a bundle is, without running it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ..console import add_json_argument, emit_json, grid, print_result
from ..exit_codes import OK

if TYPE_CHECKING:
    from ...bundle.manifest import Manifest
    from ...bundle.spec import Core, Graph, Guard, Provenance, StatePair, Tensor, Time, Verification

__all__ = ["DESCRIPTION", "EPILOG", "HELP", "NAME", "add_arguments", "run"]

NAME = "inspect"
HELP = "show what a bundle holds"
DESCRIPTION = """Check a bundle's files and show its inputs, outputs, states, time, cores, graph, proof and
origin. Nothing is run. With --program the step itself, a line for each node, with its place in
your model."""
EPILOG = """examples:
  lnn-edge inspect gait.lnn
  lnn-edge inspect gait.lnn --program
  lnn-edge inspect gait.lnn --json -
  lnn-edge inspect gait.engine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("bundle", help="the bundle, NAME.lnn, or an engine that `lnn-edge build --for` made")
    parser.add_argument("--program", action="store_true", help="show the step program, which any runtime computes")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from ...runtime.backends.trt.plan_file import is_plan

    show = _inspect_program if arguments.program else _inspect_engine if is_plan(arguments.bundle) else _inspect
    return show(arguments.bundle, arguments.json)


def _inspect_program(path: str, json: str | None) -> int:
    from ...bundle.directory import read_bundle
    from ..program_text import program_text

    step = read_bundle(path).program()
    emit_json(step.program, json)
    print_result(program_text(step), json)
    print_result(f"\n{path}: step program valid, files unchanged since export", json)
    return OK


def _inspect_engine(path: str, json: str | None) -> int:
    from pathlib import Path

    from ...runtime.backends.trt.plan_file import read_plan

    header, plan = read_plan(Path(path))
    emit_json(header, json)
    rows = [
        ("engine of", header.bundle),
        ("model.onnx", f"{header.model[:12]} (sha256)"),
        ("backend", header.backend),
        ("built by", f"version {header.builder}, which alone can load it"),
        ("for", ", ".join(header.targets)),
        ("TF32", "on" if header.tf32 else "off"),
        ("nodes", str(header.nodes or "unknown")),
    ]
    print_result("\n".join(f"{name:<11} {value}" for name, value in rows), json)
    print_result(f"\n{path}: whole, {len(plan) / 1024:.0f} KiB; an engine is a program, take none from strangers", json)
    return OK


def _inspect(path: str, json: str | None) -> int:
    from ...bundle.directory import read_bundle

    bundle = read_bundle(path)
    emit_json(bundle.manifest, json)
    print_result("\n".join(_sections(bundle.manifest)), json)
    size = sum(len(data) for data in bundle.files.values())
    print_result(f"\n{path}: valid, {size / 1024:.0f} KiB, files unchanged since export", json)
    return OK


def _sections(m: Manifest) -> list[str]:
    return [
        f"{m.name}: {_time(m.time)}, batch {m.batch}, {_unroll(m.unroll)}{m.precision}",
        _features("input", m.inputs),
        _features("output", m.outputs),
        _states(m.states),
        *_results(m),
        _cores(m.cores),
        _graph(m.graph),
        _proof(m.verification),
        _origin(m.provenance),
    ]


def _results(m: Manifest) -> Iterator[str]:
    """What a stream makes of the outputs, where that is more than passing them on."""
    if m.sensitive is not None:
        yield str(m.sensitive)
    if m.guard is not None:
        yield f"guard: {_guard_text(m.guard)}"
    if m.window is not None:
        changes = m.window.kept_state_changes
        most = "" if not changes else f"; a kept state changes the output by {max(changes.values()):.2g} of its spread"
        yield f"window: trained on {m.window.length} samples, every {m.window.every}{most}"
    if m.readout is not None:
        from ...runtime.readouts import readout_text

        yield f"readout: {readout_text(m.readout)}"
    if m.probabilities is not None:
        yield f"probabilities: '{m.probabilities}' is the softmax of what the model gives"
    if m.labels:
        yield f"labels: {', '.join(m.labels)}"


def _guard_text(guard: Guard) -> str:
    """What of it is not as by default."""
    own, usual = asdict(guard), asdict(type(guard)())
    shown = (
        f"{name} {own[name]}" if not isinstance(own[name], dict) else f"{name} {_columns(own[name])}"
        for name in own
        if own[name] != usual[name]
    )
    return ", ".join(shown) or "all by default"


def _columns(values: dict[str, tuple[float, ...]]) -> str:
    return " ".join(f"{name}={','.join(f'{value:g}' for value in row)}" for name, row in values.items())


def _unroll(unroll: int) -> str:
    return "" if unroll == 1 else f"blocks of {unroll} samples, "


def _time(time: Time) -> str:
    period = "period unknown" if time.period_s is None else f"period {time.period_s:g} s"
    if time.mode == "fixed" or time.dt_range_s is None:
        return f"fixed time, {period}, timespan {time.timespan:g} folded in"
    low, high = time.dt_range_s
    return f"measured time, {period} = timespan {time.timespan:g}, legal dt {low:g} to {high:g} s"


def _features(what: str, tensors: Sequence[Tensor]) -> str:
    rows: list[tuple[str, ...]] = []
    for tensor in tensors:
        dtype = "" if tensor.dtype == "float32" else f" {tensor.dtype}"
        once = ", once per sequence" if tensor.constant else ", centred in float64" if tensor.center else ""
        named = [(tensor.name, f"{list(tensor.shape)}{dtype}{once}")] + [("", "")] * len(tensor.features)
        if not tensor.features:
            rows.append((*named[0], "", "", "", ""))
        free = "any finite" if tensor.dtype == "float32" else f"any {tensor.dtype}"
        for front, f in zip(named, tensor.features, strict=False):
            pair = [f"{f.range[0]:.4g} to {f.range[1]:.4g}" if f.range else "-"]
            pair.append(f"{f.limits[0]:g} to {f.limits[1]:g}" if f.limits else free)
            rows.append((*front, f.name, f.unit or "-", *pair))
    return grid((what, "shape", "column", "unit", "seen", "legal"), rows)


def _states(states: Sequence[StatePair]) -> str:
    rows = []
    for s in states:
        seen = f"{min(s.bounds[0]):.4g} to {max(s.bounds[1]):.4g}" if s.bounds else "-"
        rows.append((f"{s.input} <- {s.output}", str(list(s.shape)), _initial(s), seen))
    return grid(("state", "shape", "initial", "seen"), rows)


def _initial(state: StatePair) -> str:
    if not isinstance(state.initial, tuple):
        return f"{state.initial:g}"
    return f"{min(state.initial):.4g} to {max(state.initial):.4g}"


def _cores(cores: Sequence[Core]) -> str:
    rows = [
        (
            c.name,
            f"{c.kind} ({c.mode})" + (" + memory cell" if c.mixed_memory else ""),
            c.wiring,
            f"{c.inputs} -> {c.units} -> {c.outputs}",
            f"{c.synapses} + {c.sensory_synapses} sensory",
            ", ".join(f"{count} {kind}" for kind, count in c.layout),
        )
        for c in cores
    ]
    table = grid(("core", "kind", "wiring", "in -> units -> out", "synapses", "state order"), rows)
    inner = next((c.name for c in cores if "." in c.name), None)
    told = "" if inner is None else f"\n'{inner}' is where the core lies in the network, as in its state_dict"
    return table + told


def _graph(graph: Graph) -> str:
    operators = ", ".join(f"{count} {name}" for name, count in graph.operators.items())
    return f"graph: {graph.nodes} operators ({operators}), {graph.parameters:,} constants, opset {graph.opset}"


def _proof(v: Verification) -> str:
    few = ""
    if v.distinct_samples is not None:
        few = f" of {v.distinct_samples} different samples, the whole graph over {v.whole_steps} of them"
    width = max(map(len, v.max_abs_error), default=0)
    errors = [f"  {name:<{width}}  {error:.1e}" for name, error in v.max_abs_error.items()]
    return "\n".join([f"proof: {v.status}, {v.steps:,} closed-loop steps{few}; largest differences:", *errors])


def _origin(p: Provenance) -> str:
    lines = [f"origin: {p.created}"]
    if p.git_commit:
        lines.append(f"  commit      {p.git_commit[:12]}")
    if p.checkpoint_sha256:
        lines.append(f"  checkpoint  {p.checkpoint_sha256[:12]} (sha256)")
    if p.weights == "as built":
        lines.append("  weights     untrained? No --weights FILE was given: they are as the function built them")
    versions = [f"{name} {version}" for name, version in p.versions.items()]
    return "\n".join([*lines, f"  versions    {', '.join(versions)}"])
