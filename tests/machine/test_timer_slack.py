"""The timer slack of a thread, set for a while."""

from __future__ import annotations

import sys

import pytest

from lnn_edge.machine import timer_slack as subject
from lnn_edge.machine.timer_slack import timer_slack, timer_slack_ns


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux")
def test_it_is_set_within_the_block_and_as_it_was_after_it():
    usual = timer_slack_ns()
    with timer_slack(1):
        assert timer_slack_ns() == 1
    assert timer_slack_ns() == usual


def test_elsewhere_it_is_refused(monkeypatch):
    monkeypatch.setattr(subject.sys, "platform", "darwin")
    with pytest.raises(OSError, match="timer slack is a setting of Linux"):
        timer_slack_ns()
