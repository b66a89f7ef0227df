"""Models that tests of the generator compile, one file for each width of registers.

A compiler takes longer to begin with the next file than for most of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import msgspec
import torch
from cases import BY_NAME
from generated import LANES, Family, Wanted
from hypothesis import given, settings
from hypothesis import strategies as st
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP, Random
from networks import NETWORKS
from operation_rows import ROWS, expected_of, inputs_of, program_of_row
from programs import decoded, everything
from recorded import TIMES, program_of

from lnn_edge.bundle.program import StepProgram
from lnn_edge.export.trained.open import open_module

# Cells with measured time, which takes the longer way, and each third with fixed time as well.
FOLLOWED = [(name, "measured") for name in BY_NAME]
FOLLOWED += [(name, "fixed") for name in (*list(BY_NAME)[::3], *NETWORKS)]
OF_ANY_WIDTH = ["ltc-autoncp", "ltc-explicit", "cfc-gelu", "cfc-mixed-autoncp", "cfc-pure"]
LONG = ["ltc-autoncp", "cfc-units", "cfc-mixed", "ltc-units-large"]
OF_HALVES = ["ltc-autoncp", "ltc-mixed", "cfc-units", "cfc-gelu", "cfc-mixed-autoncp", "cfc-pure"]
PUBLIC = ["ltc-mixed", "cfc-units", "cfc-proj"]  # whose public functions are called
DRAWN = 8
SIZES = [(units, wide) for units in (24, 90) for wide in (False, True)]
OPERATIONS_ALONE = ["gemm", "matmul-of-many", "conv-2-all", "log-softmax", "where"]  # also without vectors
HOSTILE = [
    "*/ int main(void) { return system(0); } /*",
    '"\n#include "/etc/passwd"\n'.replace("\n", "\\n"),
    "??/ ??=define x ??' ??!",
    "%s%n\\x41\\",
    "\N{LATIN SMALL LETTER O WITH DIAERESIS}\N{GRINNING FACE}" * 800,
    '_Pragma("GCC poison memcpy") __attribute__((constructor)) //',
]


def members(lanes: int) -> dict[object, Callable[[], Wanted]]:
    """All models that are compiled for so many lanes, by what is asked of each."""
    own: dict[object, Callable[[], Wanted]] = {}
    own |= {(name, "measured"): partial(wanted, name, "measured") for name in OF_ANY_WIDTH}
    if lanes in LANES:
        own |= {("ltc-mixed", n): partial(wanted, "ltc-mixed", "measured", unroll=n) for n in (1, 3)}
        own |= {("drawn", k): partial(drawn, k) for k in range(DRAWN)} | {"everything": everything_wanted}
    if lanes == LANES[-1]:
        own |= {(name, time): partial(wanted, name, time) for name, time in FOLLOWED}
        own |= {(name, "fixed"): partial(wanted, name, "fixed") for name in (*LONG, *PUBLIC)}
        own |= {(name, "half"): partial(wanted, name, "fixed", precision="float16") for name in OF_HALVES}
        own |= {("sized", *size): partial(sized, *size) for size in SIZES}
        own |= {"hostile": lambda: Wanted(renamed(HOSTILE[:5]), {})}
    if lanes == 1:
        own |= {("operation", name): partial(operation, name) for name in OPERATIONS_ALONE}
    return own


def wanted(name: str, time: str, **form: object) -> Wanted:
    """A model of the tables."""
    return Wanted(program_of(name, time), form)


def everything_wanted() -> Wanted:
    """Every core and most operations in one program."""
    return Wanted(decoded(*everything()), {"batch": 2})


def operation(name: str, **form: object) -> Wanted:
    """The program of a row of the table of operations, which torch's result gives a shape."""
    own = ROWS[name]
    return Wanted(program_of_row(own, expected_of(own, inputs_of(own, 1)).shape[1:]), form)


def renamed(names: list[str]) -> StepProgram:
    """A program whose inputs, states, outputs, values and places have these names."""
    step = program_of("cfc-units", "fixed")
    program = step.program
    inputs = (msgspec.structs.replace(program.inputs[0], name=names[0]),)
    state = msgspec.structs.replace(program.states[0], name=names[1])
    node = msgspec.structs.replace(program.nodes[0], input=names[0], state=names[1], name=names[2], where=names[3])
    outputs = (msgspec.structs.replace(program.outputs[0], name=names[4]),)
    changed = msgspec.structs.replace(
        program, inputs=inputs, states=(state,), nodes=(node, *program.nodes[1:]), outputs=outputs
    )
    return StepProgram(changed, step.tensors)


def sized(units: int, wide: bool) -> Wanted:
    """An LTC whose synapses allow limits, or do not."""
    torch.manual_seed(1)
    module = LTC(11, AutoNCP(units, 3, seed=2))
    if wide:
        for name in ("sigma", "sensory_sigma"):
            getattr(module.rnn_cell, name).data.flatten()[::3] *= 0.01
    return Wanted(open_module(module.eval()).trained(1, None).program(TIMES["fixed"]), {})


@st.composite
def small_models(draw):
    """A model of random size, wiring and mode."""
    inputs, units = draw(st.integers(1, 20)), draw(st.integers(4, 40))
    seed = draw(st.integers(0, 2**16))
    kind = draw(st.sampled_from(["ltc", "ltc-random", "cfc", "cfc-wired"]))
    mode = draw(st.sampled_from(["default", "pure", "no_gate"]))
    torch.manual_seed(seed)
    if kind == "ltc":
        return LTC(
            inputs, AutoNCP(units, draw(st.integers(1, units - 3)), seed=seed), ode_unfolds=draw(st.integers(1, 6))
        )
    if kind == "ltc-random":
        sparsity = draw(st.floats(0.1, 0.9))
        return LTC(
            inputs, Random(units, 1, sparsity_level=sparsity, random_seed=seed), mixed_memory=draw(st.booleans())
        )
    if kind == "cfc":
        return CfC(
            inputs, units, mode=mode, backbone_layers=draw(st.integers(0, 2)), backbone_units=draw(st.integers(1, 40))
        )
    return CfC(inputs, AutoNCP(units, draw(st.integers(1, units - 3)), seed=seed), mode=mode)


@cache
def all_drawn():
    found = []

    @given(small_models(), st.sampled_from(["fixed", "measured"]))
    @settings(max_examples=DRAWN, deadline=None, derandomize=True)
    def draw_one(module, time):
        found.append(Wanted(open_module(module.eval()).trained(1, None).program(TIMES[time]), {}))

    draw_one()
    assert len(found) == DRAWN
    return found


def drawn(place):
    return all_drawn()[place]


COMPILED = {lanes: Family("models", lanes, members(lanes)) for lanes in sorted({1, 4, 8, 16, *LANES})}
WIDE = COMPILED[LANES[-1]]
