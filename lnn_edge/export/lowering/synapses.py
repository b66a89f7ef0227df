"""Synapses of an LTC in the graph: a list of those that exist, and the cheaper of two forms of their sums.

A synapse contributes w sigmoid(sigma (v - mu)) to the conductance of its target, and E times that to its current.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ... import reference
from ...arrays import Array
from ..graph.builder import GraphBuilder

__all__ = ["Synapses", "Term"]

Term = Array | str  # a constant, one per neuron, or the name of a computed value, (rows, neurons)

_SUMS = ("current", "conductance")  # what `Synapses.sums` makes

# What the two forms of `Synapses.sums` cost in nanoseconds: a least-squares fit to 20 wirings of 14 to 140 neurons and
# 1 or 6 rows, which it meets within 20 % (onnxruntime 1.32, x86-64 with AVX2, one thread). Only ratios matter.
_LIST_NS, _LIST_WEIGHT_NS, _LIST_WEIGHT_ROW_NS = 3800.0, 0.09, 0.02
_FANS_NS, _FANS_GATHERED_NS, _FANS_WHOLE_NS = 10700.0, 3.9, 2.9
# A rule on density came before: it left what is sparse to the list, whose matrices grow with synapses times neurons.


@dataclass(frozen=True)
class Synapses:
    """The synapses that exist, as a list: source and target neuron and folded parameters, (synapses,) each.

    `name` is what their constants are called after in the graph.
    """

    name: str
    source: Array
    target: Array
    slope: Array  # sigma
    offset: Array  # -sigma mu
    conductance: Array  # w
    current: Array  # w E
    shape: tuple[int, int]  # sources and targets that could be connected

    @classmethod
    def folded(cls, name: str, own: reference.Synapses, shape: tuple[int, int]) -> Synapses:
        """Those of a cell."""
        source, target = own.source.astype(np.int64), own.target.astype(np.int64)
        return cls(name, source, target, own.sigma, -own.sigma * own.mu, own.w, own.w * own.erev, shape)

    def between(self, sources: range, targets: range) -> Synapses:
        """Those from one run of neurons to another, each counted from the start of its run."""
        pick = np.isin(self.source, sources) & np.isin(self.target, targets)
        return Synapses(
            self.name,
            self.source[pick] - sources.start,
            self.target[pick] - targets.start,
            self.slope[pick],
            self.offset[pick],
            self.conductance[pick],
            self.current[pick],
            (len(sources), len(targets)),
        )

    def scaled(self, scale: Array) -> Synapses:
        """With weights scaled per target neuron."""
        factor = scale[self.target]
        return replace(self, conductance=self.conductance * factor, current=self.current * factor)

    def mapped(self, scale: Array | None, shift: Array | None) -> Synapses:
        """With an affine map of the sources folded into slope and offset."""
        offset = self.offset if shift is None else self.offset + self.slope * shift[self.source]
        return replace(self, slope=self.slope if scale is None else self.slope * scale[self.source], offset=offset)

    def sums(self, graph: GraphBuilder, pre: str, rows: int, current: Term, conductance: Term) -> tuple[Term, Term]:
        """Add currents and conductances of all synapses, (rows, targets) each, to the two given.

        Few synapses go as a list through three matrices, where nodes are few; many as fans, where work is little.
        """
        if len(self.source) == 0:
            return current, conductance
        if graph.half:  # whatever it costs: fans would be summed in half
            return self._in_half(graph, pre, current, conductance)
        if self._fans_ns(rows) < self._list_ns(rows):
            return self._as_fans(graph, pre, rows, current, conductance)
        return self._as_list(graph, pre, current, conductance)

    def cost_ns(self, rows: int) -> float:
        """What `sums` costs, roughly."""
        return min(self._list_ns(rows), self._fans_ns(rows)) if len(self.source) else 0.0

    def _list_ns(self, rows: int) -> float:
        weights = len(self.source) * (self.shape[0] + 2 * self.shape[1])
        return _LIST_NS + weights * (_LIST_WEIGHT_NS + _LIST_WEIGHT_ROW_NS * rows)

    def _as_list(self, graph: GraphBuilder, pre: str, current: Term, conductance: Term) -> tuple[str, str]:
        """One matrix takes each synapse its source, two more sum them per target: three products, no gather."""
        spread, currents, conductances = self._matrices()
        active = self._active(graph, pre, spread)
        # The addends, which hold what is constant or comes from the inputs, ride along in the products that sum.
        total = graph.linear(active, currents, current, f"{self.name}.current")
        return total, graph.linear(active, conductances, conductance, f"{self.name}.conductance")

    def _active(self, graph: GraphBuilder, pre: str, spread: Array) -> str:
        """How far each synapse is open."""
        return graph.node("Sigmoid", graph.linear(pre, spread, self.offset, f"{self.name}.slope"))

    def _in_half(self, graph: GraphBuilder, pre: str, current: Term, conductance: Term) -> tuple[str, str]:
        """The list again: products in half, with weights brought near 1 per target, and sums in float32."""
        spread, *weights = self._matrices()
        active, totals = self._active(graph, pre, spread), []
        for role, weight, addend in zip(_SUMS, weights, (current, conductance), strict=True):
            # A power of two per target, so that neither scaling nor scaling back rounds anything.
            largest = np.abs(weight).max(axis=0)
            scale = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1.0))))
            product = graph.linear(active, weight / scale, role=f"{self.name}.{role}")
            with graph.exact():
                scaled = graph.node("Mul", product, graph.row(scale, f"{self.name}.{role}.scale"))
                totals.append(graph.node("Add", scaled, graph.row(addend, f"leak.{role}")))
        return totals[0], totals[1]

    def _matrices(self) -> tuple[Array, Array, Array]:
        """Sources to synapses with their slopes, and synapses to targets with their currents and conductances."""
        count, (sources, targets) = len(self.source), self.shape
        each = np.arange(count)
        spread, currents, conductances = np.zeros((sources, count)), *np.zeros((2, count, targets))
        spread[self.source, each] = self.slope
        currents[each, self.target] = self.current
        conductances[each, self.target] = self.conductance
        return spread, currents, conductances

    def _fans_ns(self, rows: int) -> float:
        width = self._fan_width
        synapse_ns = _FANS_WHOLE_NS if width == self.shape[0] else _FANS_GATHERED_NS
        return _FANS_NS + rows * self.shape[1] * width * synapse_ns

    @property
    def _fan_width(self) -> int:
        """Synapses of the target that has most; all sources, with nothing to gather, if those are nearly all."""
        sources, most = self.shape[0], int(np.bincount(self.target).max(initial=0))
        return sources if _FANS_WHOLE_NS * sources <= _FANS_GATHERED_NS * most else most

    def _as_fans(self, graph: GraphBuilder, pre: str, rows: int, current: Term, conductance: Term) -> tuple[str, str]:
        """Each target with its fan of synapses, (rows, targets, width), summed over the last axis.

        Shorter fans are filled up with weight 0. GatherElements and not Gather: per element it takes a fifth.
        """
        (sources, targets), width = self.shape, self._fan_width
        # The filled-up slots read source 0 with slope, offset and weight 0: 0 times a half, whatever that source is.
        order = np.argsort(self.target, kind="stable")
        target = self.target[order]
        slot = self.source[order] if width == sources else np.arange(len(order)) - np.searchsorted(target, target)

        def fans(values: Array) -> Array:
            grid = np.zeros((targets, width), values.dtype)
            grid[target, slot] = values[order]
            return grid

        def total(role: str, weight: Array, addend: Term) -> str:
            weighted = graph.node("Mul", active, graph.constant(fans(weight), f"{self.name}.{role}.weight"))
            summed = graph.node("ReduceSum", weighted, graph.integers([2]), keepdims=0)
            return graph.node("Add", summed, graph.row(addend, f"leak.{role}"))

        if width == sources:
            spread = graph.node("Unsqueeze", pre, graph.integers([1]))
        else:
            # (rows, targets * width): GatherElements wants an index per element, Gather would want one per column
            index = graph.integers(np.tile(fans(self.source).ravel(), (rows, 1)))
            gathered = graph.node("GatherElements", pre, index, axis=1)
            spread = graph.node("Reshape", gathered, graph.integers([rows, targets, width]))
        scaled = graph.node("Mul", spread, graph.constant(fans(self.slope), f"{self.name}.slope.weight"))
        shifted = graph.node("Add", scaled, graph.constant(fans(self.offset), f"{self.name}.slope.bias"))
        active = graph.node("Sigmoid", shifted)
        return total("current", self.current, current), total("conductance", self.conductance, conductance)
