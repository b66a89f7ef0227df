"""Cells of a step program: a core's record with the arrays that it names, ready to step or to be lowered."""

from __future__ import annotations

from collections.abc import Mapping

from ..arrays import Array
from ..bundle import step_cores as records
from .cfc import CfcCell, CfcLayer, Linear
from .ltc import AffineMap, LtcCell, Synapses
from .recurrent import GruLayer, LstmLayer, RnnLayer

__all__ = ["cfc_cell", "ltc_cell", "recurrent_layer"]

Tensors = Mapping[str, Array]


def ltc_cell(record: records.Ltc, tensors: Tensors, inputs: int) -> LtcCell:
    """The LTC cell of a record that takes so many inputs."""
    return LtcCell(
        cm=tensors[record.cm],
        gleak=tensors[record.gleak],
        vleak=tensors[record.vleak],
        sensory=_synapses(record.sensory, tensors),
        synapses=_synapses(record.synapses, tensors),
        input_map=_map(record.input_map, tensors),
        output_map=_map(record.output_map, tensors),
        inputs=inputs,
        motor=record.motor,
        unfolds=record.unfolds,
        epsilon=record.epsilon,
    )


def cfc_cell(record: records.Cfc, tensors: Tensors) -> CfcCell:
    """The CfC cell of a record."""

    def linear(part: records.Linear | None) -> Linear | None:
        return None if part is None else (tensors[part.weight], tensors[part.bias])

    def vector(name: str | None) -> Array | None:
        return None if name is None else tensors[name]

    def layer(part: records.CfcLayer) -> CfcLayer:
        return CfcLayer(
            mode=record.mode,
            activation=record.activation,
            backbone=tuple((tensors[own.weight], tensors[own.bias]) for own in part.backbone),
            ff1=(tensors[part.ff1.weight], tensors[part.ff1.bias]),
            ff2=linear(part.ff2),
            time_a=linear(part.time_a),
            time_b=linear(part.time_b),
            w_tau=vector(part.w_tau),
            a=vector(part.a),
        )

    return CfcCell(tuple(layer(part) for part in record.layers))


def recurrent_layer(record: records.Core, tensors: Tensors) -> GruLayer | LstmLayer | RnnLayer:
    """The layer of a GRU, an LSTM or an RNN.

    Raises:
        TypeError: If the record is of another core.
    """
    if isinstance(record, records.Gru):
        return GruLayer(*_stacked(record, tensors))
    if isinstance(record, records.Lstm):
        return LstmLayer(*_stacked(record, tensors), None if record.projection is None else tensors[record.projection])
    if isinstance(record, records.Rnn):
        return RnnLayer(*_stacked(record, tensors), record.nonlinearity)
    raise TypeError(f"'{record.kind}' is no recurrent layer of torch")


def _stacked(record: records.Gru | records.Lstm | records.Rnn, tensors: Tensors) -> tuple[Array, Array, Array, Array]:
    names = (record.w_input, record.w_recurrent, record.b_input, record.b_recurrent)
    w_input, w_recurrent, b_input, b_recurrent = (tensors[name] for name in names)
    return w_input, w_recurrent, b_input, b_recurrent


def _synapses(record: records.Synapses, tensors: Tensors) -> Synapses:
    return Synapses(*(tensors[getattr(record, name)] for name in ("source", "target", "w", "mu", "sigma", "erev")))


def _map(record: records.AffineMap, tensors: Tensors) -> AffineMap:
    scale, shift = (None if name is None else tensors[name] for name in (record.scale, record.shift))
    return AffineMap(scale, shift)
