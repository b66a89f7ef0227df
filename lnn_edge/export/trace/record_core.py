"""A core as nodes of a step program: memory cell, cell and projection, or torch's recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...arrays import Array
from ...bundle import step_cores as records
from ...reference import AffineMap, CfcCell, CfcLayer, GruLayer, LstmLayer, LtcCell, RnnLayer, Synapses
from ...reference.cfc import Linear
from ..cores.maths import LiquidCore, RecurrentCore
from .recorder import Recorder, Value

__all__ = ["record_core"]


def record_core(
    recorder: Recorder,
    name: str,
    core: LiquidCore | RecurrentCore,
    x: Value,
    states: Sequence[Value],
    timespan: Value | torch.Tensor | None,
) -> list[Value]:
    """Record one step of a core.

    Args:
        recorder: Where to.
        name: The core's name in the user's model.
        core: What it computes.
        x: Its input, one row.
        states: Its states, in the order of their names.
        timespan: The timespan that the network computes for it, one number; `None` for that of the step.

    Returns:
        Output and next states.
    """
    own = _Recording(recorder, name)
    if isinstance(core, RecurrentCore):
        y, after = own.recurrent(core, x.name(), [state.name() for state in states])
    else:
        y, after = own.liquid(core, x.name(), [state.name() for state in states], _elapsed(recorder, timespan))
    return [recorder.value(value, (1, *recorder.shape_of(value))) for value in (y, *after)]


def _elapsed(recorder: Recorder, timespan: Value | torch.Tensor | None) -> str:
    if timespan is None:
        return recorder.elapsed_name
    if isinstance(timespan, Value):  # whatever the time between samples is
        return timespan.shaped((1,))
    own = float(timespan.flatten()[0])
    if own == recorder.timespan:
        return recorder.elapsed_name
    return recorder.constant(timespan.detach().double().numpy().reshape(-1)[:1])


class _Recording:
    """Names of one core's values and tensors."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder, self._name = recorder, name
        self._where = recorder.origin[0]

    def liquid(self, core: LiquidCore, x: str, states: Sequence[str], elapsed: str) -> tuple[str, list[str]]:
        """Output and next states."""
        h, memory = states[0], list[str]()
        if core.memory is not None:
            h, c = self._layer(core.memory, "memory", x, h, states[1])
            memory = [c]
        node = (
            self._ltc(core.cell, x, h, elapsed)
            if isinstance(core.cell, LtcCell)
            else self._cfc(core.cell, x, h, elapsed)
        )
        self._recorder.add(node)
        output, after = node.output, node.next
        if core.projection is not None:
            weight, bias = core.projection
            self._recorder.at((self._where, self._name))
            output = self._recorder.operation("Gemm", output, weights={"B": weight.T, "C": bias})
        return output, [after, *memory]

    def recurrent(self, core: RecurrentCore, x: str, states: Sequence[str]) -> tuple[str, list[str]]:
        """Output and next states."""
        before = dict(zip(core.state_names, states, strict=True))
        after: dict[str, str] = {}
        for k, layer in enumerate(core.layers):
            names = [core.state_name(kind, k) for kind in core.kinds]
            part = "" if len(core.layers) == 1 else f"l{k}"
            new = self._layer(layer, part, x, *(before[name] for name in names))
            x = new[0]
            after |= dict(zip(names, new, strict=True))
        return x, [after[name] for name in core.state_names]

    def _layer(self, layer: GruLayer | LstmLayer | RnnLayer, part: str, x: str, h: str, c: str = "") -> list[str]:
        own = {"name": self._name, "where": self._where, "input": x, "state": h, "next": self._fresh("next", part)}
        for key in ("w_input", "w_recurrent", "b_input", "b_recurrent"):
            own[key] = self._tensor(key, getattr(layer, key), part)
        node: records.Gru | records.Lstm | records.Rnn
        if isinstance(layer, GruLayer):
            node = records.Gru(**own)
        elif isinstance(layer, RnnLayer):
            node = records.Rnn(**own, nonlinearity=layer.nonlinearity)
        else:
            projection = None if layer.projection is None else self._tensor("projection", layer.projection, part)
            memory = {"memory": c, "next_memory": self._fresh("next_memory", part)}
            node = records.Lstm(**own, **memory, projection=projection)
        self._recorder.add(node)
        return list(node.made())

    def _ltc(self, cell: LtcCell, x: str, h: str, elapsed: str) -> records.Ltc:
        return records.Ltc(
            name=self._name,
            where=self._where,
            input=x,
            state=h,
            elapsed=elapsed,
            output=self._fresh("out"),
            next=self._fresh("next"),
            units=cell.units,
            motor=cell.motor,
            unfolds=cell.unfolds,
            epsilon=cell.epsilon,
            cm=self._tensor("cm", cell.cm),
            gleak=self._tensor("gleak", cell.gleak),
            vleak=self._tensor("vleak", cell.vleak),
            sensory=self._synapses("sensory", cell.sensory),
            synapses=self._synapses("synapses", cell.synapses),
            input_map=self._map("input_map", cell.input_map),
            output_map=self._map("output_map", cell.output_map),
        )

    def _synapses(self, part: str, synapses: Synapses) -> records.Synapses:
        names = ("source", "target", "w", "mu", "sigma", "erev")
        return records.Synapses(*(self._tensor(name, getattr(synapses, name), part) for name in names))

    def _map(self, part: str, own: AffineMap) -> records.AffineMap:
        scale, shift = (
            None if value is None else self._tensor(name, value, part)
            for name, value in (("scale", own.scale), ("shift", own.shift))
        )
        return records.AffineMap(scale, shift)

    def _cfc(self, cell: CfcCell, x: str, h: str, elapsed: str) -> records.Cfc:
        return records.Cfc(
            name=self._name,
            where=self._where,
            input=x,
            state=h,
            elapsed=elapsed,
            output=self._fresh("out"),
            next=self._fresh("next"),
            mode=cell.layers[0].mode,
            activation=cell.layers[0].activation,
            layers=tuple(self._cfc_layer(layer, f"l{k}") for k, layer in enumerate(cell.layers)),
        )

    def _cfc_layer(self, layer: CfcLayer, part: str) -> records.CfcLayer:
        def head(name: str) -> records.Linear | None:
            own = getattr(layer, name)
            return None if own is None else self._linear(f"{part}.{name}", own)

        def vector(name: str) -> str | None:
            own = getattr(layer, name)
            return None if own is None else self._tensor(name, own, part)

        return records.CfcLayer(
            backbone=tuple(self._linear(f"{part}.backbone.{k}", own) for k, own in enumerate(layer.backbone)),
            ff1=self._linear(f"{part}.ff1", layer.ff1),
            ff2=head("ff2"),
            time_a=head("time_a"),
            time_b=head("time_b"),
            w_tau=vector("w_tau"),
            a=vector("a"),
        )

    def _linear(self, part: str, layer: Linear) -> records.Linear:
        weight, bias = layer
        return records.Linear(self._tensor("weight", weight, part), self._tensor("bias", bias, part))

    def _fresh(self, name: str, part: str = "") -> str:
        return self._recorder.fresh(".".join(filter(None, [self._name, part, name])))

    def _tensor(self, name: str, value: Array, part: str = "") -> str:
        return self._recorder.tensor(".".join(filter(None, [self._name, part, name])), value)
