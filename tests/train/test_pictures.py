"""Pictures of an estimator, which show what the network computes: each line is a synapse, each colour its sign."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from matplotlib.patches import FancyArrowPatch
from ncps.wirings import NCP, Random

import lnn_edge
from lnn_edge import LiquidNeuralRegressor
from lnn_edge.train.fit.progress import Record

X = np.random.default_rng(0).normal(size=(6, 12, 3)).astype(np.float32)
Y = X[..., :1]
WIRINGS = {
    "auto": "auto",
    "full": "full",
    "ncp": NCP(7, 6, 1, 4, 3, 4, 3),
    "random": Random(9, 1, 0.5),
}


def fitted(cell, wiring="auto", **options):
    return LiquidNeuralRegressor(12, cell, wiring=wiring, epochs=1, n_jobs=1, verbose=0, **options).fit(X, Y)


def drawn(axes):
    """Lines between neurons of different columns or of one, and loops beside a neuron."""
    return [p for p in axes.patches if isinstance(p, FancyArrowPatch)], [
        line for line in axes.lines if line.get_markersize() == 9
    ]


def title(axes):
    between, sensory = re.search(r", ([\d,]+) synapses between neurons, (\d+) from inputs", axes.get_title()).groups()
    return int(between.replace(",", "")), int(sensory)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("cell", ["CfC", "LTC"])
def test_synapses_are_those_that_are_exported(cell, wiring, tmp_path):
    model = fitted(
        cell, WIRINGS[wiring], cell_options={"backbone_layers": 0} if (cell, wiring) == ("CfC", "full") else None
    )
    model.export(tmp_path / "m.lnn", period_s=0.1)
    core = lnn_edge.load(tmp_path / "m.lnn").manifest.cores[0]
    (axes,) = model.plot_wiring().axes
    assert title(axes) == (core.synapses, core.sensory_synapses)
    lines, loops = drawn(axes)
    notes = [re.match(r"(\d+) of them within a column", text.get_text()) for text in axes.texts]
    hidden = sum(int(note.group(1)) for note in notes if note)
    assert len(lines) + len(loops) + hidden == core.synapses + core.sensory_synapses
    assert bool(hidden) == (cell == "CfC")
    assert (axes.get_legend() is None) == (cell == "CfC")


def test_colours_are_the_signs_after_training():
    """Training may turn a synapse round; its wiring then says what is no longer true."""
    model = fitted("LTC")
    before = [line.get_edgecolor() for line in drawn(model.plot_wiring().axes[0])[0]]
    with torch.no_grad():
        for core in model.network_.branches[0].cores:
            core.rnn_cell.erev.neg_()
            core.rnn_cell.sensory_erev.neg_()
    after = [line.get_edgecolor() for line in drawn(model.plot_wiring().axes[0])[0]]
    assert len(set(before)) == 2
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_a_column_for_each_layer_and_a_panel_for_each_core():
    model = fitted("CfC", stacked=True)
    first, second = model.plot_wiring().axes
    assert {"3 inputs", "12 neurons"} <= {text.get_text() for text in first.texts}
    names = [text.get_text() for text in second.texts]
    assert [name.split()[-1] for name in names[:4]] == ["inputs", "inter", "command", "motor"]


def test_the_epoch_that_is_marked_is_the_one_that_was_kept():
    model = fitted("CfC").set_params(epochs=12, validation_split=0.4).fit(X, Y)
    (axes,) = model.plot_loss().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["training", "validation", f"kept, epoch {model.best_epoch_}"]
    training, validation = axes.lines[:2]
    np.testing.assert_allclose(training.get_ydata(), [record.loss for record in model.history_])
    np.testing.assert_allclose(validation.get_ydata(), [record.validation_loss for record in model.history_])


def test_losses_have_ticks_that_read_as_numbers():
    """And no legend over the curves; losses that hardly change are on a plain axis."""
    model = fitted("CfC")
    (axes,) = model.plot_loss().axes
    axes.figure.draw_without_rendering()
    assert axes.get_title(loc="left") == "loss by epoch"
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
    model.history_ = [Record(1.1 / epoch**2, None, 0.01) for epoch in range(1, 13)]
    model.best_epoch_ = 12
    (axes,) = model.plot_loss().axes
    axes.figure.draw_without_rendering()
    low, high = axes.get_ylim()
    shown = [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert (axes.get_yscale(), shown) == ("log", ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"])
