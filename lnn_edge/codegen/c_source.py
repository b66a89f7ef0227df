"""Header and source of a step: its types, what it exports, its tables and its functions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from ..bundle.encoder import step_multiplications
from ..bundle.operations import Node
from ..bundle.program import StepProgram
from .c_math import scalar, vector
from .c_text import byte_table, check_prefix, float_table, number
from .emission import Emission
from .form import ABI, MAX_MULTIPLICATIONS, MAX_NUMBERS, MAX_SCRATCH, Form, Source
from .plan import Plan, make_plan
from .table import EMITTED, missing
from .targets import Target

__all__ = ["Writing", "c_source", "why_not"]

_TYPES = {"float32": "float", "int32": "int32_t", "uint8": "uint8_t"}


def why_not(step: StepProgram, turns: int = 1) -> str | None:
    """Why there is no C of a program, or `None`; nothing is written to be asked.

    Args:
        step: The program.
        turns: How often a call steps it: rows times samples.
    """
    lacking = list(missing(step.program))
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        return f"C has no {lacking[0]}{more}"
    numbers = sum(tensor.size for tensor in step.tensors.values())
    if numbers > MAX_NUMBERS:
        return f"it has {numbers:,} weights, more than the {MAX_NUMBERS:,} that a compiler is given"
    scratch = make_plan(step).size
    if scratch > MAX_SCRATCH:
        return f"it needs {scratch:,} numbers of scratch memory, more than {MAX_SCRATCH:,}"
    work = turns * step_multiplications(step)
    if work > MAX_MULTIPLICATIONS:
        return f"a call has about {work:,} multiplications, more than {MAX_MULTIPLICATIONS:,}"
    return None


def c_source(step: StepProgram, form: Form, target: Target, prefix: str = "lnn") -> Source:
    """Write a step as C: the same text whenever program, form, target and prefix are the same.

    Raises:
        ValueError: If there is no C of it, or the prefix cannot begin a name.
    """
    problem = why_not(step, form.batch * form.unroll)
    if problem:
        raise ValueError(problem)
    return Writing(step, form, target, check_prefix(prefix)).source()


class Writing:
    """The parts of the two files of a step in some form, for a target; names begin with the prefix."""

    def __init__(self, step: StepProgram, form: Form, target: Target, prefix: str) -> None:
        self._step, self._form, self._target, self._prefix = step, form, target, prefix
        self._plan: Plan = make_plan(step)
        self._emission = Emission(
            step,
            self._plan,
            lanes=target.lanes,
            tiles=target.tiles,
            half=form.precision == "float16",
            batch=form.batch,
            unroll=form.unroll,
        )
        self._emission.constant_inputs = form.constants

    def source(self) -> Source:
        """Both."""
        body = self.body()
        parts = [
            f'#include "{self._prefix}.h"\n#include <math.h>\n',
            scalar(self._target.lanes),
            vector(self._target.lanes),
            body,
            self._functions(),
        ]
        return Source(self.named(self._header()), self.named("\n".join(parts)))

    def body(self) -> str:
        """Tables, functions that nodes call, one for each node, and the one that calls those for a sample of a row."""
        nodes = [self._node(k, node) for k, node in enumerate(self._step.program.nodes)]
        sample = self._sample()
        return "\n".join([self._emission.tables_text(), self._initial(), *self._emission.functions, *nodes, sample])

    def types(self) -> str:
        """What is given, what is kept, what comes out, and the scratch memory."""
        work = f"typedef struct {{\n    float v[{self._plan.size}];\n{self._between()}}} P_work;\n"
        return "\n".join([self._inputs(), *self._results(), work])

    def named(self, text: str) -> str:
        """With the prefix in the place of P_ in public names."""
        return re.sub(r"\bP_", f"{self._prefix}_", text)

    # ---------------------------------------------------------------- the header

    def _header(self) -> str:
        guard = f"{self._prefix.upper()}_H"
        return _HEADER.format(guard=guard, types=self.types(), abi=ABI)

    def _inputs(self) -> str:
        form, members = self._form, []
        for k, own in enumerate(self._step.program.inputs):
            samples = 1 if own.name in form.constants else form.unroll
            count = form.batch * samples * math.prod(own.shape)
            if own.dtype == "uint8":
                count = -(-count // 4) * 4  # so that what comes next lies where it is expected
            members.append(f"    {_TYPES[own.dtype]} in{k}[{count}];")
        if self._step.program.elapsed.dt:
            members.append(f"    float dt[{form.batch * form.unroll}];")
        return _struct("P_input", members)

    def _results(self) -> Iterator[str]:
        program, form = self._step.program, self._form
        samples = form.batch * form.unroll
        outputs = [f"    float out{k}[{samples * math.prod(o.shape)}];" for k, o in enumerate(program.outputs)]
        states = [f"    float s{k}[{form.batch * math.prod(s.shape)}];" for k, s in enumerate(program.states)]
        yield _struct("P_output", outputs)
        yield _struct("P_state", states or ["    float none[1];"])
        yield _struct("P_results", ["    P_output output;", "    P_state state;"])

    def _between(self) -> str:
        return "    P_state between[2];\n" if self._form.unroll > 1 else ""

    # ---------------------------------------------------------------- the source

    def _initial(self) -> str:
        """The states that a sequence starts from, and the names of what goes in and out."""
        program, parts = self._step.program, []
        for k, state in enumerate(program.states):
            start = np.zeros(state.shape) if state.initial is None else self._step.tensors[state.initial]
            parts.append(float_table(f"initial{k}", start))
        names = {
            "in": [own.name for own in program.inputs],
            "out": [own.name for own in program.outputs],
            "s": [own.name for own in program.states],
        }
        for kind, every in names.items():
            for k, name in enumerate(every):
                parts.append(f"static const unsigned char name_{kind}{k}[] = {byte_table(name)};\n")
        return "".join(parts)

    def _node(self, place: int, node: Node) -> str:
        emission = self._emission
        EMITTED[node.kind](emission, node)
        body = emission.taken_lines()
        return f"INLINE_ONCE int node{place}({_PARAMETERS}) {{\n{_UNUSED}{body}    return 0;\n}}\n" if body else ""

    def _sample(self) -> str:
        emission, program = self._emission, self._step.program
        for own in program.inputs:
            if own.dtype != "float32":
                with emission.braces(emission.loop("i", math.prod(own.shape))):
                    emission.line(f"{emission.at(own.name)}[i] = (float){emission.input_at(own.name)}[i];")
        if program.elapsed.dt:
            scale = number(program.elapsed.timespan_per_s or 0.0)
            emission.line(f"{emission.at(program.elapsed.name)}[0] = {emission.measured()}[0] * {scale};")
        for place, node in enumerate(program.nodes):
            if node.kind != "Reshape":
                emission.line(f"bad |= node{place}(w, x, s, n, y, row, k);")
        for place, state in enumerate(program.states):
            self._move(state.next, emission.state_after(place, math.prod(state.shape)))
        for place, output in enumerate(program.outputs):
            self._move(output.value, emission.output(place, math.prod(output.shape)))
        body = f"    int bad = 0;\n{_UNUSED}{emission.taken_lines()}    return bad;\n"
        return f"static int sample({_PARAMETERS}) {{\n{body}}}\n"

    def _move(self, value: str, to: str) -> None:
        """Copy a result to where it belongs, if it was not made there."""
        if self._emission.at(value) != to:
            self._emission.line(f"copy({to}, {self._emission.at(value)}, {self._emission.size(value)});")

    def _functions(self) -> str:
        form, program = self._form, self._step.program
        checked = [
            f"all_finite(x->in{k}, {_count('x->in', k)})" for k, o in enumerate(program.inputs) if o.dtype == "float32"
        ]
        if program.elapsed.dt:
            checked.append("all_finite(x->dt, sizeof x->dt / 4)")
        resets = "".join(self._reset(k, math.prod(s.shape)) for k, s in enumerate(program.states))
        loop = _ONE_SAMPLE if form.unroll == 1 else _UNROLLED.replace("UNROLL", str(form.unroll))
        return _FUNCTIONS.format(
            checked=" && ".join(checked) or "1",
            results=" && ".join(self._results_checked()) or "1",
            rows=loop.replace("BATCH", str(form.batch)),
            resets=resets,
            abi=ABI,
            lanes=self._target.lanes,
            digest=byte_table(form.digest),
            names="".join(self._names()),
        )

    def _results_checked(self) -> Iterator[str]:
        """What is looked at after the step: results that no node has looked at."""
        checked, program = self._emission.checked, self._step.program
        for k, output in enumerate(program.outputs):
            if output.value not in checked:
                yield f"all_finite(to->output.out{k}, {_count('to->output.out', k)})"
        for k, state in enumerate(program.states):
            if state.next not in checked:
                yield f"all_finite(to->state.s{k}, {_count('to->state.s', k)})"

    def _reset(self, place: int, size: int) -> str:
        head = f"    for (row = 0; row < {self._form.batch}; ++row)"
        return f"{head} copy(m->place[0].state.s{place} + row * {size}, initial{place}, {size});\n"

    def _names(self) -> Iterator[str]:
        program = self._step.program
        for kind, public, count in (
            ("in", "P_input_name", len(program.inputs)),
            ("out", "P_output_name", len(program.outputs)),
            ("s", "P_state_name", len(program.states)),
        ):
            cases = "".join(f"    case {k}: return name_{kind}{k};\n" for k in range(count))
            head = f"const unsigned char *{public}(int place) {{\n    switch (place) {{\n"
            yield f"{head}{cases}    default: return 0;\n    }}\n}}\n\n"


def _count(member: str, place: int) -> str:
    return f"sizeof {member}{place} / 4"


def _struct(name: str, members: Sequence[str]) -> str:
    return "typedef struct {\n" + "\n".join(members) + f"\n}} {name};\n"


_PARAMETERS = (
    "P_work *RESTRICT w, const P_input *RESTRICT x, const P_state *RESTRICT s, P_state *RESTRICT n, "
    "P_output *RESTRICT y, int row, int k"
)
_UNUSED = "    (void)w, (void)x, (void)s, (void)n, (void)y, (void)row, (void)k;\n"

_HEADER = """#ifndef {guard}
#define {guard}

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/* What is public begins with one prefix. Inputs, outputs and states are numbered in the order of the model; their names
   are bytes of UTF-8, as the functions below return them. Numbers of one row follow one another. Inputs that the model
   is told to centre must be centred in double precision before they become float. */

#define P_ABI {abi}

enum {{ P_DONE = 0, P_BAD_SAMPLE = 1, P_BAD_RESULT = 2 }};

{types}
/* All that a model needs, owned by the caller: nothing is allocated, and nothing is kept anywhere else. */
typedef struct {{
    P_work work;
    P_results place[2];
    int32_t now;
}} P_model;

typedef struct {{
    uint32_t abi, lanes;
    uint64_t model, input, output, state, results, work; /* sizes in bytes */
    unsigned char digest[68];
}} P_facts;

extern const P_facts P_about;

/* Before anything else; `reset` begins a new sequence. */
void P_init(P_model *m);
void P_reset(P_model *m);

/* One call: P_DONE, or the state is what it was. */
int P_step(P_model *m, const P_input *x, P_output *y);

/* A whole recording: how many calls were done before one was refused, or all. */
size_t P_run(P_model *m, size_t calls, const P_input *x, P_output *y);

void P_get_state(const P_model *m, P_state *state);
int P_set_state(P_model *m, const P_state *state);

/* The step itself: reads the state in one place, and writes everything to another. */
int P_advance(P_work *work, const P_input *x, const P_results *from, P_results *to);

const unsigned char *P_input_name(int place);
const unsigned char *P_output_name(int place);
const unsigned char *P_state_name(int place);

#ifdef __cplusplus
}}
#endif

#endif
"""

_ONE_SAMPLE = """    for (row = 0; row < BATCH; ++row)
        bad |= sample(work, x, &from->state, &to->state, &to->output, row, 0);
"""
_UNROLLED = """    for (k = 0; k < UNROLL; ++k) {
        const P_state *s = k == 0 ? &from->state : &work->between[k & 1];
        P_state *n = k == UNROLL - 1 ? &to->state : &work->between[1 - (k & 1)];
        for (row = 0; row < BATCH; ++row) bad |= sample(work, x, s, n, &to->output, row, k);
    }
"""

_FUNCTIONS = """
const P_facts P_about = {{{abi}, {lanes}, sizeof(P_model), sizeof(P_input), sizeof(P_output), sizeof(P_state),
    sizeof(P_results), sizeof(P_work), {digest}}};

int P_advance(P_work *work, const P_input *x, const P_results *from, P_results *to) {{
    int row, k = 0, bad = 0;
    (void)k;
    if (!({checked})) return P_BAD_SAMPLE;
{rows}    return !bad && {results} ? P_DONE : P_BAD_RESULT;
}}

void P_reset(P_model *m) {{
    int row;
    (void)row;
    m->now = 0;
{resets}}}

void P_init(P_model *m) {{
    unsigned char *p = (unsigned char *)m;
    size_t i;
    for (i = 0; i < sizeof *m; ++i) p[i] = 0;
    P_reset(m);
}}

int P_step(P_model *m, const P_input *x, P_output *y) {{
    const int next = 1 - m->now, status = P_advance(&m->work, x, &m->place[m->now], &m->place[next]);
    if (status == P_DONE) {{
        m->now = next;
        *y = m->place[next].output;
    }}
    return status;
}}

size_t P_run(P_model *m, size_t calls, const P_input *x, P_output *y) {{
    size_t done = 0;
    while (done < calls && P_step(m, x + done, y + done) == P_DONE) ++done;
    return done;
}}

void P_get_state(const P_model *m, P_state *state) {{ *state = m->place[m->now].state; }}

int P_set_state(P_model *m, const P_state *state) {{
    if (!is_finite((const float *)state, sizeof *state / 4)) return P_BAD_SAMPLE;
    m->place[m->now].state = *state;
    return P_DONE;
}}

{names}"""
