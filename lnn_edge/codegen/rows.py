"""The step of many streams at once as C: every number becomes a vector, a stream in each of its lanes.

The text of a step without vectors says what is done with one number after the other; here each of these numbers is one
of as many streams as a register has lanes. So no lane waits for another one, nothing is put in order, and what a stream
gets does not depend on the others. The streams' numbers lie side by side: all first numbers, then all second ones.

Two tiles of streams are computed together, line by line: a weight is spread over the lanes once for both, and while one
waits for a result the other goes on. A small network without an LTC has enough to do in one. Where one tile is left, it
is computed by itself, unless weights are float16, by the same lines without those of the other, and gets the same bits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

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

_LARGE = 2048  # weights: of fewer, spreading them is little of what a tile takes


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
    program = step.program
    tiles = _tiles_of(step)
    single = Writing(step, form, Target("rows", 1, "each lane of some vectors", tiles=tiles), prefix)
    body = _in_lanes(single.body())
    inputs = [math.prod(own.shape) for own in program.inputs] + [1] * bool(program.elapsed.dt)
    states, outputs = ([math.prod(own.shape) for own in kind] for kind in (program.states, program.outputs))
    # What both tiles have in common are products of tables, where weights are float16: a compiler joins one with a sum
    # or not, by how many use it, and the last bits of a stream would depend on how many there are.
    apart = tiles == 2 and form.precision == "float32"
    both = [own for part in _SAMPLE for own in [part, part.replace("t->", "t[1].")][:tiles]]
    words = {
        "INPUTS": sum(inputs),
        "STATES": sum(states),
        "OUTPUTS": sum(outputs),
        "TILES": tiles,
        "ALONE": f"sample{_ALONE if apart else ''}({', '.join(_SAMPLE if apart else both)}, 0, 0)",
        "APART": int(apart),
        "TOGETHER": f"sample({', '.join(both)}, 0, 0)",
        "ABI": ROWS_ABI,
        "DIGEST": byte_table(form.digest),
        "TAKE_INPUTS": _moves("take", "given", inputs, 0),
        "TAKE_STATES": _moves("take", "before", states, len(inputs)),
        "GIVE_OUTPUTS": _moves("give", "out", outputs, len(inputs) + len(states)),
        "GIVE_STATES": _moves("give", "after", states, len(inputs) + len(states) + len(outputs)),
    }
    parts = [
        f'#include "{prefix}.h"\n#include <math.h>\n',
        scalar(target.lanes),
        vector(target.lanes),
        _GENERIC,
        _in_lanes(single.types()),
        _twice(body) if tiles == 2 else body,
        _alone(body) if apart else "",
        _turned(target.lanes),
        _MOVES,
        re.sub(rf"\b({'|'.join(words)})\b", lambda found: str(words[found.group()]), _SOURCE),
    ]
    header = _HEADER.replace("GUARD", f"{prefix.upper()}_H")
    return Source(single.named(header), single.named("\n".join(parts)))


def _tiles_of(step: StepProgram) -> int:
    """How many tiles of streams are computed together."""
    large = sum(own.size for own in step.tensors.values()) > _LARGE
    return 2 if large or any(node.kind == "ltc" for node in step.program.nodes) else 1


def _moves(how: str, where: str, sizes: Sequence[int], place: int) -> str:
    """Calls that move tensors of these sizes, whose rows lie at `places[place]` and the following ones."""
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return " ".join(
        f"{how}(t->{where} + {start}, {size}, (float *)places[{place + k}] + r * {size}, n);"
        for k, (start, size) in enumerate(zip(starts, sizes, strict=True))
    )


def _turned(lanes: int) -> str:
    """A function that makes columns of rows, by exchanges between each vector and the one 1, 2, 4, ... further."""
    lines, distance = [], 1
    while distance < lanes:
        low = [lane if not lane & distance else lanes + (lane ^ distance) for lane in range(lanes)]
        high = [lanes + lane if lane & distance else lane ^ distance for lane in range(lanes)]
        for first in (k for k in range(lanes) if not k & distance):
            a, b = f"t[{first}]", f"t[{first + distance}]"
            lines.append(f"    p = {a}, q = {b};")
            lines += [f"    {own} = mixed(p, q, {_listed(order)});" for own, order in ((a, low), (b, high))]
        distance *= 2
    return _MIXED + "\n".join(["INLINE void turned(V *t) {", "    V p, q;", *lines, "}", ""])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


_SAMPLE = (
    "&t->work",
    "(const P_input *)t->given",
    "(const P_state *)t->before",
    "(P_state *)t->after",
    "(P_output *)t->out",
)


def _in_lanes(text: str) -> str:
    """Numbers as vectors, and what is done with one as what is done with a vector; tables stay what they are."""
    return "".join(map(_line_in_lanes, text.splitlines(keepends=True)))


def _line_in_lanes(line: str) -> str:
    if line.startswith("static const"):
        return line
    return re.sub(r"\b(?!half)([a-z_]+)1\(", r"\1v(", re.sub(r"\bfloat\b", "V", line))


# What both tiles have in common: tables, heads of loops, what is counted.
_FUNCTION = re.compile(r"^(?:INLINE_ONCE|static) int .*?^}\n", re.DOTALL | re.MULTILINE)
_COMMON = re.compile(r"\s*(|for .*\{|[{}]|(const )?int .*;|return .*;)\n")
_NAME = re.compile(r"(?<![\w.>])[A-Za-z_]\w*(?!\w|\s*\()")
_ALONE = "_alone"
_NOT_DOUBLED = re.compile(r"[A-Z]\d+|i\d*|j|k|row|edge|end|const|for|int|return|void|V|VI|VIU")


def _twice(text: str) -> str:
    """What functions do with a stream in each lane, done with two; what the second one has ends in `_b`."""
    return _FUNCTION.sub(lambda found: "".join(map(_line_twice, found.group().splitlines(keepends=True))), text)


def _alone(text: str) -> str:
    """The same functions for one stream in each lane, under names of their own."""
    return re.sub(r"\b(node\w+|sample)(?=\()", rf"\1{_ALONE}", "\n".join(_FUNCTION.findall(text)))


def _line_twice(line: str) -> str:
    if _COMMON.fullmatch(line):
        return line
    if "RESTRICT w" in line or re.search(r"\bnode\w+\(", line):  # the head of a function, or a call
        return re.sub(r"((?:const )?(?:\w+ \*RESTRICT )?)\b([wxsny]),", r"\1\2, \1\2_b,", line)
    return line + _NAME.sub(_second, line)


def _second(found: re.Match[str]) -> str:
    name = found.group()
    return name if _NOT_DOUBLED.fullmatch(name) else f"{name}_b"


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
#define copy_within(to, from, count, limit) \\
    do { int c_; for (c_ = 0; c_ < (count); ++c_) (to)[c_] = withinv((from)[c_], spread(limit)); } while (0)
"""

_MIXED = """
#if defined(__clang__) || __GNUC__ >= 12
#define mixed(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define mixed(a, b, ...) __builtin_shuffle(a, b, (VI){__VA_ARGS__})
#endif
/* the numbers of as many rows as there are lanes become as many vectors, a row's in one lane; and the way back */
"""

# Where a row's numbers are no multiple of the lanes, the last ones are moved twice, which no one sees.
_MOVES = """
#undef anyv

static void take(V *to, int size, const float *rows, int n) {
    int i, k;
    if (n == LANES && size >= LANES) {
        for (i = 0; i < size; i += LANES) {
            const int at = i < size - LANES ? i : size - LANES;
            V t[LANES];
            for (k = 0; k < LANES; ++k) t[k] = *(const VU *)(rows + (size_t)k * size + at);
            turned(t);
            for (k = 0; k < LANES; ++k) to[at + k] = t[k];
        }
        return;
    }
    for (i = 0; i < size; ++i) {
        V x = spread(0.0f);
        for (k = 0; k < n; ++k) x[k] = rows[(size_t)k * size + i];
        to[i] = x;
    }
}

static void give(const V *from, int size, float *rows, int n) {
    int i, k;
    if (n == LANES && size >= LANES) {
        for (i = 0; i < size; i += LANES) {
            const int at = i < size - LANES ? i : size - LANES;
            V t[LANES];
            for (k = 0; k < LANES; ++k) t[k] = from[at + k];
            turned(t);
            for (k = 0; k < LANES; ++k) *(VU *)(rows + (size_t)k * size + at) = t[k];
        }
        return;
    }
    for (i = 0; i < size; ++i) {
        for (k = 0; k < n; ++k) rows[(size_t)k * size + i] = from[i][k];
    }
}
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

/* `count` streams. Each tensor of theirs lies at one of the `places`, row after row: the inputs', then the time of each
   since the sample before if there is one, the states', the outputs', the next states'. Of each number of an input
   `limits` has the lowest, and after all of these the highest, or is 0.
   A stream is done, and `ok` becomes 1, if `may` says so or is 0, and sample, state and results are finite and within
   limits. Else the state stays as it was, and the outputs become NaN. */
void P_rows(void *work, size_t count, void *const *places, const float *limits, const unsigned char *may,
            unsigned char *ok);

#endif
"""

_SOURCE = """
typedef struct {
    V given[INPUTS + 1], before[STATES + 1], after[STATES + 1], out[OUTPUTS + 1];
    VI bad;
    P_work work;
} P_tile;

const P_facts P_about = {ABI, LANES, INPUTS, STATES, OUTPUTS, TILES * sizeof(P_tile), DIGEST};

INLINE int rows_of(size_t first, size_t count) {
    return count <= first ? 0 : count - first < LANES ? (int)(count - first) : LANES;
}

static void begin(P_tile *t, size_t r, int n, void *const *places, const float *limits) {
    VI bad = unusualv(spread(0.0f));
    int i;
    TAKE_INPUTS
    TAKE_STATES
    for (i = 0; i < INPUTS; ++i) bad |= unusualv(t->given[i]);
    if (limits)
        for (i = 0; i < INPUTS; ++i)
            bad |= lessv(t->given[i], spread(limits[i])) | lessv(spread(limits[INPUTS + i]), t->given[i]);
    for (i = 0; i < STATES; ++i) bad |= unusualv(t->before[i]);
    t->bad = bad;
}

static void end(P_tile *t, size_t r, int n, void *const *places, const unsigned char *may, unsigned char *ok) {
    VI bad = t->bad;
    int32_t each[LANES], found = 0; /* a lane of a vector with a variable number would put it into memory at each use */
    int i;
    for (i = 0; i < OUTPUTS; ++i) bad |= unusualv(t->out[i]);
    for (i = 0; i < STATES; ++i) bad |= unusualv(t->after[i]);
    *(VIU *)each = bad;
    for (i = 0; i < n; ++i) {
        if (may && !may[r + i]) each[i] = -1;
        ok[r + i] = !each[i];
        found |= each[i];
    }
    if (found) {
        bad = *(const VIU *)each;
        for (i = 0; i < OUTPUTS; ++i) t->out[i] = pickv(bad, spread((float)NAN), t->out[i]);
        for (i = 0; i < STATES; ++i) t->after[i] = pickv(bad, t->before[i], t->after[i]);
    }
    GIVE_OUTPUTS
    GIVE_STATES
}

/* Lanes that lie behind the last stream are computed of zeros, and nobody sees them. */
void P_rows(void *work, size_t count, void *const *places, const float *limits, const unsigned char *may,
            unsigned char *ok) {
    P_tile *t = work;
    size_t r, k;
    for (r = 0; r < count; r += TILES * LANES) {
        const size_t tiles = APART && count - r <= LANES ? 1 : TILES;
        for (k = 0; k < tiles; ++k) begin(t + k, r + k * LANES, rows_of(r + k * LANES, count), places, limits);
        if (tiles == TILES) (void)TOGETHER;
        else (void)ALONE;
        for (k = 0; k < tiles; ++k) end(t + k, r + k * LANES, rows_of(r + k * LANES, count), places, may, ok);
    }
}
"""
