"""The step of many streams at once as C: every number becomes a vector, a stream in each of its lanes.

The text of a step without vectors says what is done with one number after the other; here each of these numbers is one
of as many streams as a register has lanes. So no lane waits for another one, nothing is put in order, and what a stream
gets does not depend on the others. The streams' numbers lie side by side: all first numbers, then all second ones.
"""

from __future__ import annotations

import math
import re

from ..bundle.program import StepProgram
from .c_math import scalar, vector
from .c_source import Writing
from .c_text import byte_table
from .form import ROWS_ABI, Form, Source
from .targets import Target

__all__ = ["rows_source", "why_no_rows"]

# What is written with functions that exist for vectors as well. Of everything else single streams take their turn.
_IN_LANES = frozenset(
    {"ltc", "cfc", "gru", "lstm", "rnn", "Gemm", "Add", "Sub", "Mul", "Sigmoid", "Tanh", "Relu", "Reshape"}
)


def why_no_rows(step: StepProgram, form: Form) -> str | None:
    """Why streams of a program are not computed together, or `None`."""
    if form.batch > 1 or form.unroll > 1 or form.constants:
        return "its calls have rows or samples of their own, or constants"
    others = sorted({node.kind for node in step.program.nodes} - _IN_LANES)
    if others or any(own.dtype != "float32" for own in step.program.inputs):
        return f"it has {', '.join(others) or 'inputs of whole numbers'}"
    return None


def rows_source(step: StepProgram, form: Form, target: Target, prefix: str) -> Source:
    """Write the step of as many streams at once as the target's registers have lanes.

    Raises:
        ValueError: If it cannot be written.
    """
    problem = why_no_rows(step, form)
    if problem:
        raise ValueError(f"the streams of this step are not computed together: {problem}")
    program, single = step.program, Writing(step, form, _ONE_LANE, prefix)
    counts = {
        "INPUTS": sum(math.prod(own.shape) for own in program.inputs) + bool(program.elapsed.dt),
        "STATES": sum(math.prod(own.shape) for own in program.states),
        "OUTPUTS": sum(math.prod(own.shape) for own in program.outputs),
        "ABI": ROWS_ABI,
        "DIGEST": byte_table(form.digest),
    }
    parts = [
        f'#include "{prefix}.h"\n#include <math.h>\n',
        scalar(target.lanes),
        vector(target.lanes),
        _GENERIC,
        _in_lanes(single.types()),
        _in_lanes(single.body()),
        re.sub(r"\b(INPUTS|STATES|OUTPUTS|ABI|DIGEST)\b", lambda found: str(counts[found.group()]), _SOURCE),
    ]
    header = _HEADER.replace("GUARD", f"{prefix.upper()}_H")
    return Source(single.named(header), single.named("\n".join(parts)))


_ONE_LANE = Target("rows", 1, "each lane of a vector")


def _in_lanes(text: str) -> str:
    """Numbers as vectors, and what is done with one as what is done with a vector; tables stay what they are."""
    return "".join(map(_line_in_lanes, text.splitlines(keepends=True)))


def _line_in_lanes(line: str) -> str:
    if line.startswith("static const"):
        return line
    return re.sub(r"\b(?!half)([a-z_]+)1\(", r"\1v(", re.sub(r"\bfloat\b", "V", line))


_GENERIC = """
/* What the text of a step without vectors calls: a table has one number for all lanes, a value has one for each. */
INLINE V table_at(const float *p) { return allv(*p); }
INLINE V value_at(const V *p) { return *p; }
INLINE V spread(float x) { return allv(x); }
INLINE V same(V x) { return x; }
INLINE V table_half(const uint16_t *p, float scale) { return allv(half1(p, scale)); }
#define get(p) _Generic((p), V *: value_at, const V *: value_at, float *: table_at, const float *: table_at)(p)
#define allv(x) _Generic((x), V: same, const V: same, default: spread)(x)
#define get_half table_half
#define put(p, x) (void)(*(p) = (x))
#define anyv(x) ((void)(x), 0)
#define copy(to, from, count) do { int c_; for (c_ = 0; c_ < (count); ++c_) (to)[c_] = (from)[c_]; } while (0)
"""

_HEADER = """#ifndef GUARD
#define GUARD

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t abi, lanes;
    uint64_t inputs, states, outputs, work; /* numbers of a stream, and bytes of scratch memory */
    unsigned char digest[68];
} P_facts;

extern const P_facts P_about;

/* `count` streams, a multiple of the lanes, whose numbers lie side by side: number i of stream r is x[i * count + r].
   Which streams were done is in `ok`; what the others get is nothing to use. */
void P_rows(void *work, size_t count, const float *x, const float *s, float *y, float *next, unsigned char *ok);

#endif
"""

_SOURCE = """
typedef struct {
    V given[INPUTS + 1], before[STATES + 1], after[STATES + 1], out[OUTPUTS + 1];
    P_work work;
} P_tile;

const P_facts P_about = {ABI, LANES, INPUTS, STATES, OUTPUTS, sizeof(P_tile), DIGEST};

void P_rows(void *work, size_t count, const float *x, const float *s, float *y, float *next, unsigned char *ok) {
    P_tile *t = work;
    size_t r;
    int i;
    for (r = 0; r < count; r += LANES) {
        VI bad = unusualv(spread(0.0f));
        for (i = 0; i < INPUTS; ++i) {
            t->given[i] = *(const VU *)(x + (size_t)i * count + r);
            bad |= unusualv(t->given[i]);
        }
        for (i = 0; i < STATES; ++i) t->before[i] = *(const VU *)(s + (size_t)i * count + r);
        (void)sample(&t->work, (const P_input *)t->given, (const P_state *)t->before, (P_state *)t->after,
                     (P_output *)t->out, 0, 0);
        for (i = 0; i < OUTPUTS; ++i) {
            *(VU *)(y + (size_t)i * count + r) = t->out[i];
            bad |= unusualv(t->out[i]);
        }
        for (i = 0; i < STATES; ++i) {
            *(VU *)(next + (size_t)i * count + r) = t->after[i];
            bad |= unusualv(t->after[i]);
        }
        for (i = 0; i < LANES; ++i) ok[r + i] = !bad[i];
    }
}
"""
