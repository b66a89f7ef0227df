"""A feed of `run`, taken apart between two rows and put together again: nothing that follows is another."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from bundles import INPUTS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from properties import examples, some

import lnn_edge
from lnn_edge.cli.feeding.feed import Feed
from lnn_edge.cli.feeding.handling import Handling
from lnn_edge.cli.feeding.kept_feed import KeptFeed
from lnn_edge.runtime.record.snapshot import load_snapshot, save_snapshot
from lnn_edge.runtime.transport.csv_file import read_columns, reader, rows

# What happens at a row: most rows are good ones.
EVENTS = st.sampled_from(["good"] * 16 + ["hole", "word", "cells", "late", "gap", "set back", "early", "new", "far"])
STREAMS = st.sampled_from([{}, {}, {"window": 4}, {"window": 4, "every": 2}, {"window": 5, "every": 3}])
LATE = st.sampled_from([None, "drop", "reset"])


@pytest.fixture(scope="module", params=some(["drift", "gait", "blocks"]))
def model(request, cfc_bundle, ltc_bundle, block_bundle):
    bundle = {"gait": cfc_bundle, "drift": ltc_bundle, "blocks": block_bundle}[request.param]
    return lnn_edge.load(bundle, backend="onnxruntime")


def table(events: list[str], period_s: float) -> list[str]:
    values, now, recording = np.random.default_rng(len(events)).uniform(-1, 1, (len(events), 3)), 0.0, 0
    lines = [",".join(["t", "who", *INPUTS])]
    for event, row in zip(events, values.tolist(), strict=True):
        step = {"late": -0.5, "gap": 1e4, "set back": -1e4, "early": 1e-6}.get(event, 1.0)
        now, recording = now + step * period_s, recording + (event == "new")
        cells = [repr(now), f"r{recording}", *map(repr, row)]
        if event in ("hole", "word", "far"):
            cells[3] = {"hole": "", "word": "x", "far": "1e6"}[event]
        lines.append(",".join(cells[:-1] if event == "cells" else cells))
    return lines


def parsed(lines: list[str], handling: Handling):
    source = reader(lines)
    columns = read_columns(source, INPUTS, "who", "t", "it")
    return list(rows(source, replace(columns, holes=handling.on_bad == "hold"), "it"))


def fed(model, handling, taken, cuts, place):
    """Results and facts of the rows; at each cut the feed is another one, out of a file."""
    written = []

    def make():
        return Feed(model, handling, lambda row, y: written.append((row.line, row.time, y.tobytes())))

    feed = make()
    for k, row in enumerate(taken):
        if k in cuts:
            state, kept = feed.kept()
            extra = msgspec.json.decode(msgspec.json.encode(kept))
            save_snapshot(place, state, model=model, steps=kept.counts.stepped, extra=extra)
            saved, feed = load_snapshot(place, model), make()
            feed.go_on(saved.state, msgspec.convert(saved.extra, KeptFeed))
        feed.take(row)
    return written, json.dumps(feed.tally.facts(len(written))), feed.tally.text(len(written)), feed.tally.warnings()


@settings(max_examples=examples(50), deadline=None)
@example(["good"] * 5 + ["set back"] + ["good"] * 9, {}, "skip", None, 1)  # a cut among late rows
@given(
    events=st.lists(EVENTS, min_size=10, max_size=40),
    stream=STREAMS,
    on_bad=st.sampled_from(["skip", "hold"]),
    on_late=LATE,
    seed=st.integers(0, 1000),
)
def test_a_feed_goes_on_from_a_file(model, tmp_path_factory, events, stream, on_bad, on_late, seed):
    if model.name == "blocks" and stream:
        stream = {"window": 8, "every": 4}
    measured = model.time.mode == "measured"
    on_gap, hold_for_s = "reset" if measured else "stop", 3 * model.time.period_s
    handling = Handling("it", "t", on_bad, on_gap, **stream, on_late=on_late, hold_for_s=hold_for_s)
    taken = parsed(table(events, model.time.period_s), handling)
    rng = random.Random(seed)
    cuts = {k for k in range(1, len(taken)) if rng.random() < 0.3}
    place = tmp_path_factory.getbasetemp() / "feed.snapshot"
    assert fed(model, handling, taken, cuts, place) == fed(model, handling, taken, set(), place)
