"""A program around a step: it replays recorded samples and compares what comes out with what the trained model gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from .c_text import check_prefix, float_table, int_table
from .targets import Target

__all__ = ["Recording", "Result", "replay_files"]


@dataclass(frozen=True)
class Result:
    """What a step gave of one output or state.

    Args:
        values: float32, (calls, numbers of a call).
        allowed: The largest error that is no fault.
    """

    values: Array
    allowed: float


@dataclass(frozen=True)
class Recording:
    """Recorded samples, call by call.

    Args:
        inputs: Of each input in the model's order, (calls, numbers of a call) of the input's dtype.
        dt: Seconds, float32 (calls, numbers of a call); `None` with fixed time.
        reset: uint8 (calls,); where it is 1 the state is reset before the call.
        outputs: Of each output in the model's order.
        states: Of each state in the model's order, after the call.
    """

    inputs: Sequence[Array]
    dt: Array | None
    reset: Array
    outputs: Sequence[Result]
    states: Sequence[Result]


def replay_files(recording: Recording, target: Target, prefix: str) -> dict[str, str]:
    """The files beside the step, text by name.

    Args:
        recording: What is replayed.
        target: Whose flags the build file has.
        prefix: Of the step's public names.
    """
    check_prefix(prefix)
    names = {"PREFIX": prefix, "FLAGS": " ".join(target.flags), "CALLS": str(len(recording.reset))}
    files = {"main.c": _main(recording), "golden.h": _tables(recording), "CMakeLists.txt": _CMAKE}
    return {name: _filled(text, names) for name, text in files.items()}


def _filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"@{name}@", value)
    return text


def _tables(recording: Recording) -> str:
    parts = ["/* Recorded samples, and what the trained model gave for them. */\n\n#include <stdint.h>\n\n"]
    parts += [_numbers(f"golden_in{k}", values) for k, values in enumerate(recording.inputs)]
    if recording.dt is not None:
        parts.append(float_table("golden_dt", recording.dt))
    parts.append(_bytes("golden_reset", recording.reset))
    for kind, results in (("out", recording.outputs), ("s", recording.states)):
        parts += [float_table(f"golden_{kind}{k}", result.values) for k, result in enumerate(results)]
        parts += [float_table(f"allowed_{kind}{k}", np.array([result.allowed])) for k, result in enumerate(results)]
    return "".join(parts)


def _numbers(name: str, values: Array) -> str:
    if values.dtype == np.uint8:
        return _bytes(name, values)
    return int_table(name, values) if values.dtype == np.int32 else float_table(name, values)


def _bytes(name: str, values: Array) -> str:
    return int_table(name, values).replace("int32_t", "uint8_t", 1)


def _main(recording: Recording) -> str:
    fills = [
        f"        COPY(input.in{k}, golden_in{k}, {values.shape[1]});" for k, values in enumerate(recording.inputs)
    ]
    if recording.dt is not None:
        fills.append(f"        COPY(input.dt, golden_dt, {recording.dt.shape[1]});")
    looks, says = [], []
    for kind, what, results in (("out", "output", recording.outputs), ("s", "state", recording.states)):
        for k, result in enumerate(results):
            got, count = f"{what}.{kind}{k}", result.values.shape[1]
            looks.append(
                f"    error_{kind}{k} = largest(error_{kind}{k}, {got}, golden_{kind}{k} + call * {count}, {count});"
            )
            says.append(f'    fault |= told("{what} {k}", error_{kind}{k}, allowed_{kind}{k}[0]);')
    errors = [line.partition("=")[0].strip() for line in looks]
    parts = {"FILLS": fills, "LOOKS": looks, "SAYS": says}
    text = _MAIN.replace("@ERRORS@", ", ".join(f"{name} = 0" for name in errors))
    return _filled(text, {name: "\n".join(lines) for name, lines in parts.items()})


_MAIN = """/* Replays recorded samples and compares what comes out with what the trained model gave. */

#include <stdio.h>

#include "@PREFIX@.h"
#include "golden.h"

#define COPY(to, from, count) \\
    for (i = 0; i < (count); ++i) to[i] = from[call * (count) + i]

static @PREFIX@_model model; /* all that the step needs, state included: yours to place */
static @PREFIX@_input input;
static @PREFIX@_output output;
static @PREFIX@_state state;

static float largest(float before, const float *got, const float *expected, long count) {
    long i;
    for (i = 0; i < count; ++i) {
        const float error = got[i] < expected[i] ? expected[i] - got[i] : got[i] - expected[i];
        if (error > before || error != error) before = error; /* which stays what is no number */
    }
    return before;
}

static int told(const char *what, float error, float allowed) {
    printf("%s: largest error %.2e, allowed %.1e\\n", what, (double)error, (double)allowed);
    return !(error <= allowed);
}

int main(void) {
    static float @ERRORS@;
    long call, i;
    int fault = 0;
    @PREFIX@_init(&model);
    for (call = 0; call < @CALLS@; ++call) {
        int status;
        if (golden_reset[call]) @PREFIX@_reset(&model);
@FILLS@
        status = @PREFIX@_step(&model, &input, &output);
        if (status != @PREFIX@_DONE) {
            printf("call %ld was refused: %s is not finite\\n", call, status == 1 ? "the sample" : "the result");
            return 2;
        }
        @PREFIX@_get_state(&model, &state);
@LOOKS@
    }
@SAYS@
    printf("%s: @CALLS@ calls replayed\\n", fault ? "NOT equal" : "equal");
    return fault;
}
"""

_CMAKE = """# cmake -B build && cmake --build build && build/replay
cmake_minimum_required(VERSION 3.16)
project(@PREFIX@_step C)

if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()

# The step: link this to your own program. No -ffast-math, which gives other numbers.
add_library(@PREFIX@ STATIC @PREFIX@.c)
target_include_directories(@PREFIX@ PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_options(@PREFIX@ PUBLIC -std=gnu99 -ffp-contract=fast -fno-math-errno @FLAGS@)
target_link_options(@PREFIX@ PUBLIC @FLAGS@)
target_link_libraries(@PREFIX@ PUBLIC m)

add_executable(replay main.c)
target_link_libraries(replay PRIVATE @PREFIX@)
"""
