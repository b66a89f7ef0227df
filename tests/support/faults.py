"""Faults in a recorded step, as an error of the recording would make them: program and graph both carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from lnn_edge.bundle.operations import Operation
from lnn_edge.bundle.program import Program, StepProgram

__all__ = ["FAULTS", "dropped_synapse", "forgotten_time", "put_into_recordings"]

Fault = Callable[[StepProgram], StepProgram]
replaced = msgspec.structs.replace


def put_into_recordings(monkeypatch, fault: Fault) -> None:
    """Let every program be recorded with this fault."""
    from lnn_edge.export.trace.recorder import Recorder  # here: tests of the device half alone have no torch

    finish = Recorder.finish
    monkeypatch.setattr(Recorder, "finish", lambda *arguments: fault(finish(*arguments)))


def with_nodes(step: StepProgram, nodes: Iterable[Any], **tensors: np.ndarray) -> StepProgram:
    own = step.program
    changed = Program(own.inputs, own.elapsed, own.states, tuple(nodes), own.outputs)
    return StepProgram(changed, {**step.tensors, **tensors})


def with_core(step: StepProgram, change: Callable[[Any], Any], op: str) -> StepProgram:
    """With the only core of this kind changed."""
    assert [node.kind for node in step.program.nodes].count(op) == 1
    return with_nodes(step, [change(node) if node.kind == op else node for node in step.program.nodes])


def core_of(step: StepProgram, op: str) -> Any:
    (core,) = [node for node in step.program.nodes if node.kind == op]
    return core


def dropped_synapse(place: int, part: str = "synapses") -> Fault:
    """Without the synapse that has this place in the order of conductances, the weakest first."""

    def fault(step: StepProgram) -> StepProgram:
        names = msgspec.structs.asdict(getattr(core_of(step, "ltc"), part))
        victim = np.argsort(step.tensors[names["w"]])[place]
        return StepProgram(
            step.program, {**step.tensors, **{n: np.delete(step.tensors[n], victim) for n in names.values()}}
        )

    return fault


def exchanged(first: str, second: str, part: str = "synapses") -> Fault:
    """With two fields of the synapses exchanged."""

    def change(core: Any) -> Any:
        own = getattr(core, part)
        return replaced(core, **{part: replaced(own, **{first: getattr(own, second), second: getattr(own, first)})})

    return lambda step: with_core(step, change, "ltc")


def crossed_states(step: StepProgram) -> StepProgram:
    first, second = step.program.states
    states = (replaced(first, next=second.next), replaced(second, next=first.next))
    own = step.program
    return StepProgram(Program(own.inputs, own.elapsed, states, own.nodes, own.outputs), step.tensors)


def forgotten_time(op: str) -> Fault:
    """A core takes the usual timespan, whatever the time between samples is."""

    def fault(step: StepProgram) -> StepProgram:
        timed = with_core(step, lambda core: replaced(core, elapsed="usual"), op)
        return StepProgram(timed.program, {**timed.tensors, "usual": np.ones(1)})

    return fault


def unscaled_time(step: StepProgram) -> StepProgram:
    """The core takes seconds for timespans."""
    seconds = Operation(op="Mul", inputs=(step.program.elapsed.name, "period"), output="seconds")
    timed = [replaced(node, elapsed="seconds") for node in step.program.nodes]
    return with_nodes(step, [seconds, *timed], period=np.array([0.1]))


def changed_tensor(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    return lambda step: StepProgram(step.program, {**step.tensors, name: change(step.tensors[name])})


def forgotten_mask(step: StepProgram) -> StepProgram:
    """A head of a wired CfC that all neurons reach."""
    weight = step.tensors["rnn.l0.ff1.weight"]
    assert np.any(weight == 0)
    return StepProgram(step.program, {**step.tensors, "rnn.l0.ff1.weight": np.where(weight == 0, 0.1, weight)})


def _before_softplus(conductance: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.expm1(conductance)))


# By name: the model of `cases.CASES`, its time, and the fault.
FAULTS: dict[str, tuple[str, str, Fault]] = {
    "weakest-synapse-dropped": ("ltc-autoncp", "fixed", dropped_synapse(0)),
    "medium-synapse-dropped": ("ltc-autoncp", "fixed", dropped_synapse(15)),
    "sensory-synapse-dropped": ("ltc-autoncp", "fixed", dropped_synapse(0, "sensory")),
    "mu-and-sigma-exchanged": ("ltc-autoncp", "fixed", exchanged("mu", "sigma")),
    "sensory-mu-and-sigma-exchanged": ("ltc-autoncp", "fixed", exchanged("mu", "sigma", "sensory")),
    "source-and-target-exchanged": ("ltc-autoncp", "fixed", exchanged("source", "target")),
    "states-crossed-ltc": ("ltc-mixed", "fixed", crossed_states),
    "states-crossed-cfc": ("cfc-mixed-autoncp", "fixed", crossed_states),
    "scale-of-time-forgotten": ("cfc-autoncp", "measured", unscaled_time),
    "softplus-forgotten-on-cm": ("ltc-autoncp", "fixed", changed_tensor("rnn.cm", _before_softplus)),
    "mask-forgotten": ("cfc-autoncp", "fixed", forgotten_mask),
    "bias-dropped": ("cfc-units", "fixed", changed_tensor("rnn.l0.ff2.bias", np.zeros_like)),
}
