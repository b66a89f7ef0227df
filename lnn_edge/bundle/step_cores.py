"""Cores of a step program in the terms of the papers: their weights by tensor name, and the checks of their shapes.

Conductances and capacitances are what the solver uses (softplus applied), only synapses that exist are listed, masks
are in the weights, and time is not folded. The equations are those of `lnn_edge.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from .operations import Kind, Lookup, Node, Shape, Whole, refuse_unless
from .spec import Frozen

__all__ = ["CORES", "AffineMap", "Cfc", "CfcLayer", "Core", "Gru", "Linear", "Lstm", "Ltc", "Rnn", "Synapses"]

_MOST_UNFOLDS = 10_000


class Linear(Frozen, frozen=True):
    """A linear layer as torch stores it: weight (out, in) and bias (out,)."""

    weight: str
    bias: str

    def check(self, look: Lookup, inputs: int, outputs: int | None = None) -> int:
        """Number of outputs."""
        width = look.tensor(self.weight, (outputs, inputs))[0]
        refuse_unless(width > 0, f"'{self.weight}' has no row")
        look.tensor(self.bias, (width,))
        return width


class Synapses(Frozen, frozen=True):
    """The synapses that exist: source and target by number, and w, mu, sigma, E (erev) of each; (synapses,) all."""

    source: str
    target: str
    w: str
    mu: str
    sigma: str
    erev: str

    def check(self, look: Lookup, sources: int, targets: int) -> None:
        """Refuse lists of different lengths, and neurons that do not exist."""
        count = look.indices(self.source, sources)
        refuse_unless(len(count) == 1, f"'{self.source}' has shape {list(count)}, expected one axis")
        same = look.indices(self.target, targets) == count
        refuse_unless(same, f"'{self.target}' and '{self.source}' differ in length")
        for name in (self.w, self.mu, self.sigma, self.erev):
            look.tensor(name, count)


class AffineMap(Frozen, frozen=True, omit_defaults=True):
    """x scale + shift, (width,) each; `None` where the map has no such term."""

    scale: str | None = None
    shift: str | None = None

    def check(self, look: Lookup, width: int) -> None:
        """Refuse terms of another width."""
        for name in (self.scale, self.shift):
            if name is not None:
                look.tensor(name, (width,))


class Core(Node, frozen=True, omit_defaults=True, kw_only=True):
    """A node with states: its name in the user's model, what it takes, and what it makes."""

    name: str
    input: str
    state: str

    @property
    def kind(self) -> str:
        """See `Node.kind`."""
        return str(self.__struct_config__.tag)


class Ltc(Core, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="ltc"):
    """A liquid time-constant cell; the first `motor` of its neurons are the output."""

    elapsed: str
    output: str
    next: str
    units: Whole
    motor: Whole
    unfolds: Whole
    epsilon: float
    cm: str
    gleak: str
    vleak: str
    sensory: Synapses
    synapses: Synapses
    input_map: AffineMap = AffineMap()
    output_map: AffineMap = AffineMap()

    def taken(self) -> tuple[str, ...]:
        """See `Node.taken`."""
        return self.input, self.state, self.elapsed

    def made(self) -> tuple[str, ...]:
        """See `Node.made`."""
        return self.output, self.next

    def check(self, look: Lookup) -> dict[str, Kind]:
        """See `Node.check`."""
        inputs, units = _width(look, self.input), self.units
        refuse_unless(1 <= self.motor <= units, f"{self.motor} motor neurons of {units}")
        refuse_unless(1 <= self.unfolds <= _MOST_UNFOLDS, f"{self.unfolds} unfolds, expected 1 to {_MOST_UNFOLDS}")
        refuse_unless(0 <= self.epsilon < math.inf, f"epsilon {self.epsilon}")
        _check_state(look, self.state, units)
        _check_elapsed(look, self.elapsed)
        for name in (self.cm, self.gleak, self.vleak):
            look.tensor(name, (units,))
        self.sensory.check(look, inputs, units)
        self.synapses.check(look, units, units)
        self.input_map.check(look, inputs)
        self.output_map.check(look, self.motor)
        return {self.output: Kind((self.motor,)), self.next: Kind((units,))}


class CfcLayer(Frozen, frozen=True, omit_defaults=True):
    """A backbone and its heads; mode "pure" has w_tau and a, (units,) each, the others three heads more."""

    backbone: tuple[Linear, ...]
    ff1: Linear
    ff2: Linear | None = None
    time_a: Linear | None = None
    time_b: Linear | None = None
    w_tau: str | None = None
    a: str | None = None

    def check(self, look: Lookup, inputs: int, mode: str) -> int:
        """Number of units."""
        units = look.tensor(self.ff1.bias, (None,))[0]
        width = inputs + units
        for layer in self.backbone:
            width = layer.check(look, width)
        self.ff1.check(look, width, units)
        heads = [head for head in (self.ff2, self.time_a, self.time_b) if head is not None]
        vectors = [name for name in (self.w_tau, self.a) if name is not None]
        expected = (0, 2) if mode == "pure" else (3, 0)
        refuse_unless((len(heads), len(vectors)) == expected, f"its parts are not those of mode '{mode}'")
        for head in heads:
            head.check(look, width, units)
        for name in vectors:
            look.tensor(name, (units,))
        return units


class Cfc(Core, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="cfc"):
    """A closed-form continuous-time cell: one layer, or a chain whose states lie one after the other."""

    elapsed: str
    output: str
    next: str
    mode: Literal["default", "pure", "no_gate"]
    activation: Literal["lecun_tanh", "relu", "tanh", "silu", "gelu"]
    layers: tuple[CfcLayer, ...]

    def taken(self) -> tuple[str, ...]:
        """See `Node.taken`."""
        return self.input, self.state, self.elapsed

    def made(self) -> tuple[str, ...]:
        """See `Node.made`."""
        return self.output, self.next

    def check(self, look: Lookup) -> dict[str, Kind]:
        """See `Node.check`."""
        refuse_unless(bool(self.layers), "no layer")
        _check_elapsed(look, self.elapsed)
        width, units = _width(look, self.input), 0
        for layer in self.layers:
            width = layer.check(look, width, self.mode)
            units += width
        _check_state(look, self.state, units)
        return {self.output: Kind((width,)), self.next: Kind((units,))}


class _Stacked(Core, frozen=True, omit_defaults=True, kw_only=True):
    """One of torch's recurrent layers, with stacked weights as torch stores them; its output is its next state."""

    next: str
    w_input: str
    w_recurrent: str
    b_input: str
    b_recurrent: str

    def taken(self) -> tuple[str, ...]:
        """See `Node.taken`."""
        return self.input, self.state

    def made(self) -> tuple[str, ...]:
        """See `Node.made`."""
        return (self.next,)

    def _check_stacked(self, look: Lookup, gates: int, width: int | None = None) -> tuple[int, int]:
        """Number of units and width of h."""
        rows = look.tensor(self.b_input, (None,))[0]
        refuse_unless(rows % gates == 0 and rows > 0, f"{rows} rows of weights for {gates} gates")
        units = rows // gates
        own = units if width is None else width
        look.tensor(self.w_input, (rows, _width(look, self.input)))
        look.tensor(self.w_recurrent, (rows, own))
        look.tensor(self.b_recurrent, (rows,))
        _check_state(look, self.state, own)
        return units, own


class Gru(_Stacked, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="gru"):
    """One layer of torch.nn.GRU; gates in the order r, z, n."""

    def check(self, look: Lookup) -> dict[str, Kind]:
        """See `Node.check`."""
        return {self.next: Kind((self._check_stacked(look, 3)[1],))}


class Rnn(_Stacked, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="rnn"):
    """One layer of torch.nn.RNN."""

    nonlinearity: Literal["tanh", "relu"]

    def check(self, look: Lookup) -> dict[str, Kind]:
        """See `Node.check`."""
        return {self.next: Kind((self._check_stacked(look, 1)[1],))}


class Lstm(_Stacked, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="lstm"):
    """One layer of torch.nn.LSTM; gates in the order i, f, g, o.

    With a projection, (width of h, units), h is narrower than the memory.
    """

    memory: str
    next_memory: str
    projection: str | None = None

    def taken(self) -> tuple[str, ...]:
        """See `Node.taken`."""
        return self.input, self.state, self.memory

    def made(self) -> tuple[str, ...]:
        """See `Node.made`."""
        return self.next, self.next_memory

    def check(self, look: Lookup) -> dict[str, Kind]:
        """See `Node.check`."""
        width = None if self.projection is None else look.tensor(self.projection, (None, None))[0]
        units, own = self._check_stacked(look, 4, width)
        if self.projection is not None:
            look.tensor(self.projection, (own, units))
        _check_state(look, self.memory, units)
        return {self.next: Kind((own,)), self.next_memory: Kind((units,))}


CORES: Mapping[str, type[Core]] = {"ltc": Ltc, "cfc": Cfc, "gru": Gru, "lstm": Lstm, "rnn": Rnn}


def _width(look: Lookup, name: str) -> int:
    shape = _number(look, name)
    refuse_unless(len(shape) == 1, f"'{name}' has shape {list(shape)}, expected one axis")
    return shape[0]


def _check_state(look: Lookup, name: str, units: int) -> None:
    shape = _number(look, name)
    refuse_unless(shape == (units,), f"the state '{name}' has shape {list(shape)}, expected [{units}]")


def _check_elapsed(look: Lookup, name: str) -> None:
    shape = _number(look, name)
    refuse_unless(shape == (1,), f"the timespan '{name}' has shape {list(shape)}, expected [1]")
    timespan = look.smallest(name)
    refuse_unless(timespan is None or 0 <= timespan < math.inf, f"the timespan '{name}' is {timespan}")


def _number(look: Lookup, name: str) -> Shape:
    kind = look.value(name)
    refuse_unless(not kind.truth, f"'{name}' is not a number")
    return kind.shape
