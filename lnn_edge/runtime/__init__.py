"""The device half: load a bundle, step it, measure it. Needs NumPy and a backend, never torch, onnx or ncps.

loading        `load`: from a bundle to a model that has proven itself here
model          a loaded model
stream         one sequence of samples, the state kept
call_token     the stream's token, one call at a time
modes          what a stream makes of its samples: outputs, readouts, windows
readouts       one result out of several outputs
state          the state as a value
input_port     a sample, checked
seen_ranges    values outside the range of the example, counted
constants      inputs that are given once per sequence
clock          dt, checked
sequence       recordings and unroll blocks
closed_loop    recorded samples stepped through a stream
proof          golden sequences replayed, results compared, and the report of it
verify_golden  `verify` without the trained model
verify_readouts  `verify` of windows and readouts
backends       what runs a step
compiled       the stream whose own step is C
guard          policies on what can go wrong
record         what outlives a program
figures        durations summarised
transport      where samples come from
loop           a step at each tick: paced, rehearsed
measure        latency, measured
"""

from __future__ import annotations

from .loading import load
from .model import Model
from .state import State
from .stream import Stream

__all__ = ["Model", "State", "Stream", "load"]
