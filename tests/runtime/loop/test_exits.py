"""`sys.exit` in a function of a loop, and children that functions fork: what is put away, and by whom."""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np
import pytest
from fake_timer import FakeTimer

import lnn_edge
from lnn_edge.runtime.loop.loop import Loop
from lnn_edge.runtime.record.snapshot import load_snapshot

TICKS = 10
XS = np.full((TICKS, 3), 0.1, np.float32)


class Samples:
    """A source that tells which processes close it."""

    pulled = True

    def __init__(self, told):
        self.left, self.told = list(XS), told

    def read(self, _timeout_s):
        if not self.left:
            raise EOFError
        return self.left.pop(0)

    def close(self):
        with self.told.open("a") as file:
            file.write(f"{os.getpid()}\n")


@pytest.fixture
def loop(cfc_bundle, tmp_path):
    model = lnn_edge.load(cfc_bundle)

    def made(**options):
        places = {"sink": tmp_path / "out.csv", "snapshot": tmp_path / "snapshot"}
        return Loop(
            model, Samples(tmp_path / "closed"), **places, timer=FakeTimer(), report=lambda _text: None, signals=False,
            **options,
        )  # fmt: skip

    return made


def rows(path):
    return [line.split(",")[0] for line in path.read_text().splitlines()[1:]]


def at(number, do):
    count = iter(range(TICKS))

    def call(_argument):
        return do() if next(count) == number else None

    return call


@pytest.mark.parametrize("rate_hz", [50, None])
@pytest.mark.parametrize(("name", "steps"), [("before", 4), ("after", 5)])
def test_a_function_that_exits_ends_the_loop_in_order(loop, tmp_path, name, steps, rate_hz):
    own = loop(rate_hz=rate_hz, **{name: at(4, lambda: sys.exit(3))})
    with pytest.raises(SystemExit) as left:
        own.run()
    assert left.value.code == 3
    assert rows(tmp_path / "out.csv") == ["0", "1", "2", "3", "4"]
    assert load_snapshot(tmp_path / "snapshot", model=own.guarded.model).steps == steps
    assert (tmp_path / "closed").read_text() == f"{os.getpid()}\n"


def exits():
    sys.exit(7)


def comes_back():
    """Into the loop."""


def fails():
    raise ValueError("no")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rate_hz", [50, None])
@pytest.mark.parametrize("name", ["before", "after"])
@pytest.mark.parametrize("ends", [exits, comes_back, fails])
def test_a_child_that_a_function_forks_puts_nothing_away(loop, tmp_path, ends, name, rate_hz):
    parent, children = os.getpid(), []

    def fork():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of forks where there are threads
            children.append(os.fork())
        if not children[0]:
            ends()
            return
        _, status = os.waitpid(children[0], 0)
        children[0] = os.waitstatus_to_exitcode(status)

    own, code = loop(rate_hz=rate_hz, **{name: at(4, fork)}), 0
    try:
        summary = own.run()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1 if "os._exit(0)" in left.code else 2
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert children == [7 if ends is exits else 1]
    assert (summary.ended, summary.ticks) == ("source ended", TICKS)
    assert rows(tmp_path / "out.csv") == [str(number) for number in range(TICKS)]
    assert (tmp_path / "closed").read_text() == f"{parent}\n"
