"""The text of header and source: names that are bytes, compilers and languages that take it, its public functions."""

from __future__ import annotations

import ctypes
import itertools
import math
import platform
import re
import shutil
import subprocess

import numpy as np
import pytest
from compilations import counted
from generated import DIGEST, LANES, source_of
from generated_models import HOSTILE, WIDE, renamed
from programs import decoded, everything, node_of
from recorded import program_of

from lnn_edge.bundle.encoder import step_multiplications
from lnn_edge.codegen import c_source as writing
from lnn_edge.codegen.c_source import c_source, why_not
from lnn_edge.codegen.form import ABI, Form
from lnn_edge.codegen.rows import rows_source
from lnn_edge.codegen.targets import TARGETS, named_target


def test_names_of_a_bundle_are_bytes_and_nothing_else():
    hostile, plain = (source_of(renamed(names)) for names in (HOSTILE[:5], list("abcde")))
    for text in (hostile.header, hostile.source):
        assert text.isascii()
        assert not any(name[:6] in text for name in HOSTILE)

    def without_names(text):
        return re.sub(r"(name_\w+\[\] = )\{[^}]*\}", r"\1", text)

    assert without_names(hostile.source) == without_names(plain.source)
    assert hostile.header == plain.header


def test_names_come_back_as_they_were():
    own = Public("hostile")
    for function, expected in (("input", HOSTILE[0]), ("state", HOSTILE[1]), ("output", HOSTILE[4])):
        found = own.library.function(f"{function}_name", ctypes.c_char_p, ctypes.c_size_t)
        assert found(0).decode() == expected
        assert found(1) is None


def compile_with(*command, cwd):
    """Call a compiler, which must have nothing to say."""
    with counted(command[0]):
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def said(*command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=True).stdout


def test_text_is_the_same_whenever_it_is_written():
    step = decoded(*everything())
    first, second = (source_of(step, 8, batch=2) for _ in range(2))
    assert first == second
    assert source_of(decoded(*everything()), 8, batch=2) == first


def test_target_by_name():
    assert named_target("vector8").lanes == 8
    with pytest.raises(ValueError, match=r"unknown target 'vector9'\. Valid: .*vector8"):
        named_target("vector9")


@pytest.mark.parametrize("prefix", ["", "9a", "a-b", "A", "a b", "int main(void);", "a" * 33, "a\n"])
def test_prefix_that_is_no_name(prefix):
    with pytest.raises(ValueError, match="cannot begin names in C"):
        c_source(program_of("cfc-units", "fixed"), Form(DIGEST), TARGETS[0], prefix)


def test_two_models_in_one_program(tmp_path):
    """Everything public begins with the prefix, so nothing of one hides the other."""
    for name in ("cfc-units", "ltc-autoncp"):
        prefix = name[:3]
        source = c_source(program_of(name, "fixed"), Form(DIGEST), TARGETS[0], prefix)
        (tmp_path / f"{prefix}.h").write_text(source.header)
        (tmp_path / f"{prefix}.c").write_text(source.source)
    (tmp_path / "main.c").write_text(
        '#include "cfc.h"\n#include "ltc.h"\nstatic cfc_model a;\nstatic ltc_model b;\n'
        "int main(void) { static cfc_input x; static cfc_output y; static ltc_input u; static ltc_output v;\n"
        "cfc_init(&a); ltc_init(&b); return cfc_step(&a, &x, &y) + ltc_step(&b, &u, &v); }\n"
    )
    compile_with("cc", "-std=c99", "-O1", "main.c", "cfc.c", "ltc.c", "-o", "both", "-lm", cwd=tmp_path)
    assert subprocess.run([tmp_path / "both"], check=False, timeout=100).returncode == 0
    found = said("nm", "-g", "--defined-only", "both", cwd=tmp_path)
    own = [line.split() for line in found.splitlines() if re.search(r" (cfc|ltc)_", line)]
    assert len(own) == 2 * 11
    assert {kind for _, kind, _ in own} == {"T", "R"}  # code and constants: nothing that could be written


# To C++ it is only read: what is made of it is the same. gcc looks for more where it optimises, clang does not.
COMPILERS = {
    "gcc": ("-std=c99", "-O1"),
    "clang": ("-std=c99", "-O0"),
    "g++": ("-std=c++11", "-x", "c++", "-fsyntax-only"),
    "clang++": ("-std=c++11", "-x", "c++", "-fsyntax-only"),
}
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-Wvla", "-Wstack-usage=65536")
# What a compiler itself may ask for, and <math.h>: no heap, no input or output, nothing else.
ASKED_FOR = {"memcpy", "memset", "memmove", "atanf", "sqrtf", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}


def put_everything(folder, name, lanes, **form):
    """The program with every core, as two files of that name."""
    source = source_of(decoded(*everything()), lanes, name, batch=2, unroll=2, **form)
    (folder / f"{name}.h").write_text(source.header)
    (folder / f"{name}.c").write_text(source.source)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_have_nothing_to_say(compiler, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    widths = (1, 4, 8, 16) if "x86" in platform.machine() else (1, 4)
    for lanes in widths:
        put_everything(tmp_path, f"w{lanes}", lanes, precision="float16" if lanes == 4 else "float32")
    wide = ["-mavx512f", "-mfma"] if 16 in widths else []
    warnings = [own for own in WARNINGS if "clang" not in compiler or "stack" not in own]
    files = [f"w{lanes}.c" for lanes in widths]
    compile_with(compiler, *COMPILERS[compiler], *warnings, *wide, "-c", *files, cwd=tmp_path)
    for own in tmp_path.glob("*.o"):
        names = {line.split()[-1] for line in said("nm", "-u", own.name, cwd=tmp_path).splitlines()}
        assert names <= ASKED_FOR


SANITIZED = ("-std=gnu11", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-march=native")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("make", [c_source, rows_source])
def test_flags_that_change_what_it_computes_are_refused(compiler, make, tmp_path):
    """With them a gate is off by a quarter, and no warning says so."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    source = make(program_of("ltc-mixed", "measured"), Form(DIGEST), named_target("vector4"), "lnn")
    (tmp_path / "lnn.h").write_text(source.header)
    (tmp_path / "lnn.c").write_text(source.source)
    for flags, told in {
        "-Ofast": "leave out -ffast-math, -Ofast",
        "-ffast-math": "leave out -ffast-math, -Ofast",
        "-ffinite-math-only": "it removes the checks that refuse NaN",
        "-fno-math-errno -fno-trapping-math -ffp-contract=fast": "",
    }.items():
        command = [compiler, *flags.split(), "-std=gnu99", "-fsyntax-only", "lnn.c"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
        assert (done.returncode != 0, told in done.stderr) == (bool(told), True), done.stderr


def test_sanitizers_find_nothing(tmp_path):
    """Addresses and undefined behaviour, in steps with and without vectors, and in rows of streams.

    One program, as compiling takes longest: each part tells by a number of its own what is wrong.
    """
    mains = [*sanitized_steps(tmp_path), *sanitized_rows(tmp_path)]
    text = "".join(main.replace("lnn", name).replace("int main(", f"static int of_{name}(") for name, main in mains)
    each = "".join(f"if ((code = of_{name}())) return {10 * k} + code; " for k, (name, _) in enumerate(mains))
    (tmp_path / "main.c").write_text(f"{text}int main(void) {{ int code; {each}return 0; }}\n")
    files = ["main.c", *(f"{name}.c" for name, _ in mains)]
    compile_with("gcc", *SANITIZED, *files, "-o", "main", "-lm", cwd=tmp_path)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def sanitized_steps(folder):
    """Over extremes and refused samples."""
    for lanes in LANES:
        put_everything(folder, f"w{lanes}", lanes)
    return [(f"w{lanes}", _SANITIZED) for lanes in dict.fromkeys(LANES)]


def sanitized_rows(folder):
    """Whatever numbers they hold, in memory to its last byte; a bad row keeps its state, and tells no other one."""
    if LANES[-1] == 1:  # then there are none
        return
    target = next(own for own in TARGETS if own.lanes == LANES[-1])
    for name, prefix in (("ltc-mixed", "ltc"), ("cfc-mixed-autoncp", "cfc")):
        step = program_of(name, "measured")
        source = rows_source(step, Form(DIGEST), target, prefix)
        (folder / f"{prefix}.h").write_text(source.header)
        (folder / f"{prefix}.c").write_text(source.source)
        kinds = [[*step.program.inputs, None], step.program.states, step.program.outputs, step.program.states]
        sizes = [[1 if own is None else math.prod(own.shape) for own in kind] for kind in kinds]
        text = _SANITIZED_ROWS.replace("SIZES", ", ".join(str(size) for kind in sizes for size in kind))
        ends = itertools.accumulate(map(len, sizes))
        yield prefix, text.replace("ENDS", ", ".join(map(str, ends)))


_SANITIZED_ROWS = """#include "lnn.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
    const size_t sizes[] = {SIZES}, ends[] = {ENDS}, count = 2 * lnn_about.lanes + 3, in = lnn_about.inputs;
    const float odd[] = {0.0f, -0.0f, 1.0f, -3.0f, 1e4f, 1e-45f, 3e38f, -3e38f, NAN, INFINITY, -INFINITY, 0.1f};
    void *work = aligned_alloc(64, (lnn_about.work + 63) / 64 * 64), *places[16], *again[16];
    unsigned char *ok = malloc(count), *may = malloc(count);
    float *limits = malloc(2 * in * sizeof(float));
    for (size_t i = 0; i < in; ++i) limits[i] = -2.0f, limits[in + i] = 2.0f;
    for (size_t k = 0; k < ends[3]; ++k) places[k] = malloc(count * sizes[k] * sizeof(float));
    for (size_t k = ends[1]; k < ends[2]; ++k) again[k] = malloc(sizes[k] * sizeof(float));
    for (int round = 0; round < 30; ++round) {
        for (size_t k = 0; k < ends[1]; ++k) /* the first row is the same each time, and good */
            for (size_t i = 0; i < count * sizes[k]; ++i)
                ((float *)places[k])[i] = i < sizes[k] || i % 5 ? 0.1f : odd[(i * 7 + k + (size_t)round) % 12];
        for (size_t r = 0; r < count; ++r) may[r] = r != 1;
        lnn_rows(work, count, places, round % 2 ? limits : 0, round % 3 ? may : 0, ok);
        if (!ok[0] || (round % 3 && ok[1])) return 1;
        for (size_t k = ends[1]; k < ends[2]; ++k) {
            if (!round) memcpy(again[k], places[k], sizes[k] * sizeof(float));
            if (memcmp(again[k], places[k], sizes[k] * sizeof(float))) return 2;
        }
        for (size_t r = 0; r < count; ++r) {
            for (size_t k = 0; k < ends[0]; ++k)
                for (size_t i = 0; i < sizes[k]; ++i) {
                    const float x = ((float *)places[k])[r * sizes[k] + i];
                    if (ok[r] && (!isfinite(x) || (round % 2 && fabsf(x) > 2.0f))) return 3;
                }
            for (size_t k = ends[1]; k < ends[2]; ++k)
                for (size_t i = 0; i < sizes[k]; ++i)
                    if (ok[r] != !isnan(((float *)places[k])[r * sizes[k] + i])) return 4;
            for (size_t k = ends[0]; k < ends[1]; ++k) {
                const size_t at = r * sizes[k] * sizeof(float);
                const char *after = places[k + ends[2] - ends[0]];
                if (!ok[r] && memcmp((char *)places[k] + at, after + at, sizes[k] * sizeof(float))) return 5;
            }
        }
    }
    lnn_rows(work, 0, places, limits, may, ok);
    for (size_t k = 0; k < ends[3]; ++k) free(places[k]);
    for (size_t k = ends[1]; k < ends[2]; ++k) free(again[k]);
    free(work), free(ok), free(may), free(limits);
    return 0;
}
"""


_SANITIZED = """#include "lnn.h"
#include <math.h>
#include <stdlib.h>
int main(void) {
    lnn_model *m = malloc(sizeof *m);
    lnn_input *x = malloc(sizeof *x);
    lnn_output *y = malloc(sizeof *y);
    lnn_state *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    float *p = (float *)x;
    const float sizes[] = {1.0f, 1e4f, 1e-30f, 1e30f, 0.0f};
    int refused = 0;
    lnn_init(m);
    for (int round = 0; round < 40; ++round) {
        for (size_t i = 0; i < sizeof *x / 4; ++i)
            p[i] = sizes[round % 5] * (float)(((round * 7919 + (int)i * 104729) % 2001) - 1000) / 1000.0f;
        for (size_t i = 0; i < sizeof x->dt / 4; ++i) x->dt[i] = 0.05f;
        lnn_get_state(m, before);
        if (round % 7 == 3) p[round % 40] = round % 2 ? NAN : INFINITY;
        if (lnn_step(m, x, y) != lnn_DONE) {
            ++refused;
            lnn_get_state(m, after);
            for (size_t i = 0; i < sizeof *after / 4; ++i)
                if (((float *)before)[i] != ((float *)after)[i]) return 1;
        }
        if (round == 20) lnn_reset(m);
    }
    if (refused < 6) return 2;
    ((float *)before)[0] = NAN;
    if (lnn_set_state(m, before) == lnn_DONE) return 3;
    free(m), free(x), free(y), free(before), free(after);
    return 0;
}
"""


class Public:
    """The public functions on a model of the caller's."""

    def __init__(self, name):
        self.c = WIDE[name]
        self.library, facts = self.c.library, self.c.library.facts
        self.memory = np.full(facts.model, 0xA5, np.uint8)  # `init` must not count on zeros
        self.outputs = facts.output // 4
        self.call("init")

    def call(self, name, *arguments):
        return self.c.call(name, self.memory, *arguments)

    def state(self):
        values = np.zeros(self.library.facts.state // 4, np.float32)
        self.call("get_state", values)
        return values


def test_public_functions_do_what_the_step_does():
    own = Public(("ltc-mixed", "fixed"))
    x = np.random.default_rng(1).standard_normal((9, 5)).astype(np.float32)
    states, expected = own.c.start(), []
    for sample in x:
        got, states = own.c.step({"input": sample}, states)
        expected.append(got["output"][0])
    y = np.zeros((9, own.outputs), np.float32)
    assert [own.call("step", x[k], y[k]) for k in range(9)] == [0] * 9
    np.testing.assert_array_equal(y, expected)
    kept = own.state()
    np.testing.assert_array_equal(kept, np.concatenate([states[name][0] for name in own.c.states]))
    own.call("reset")
    again = np.zeros_like(y)
    assert own.call("run", 9, x, again) == 9
    np.testing.assert_array_equal(again, y)
    own.call("reset")
    assert own.call("set_state", kept) == 0
    np.testing.assert_array_equal(own.state(), kept)


def test_recording_stops_before_a_sample_that_is_refused():
    own = Public(("cfc-units", "fixed"))
    x = np.zeros((6, 5), np.float32)
    x[4, 2] = np.nan
    y = np.zeros((6, own.outputs), np.float32)
    assert own.call("run", 6, x, y) == 4
    before = own.state()
    assert own.call("step", x[4], y[4]) == 1
    np.testing.assert_array_equal(own.state(), before)
    assert own.call("set_state", np.full_like(before, np.inf)) == 1
    np.testing.assert_array_equal(own.state(), before)


def test_result_that_is_not_finite_changes_nothing():
    own = Public(("cfc-proj", "fixed"))
    own.c.step({"input": np.zeros(5)}, own.c.start())
    assert own.c.status == 0
    own.c.step({"input": np.full(5, 3e38)}, own.c.start())
    assert own.c.status in (0, 2)  # whatever the weights make of it, it is said


def test_library_says_what_it_is():
    facts = Public(("cfc-units", "fixed")).library.facts
    assert (facts.abi, facts.lanes, facts.input, facts.output, facts.state) == (ABI, LANES[-1], 20, 32, 32)
    assert facts.results == facts.output + facts.state
    assert facts.model >= facts.work + 2 * facts.results


# ---- what there is no C of ------------------------------------------------------------------------------------------


def test_operation_that_c_lacks_is_named_with_its_place(monkeypatch):
    text, tensors = everything()
    step = decoded(text, tensors)
    assert why_not(step) is None
    known = {name: emit for name, emit in writing.EMITTED.items() if name not in ("Conv", "Relu")}
    monkeypatch.setattr("lnn_edge.codegen.table.EMITTED", known)
    assert why_not(step) == "C has no operation Conv (policy.py:7 conv) and 1 more"
    with pytest.raises(ValueError, match=r"C has no operation Conv \(policy.py:7 conv\)"):
        source_of(step)


def test_program_with_too_many_weights_or_too_large_values(monkeypatch):
    step = decoded(*everything())
    monkeypatch.setattr(writing, "MAX_NUMBERS", 100)
    assert re.match(r"it has \d+ weights, more than the 100 that a compiler is given", why_not(step))
    monkeypatch.setattr(writing, "MAX_NUMBERS", 10_000)
    monkeypatch.setattr(writing, "MAX_SCRATCH", 100)
    assert re.match(r"it needs \d+ numbers of scratch memory, more than 100", why_not(step))


def test_program_of_few_weights_and_endless_work():
    """Cores may share tensors, and an LTC unfolds them as often as it says; whoever waits for C hears no signal."""
    text, tensors = everything()
    ltc = node_of(text, "ltc")
    ltc["unfolds"] = 10_000
    text["nodes"] += [ltc | {"name": f"x{k}", "output": f"x{k}.out", "next": f"x{k}.next"} for k in range(40)]
    step = decoded(text, tensors)
    once = step_multiplications(step)
    assert once > 41 * 10_000 * 6  # numbers of a synapse
    assert why_not(step) is None
    rows = writing.MAX_MULTIPLICATIONS // once + 1
    told = rf"a call has about [\d,]+ multiplications, more than {writing.MAX_MULTIPLICATIONS:,}"
    assert re.fullmatch(told, why_not(step, rows))
    with pytest.raises(ValueError, match=told):
        c_source(step, Form("0" * 64, batch=rows), TARGETS[0])
