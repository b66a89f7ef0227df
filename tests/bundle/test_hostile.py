"""Mutated bundles by the thousand, in processes that must survive them; `make test-hostile` has many times as many."""

from __future__ import annotations

import hostile
import pytest
from hostile import FILES, run_cases, table
from shared_bundles import shared_bundle

pytestmark = pytest.mark.workstation  # onnx makes the graphs

NAMES = ("gait.lnn", "drift.lnn", "blocks.lnn")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return [shared_bundle(tmp_path_factory, name) for name in NAMES]


def wrong(happened) -> list[str]:
    return [what for what in happened if what.startswith("wrong")]


def test_nothing_unsigned_gets_through(sources, warm):
    happened = run_cases("unsigned", 1500, sources, environment=warm)
    assert not wrong(happened), happened
    assert happened.total() == 1500
    assert happened["refused"] > 1490


def test_what_is_signed_again_is_refused_or_runs(sources, warm):
    """It neither ends the process nor keeps it, and opens nothing outside the bundle."""
    happened = run_cases("signed", 160, sources, environment=warm)
    assert not wrong(happened), happened
    assert happened.total() == 160
    assert happened["refused"] > 100
    assert happened["ran"] > 5


def test_estimators_that_are_signed_again_are_refused_or_load(warm):
    """Whatever of them is changed, their description or a tensor: a sentence that names the file, or a model to use."""
    happened = run_cases("estimators", 200, FILES, environment=warm)
    assert not wrong(happened), happened
    assert happened.total() == 200
    assert happened["refused"] > 100
    assert happened["ran"] > 20


# ---- the counting itself --------------------------------------------------------------------------------------------

FAULTS = {
    "a signal": "os.kill(os.getpid(), 11)",
    "an exit": "os._exit(3)",
    "an endless case": "time.sleep(100)",
    "an error": "raise TypeError('x')",
    "a file outside": "open('/etc/hostname').close()",
    "memory": "bytearray(4 << 30)",
    "a read that Python does not report": "os.read(beside[-1], 1)",
}
EXPECTED = {
    "a signal": "wrong: ended the process, -11: ",
    "an exit": "wrong: ended the process, 3: ",
    "an endless case": "wrong: did not return within 4 s",
    "an error": "wrong: TypeError('x')",
    "a file outside": "wrong: open /etc/hostname",
    "memory": "wrong: MemoryError()",
    "a read that Python does not report": "wrong: the file outside was read",
}


def test_each_fault_is_counted_and_the_rest_goes_on(sources, tmp_path, monkeypatch):
    """A loader that does one of them in every eighth case; those that end or keep its process have one behind them."""
    faults = "\n    ".join(f"if case == {8 * k + 3}: {fault}" for k, fault in enumerate(FAULTS.values()))
    program = f"""
import os, time
import hostile_bundles

read, utime, cases, beside = hostile_bundles.read_bundle, os.utime, [], []

def opened(path, **times):
    beside.append(os.open(path, os.O_RDONLY))
    utime(path, **times)

def faulty(bundle):
    case = int(hostile_bundles.sys.argv[3]) + len(cases)
    cases.append(case)
    {faults}
    return read(bundle)

os.utime = opened
hostile_bundles.read_bundle = faulty
hostile_bundles.main(*hostile_bundles.sys.argv[1:])
"""
    for path in hostile.SUPPORT.glob("*.py"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "hostile_bundles.py").rename(tmp_path / "real.py")
    (tmp_path / "hostile_bundles.py").write_text(program.replace("hostile_bundles", "real"))
    monkeypatch.setattr(hostile, "SUPPORT", tmp_path)
    monkeypatch.setattr(hostile, "_LIMIT_S", 4)
    total = 8 * len(FAULTS)
    happened = run_cases("unsigned", total, sources[:1])
    assert happened.total() == total
    found = sorted((int(what.rpartition(" ")[2][:-1]), what.partition(" (unsigned")[0]) for what in wrong(happened))
    assert found == [(8 * k + 3, EXPECTED[fault]) for k, fault in enumerate(FAULTS)]
    good, bad = total - len(FAULTS), len(FAULTS)
    assert f"| unsigned | {total} | {good} | 0 | 0 | 0 | 0 | {bad} |" in table({"unsigned": happened})
