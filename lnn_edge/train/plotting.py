"""Pictures of a fitted estimator: its losses, and the neurons and synapses of its layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from ncps.torch import LTC
from ncps.wirings import Wiring

from ..files import whole_file
from ..runtime.plotting import check_plot, rendered
from ..wording import plural
from .network import LiquidModule
from .progress import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_losses", "plot_synapses"]

Array = npt.NDArray[Any]
_TRAINING, _VALIDATION, _EXCITING, _INHIBITING = "black", "#0072b2", "#009e73", "#d55e00"
_LABELLED = 16  # neurons or inputs in a column that still have room for their names


def plot_losses(history: Sequence[Record], best: int, path: str | os.PathLike[str] | None) -> Figure:
    """See `LiquidEstimator.plot_loss`."""
    figure = _figure(path, (7.0, 3.8))
    axes = figure.subplots()
    epochs = np.arange(1, len(history) + 1)
    style: dict[str, Any] = {"marker": "."} if len(history) < 3 else {}
    axes.semilogy(epochs, [r.loss for r in history], color=_TRAINING, lw=1.2, label="training", **style)
    if history[0].validation_loss is not None:
        losses = [np.nan if r.validation_loss is None else r.validation_loss for r in history]
        axes.semilogy(epochs, losses, color=_VALIDATION, lw=1.2, ls="--", label="validation", **style)
    axes.axvline(best, color="#808080", lw=0.8, ls=":")
    axes.plot([best], [history[best - 1].watched], "o", color="#d55e00", ms=5, label=f"kept, epoch {best}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.grid(visible=True, which="both", color="#e8e8e8", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return _saved(figure, path)


def plot_synapses(
    network: LiquidModule, inputs: Sequence[str] | None, outputs: Sequence[str], path: str | os.PathLike[str] | None
) -> Figure:
    """See `LiquidEstimator.plot_wiring`."""
    branches: list[Any] = list(network.branches)
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
        target = Path(path)
        data = rendered(figure, target.suffix[1:])
        with whole_file(target) as file:
            file.write(data)
    return figure


def _draw_core(axes: Axes, core: Any, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> None:
    """Inputs and groups of neurons as columns, synapses as lines between them."""
    groups, sensory, recurrent = _wiring_of(core)
    columns = [("inputs", list(range(len(sensory)))), *groups]
    where = {
        (column == 0, neuron): (float(column), _height(place, len(members)))
        for column, (_, members) in enumerate(columns)
        for place, neuron in enumerate(members)
    }
    for source, target in zip(*np.nonzero(sensory), strict=True):
        _draw_synapse(axes, where[True, source], where[False, target], sensory[source, target])
    for source, target in zip(*np.nonzero(recurrent), strict=True):
        _draw_synapse(axes, where[False, source], where[False, target], recurrent[source, target])
    for column, (name, members) in enumerate(columns):
        heights = [_height(place, len(members)) for place in range(len(members))]
        axes.plot([column] * len(members), heights, "o", ms=7, color="white", mec="black", zorder=3)
        axes.annotate(f"{len(members)} {name}", (column, 1.12), ha="center", va="bottom", fontsize=9)
    _name(axes, inputs, 0, len(sensory), "right")
    _name(axes, outputs, len(columns) - 1, len(groups[-1][1]), "left")
    kind = f"{type(core).__name__}, {plural(int(np.count_nonzero(recurrent)), 'synapse')} between neurons"
    axes.set_title(f"{kind}, {np.count_nonzero(sensory)} from inputs", fontsize=10, pad=18)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(-0.1, 1.12)
    axes.set_axis_off()
    _legend(axes)


def _height(place: int, count: int) -> float:
    """From top to bottom, in the middle if there is one."""
    return 1.0 - (place + 0.5) / count


def _name(axes: Axes, names: Sequence[str] | None, column: int, count: int, side: str) -> None:
    if names is None or count > _LABELLED or len(names) != count:
        return
    shift = -0.08 if side == "right" else 0.08
    for place, name in enumerate(names):
        axes.annotate(name, (column + shift, _height(place, count)), ha=side, va="center", fontsize=8)


def _draw_synapse(axes: Axes, start: tuple[float, float], stop: tuple[float, float], polarity: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    color = _EXCITING if polarity > 0 else _INHIBITING
    bend = 0.35 if start[0] == stop[0] else 0.0
    if start == stop:  # a loop beside the neuron
        axes.plot([start[0] + 0.045], [start[1] + 0.02], "o", ms=9, mfc="none", mec=color, mew=0.7, zorder=1)
        return
    arrow = FancyArrowPatch(
        start, stop, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=6, lw=0.6, color=color,
        shrinkA=4, shrinkB=4, alpha=0.7, zorder=1,
    )  # fmt: skip
    axes.add_patch(arrow)


def _legend(axes: Axes) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=color, lw=1.2) for color in (_EXCITING, _INHIBITING)]
    axes.legend(lines, ["exciting", "inhibiting"], loc="lower center", ncols=2, frameon=False, fontsize=8)


def _wiring_of(core: Any) -> tuple[list[tuple[str, list[int]]], Array, Array]:
    """Groups of neurons from inputs to outputs, and the polarities of their synapses by (source, target).

    The lines of an LTC are its synapses with their signs. A CfC has no signs: what a wiring allows is drawn with those
    that it was drawn with.
    """
    wiring = core._wiring if isinstance(core, LTC) else core.wiring_or_units
    if not isinstance(wiring, Wiring):  # a CfC without wiring: everything is connected
        units, features = core.state_size, core.input_size
        return [("neurons", list(range(units)))], np.ones((features, units)), np.ones((units, units))
    types: dict[str, list[int]] = {}
    for neuron in range(wiring.units):
        types.setdefault(str(wiring.get_type_of_neuron(neuron)), []).append(neuron)
    order: list[str] = [name for name in ("inter", "command", "motor") if name in types]
    order = [name for name in types if name not in order] + order
    groups = [(name, types[name]) for name in order]
    return groups, np.asarray(wiring.sensory_adjacency_matrix), np.asarray(wiring.adjacency_matrix)
