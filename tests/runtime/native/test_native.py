"""The `native` backend: what it compiles with, what it keeps, and what it says where it cannot run.

What every backend must do is tested with the others, in tests/runtime/test_streams.py and test_interrupted_steps.py.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bundles import resign
from compilations import assert_gone
from old_files import FIXTURES, FLOAT16, FLOAT32, assert_near, group, recorded

import lnn_edge
from lnn_edge.backends import BACKENDS, named_backend, why_not_ready
from lnn_edge.bundle.directory import read_bundle
from lnn_edge.bundle.golden import golden_from_bundle
from lnn_edge.cli.program import main
from lnn_edge.codegen.targets import TARGETS
from lnn_edge.errors import BackendUnavailable, NonFiniteError
from lnn_edge.machine.cpu import vector_lanes
from lnn_edge.runtime.backends.native import backend as backend_module
from lnn_edge.runtime.backends.native import compiler as compilers
from lnn_edge.runtime.backends.native import tuning
from lnn_edge.runtime.backends.native.backend import NativeBackend
from lnn_edge.runtime.backends.native.compiler import Compiler, find_compiler
from lnn_edge.runtime.backends.native.tuning import Way, ways
from lnn_edge.runtime.loading import open_each

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture
def compilations(monkeypatch):
    """What was compiled, in the order."""
    found, whole = [], backend_module.compiled
    monkeypatch.setattr(backend_module, "compiled", lambda *arguments: found.append(arguments) or whole(*arguments))
    return found


@pytest.fixture
def cache(tmp_path, monkeypatch, compilations):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lnn-edge" / "native"


def load(bundle, **options):
    return lnn_edge.load(bundle, backend="native", **options)


def put_program(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


# ---- what it runs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fixed_2", "float16_2", "measured_2", "unroll_2", "two_cores_2"])
def test_bundles_of_older_versions(name):
    stream, kept = load(FIXTURES / "bundles" / f"{name}.lnn").stream(), recorded(f"bundles/{name}.lnn")
    tolerance = FLOAT16 if "float16" in name else FLOAT32
    y = stream.run(kept["x"], **{key: kept[key] for key in ("dt_s",) if key in kept})
    outputs = group(kept, "output.")
    y = y if isinstance(y, dict) else {"y": y}
    for key, value in outputs.items():
        assert_near(y[key], value, tolerance)


def test_description_names_compiler_and_build(cfc_bundle):
    first, second = load(cfc_bundle), load(cfc_bundle)
    assert first.description == second.description
    assert find_compiler().identity in first.description
    assert " lanes, build " in first.description


def test_results_that_are_not_finite_are_refused(cfc_bundle, ltc_bundle):
    for bundle in (cfc_bundle, ltc_bundle):
        model = load(bundle)
        stream = model.stream()
        own = {"dt_s": 0.1} if model.time.mode == "measured" else {}
        stream.step(np.zeros(3), **own)
        before = stream.snapshot()
        stepper = stream._mode.stepper
        stepper.write_state(0, {name: np.full(array.shape, np.nan) for name, array in before.tensors.items()})
        assert stepper.run(0) is False
        with pytest.raises(NonFiniteError):
            stream.step(np.full(3, np.nan), **own)
        for name, array in stream.snapshot().tensors.items():
            assert array.shape == before.tensors[name].shape


def test_verify_and_bench_take_it_by_name(cfc_bundle, capsys):
    assert main(["verify", str(cfc_bundle), "--backend", "native"]) == 0
    assert "C compiled by" in capsys.readouterr().out
    arguments = ["--backend", "native", "--steps", "50", "--warmup", "0", "--seconds", "0"]
    assert main(["bench", str(cfc_bundle), *arguments]) == 0
    assert "C compiled by" in capsys.readouterr().out


def test_windows_and_readouts(cfc_bundle):
    ours, theirs = (lnn_edge.load(cfc_bundle, backend=own) for own in ("native", "onnxruntime"))
    x = np.random.default_rng(3).uniform(-2, 2, (30, 3)).astype(np.float32)
    for options in ({"window": 4, "every": 2}, {"window": 5}):
        got, expected = (model.stream(**options).run(x) for model in (ours, theirs))
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)  # float32, two orders of summation


# ---- where nobody names it ------------------------------------------------------------------------------------------


def faster(monkeypatch, *medians):
    """Let `auto` find these medians, in the order of the table."""
    monkeypatch.setattr("lnn_edge.runtime.loading.step_medians_us", lambda _steps: list(medians))


def test_auto_compiles_it_and_says_so_in_a_line(cfc_bundle, cache, compilations, caplog, monkeypatch):
    caplog.set_level("INFO")
    faster(monkeypatch, 12.4, 0.38)
    model = lnn_edge.load(cfc_bundle)
    assert model.backend == "native"
    assert model.description.endswith("; the fastest here: 0.4 us a step, 12 us on onnxruntime")
    (said,) = said_of_others_than_rtx(caplog)
    assert said.message.partition(" with ")[0] == "compiling 'gait'"
    faster(monkeypatch, 3.0, 9.0)
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    assert len(compilations) == len(said_of_others_than_rtx(caplog)) == 1


@pytest.mark.parametrize("backend", ["auto", "all"])
def test_machine_or_bundle_that_it_has_nothing_for(backend, cfc_bundle, cache, caplog, monkeypatch):
    """Noted, and no warning: nobody asked for it."""
    caplog.set_level("INFO")
    monkeypatch.setenv("CC", "no-such-compiler")
    for bundle, reason in (
        (cfc_bundle, "CC is 'no-such-compiler', and there is no program 'no-such-compiler'. Type: unset CC"),
        (FIXTURES / "bundles" / "fixed.lnn", "schema 1, which holds no step program"),
    ):
        caplog.clear()
        opened = open_each(read_bundle(bundle), backend=backend)
        assert [model.backend for model in opened.models] == ["onnxruntime"]
        (record,) = said_of_others_than_rtx(caplog)
        assert record.levelname == "INFO"
        assert record.message.startswith("backend 'native' is left out: ")
        assert reason in record.message
        monkeypatch.delenv("CC", raising=False)


def test_compiler_that_fails_and_cache_that_cannot_be_used(cfc_bundle, cache, caplog, monkeypatch, tmp_path):
    """It was there and did not do: a warning, and the model runs."""
    monkeypatch.setenv("CC", str(failing(tmp_path, "echo 'lnn.h:4: error: no stdint.h'; exit 1")))
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    monkeypatch.delenv("CC")
    cache.chmod(0o755)
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    first, second = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert re.match(r"backend 'native' is left out: the C compiler .* failed: lnn.h:4: error: no stdint.h\.", first)
    assert re.match(r"backend 'native' is left out: the library cache .* only you can enter", second)


def test_verify_runs_it_with_the_others(cfc_bundle, cache, capsys):
    assert main(["verify", str(cfc_bundle)]) == 0
    assert re.search(r"on onnxruntime .*, C compiled by .* lanes, build \w{12}, 1 thread", capsys.readouterr().out)


# ---- bundles that it cannot run -------------------------------------------------------------------------------------


def test_bundle_without_a_program_says_so():
    with pytest.raises(BackendUnavailable, match=r"backend 'native' cannot run bundle .*schema 1, which holds no step"):
        load(FIXTURES / "bundles" / "fixed.lnn")


def test_operation_that_c_lacks(cfc_bundle, cache, monkeypatch):
    monkeypatch.setattr("lnn_edge.codegen.table.EMITTED", {})
    assert NativeBackend.why_not_bundle(read_bundle(cfc_bundle)).startswith("C has no operation cfc (")
    with pytest.raises(BackendUnavailable, match=r"C has no operation cfc .*Type: backend='onnxruntime'"):
        load(cfc_bundle)


def said_of_others_than_rtx(caplog):
    """Where the wheels of TensorRT for RTX are, `auto` says each time that there is no GPU for them."""
    return [record for record in caplog.records if "tensorrt-rtx" not in record.message]


# ---- the cache ------------------------------------------------------------------------------------------------------


def test_the_second_load_compiles_nothing(cfc_bundle, cache, compilations):
    first = load(cfc_bundle)
    assert load(cfc_bundle).description == first.description
    assert len(compilations) == 1
    assert cache.stat().st_mode & 0o777 == 0o700
    (library,) = cache.glob("*.so")
    assert library.stat().st_mode & 0o777 == 0o600  # loaded from memory: no file there must be executable


def test_what_a_bundle_says_about_itself_does_not_matter(cfc_copy, cache, compilations):
    load(cfc_copy)
    resign(cfc_copy, name="other")
    load(cfc_copy)
    assert len(compilations) == 1


def test_other_flags_or_another_compiler_build_again(cfc_bundle, cache, compilations, monkeypatch):
    load(cfc_bundle)
    made = next(cache.glob("*.so")).read_bytes()  # what is made of other flags matters to nobody here
    monkeypatch.setattr(backend_module, "compiled", lambda *arguments: compilations.append(arguments) or made)
    monkeypatch.setattr(compilers, "OPTIMIZATION", "-O2")
    load(cfc_bundle)
    assert ["-O2" in flags for _, _, _, flags, _ in compilations] == [False, True]
    monkeypatch.setenv("CC", "gcc")
    load(cfc_bundle)
    monkeypatch.setattr("lnn_edge.runtime.backends.native.backend.cpu_extensions", lambda: frozenset({"other"}))
    load(cfc_bundle)
    assert len(compilations) == 4


def test_build_makes_it_ready(cfc_bundle, cache, compilations, capsys):
    assert main(["build", str(cfc_bundle), "--backend", "native"]) == 0
    assert f"saved {cache}" in capsys.readouterr().out
    load(cfc_bundle)
    assert main(["build", str(cfc_bundle), "--backend", "native"]) == 0
    assert "already built for this device" in capsys.readouterr().out
    assert len(compilations) == 1
    assert main(["build", str(cfc_bundle), "--backend", "native", "--rebuild"]) == 0
    assert len(compilations) == 2


def test_damaged_library_is_built_again_with_a_message(cfc_bundle, cache, compilations, caplog):
    load(cfc_bundle)
    (library,) = cache.glob("*.so")
    library.write_bytes(library.read_bytes()[:-1] + b"x")
    load(cfc_bundle)
    assert "is not used and built again: its bytes were changed" in caplog.text
    assert len(compilations) == 2


def test_several_at_once_compile_once(cfc_bundle, cache, compilations):
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(load, [cfc_bundle] * 4))
    assert len({model.description for model in models}) == 1
    assert len(compilations) == 1


def test_two_processes_at_once(cfc_bundle, cache, python):
    """Each finds its own or the other's; neither sees a part of one."""
    unhurried = "from lnn_edge.runtime.backends.native import tuning; tuning.BUDGET_S = 60.0"  # however busy it is here
    program = f"import lnn_edge; {unhurried}; print(lnn_edge.load({str(cfc_bundle)!r}, backend='native').description)"
    environment = os.environ | {"PYTHONPATH": str(FIXTURES.parents[1])}
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: python("-c", program, env=environment), range(2)))
    assert [own.returncode for own in done] == [0, 0], [own.stderr for own in done]
    assert len({own.stdout for own in done}) == 1
    assert len(list(cache.glob("*.so"))) == len(ways(find_compiler(), vector_lanes(), platform.machine(), 0))


def test_cache_that_others_may_enter(cfc_bundle, cache):
    cache.mkdir(parents=True, mode=0o755)
    cache.chmod(0o755)
    with pytest.raises(BackendUnavailable, match=r"the library cache .* only you can enter.*chmod 700"):
        load(cfc_bundle)


def test_user_without_a_home(cfc_bundle, monkeypatch, tmp_path):
    """As in a container whose system does not know them: nothing is put where they stand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(BackendUnavailable, match=r"this user has no home\. Type: export XDG_CACHE_HOME=FOLDER"):
        load(cfc_bundle)
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    assert list(tmp_path.iterdir()) == []


def test_nowhere_to_compile(cfc_bundle, cache, monkeypatch):
    def refuse(**_options):
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    monkeypatch.setattr(compilers, "OPTIMIZATION", "-O0")  # which no test has compiled before
    message = "nothing can be compiled in the folder for temporary files: No usable .*Set TMPDIR to a folder elsewhere"
    with pytest.raises(BackendUnavailable, match=message):
        load(cfc_bundle)


def test_nothing_in_the_cache_is_loaded_from_there(cfc_bundle, cache, compilations, monkeypatch):
    """A cache on a disk that allows no programs does no harm."""
    opened, real = [], ctypes.CDLL
    monkeypatch.setattr("lnn_edge.runtime.backends.native.library._loaded", {})
    monkeypatch.setattr(ctypes, "CDLL", lambda path: opened.append(path) or real(path))
    load(cfc_bundle)
    assert [path.rpartition("/")[0] for path in opened] == ["/proc/self/fd"]


def test_cache_of_another_user(cfc_bundle, cache, monkeypatch):
    load(cfc_bundle)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(BackendUnavailable, match=r"the library cache .* It belongs to another user\. Type: sudo chown"):
        load(cfc_bundle)
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"


# ---- which build it is ----------------------------------------------------------------------------------------------


WIDE = max(4, vector_lanes())  # this machine's registers, for which most tests compile


@pytest.fixture
def tuned(monkeypatch):
    """Let two ways be tried, wide registers after one number at a time, and give their microseconds a step."""
    found = [Way(next(own for own in TARGETS if own.lanes == lanes)) for lanes in (1, WIDE)]

    def choose(*measured):
        monkeypatch.setattr("lnn_edge.runtime.backends.native.backend.ways", lambda *_: tuple(found))
        monkeypatch.setattr(tuning, "BUDGET_S", 60.0)
        monkeypatch.setattr(tuning, "step_us", lambda *_: list(measured))

    return choose


@pytest.mark.parametrize(
    ("measured", "lanes"),
    [((2.0, 1.0), WIDE), ((1.0, 2.0), 1), ((1.0, 0.99), 1)],
    ids=["faster", "slower", "hardly-faster"],
)
def test_the_fastest_way_is_chosen_once(measured, lanes, cfc_bundle, cache, compilations, tuned, caplog):
    """Another one must gain more than a run differs from the next."""
    caplog.set_level("INFO")
    tuned(*measured)
    model = load(cfc_bundle)
    assert f", {lanes} lanes, build " in model.description
    assert len(compilations) == 2
    assert len([record for record in caplog.records if "compiling" in record.message]) == 1
    tuned(*reversed(measured))
    assert load(cfc_bundle).description == model.description
    assert len(compilations) == 2


def test_build_says_what_was_measured_and_keeps_it(cfc_bundle, cache, compilations, tuned, capsys):
    tuned(2.0, 1.0)
    assert main(["build", str(cfc_bundle), "--backend", "native"]) == 0
    shown = f"KiB, {WIDE} lanes (measured: 1 lanes: 2.00 us a step; {WIDE} lanes: 1.00 us a step))"
    assert shown in capsys.readouterr().out
    before = load(cfc_bundle).description
    tuned(1.0, 2.0)
    assert main(["build", str(cfc_bundle), "--backend", "native"]) == 0
    assert re.search(rf"already built .* KiB, {WIDE} lanes\)$", capsys.readouterr().out, re.M)
    assert main(["build", str(cfc_bundle), "--backend", "native", "--rebuild"]) == 0
    assert load(cfc_bundle).description != before


def test_library_of_the_choice_that_is_gone_is_built_as_it_was(cfc_bundle, cache, compilations, tuned):
    tuned(2.0, 1.0)
    before = load(cfc_bundle).description
    for library in cache.glob("*.so"):
        library.unlink()
    tuned(1.0, 2.0)
    assert load(cfc_bundle).description == before
    assert len(compilations) == 3


def test_choice_that_was_changed_is_made_again(cfc_bundle, cache, compilations, tuned):
    tuned(2.0, 1.0)
    load(cfc_bundle)
    (choice,) = cache.glob("*.choice")
    choice.write_text("999 lanes")
    tuned(1.0, 2.0)
    assert " 1 lanes, build" in load(cfc_bundle).description
    assert len(compilations) == 2


def test_way_that_does_not_compile_is_none(cfc_bundle, cache, tuned, monkeypatch):
    tuned(1.0)
    real = NativeBackend.__init__.__globals__["compiled"]

    def compile_one(compiler, source, prefix, flags, keep):
        if f"LANES {WIDE}\n" in source.source:
            raise BackendUnavailable("not this one")
        return real(compiler, source, prefix, flags, keep)

    monkeypatch.setattr("lnn_edge.runtime.backends.native.backend.compiled", compile_one)
    assert " 1 lanes, build" in load(cfc_bundle).description


def test_without_tuning_the_usual_way_is_taken(cfc_bundle, cache, compilations, tuned):
    tuned(2.0, 1.0)
    assert " 1 lanes, build" in load(cfc_bundle, options={"tune": "off"}).description
    assert len(compilations) == 1
    assert f" {WIDE} lanes, build" in load(cfc_bundle).description
    assert " 1 lanes, build" in load(cfc_bundle, options={"tune": "off"}).description
    assert len(compilations) == 2


def test_time_for_other_ways_is_limited(cfc_bundle, cache, compilations, tuned, monkeypatch):
    tuned(1.0)
    monkeypatch.setattr(tuning, "BUDGET_S", 0.0)
    load(cfc_bundle)
    assert len(compilations) == 1


@pytest.mark.parametrize("bundle", ["cfc_bundle", "ltc_bundle"])
def test_steps_of_libraries_are_measured(bundle, request, cache, monkeypatch):
    """However short the time and small the memory."""
    read = read_bundle(request.getfixturevalue(bundle))
    libraries = [NativeBackend(read, 1, {"tune": "off"})._library] * 2
    for limits in ({}, {"_MOST_NS": 1, "_MOST_BYTES": 1}):
        for name, value in limits.items():
            monkeypatch.setattr(tuning, name, value)
        found = tuning.step_us(libraries, read.manifest, golden_from_bundle(read))
        assert all(0 < us < 1e5 for us in found)


GCC, CLANG = Compiler(("cc",), "cc (Debian) 12"), Compiler(("cc",), "Debian clang version 14")
ORDERED, GENERIC = "8 lanes, -fschedule-insns, -fsched-pressure", "8 lanes, -mtune=generic"


@pytest.mark.parametrize(
    ("compiler", "lanes", "synapses", "shown"),
    [
        (GCC, 16, 9_999, ["16 lanes", "16 lanes, -fschedule-insns", "8 lanes"]),
        (GCC, 16, 10_000, ["16 lanes", "16 lanes, -mtune=generic", "16 lanes, -fschedule-insns", "8 lanes"]),
        (CLANG, 16, 0, ["16 lanes", "16 lanes, -mtune=generic", "8 lanes"]),
        (GCC, 8, 9_999, ["8 lanes", ORDERED]),
        (GCC, 8, 10_000, ["8 lanes", GENERIC, ORDERED]),
        (CLANG, 8, 0, ["8 lanes", GENERIC]),
        (GCC, 4, 10_000, ["4 lanes"]),
        (CLANG, 4, 10_000, ["4 lanes"]),
        (GCC, 1, 10_000, ["1 lanes"]),
    ],
)
def test_ways_worth_a_try(compiler, lanes, synapses, shown):
    assert [str(way) for way in ways(compiler, lanes, "x86_64", synapses)] == shown


def test_ways_worth_a_try_on_other_processors():
    assert [str(way) for way in ways(GCC, 4, "aarch64", 10_000)] == ["4 lanes", "4 lanes, -fschedule-insns"]
    assert [str(way) for way in ways(GCC, 1, "aarch64", 10_000)] == ["1 lanes"]
    assert [str(way) for way in ways(CLANG, 4, "aarch64", 10_000)] == ["4 lanes"]


def test_synapses_of_a_step(cfc_bundle, ltc_bundle):
    """Those between neurons count in each unfold; a CfC has none."""
    (core,) = read_bundle(ltc_bundle).manifest.cores
    assert tuning.synapses(read_bundle(ltc_bundle).program()) == core.sensory_synapses + 6 * core.synapses
    assert tuning.synapses(read_bundle(cfc_bundle).program()) == 0


def test_way_with_flags_reaches_the_compiler_and_is_told(ltc_bundle, cache, compilations, monkeypatch, capsys):
    usual, asked = Way(next(own for own in TARGETS if own.lanes == WIDE)), []
    found = (usual, Way(usual.target, ("-mtune=generic",)))
    monkeypatch.setattr(backend_module, "ways", lambda *given: asked.append(given[-1]) or found)
    monkeypatch.setattr(tuning, "BUDGET_S", 60.0)
    monkeypatch.setattr(tuning, "step_us", lambda *_: [2.0, 1.0])
    assert main(["build", str(ltc_bundle), "--backend", "native"]) == 0
    assert f"KiB, {WIDE} lanes, -mtune=generic (measured: {WIDE} lanes: 2.00 us" in capsys.readouterr().out
    assert asked == [tuning.synapses(read_bundle(ltc_bundle).program())]
    (_, one, _, usual_flags, _), (_, other, _, other_flags, _) = compilations
    assert one is other  # written once
    assert other_flags == (*usual_flags, "-mtune=generic")
    described = load(ltc_bundle).description
    assert load(ltc_bundle, options={"tune": "off"}).description != described
    assert load(ltc_bundle).description == described
    assert len(compilations) == 2


def test_state_of_another_build_is_refused(cfc_bundle, cache, tuned):
    """One of the same build goes on to the bit; one of a backend without builds goes everywhere."""
    tuned(2.0, 1.0)
    one, other = load(cfc_bundle, options={"tune": "off"}), load(cfc_bundle)
    stream, x = one.stream(), np.ones(3, np.float32)
    stream.step(x)
    kept = pickle.loads(pickle.dumps(stream.snapshot()))
    assert f"build {kept.build}, " in one.description
    again = load(cfc_bundle, options={"tune": "off"}).stream()
    again.restore(kept)
    np.testing.assert_array_equal(again.step(x), stream.step(x))
    refused = other.stream()
    before = refused.snapshot()
    message = (
        f"comes from build {kept.build} of the step, but this model runs build {before.build}, .*State\\(state.tens"
    )
    with pytest.raises(ValueError, match=message):
        refused.restore(kept)
    with pytest.raises(ValueError, match=message):
        other.step(x, kept)
    np.testing.assert_array_equal(refused.snapshot().tensors["h_in"], before.tensors["h_in"])
    refused.restore(lnn_edge.State(kept.tensors, kept.t_s, kept.kept))
    elsewhere = lnn_edge.load(cfc_bundle, backend="onnxruntime").stream()
    elsewhere.restore(kept)
    refused.restore(elsewhere.snapshot())
    _, after = one.step(x, one.initial_state())
    assert after.build == kept.build


# ---- the compiler ---------------------------------------------------------------------------------------------------


def test_no_compiler(monkeypatch, tmp_path, cfc_bundle, cache):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert why_not_ready(named_backend("native")).startswith("no C compiler: neither cc, gcc nor clang.")
    with pytest.raises(BackendUnavailable, match=r"no C compiler.*sudo apt install gcc"):
        load(cfc_bundle)


def test_clang_alone(monkeypatch, tmp_path):
    put_program(tmp_path, "clang", "#!/bin/sh\necho clang version 99\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    put_program(tmp_path, "sh", "")
    assert find_compiler().command == ("clang",)


@pytest.mark.needs("clang")
def test_clang_compiles_it_as_well(monkeypatch, cfc_bundle, cache):
    monkeypatch.setenv("CC", "clang")
    assert "clang version" in load(cfc_bundle).description


def test_cc_with_arguments(monkeypatch, tmp_path, cfc_bundle, cache):
    """As `CC="ccache gcc"`: a program and what it is given; no shell sees it."""
    put_program(tmp_path, "wrap", f'#!/bin/sh\necho "$@" >> {tmp_path}/log\nexec "$@"\n')
    monkeypatch.setenv("CC", f"'{tmp_path}/wrap' gcc")
    load(cfc_bundle)
    assert "lnn.c -o lnn.so" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "no-such-compiler -x",
            "CC is 'no-such-compiler -x', and there is no program 'no-such-compiler'. Type: unset CC",
        ),
        ("'gcc", "CC is ''gcc', which is no command"),
        ("false", "the C compiler 'false' does not run"),
    ],
)
def test_cc_that_is_none(given, message, monkeypatch, cfc_bundle, cache):
    monkeypatch.setenv("CC", given)
    with pytest.raises(BackendUnavailable, match=message):
        load(cfc_bundle)


def failing(folder, text):
    return put_program(folder, "cc-of-test", f'#!/bin/sh\ncase "$1" in --version) echo own 1; exit 0;; esac\n{text}\n')


def test_first_error_and_the_path_of_the_rest(monkeypatch, tmp_path, cfc_bundle, cache):
    text = "echo 'note: before'; echo 'lnn.c:3: error: first'; echo 'lnn.c:4: error: second'; exit 1"
    monkeypatch.setenv("CC", str(failing(tmp_path, text)))
    with pytest.raises(
        BackendUnavailable, match=r"\(own 1\) failed: lnn.c:3: error: first\. All of it: .*failed\.txt$"
    ):
        load(cfc_bundle)
    assert "second" in (cache / "failed.txt").read_text()
    assert "lnn_advance" in (cache / "failed.c").read_text()
    assert list(cache.glob("*.so")) == []


def test_a_compiler_that_never_ends(monkeypatch, tmp_path, cfc_bundle, cache):
    monkeypatch.setenv("CC", str(failing(tmp_path, f"sleep 100 & echo $! > {tmp_path}/child; wait")))
    monkeypatch.setattr(compilers, "_TIMEOUT_S", 0.5)
    with pytest.raises(BackendUnavailable, match="it took more than 0 seconds"):
        load(cfc_bundle)
    assert_gone(int((tmp_path / "child").read_text()))


def test_a_compiler_that_hung_is_not_tried_again(monkeypatch, tmp_path, cfc_bundle, cache, caplog, capsys):
    """Until it is another one, or all is asked to be made afresh; `auto` says so in a line, and what to type."""
    tries, works = tmp_path / "tries", tmp_path / "works"
    usual = find_compiler().command[0]
    hang = failing(tmp_path, f'echo >> {tries}; [ -e {works} ] && exec {usual} "$@"; sleep 100')
    monkeypatch.setenv("CC", str(hang))
    monkeypatch.setattr(compilers, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr("lnn_edge.runtime.backends.native.backend._REMEMBERED_S", 0.1)
    again = rf"not tried again: the last time .* took more than 0 seconds\. .*Type: .* build {cfc_bundle} .*--rebuild$"
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    assert lnn_edge.load(cfc_bundle).backend == "onnxruntime"
    assert re.search(r"^backend 'native' is left out: " + again, caplog.records[-1].getMessage())
    with pytest.raises(BackendUnavailable, match="^" + again):
        load(cfc_bundle)
    assert tries.read_text() == "\n"

    build = ["build", str(cfc_bundle), "--backend", "native"]
    assert (main([*build]), main([*build, "--rebuild"]), tries.read_text()) == (5, 5, "\n\n")
    monkeypatch.setattr(compilers, "_TIMEOUT_S", 100.0)
    works.touch()
    assert main([*build, "--rebuild"]) == 0
    assert "saved" in capsys.readouterr().out
    assert load(cfc_bundle).backend == "native"
    for path in cache.glob("*.so"):
        path.unlink()
    load(cfc_bundle)  # the failure is forgotten


def test_a_compiler_that_failed_at_once_is_tried_again(monkeypatch, tmp_path, cfc_bundle, cache):
    """What failed may have been the disk: full then, and not now."""
    tries = tmp_path / "tries"
    monkeypatch.setenv("CC", str(failing(tmp_path, f"echo >> {tries}; exit 1")))
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=r"^the C compiler .* failed: it ended with status 1"):
            load(cfc_bundle)
    assert tries.read_text() == "\n\n"


def test_interrupted_while_it_compiles(monkeypatch, tmp_path, cfc_bundle, cache):
    """Ctrl-C ends the compiler and what it started, and leaves no folder behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "t").mkdir()
    monkeypatch.setenv("CC", str(failing(tmp_path, f"sleep 100 & echo $! > {tmp_path}/child; wait")))

    def interrupt():
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        load(cfc_bundle)
    thread.join()
    assert_gone(int((tmp_path / "child").read_text()))
    assert list((tmp_path / "t").iterdir()) == []
    monkeypatch.delenv("CC")
    load(cfc_bundle)  # the lock is free


def test_memory_of_the_compiler_is_limited(monkeypatch, tmp_path, cfc_bundle, cache):
    text = f"sleep 0.2; ulimit -v > {tmp_path}/limit; exit 1"
    monkeypatch.setenv("CC", str(failing(tmp_path, text)))
    with pytest.raises(BackendUnavailable, match="it ended with status 1"):
        load(cfc_bundle)
    assert (tmp_path / "limit").read_text().strip() == str(2 << 20)  # KiB


def test_library_of_another_bundle_is_refused(cfc_bundle, ltc_bundle, cache, monkeypatch):
    load(cfc_bundle)
    (library,) = cache.glob("*.so")
    monkeypatch.setattr("lnn_edge.runtime.backends.native.backend.compiled", lambda *_: library.read_bytes())
    with pytest.raises(BackendUnavailable, match="the compiled step is of another bundle or version"):
        load(ltc_bundle)


def test_what_is_no_library(cfc_bundle, cache, monkeypatch):
    monkeypatch.setattr("lnn_edge.runtime.backends.native.backend.compiled", lambda *_: b"no library")
    with pytest.raises(BackendUnavailable, match="the compiled step cannot be loaded"):
        load(cfc_bundle)


def test_the_row_of_the_table():
    (entry,) = [own for own in BACKENDS if own.name == "native"]
    assert entry.modules == ()
    assert entry.install == "pip install lnn-edge"
