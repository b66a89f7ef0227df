"""Pictures of a fitted estimator: its losses, and the neurons and synapses of its layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ncps.torch import LTC
from ncps.wirings import Wiring

from ..arrays import Array
from ..files.whole import given_path, whole_file
from ..verify.plot import check_plot, rendered
from ..wording import plural
from .fit.progress import Record
from .network.module import LiquidModule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_losses", "plot_synapses"]

_TRAINING, _VALIDATION, _EXCITING, _INHIBITING, _NEUTRAL = "black", "#0072b2", "#009e73", "#d55e00", "#0072b2"
_DECADES = 4.0  # largest loss over the smallest, from which on a logarithmic axis shows more than a plain one
_LABELLED = 16  # neurons or inputs in a column that still have room for their names


def plot_losses(history: Sequence[Record], best: int, path: str | os.PathLike[str] | None) -> Figure:
    """See `LiquidEstimator.plot_loss`."""
    figure = _figure(path, (7.0, 3.8))
    from matplotlib.ticker import MaxNLocator

    axes = figure.subplots()
    epochs = np.arange(1, len(history) + 1)
    style: dict[str, Any] = {"marker": "."} if len(history) < 3 else {}
    axes.plot(epochs, [r.loss for r in history], color=_TRAINING, lw=1.2, label="training", **style)
    if history[0].validation_loss is not None:
        losses = [np.nan if r.validation_loss is None else r.validation_loss for r in history]
        axes.plot(epochs, losses, color=_VALIDATION, lw=1.2, ls="--", label="validation", **style)
    axes.axvline(best, color="#808080", lw=0.8, ls=":")
    axes.plot([best], [history[best - 1].watched], "o", color="#d55e00", ms=5, label=f"kept, epoch {best}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("loss")
    _scale_losses(axes, [r.loss for r in history] + [r.validation_loss or np.nan for r in history])
    axes.grid(visible=True, color="#e8e8e8", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_title("loss by epoch", fontsize=11, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False, borderaxespad=0.2)
    return _saved(figure, path)


def _scale_losses(axes: Axes, losses: Sequence[float]) -> None:
    """By decades where the losses span some, with ticks that read as numbers: 0.5, 0.2, 0.1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = np.array([loss for loss in losses if np.isfinite(loss)])
    if len(known) == 0 or known.min() <= 0 or known.max() < _DECADES * known.min():
        return
    axes.set_yscale("log")
    subs = (1.0, 2.0, 5.0) if known.max() < 1e3 * known.min() else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def plot_synapses(
    network: LiquidModule, inputs: Sequence[str] | None, outputs: Sequence[str], path: str | os.PathLike[str] | None
) -> Figure:
    """See `LiquidEstimator.plot_wiring`."""
    branches = network.each_branch()
    depth = max(len(branch.cores) for branch in branches)
    figure = _figure(path, (7.0 * depth, 4.6 * len(branches)))
    panels = figure.subplots(len(branches), depth, squeeze=False)
    for number, (branch, row) in enumerate(zip(branches, panels, strict=True)):
        for k, (core, axes) in enumerate(zip(branch.cores, row, strict=True)):
            last = k == len(branch.cores) - 1 and not isinstance(branch.head, torch.nn.Linear)
            names = list(outputs) if len(branches) == 1 else [outputs[number]]
            _draw_core(axes, core, inputs if k == 0 else None, names if last else None)
    return _saved(figure, path)


def _figure(path: str | os.PathLike[str] | None, size: tuple[float, float]) -> Figure:
    check_plot("figure.svg" if path is None else path)
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def _saved(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    if path is not None:
        target = given_path(path, "the name of a picture: 'NAME.svg'")
        data = rendered(figure, target.suffix[1:])
        with whole_file(target) as file:
            file.write(data)
    return figure


@dataclass(frozen=True)
class _Wires:
    """What is drawn of a layer.

    Args:
        groups: Names and neurons of the columns, from inputs to outputs.
        sensory: From inputs to neurons, (inputs, neurons): 1 or -1 by polarity, 0 where there is no synapse.
        recurrent: Between neurons, (neurons, neurons).
        signed: Whether polarities mean something.
        within: How many synapses there are between the neurons of one column, each to each, which are not drawn.
    """

    groups: list[tuple[str, list[int]]]
    sensory: Array
    recurrent: Array
    signed: bool
    within: int = 0


def _draw_core(axes: Axes, core: Any, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> None:
    """Inputs and groups of neurons as columns, synapses as lines between them."""
    wires = _wires_of_ltc(core) if isinstance(core, LTC) else _wires_of_cfc(core)
    columns = [("inputs", list(range(len(wires.sensory)))), *wires.groups]
    where = {
        (column == 0, neuron): (float(column), _height(place, len(members)))
        for column, (_, members) in enumerate(columns)
        for place, neuron in enumerate(members)
    }
    for first, synapses in ((True, wires.sensory), (False, wires.recurrent)):
        for source, target in zip(*np.nonzero(synapses), strict=True):
            color = _color(synapses[source, target]) if wires.signed else _NEUTRAL
            _draw_synapse(axes, where[first, source], where[False, target], color)
    for column, (name, members) in enumerate(columns):
        heights = [_height(place, len(members)) for place in range(len(members))]
        axes.plot([column] * len(members), heights, "o", ms=7, color="white", mec="black", zorder=3)
        axes.annotate(f"{len(members)} {name}", (column, 1.12), ha="center", va="bottom", fontsize=9)
    _name(axes, inputs, 0, len(wires.sensory), "right")
    _name(axes, outputs, len(columns) - 1, len(wires.groups[-1][1]), "left")
    between = int(np.count_nonzero(wires.recurrent)) + wires.within
    kind = f"{type(core).__name__}, {plural(between, 'synapse')} between neurons"
    axes.set_title(f"{kind}, {np.count_nonzero(wires.sensory)} from inputs", fontsize=10, pad=18)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(-0.1, 1.12)
    axes.set_axis_off()
    _explain(axes, wires)


def _height(place: int, count: int) -> float:
    """From top to bottom, in the middle if there is one."""
    return 1.0 - (place + 0.5) / count


def _name(axes: Axes, names: Sequence[str] | None, column: int, count: int, side: str) -> None:
    if names is None or count > _LABELLED or len(names) != count:
        return
    shift = -0.08 if side == "right" else 0.08
    for place, name in enumerate(names):
        axes.annotate(name, (column + shift, _height(place, count)), ha=side, va="center", fontsize=8)


def _color(polarity: float) -> str:
    return _EXCITING if polarity > 0 else _INHIBITING


def _draw_synapse(axes: Axes, start: tuple[float, float], stop: tuple[float, float], color: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    bend = 0.35 if start[0] == stop[0] else 0.0
    if start == stop:  # a loop beside the neuron
        axes.plot([start[0] + 0.045], [start[1] + 0.02], "o", ms=9, mfc="none", mec=color, mew=0.7, zorder=1)
        return
    arrow = FancyArrowPatch(
        start, stop, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=6, lw=0.6, color=color,
        shrinkA=4, shrinkB=4, alpha=0.7, zorder=1,
    )  # fmt: skip
    axes.add_patch(arrow)


def _explain(axes: Axes, wires: _Wires) -> None:
    from matplotlib.lines import Line2D

    if wires.signed:
        lines = [Line2D([], [], color=color, lw=1.2) for color in (_EXCITING, _INHIBITING)]
        axes.legend(lines, ["exciting", "inhibiting"], loc="lower center", ncols=2, frameon=False, fontsize=8)
    if wires.within:
        note = f"{wires.within} of them within a column, each neuron to each: not drawn"
        axes.annotate(note, (0.5, 0.02), xycoords="axes fraction", ha="center", fontsize=8)


def _wires_of_ltc(core: Any) -> _Wires:
    """By its tensors, which training may have given other signs than the wiring had."""
    held, wiring = core.rnn_cell._params, core._wiring
    types: dict[str, list[int]] = {}
    for neuron in range(wiring.units):
        types.setdefault(str(wiring.get_type_of_neuron(neuron)), []).append(neuron)
    order = [name for name in ("inter", "command", "motor") if name in types]
    groups = [(name, types[name]) for name in [*(name for name in types if name not in order), *order]]
    sensory, recurrent = (
        torch.sign(held[f"{prefix}erev"] * held[f"{prefix}sparsity_mask"]).detach().numpy()
        for prefix in ("sensory_", "")
    )
    return _Wires(groups, sensory, recurrent, signed=True)


def _wires_of_cfc(core: Any) -> _Wires:
    """By the masks of its candidates. A CfC's synapses have no polarity, and within a layer ncps leaves none out."""
    units, features, wiring = core.state_size, core.input_size, core.wiring_or_units
    if not isinstance(wiring, Wiring):
        sensory, recurrent = np.ones((features, units)), np.zeros((units, units))
        return _Wires([("neurons", list(range(units)))], sensory, recurrent, signed=False, within=units**2)
    sensory, recurrent = np.zeros((features, units)), np.zeros((units, units))
    groups: list[tuple[str, list[int]]] = []
    within, before, start = 0, slice(0, 0), 0
    for number, layer in enumerate(core.rnn_cell._layers):
        own = slice(start, start + layer.hidden_size)
        mask = layer.sparsity_mask.detach().numpy().T != 0  # (what comes in, then the layer's own state; neurons)
        incoming, state = mask[: -layer.hidden_size], mask[-layer.hidden_size :]
        if number == 0:
            sensory[:, own] = incoming
        else:
            recurrent[before, own] = incoming
        within += int(np.count_nonzero(state))
        types = {str(wiring.get_type_of_neuron(neuron)) for neuron in wiring.get_neurons_of_layer(number)}
        groups.append((types.pop() if len(types) == 1 else "neurons", list(range(own.start, own.stop))))
        before, start = own, own.stop
    return _Wires(groups, sensory, recurrent, signed=False, within=within)
