"""Training on another device than the CPU: everything goes there, nothing is mixed, and the result is the same.

No GPU is at hand where the tests run; `second_device` stands in its place, with memory apart and the CPU's arithmetic.
"""

from __future__ import annotations

import json
import subprocess

import pytest
import second_device

CASES = [f"{cell}, {name}" for cell, name in second_device.TRAININGS]


@pytest.fixture(scope="module")
def apart(warm):
    """How far predictions are apart, by case; in a process of its own, because torch keeps a device for good."""
    command = ["python", "-W", "error", second_device.__file__]
    done = subprocess.run(command, env=warm, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_training_there_equals_training_here(name, apart):
    """Bit for bit: the same operations in the same order, on memory that only the device reads."""
    assert apart[name] == 0.0
