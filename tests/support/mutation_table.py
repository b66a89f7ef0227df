"""Small faults in the source, each with the test that notices it.

A fault is found by its text and a test by its name, so both may move to another file. Where the text itself differs
between two versions of the tree, a mutation holds a change for each: exactly one of them applies.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sources import parsed, text_of

__all__ = ["BY_NAME", "KINDS", "MUTATIONS", "Change", "Mutation", "NotFound", "node_of", "place_of"]

# What every table must hold at least one of.
KINDS = frozenset({
    "a synapse's sign", "the CfC's gate", "order of motor neurons", "dt's scale", "reset", "crossed state pair",
    "order in a block", "half-precision cast", "initial state", "tolerance", "hash", "limit", "path safety", "token",
    "cache key", "exit code", "CSV column match", "float64 centring", "early stopping", "causal check",
})  # fmt: skip

Change = tuple[str, str]  # what stands in the source, and what is put there


class NotFound(LookupError):
    """A change or a test is not there exactly once."""


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Args:
        name: Short and unique.
        kind: What is broken.
        killed_by: The test that fails: `FUNCTION[PARAMETERS]`, with `FILE.py::` or `CLASS::` before it only where
            several have a function of that name.
        changes: The change; several where versions of the tree word it differently.
    """

    name: str
    kind: str
    killed_by: str
    changes: tuple[Change, ...]


def place_of(mutation: Mutation, root: Path) -> tuple[Path, str, str]:
    """The file that a mutation changes, its text before and after.

    Raises:
        NotFound: If not exactly one of its changes applies at exactly one place.
    """
    texts = _texts(root)
    found = [
        (path, old, new, text.count(old))
        for old, new in mutation.changes
        for path, text in texts.items()
        if old in text
    ]
    if sum(count for *_, count in found) != 1:
        places = [f"{count} times in {path.relative_to(root)}" for path, *_, count in found] or ["nowhere"]
        raise NotFound(f"'{mutation.name}' is to be found once, but is there {', '.join(places)}")
    path, old, new, _ = found[0]
    return path, texts[path], texts[path].replace(old, new)


@cache  # the tree is not changed, and each mutation looks at all of it
def _texts(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in sorted((root / "lnn_edge").rglob("*.py"))}


def node_of(killed_by: str, root: Path) -> str:
    """The pytest node of a test, relative to the root.

    Raises:
        NotFound: If there is none of that name, or several.
    """
    name, bracket, parameters = killed_by.partition("[")
    found = [
        f"{path.relative_to(root)}::{test}"
        for path in _test_files(root)
        if f"def {name.rpartition('::')[2]}(" in text_of(path)
        for test in _tests(path)
        if f"::{path.name}::{test}".endswith(f"::{name}")
    ]
    if len(found) != 1:
        raise NotFound(f"test '{name}' is to be found once, but there is {', '.join(found) or 'none'}")
    return found[0] + bracket + parameters


@cache
def _test_files(root: Path) -> tuple[Path, ...]:
    return tuple(sorted((root / "tests").rglob("test_*.py")))


@cache
def _tests(path: Path) -> tuple[str, ...]:
    """The functions of a file, those of classes with the class in front."""
    tree = parsed(path)
    classes = {"": tree.body} | {f"{node.name}::": node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    return tuple(own + node.name for own, body in classes.items() for node in body if isinstance(node, ast.FunctionDef))


def _fault(name: str, kind: str, killed_by: str, *changes: Change) -> Mutation:
    return Mutation(name, kind, killed_by, changes)


MUTATIONS = (
    # ---- reference
    _fault(
        "reference-synapse-sign",
        "a synapse's sign",
        "test_reference.py::test_reference_equals_torch_in_float64",
        ("[ordered.w * ordered.erev, ordered.w]", "[ordered.w * np.abs(ordered.erev), ordered.w]"),
    ),
    _fault(
        "reference-gate",
        "the CfC's gate",
        "test_gate_sign_follows_ncps",
        ("gated: Array = g * (1.0 - gate) + gate * h", "gated: Array = g * gate + (1.0 - gate) * h"),
    ),
    _fault(
        "interpreter-leak-sign",
        "sign in the interpreter",
        "test_model_equals_torch_within_the_limits_of_a_proof[ltc-autoncp-fixed]",
        ("self.gleak * self.vleak + sensory_current", "sensory_current - self.gleak * self.vleak"),
    ),
    _fault(
        "interpreter-average-of-what-is-padded",
        "operation of the interpreter",
        "test_operation_equals_torch_in_float64[average-pool-1]",
        ('"AveragePool": _pool(np.mean, 0.0)', '"AveragePool": _pool(np.mean, 1.0)'),
    ),
    _fault(
        "interpreter-initial-state",
        "initial state",
        "test_sequences_start_from_the_initial_state_of_the_program",
        ("zero if state.initial is None else self._tensors", "zero if state.initial != '' else self._tensors"),
    ),
    # ---- export: the cells
    _fault(
        "synapse-sign",
        "a synapse's sign",
        "test_fixed_time[ltc-autoncp-seed7]",
        ("-own.sigma * own.mu, own.w, own.w * own.erev,", "-own.sigma * own.mu, own.w, own.w * np.abs(own.erev),"),
    ),
    _fault(
        "synapse-mask",
        "mask",
        "test_fixed_time[ltc-autoncp-seed7]",
        ('w = used(f"{prefix}w") * tensor(f"{prefix}sparsity_mask")', 'w = used(f"{prefix}w")'),
    ),
    _fault(
        "motor-order",
        "order of motor neurons",
        "test_fixed_time[ltc-autoncp-seed7]",
        ("weight = np.eye(cell.units, cell.motor) *", "weight = np.eye(cell.units, cell.motor)[:, ::-1] *"),
    ),
    _fault(
        "gate-sign",
        "the CfC's gate",
        "test_fixed_time[cfc-units-seed7]",
        (
            "return np.concatenate([-weight, weight]), np.concatenate([-bias, bias])",
            "return np.concatenate([weight, -weight]), np.concatenate([bias, -bias])",
        ),
    ),
    _fault(
        "forget-gate-bias",
        "memory cell",
        "test_fixed_time[cfc-mixed-seed7]",
        ("b_input[forget_gate] += 1.0", "b_input[input_gate] += 1.0"),
    ),
    _fault(
        "gru-update-gate",
        "torch's own cells",
        "test_graph_equals_torch[gru-1]",
        (
            'graph.node("Add", n, graph.node("Mul", gate, graph.node("Sub", h, n)))',
            'graph.node("Add", h, graph.node("Mul", gate, graph.node("Sub", n, h)))',
        ),
    ),
    # ---- export: time, states, blocks
    _fault(
        "dt-scale",
        "dt's scale",
        "test_measured_time[cfc-units-seed7]",
        (
            "StepTime(graph, batch, None, elapsed.timespan_per_s,",
            "StepTime(graph, batch, None, 1.0 / elapsed.timespan_per_s,",
        ),
    ),
    _fault(
        "state-outputs-crossed",
        "crossed state pair",
        "test_fixed_time[cfc-mixed-seed7]",
        (
            "for own, state, shape in zip(program.states, states, shapes, strict=True):",
            "for own, state, shape in zip(program.states, states[::-1], shapes, strict=True):",
        ),
    ),
    _fault(
        "recorded-time-scale",
        "dt's scale",
        "test_time_is_seconds_times_timespans_per_second",
        ("timespan_per_s=time.timespan / time.period_s)", "timespan_per_s=time.timespan * time.period_s)"),
    ),
    _fault(
        "recorded-states-crossed",
        "crossed state pair",
        "test_model_equals_torch_within_the_limits_of_a_proof[cfc-mixed-fixed]",
        ("pairs = zip(self._states, states, strict=True)", "pairs = zip(self._states, states[::-1], strict=True)"),
    ),
    _fault(
        "fault-excuses-itself",
        "tolerance",
        "test_synapse_of_a_thousandth_of_the_usual_conductance",
        (
            "compare(name, EXTRACTED, segment, got, exact[part], own=rounding)",
            "compare(name, EXTRACTED, segment, got, exact[part], own=largest_error(got, exact[part]))",
        ),
    ),
    _fault(
        "samples-of-a-block-reversed",
        "order in a block",
        "test_a_block_equals_single_steps[1-ltc-autoncp]",
        ("[sample[k] for sample in samples]", "[sample[-1 - k] for sample in samples]"),
    ),
    _fault(
        "times-of-a-block-reversed",
        "order in a block",
        "test_times_of_a_block",
        ("states, when.at(k))", "states, when.at(unroll - 1 - k))"),
        ("measured, place) for place in range(unroll)]", "measured, unroll - 1 - place) for place in range(unroll)]"),
    ),
    # ---- export: the graph
    _fault(
        "solver-in-half",
        "half-precision cast",
        "test_a_slow_neuron_goes_on_moving",
        ("wide=node.name in exact or node.op_type in _WIDE)", "wide=node.op_type in _WIDE)"),
    ),
    _fault(
        "half-overflow",
        "half-precision cast",
        "test_weights_beyond_half_are_refused",
        ("if largest > _LARGEST:\n                raise", "if largest != largest:\n                raise"),
    ),
    _fault(
        "portable-operators",
        "limit",
        "test_operator",
        (
            "sorted({node.op_type for node in graph.node} - OPERATORS)",
            "sorted(set[str]() & {node.op_type for node in graph.node} - OPERATORS)",
        ),
    ),
    _fault(
        "folded-bias",
        "graph folding",
        "test_constants_fold[linear-norm]",
        ("shift if bias is None else bias * factor + shift", "shift if bias is None else bias + shift"),
        (
            "shift if self._bias is None else self._bias * factor + shift",
            "shift if self._bias is None else self._bias + shift",
        ),
    ),
    _fault(
        "folded-mean",
        "float64 centring",
        "test_a_large_mean_is_subtracted_first",
        ("_LARGEST_SHIFT = 8.0", "_LARGEST_SHIFT = 8e9"),
    ),
    _fault(
        "gelu-constant",
        "torch operation",
        "test_operation[threshold...log_softmax]",
        ('t.elementwise("Mul", shape, cube, 0.044715)', 't.elementwise("Mul", shape, cube, 0.44715)'),
    ),
    # ---- export: what is refused, and the proof
    _fault(
        "readout-of-few-samples",
        "readouts",
        "test_a_forward_that_pools_exports_with_its_readout[mean-of-nine-False]",
        ("if len(found) == 1 and found != [_MEAN]:", "if len(found) == 1:"),
    ),
    _fault(
        "causal-check",
        "causal check",
        "test_not_causal_per_sample[pooled-over-time]",
        (
            '"first", outputs, whole, tolerance=COMPUTABLE',
            '"first", outputs, outputs, tolerance=COMPUTABLE',
        ),
    ),
    _fault(
        "drifted-mask",
        "mask",
        "test_drifted_masks_are_named_once",
        ("int(((mask != 0) & (mask != 1)).sum())", "int(((mask < 0) & (mask != 1)).sum())"),
    ),
    _fault(
        "tolerance",
        "tolerance",
        "test_an_error_of_a_ten_thousandth_is_refused",
        ("\nTOLERANCE = 1e-5\n", "\nTOLERANCE = 1e-3\n"),
    ),
    _fault(
        "tolerance-of-half",
        "tolerance",
        "test_too_much_drift_is_refused",
        ("\nHALF_TOLERANCE = 2e-2\n", "\nHALF_TOLERANCE = 2e1\n"),
    ),
    _fault(
        "not-a-number-is-equal",
        "tolerance",
        "test_comparison_of_any_values",
        ("error[~np.isfinite(error)] = np.inf", "error[~np.isfinite(error)] = 0.0"),
    ),
    _fault(
        "wiring-rebuilt-transposed",
        "wiring rebuild",
        "test_wiring_comes_back_as_it_was_drawn",
        ("matrix[source, target] = polarity", "matrix[target, source] = polarity"),
    ),
    _fault(
        "checkpoint-digest",
        "hash",
        "test_a_changed_weight_does_not_match_the_digest",
        ("if description.signed(tensors).digest != description.digest:", "if not description.digest:"),
    ),
    _fault(
        "pickle-runs",
        "safe pickle",
        "test_export_does_not_run_what_a_pickle_holds",
        ('map_location="cpu", weights_only=True)', 'map_location="cpu", weights_only=False)'),
    ),
    # ---- bundle
    _fault(
        "size-of-what-is-padded",
        "limit",
        "test_forged_operation_is_refused[pads-of-a-conv]",
        ("math.prod((*lead, *padded)) <= MAX_ELEMENTS", "math.prod(lead) <= MAX_ELEMENTS"),
    ),
    _fault(
        "dilations-of-0",
        "limit",
        "test_forged_operation_is_refused[dilations-0-of-one]",
        ("and min(node.dilations) >= 1", "and min(node.dilations) >= 0"),
    ),
    _fault(
        "index-beyond",
        "limit",
        "test_forged_program_is_refused[index-beyond]",
        ("if largest >= below:", "if largest > below:"),
    ),
    _fault(
        "unused-tensor",
        "limit",
        "test_forged_program_is_refused[tensor-unused]",
        ("unused = sorted(set(step.tensors) - names.used)", "unused = sorted(names.used - set(step.tensors))"),
    ),
    _fault(
        "infinite-weight",
        "limit",
        "test_forged_program_is_refused[weight-infinite]",
        ("infinite=name not in self._weights", "infinite=name in self._weights"),
    ),
    _fault(
        "time-of-another-program",
        "program and manifest",
        "test_program_of_another_measured_time[scale]",
        ("if own not in (elapsed.value, elapsed.timespan_per_s):", "if own == 0.0:"),
    ),
    _fault(
        "file-hash",
        "hash",
        "test_changed_file_is_named_with_its_hashes",
        ("if digest != entry.sha256:", "if len(digest) != len(entry.sha256):"),
    ),
    _fault(
        "manifest-digest",
        "hash",
        "test_changed_white_space_in_the_manifest_is_refused",
        ("if m.digest != _digest(data, m.digest):", "if len(m.digest) != len(_digest(data, m.digest)):"),
    ),
    _fault(
        "link-in-a-bundle",
        "path safety",
        "test_linked_file_is_refused",
        (
            "flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC\n    try",
            "flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC\n    try",
        ),
    ),
    _fault(
        "huge-file",
        "limit",
        "test_huge_file_is_refused_before_it_is_read",
        ("    if found > limit:", "    if found > limit << 9:"),
    ),
    _fault(
        "growing-file",
        "limit",
        "test_file_that_changes_while_it_is_read_is_refused[grows-model.onnx]",
        ("_whole(file, status.st_size + 1)", "_whole(file, 1 << 40)"),
    ),
    _fault(
        "control-characters",
        "limit",
        "test_control_characters_are_refused_wherever_there_is_text",
        ("yield from [place] if CONTROL.search(key) else control_characters", "yield from control_characters"),
    ),
    _fault(
        "graph-unchecked",
        "forged graph",
        "test_no_backend_sees_a_forged_graph[onnxruntime]",
        ('    check_graph(files["model.onnx"])', '    len(files["model.onnx"])'),
    ),
    _fault(
        "fields-of-others",
        "forged graph",
        "test_forged_graph_is_refused_in_words[an external tensor]",
        ("            if tag not in known:\n", "            if tag not in known and tag >> 3 != 13:\n"),
    ),
    _fault(
        "whole-numbers-computed",
        "forged graph",
        "test_forged_graph_is_refused_in_words[arithmetic on whole numbers]",
        ("_NUMBERS = (FLOAT, FLOAT16)", "_NUMBERS = (FLOAT, FLOAT16, 7)"),
    ),
    _fault(
        "memory-unbounded",
        "forged graph",
        "test_forged_graph_is_refused_in_words[a hoard]",
        ("MAX_TOTAL_ELEMENTS = 1 << 28", "MAX_TOTAL_ELEMENTS = 1 << 60"),
    ),
    _fault(
        "work-unbounded",
        "forged graph",
        "test_forged_graph_is_refused_in_words[toil]",
        ("MAX_MULTIPLICATIONS = 1 << 36", "MAX_MULTIPLICATIONS = 1 << 90"),
    ),
    _fault(
        "foreign-folder-replaced",
        "path safety",
        "test_what_is_no_bundle_is_never_replaced",
        ("if not (path / MANIFEST).is_file():", "if not path.exists():"),
    ),
    _fault(
        "bundles-never-exchanged",
        "whole files",
        "test_readers_see_one_of_the_two_at_every_moment[exchange]",
        ("if overwrite and exchange(stage, place):", "if not overwrite and exchange(stage, place):"),
    ),
    _fault(
        "live-stages-swept",
        "whole files",
        "test_what_is_being_written_is_not_swept",
        ("yield lock(descriptor) and _is_at(descriptor, path)", "yield _is_at(descriptor, path)"),
    ),
    _fault(
        "swept-by-name-alone",
        "whole files",
        "test_what_took_its_place_is_not_swept",
        ("yield lock(descriptor) and _is_at(descriptor, path)", "yield lock(descriptor)"),
    ),
    _fault(
        "orphans-left",
        "whole files",
        "test_what_a_kill_between_two_renames_leaves_is_put_back[load]",
        ("settle(old, place, OLD)\n", "bool(old)\n"),
    ),
    _fault(
        "mode-forgotten",
        "whole files",
        "test_a_file_that_is_replaced_keeps_its_mode[384-whole_file]",
        ("os.fchmod(descriptor, stat.S_IMODE(old.st_mode))", "os.fchmod(descriptor, 0o644)"),
    ),
    _fault(
        "half-a-line-kept",
        "whole files",
        "test_part_of_a_line_is_cut_off",
        ("file.truncate(lines.size)", "file.truncate()"),
    ),
    _fault(
        "not-a-number-in-json",
        "JSON null",
        "test_what_is_not_finite_is_null",
        (
            "msgspec.json.format(data, indent=2)",
            '__import__("json").dumps(msgspec.to_builtins(value), indent=2).encode()',
        ),
    ),
    # ---- runtime
    _fault(
        "reset-keeps-the-state",
        "reset",
        "test_streams.py::test_conformance[onnxruntime-fixed-check_reset_starts_over]",
        ("return self._initial, None, steps, kept, False", "return now[0], None, steps, kept, False"),
    ),
    _fault(
        "reset-keeps-the-clock",
        "reset",
        "test_reset_forgets_the_clock",
        ("return self._initial, None, steps, kept, False", "return self._initial, last_s, steps, kept, False"),
    ),
    _fault(
        "starts-at-zero",
        "initial state",
        "test_every_row_of_a_batch_starts_there",
        ("np.broadcast_to(row, pair.shape).copy()", "np.zeros_like(np.broadcast_to(row, pair.shape))"),
    ),
    _fault(
        "state-buffers-crossed",
        "crossed state pair",
        "test_fixed_time[cfc-mixed-seed7]",
        (
            "self._state_names = [(s.input, s.output) for s in manifest.states]",
            "self._state_names = [(s.input, r.output) for s, r in zip(manifest.states, manifest.states[::-1])]",
        ),
    ),
    _fault(
        "bad-result-moves-the-state",
        "all or nothing",
        "test_a_result_that_is_not_finite_is_refused",
        ("return is_finite()", "return is_finite() or True"),
    ),
    _fault(
        "failed-run-moves-the-state",
        "all or nothing",
        "test_streams.py::test_conformance[onnxruntime-fixed-check_run_is_all_or_nothing]",
        ("self._now = self._mode.parked(self._now)\n        return", "return"),
    ),
    _fault(
        "snapshot-is-a-view",
        "all or nothing",
        "test_streams.py::test_conformance[onnxruntime-fixed-check_snapshot_is_a_copy]",
        ("{pair.input: place[pair.output].copy() for", "{pair.input: place[pair.output][...] for"),
    ),
    _fault(
        "two-threads",
        "token",
        "test_a_second_thread_is_refused_while_the_first_steps",
        ("if _is_at_work(holder):", "if not holder:"),
    ),
    _fault(
        "token-lost-for-ever",
        "token",
        "test_a_thread_that_ended_in_the_middle_of_a_call_locks_nothing[plain]",
        ("code.co_flags & _GENERATOR else False", "code.co_flags & _GENERATOR else True"),
    ),
    _fault(
        "token-taken-from-a-generator",
        "token",
        "test_a_stack_that_moves_while_it_is_read",
        ("return None if code is not None and code.co_flags & _GENERATOR else False", "return False"),
    ),
    _fault(
        "step-in-two-parts",
        "all or nothing",
        "test_interrupted_steps.py::test_step[onnxruntime-fixed]",
        (
            "            self._now = now\n        except",
            "            self._now = now[:1] + self._now[1:]\n            self._now = now\n        except",
        ),
    ),
    _fault(
        "ring-of-a-window-s-length",
        "windows",
        "test_interrupted_steps.py::test_step[onnxruntime-windows-at-their-ends]",
        ("[None] * (length + 1)", "[None] * length"),
    ),
    _fault(
        "upper-limit",
        "limit",
        "test_limits_are_enforced",
        ("bad = (values < low) | (values > high)", "bad = values < low"),
    ),
    _fault(
        "shortest-dt",
        "dt range",
        "test_illegal_dt_is_refused_with_what_to_do",
        ("if not low <= dt_s <= high:", "if not dt_s <= high:"),
    ),
    _fault(
        "dt-per-row-or-per-sample",
        "rows of a batch",
        "test_one_dt_per_row_cannot_be_mistaken_for_one_per_sample",
        (
            "if len(buffer) > 1 else [(), buffer.shape[1:], buffer.shape]",
            "if len(buffer) > 9 else [(), buffer.shape[1:], buffer.shape]",
        ),
    ),
    _fault(
        "self-test-left-out",
        "golden comparison",
        "test_altered_golden_output_fails_the_self_test",
        ("    if self_test:\n", "    if not self_test:\n"),
    ),
    _fault(
        "golden-compared-with-itself",
        "golden comparison",
        "test_altered_golden_state_fails_the_self_test",
        ("{TORCH: float32, EXACT: float64}[reference]", "{TORCH: float32, EXACT: float32}[reference]"),
    ),
    _fault(
        "unverified-runs",
        "golden comparison",
        "test_unverified_bundle_does_not_run",
        ('if bundle.manifest.verification.status != "passed":', 'if bundle.manifest.verification.status == "failed":'),
    ),
    _fault(
        "percentile-of-a-few",
        "percentiles",
        "test_percentile_takes_ten_samples_beyond_it",
        ("if beyond >= _BEYOND else None", "if beyond > 0 else None"),
    ),
    _fault(
        "omitted-delays",
        "coordinated omission",
        "test_delay_behind_a_slow_step_is_counted",
        ("response = ends - due", "response = ends - starts"),
    ),
    _fault(
        "slowest-backend",
        "choice of a backend",
        "test_the_fastest_is_taken_wherever_it_stands",
        ("key=lambda pair: pair[0])\n    (first, chosen)", "key=lambda pair: -pair[0])\n    (first, chosen)"),
    ),
    _fault(
        "csv-columns-by-place",
        "CSV column match",
        "test_columns_are_found_by_name_in_any_order",
        ("tuple(columns.index(name) for name in names),", "tuple(range(len(names))),"),
    ),
    _fault(
        "infinite-cell",
        "bad rows",
        "test_bad_row_says_where_and_why",
        (
            'if not math.isfinite(value):\n        raise ValueError(f"{cell}, expected a finite number")',
            'if value != value:\n        raise ValueError(f"{cell}, expected a finite number")',
        ),
    ),
    # ---- runtime: the GPU
    _fault(
        "pingpong-stands-still",
        "GPU ping-pong",
        "test_tensorrt.py::test_conformance[check_state_is_kept_between_steps-pingpong-measured]",
        ("self._turn = (self._turn + 1) % len(self._programs)", "self._turn = 0"),
    ),
    _fault(
        "gpu-state-not-sent-again",
        "all or nothing",
        "test_result_that_is_not_finite",
        (
            "self._fed = None\n        try:\n            self._programs",
            "self._fed = source\n        try:\n            self._programs",
        ),
    ),
    _fault(
        "driver-not-in-the-key",
        "cache key",
        "test_another_device_or_driver_builds_again_and_says_why",
        ('"CUDA driver": facts.driver,', '"CUDA driver": "",'),
    ),
    _fault(
        "record-of-another-engine",
        "cache key",
        "test_other_facts_in_the_record",
        ("different = _difference(record.facts, facts)", "different = _difference(facts, facts)"),
    ),
    _fault(
        "foreign-engine",
        "token",
        "test_engine_with_its_record_from_another_machine",
        (
            "if not hmac.compare_digest(record.signature,",
            "if not record.signature or not hmac.compare_digest(self._signature(record),",
        ),
    ),
    _fault(
        "open-cache",
        "path safety",
        "test_folder_that_others_may_enter",
        ("elif status.st_mode & 0o077:", "elif status.st_mode & 0o022:"),
    ),
    # ---- machine
    _fault(
        "clock-that-may-change",
        "board facts",
        "test_governor_that_holds_the_clock",
        (
            'return self.lowest_mhz == self.highest_mhz or self.governor == "performance"',
            "return self.lowest_mhz == self.highest_mhz",
        ),
    ),
    _fault(
        "closed-device",
        "board facts",
        "test_group_is_named",
        ("if not os.access(f, os.R_OK | os.W_OK))", "if not os.access(f, os.F_OK))"),
    ),
    # ---- command line
    _fault(
        "not-equal-is-a-bad-bundle",
        "exit code",
        "test_run_of_altered_golden_outputs_does_not_start",
        ("return _failed(error, NOT_EQUAL)", "return _failed(error, BAD_BUNDLE)"),
    ),
    _fault(
        "clock-set-back",
        "gap policy",
        "test_a_gap_begins_a_new_sequence",
        ("if abs(between_s) <= self._longest_s:", "if between_s <= self._longest_s:"),
    ),
    _fault(
        "block-across-a-gap",
        "gap policy",
        "test_a_gap_ends_a_block",
        ("self._rows, self._samples, self._last = [], [], None", "self._last = None"),
    ),
    _fault(
        "output-through-a-link",
        "lost files",
        "test_no_output_takes_the_place_of_an_input[into it by a link]",
        ("        return os.path.realpath(path)", "        return os.path.abspath(path)"),
    ),
    _fault(
        "output-by-a-hard-link",
        "lost files",
        "test_no_output_takes_the_place_of_an_input[hard link]",
        ("if one.file is not None and one.file == other.file:", "if one.file is None:"),
    ),
    _fault(
        "time-with-fewer-digits",
        "copied cells",
        "test_the_time_is_copied_as_it_stands[nanoseconds]",
        ('yield CellText(row.time or "")', "yield row.t_s"),
    ),
    _fault(
        "nothing-is-success",
        "bad rows",
        "test_rows_that_none_could_be_used_of_are_no_success[9-text]",
        ("if counts.came and not results:", "if not counts.came and not results:"),
    ),
    _fault(
        "resumed-on-another-input",
        "resume",
        "test_another_input_is_refused",
        ("if lines.digest != run.digest:", "if not lines.digest:"),
    ),
    _fault(
        "resumed-without-late-rows",
        "resume",
        "test_a_feed_goes_on_from_a_file[drift]",
        ('self.newest_s = kept["newest_s"]', "self.newest_s = None"),
    ),
    _fault(
        "snapshot-before-its-results",
        "resume",
        "test_what_a_snapshot_speaks_of_is_on_the_disk_before_it",
        ("results.sync()  # before", "pass  # before"),
    ),
    _fault(
        "loop-snapshot-before-its-results",
        "resume",
        "test_a_snapshot_speaks_of_results_that_are_written_alone",
        ("if self.sink is None:", "if self.sink is not None:"),
    ),
    _fault(
        "resumed-without-what-a-guard-knows",
        "resume",
        "test_a_killed_loop_ends_as_one_that_was_not[faults]",
        ("            go_on(self._guarded, run.guard)", "            pass"),
    ),
    _fault(
        "resumed-on-other-results",
        "resume",
        "test_other_results_are_refused_and_left_alone",
        ("if run.results_digest and run.results_digest != digest_of(", "if run.results_digest and not digest_of("),
    ),
    _fault(
        "resumed-behind-a-fault",
        "resume",
        "test_a_row_that_stopped_it_is_come_to_again_and_may_be_mended[]",
        ("                self._keeping.leave_state()", "                pass"),
    ),
    _fault(
        "resumed-without-counts",
        "resume",
        "test_a_killed_loop_ends_as_one_that_was_not[plain]",
        (
            "self.steps, self.by_status = snapshot.steps, run.by_status",
            "self.steps, self.by_status = snapshot.steps, {}",
        ),
    ),
    _fault(
        "rows-dropped-that-could-wait",
        "sink",
        "test_samples_that_are_there_wait_for_the_disk[more than there is room for-array]",
        ("if feed.stored and keeping.full:", "if not feed.stored and keeping.full:"),
    ),
    _fault(
        "line-through-categories",
        "bad rows",
        "test_a_guard_holds_whole_numbers_where_it_predicts_others",
        ('[guard.on_bad == "predict" and t.dtype == "float32"', '[guard.on_bad == "predict"'),
    ),
    _fault(
        "columns-of-two-inputs-alike",
        "several inputs",
        "test_columns_are_found_by_input_and_name[rows]",
        ("if counts[feature.name] == 1 else", "if counts else"),
    ),
    _fault(
        "snapshot-of-another-build",
        "hash",
        "test_another_backend_and_another_build_are_refused_by_name",
        ("if theirs != ours:", "if not theirs:"),
    ),
    _fault(
        "block-checked-as-a-whole",
        "bad rows",
        "test_a_block_loses_no_more_than_the_row_that_is_bad[0.6,1e39,0,0]",
        ("self._check.values(self._columns.sample(row.values))\n        except", "len(row.values)\n        except"),
    ),
    _fault(
        "unit-of-a-name",
        "units",
        "test_the_unit_in_the_name[t_{}-ms-1000]",
        ("return wanted, unit_of_name(wanted)", "return wanted, None"),
    ),
    _fault(
        "stamps-as-spans",
        "units",
        "test_times_are_no_spans[growing]",
        ("    if are_stamps(exact):", "    if not exact:"),
    ),
    _fault(
        "nanoseconds-lost",
        "units",
        "test_nanoseconds_outlast_a_snapshot",
        ("return Stamp, (self.ns,)", "return float, (float(self),)"),
    ),
    # ---- verify
    _fault(
        "peaks-lost",
        "pictures",
        "test_long_run_keeps_its_peaks",
        ("np.maximum.reduceat(curve.error.astype(np.float64), starts)", "curve.error.astype(np.float64)[starts]"),
    ),
    # ---- train
    _fault(
        "targets-centred-in-float32",
        "float64 centring",
        "test_large_targets_are_centred_before_they_are_rounded",
        (
            "values = tuple(part - y_center for part in values)",
            "values = tuple(np.float32(part) - np.float32(y_center) for part in values)",
        ),
    ),
    _fault(
        "patience",
        "early stopping",
        "test_early_stopping",
        (
            "len(self.run.history) - self.run.best_epoch >= patience",
            "len(self.run.history) - self.run.best_epoch > patience",
        ),
    ),
    _fault(
        "last-weights-kept",
        "early stopping",
        "test_early_stopping_keeps_the_weights_of_the_best_epoch",
        ("self._network.load_state_dict(run.best)\n", "self._network.load_state_dict(run.weights)\n"),
    ),
    _fault(
        "weights-of-samples",
        "sample weights",
        "test_a_weight_is_worth_repetitions",
        ("return (losses * batch.weight).sum()", "return (losses * (batch.weight > 0)).sum()"),
    ),
    _fault(
        "windows-forget",
        "windows",
        "test_windows_carry_the_state",
        (
            "self._network.run(part.x, states, part.spans)\n                loss",
            "self._network.run(part.x, None, part.spans)\n                loss",
        ),
    ),
    _fault(
        "adam-starts-anew",
        "resume",
        "test_going_on_from_a_checkpoint_equals_not_stopping",
        ("run.restore(network, self._optimizer)", "network.load_state_dict(run.weights)"),
    ),
    _fault(
        "checkpoint-of-another-run",
        "checkpoint refusal",
        "test_going_on_from_a_checkpoint_equals_not_stopping",
        ("if described.fingerprint != fingerprint:", "if not described.fingerprint:"),
    ),
    _fault(
        "gradient-of-the-potential",
        "gradients",
        "test_equals_ncps[ltc-autoncp-seed7-float64]",
        (
            "self._synapses.down(before[k]).addcmul_(c, d_rows[k][0])",
            "self._synapses.down(before[k]).add_(d_rows[k][0])",
        ),
    ),
    _fault(
        "time-of-another-row",
        "rows of a batch",
        "test_time_spans_belong_to_their_row[ltc-autoncp-seed7]",
        (
            "c = cm.view(1, -1, 1) / (spans.unsqueeze(1) / unfolds)",
            "c = cm.view(1, -1, 1) / (spans.flip(1).unsqueeze(1) / unfolds)",
        ),
    ),
    _fault(
        "generated-current",
        "a synapse's sign",
        "test_model_follows_the_interpreter[ltc-autoncp-measured]",
        ("{part.current} += {name} * {own[3]};", "{part.current} -= {name} * {own[3]};"),
    ),
    _fault(
        "generated-state-of-a-refused-sample",
        "state commit",
        "test_recording_stops_before_a_sample_that_is_refused",
        ("    if (status == P_DONE) {{", "    {{"),
    ),
    _fault(
        "state-of-any-build",
        "build of a state",
        "test_state_of_another_build_is_refused",
        ("if theirs and build and theirs != build:", "if theirs and build and theirs == build:"),
    ),
    _fault(
        "way-without-a-gain",
        "choice of a build",
        "test_the_fastest_way_is_chosen_once[hardly-faster]",
        ("if measured[best] < _GAIN * measured[usual]", "if measured[best] < measured[usual]"),
    ),
    _fault(
        "width-not-in-the-key",
        "cache key",
        "test_the_fastest_way_is_chosen_once[faster]",
        ('"lanes": str(way.target.lanes),', '"lanes": "",'),
    ),
    _fault(
        "build-of-minutes-begun-by-itself",
        "choice of a backend",
        "test_never_begins_a_build_and_says_where_one_may_pay[Slow-WARNING]",
        ("if not _is_built(entry, bundle)]", "if False]"),
    ),
    _fault(
        "backend-that-cannot-run-a-bundle",
        "choice of a backend",
        "test_one_that_cannot_run_this_bundle[auto]",
        (
            "reason = why_not_ready(entry) or why_not_bundle(entry, bundle)",
            "reason = why_not_ready(entry)",
        ),
    ),
    _fault(
        "illegal-time-in-a-recording-in-c",
        "dt's range",
        "test_any_calls_give_the_same_in_c_and_in_python[drift]",
        ("or not ((spans >= low) & (spans <= high)).all()", ""),
    ),
    _fault(
        "flags-of-a-way-not-in-its-key",
        "cache key",
        "test_way_with_flags_reaches_the_compiler_and_is_told",
        (', "more flags": " ".join(way.flags)}', "}"),
    ),
    _fault(
        "flags-of-a-way-not-compiled-with",
        "tuning",
        "test_way_with_flags_reaches_the_compiler_and_is_told",
        ("(*self._flags, *way.flags)", "self._flags"),
    ),
    _fault(
        "synapses-counted-once",
        "tuning",
        "test_synapses_of_a_step",
        ("+ node.unfolds * len(step.tensors[node.synapses.w])", "+ len(step.tensors[node.synapses.w])"),
    ),
    _fault(
        "large-wirings-lose-a-way",
        "tuning",
        "test_ways_worth_a_try[compiler4-8-10000-shown4]",
        ("(clang or synapses >= _MANY)", "(clang or synapses > _MANY)"),
    ),
    _fault(
        "bad-row-moves-its-state",
        "all or nothing",
        "test_a_bad_row_keeps_its_state_and_the_others_go_on[native-cfc_bundle]",
        ("t->after[i] = pickv(bad, t->before[i], t->after[i]);", ";"),
    ),
    _fault(
        "limits-of-rows",
        "limit",
        "test_a_bad_row_keeps_its_state_and_the_others_go_on[native-cfc_bundle]",
        ("bad |= lessv(t->given[i], spread(limits[i])) | lessv(spread(limits[INPUTS + i]), t->given[i]);", ";"),
    ),
    _fault(
        "infinite-sample-in-a-row",
        "all or nothing",
        "test_a_bad_row_keeps_its_state_and_the_others_go_on[native-ltc_bundle]",
        ("    for (i = 0; i < INPUTS; ++i) bad |= unusualv(t->given[i]);\n", ""),
    ),
    _fault(
        "limit-of-all-sources-too-far",
        "limit",
        "test_synapses_that_are_closed_or_open_stay_so_however_large_a_sample_is[ltc-autoncp-1]",
        ("limit, steep = float(limits.min())", "limit, steep = 1e3 * float(limits.min())"),
    ),
    _fault(
        "second-tile-of-rows-of-the-first",
        "crossed state pair",
        "test_each_row_goes_as_a_stream_of_its_own[native-ltc_bundle]",
        ("begin(t + k, r + k * LANES, rows_of", "begin(t + k, r, rows_of"),
    ),
    _fault(
        "empty-row-refuses-all-rows",
        "all or nothing",
        "test_a_row_that_is_no_sample_is_a_bad_one[native-None]",
        (
            "        if found is None or not (isinstance(error, (TypeError, ValueError))",
            "        if True or not (isinstance(error, (TypeError, ValueError))",
        ),
    ),
    _fault(
        "row-that-raises-refuses-all-rows",
        "all or nothing",
        "TestRowsThatRaise::test_a_row[native-RuntimeError-__array__]",
        (
            "        except Exception:  # an object that is no sample may raise anything",
            "        except (TypeError, ValueError):  # an object that is no sample may raise anything",
        ),
    ),
    # ---- loop
    _fault(
        "schedule-drifts",
        "schedule",
        "test_ten_million_ticks_do_not_drift[30]",
        ("tick * self._above // self._below", "tick * (self._above // self._below)"),
    ),
    _fault(
        "left-out-tick-not-counted",
        "schedule",
        "test_skip_waits_for_the_next_tick_that_is_not_over",
        ("self.dropped += tick - self.tick - 1", "pass"),
    ),
    _fault(
        "rehearsal-that-ends-late",
        "rehearsal",
        "test_too_little_time_is_no_time_for_a_rehearsal",
        ("if due_ns - self._timer.monotonic_ns() < self._need_ns:", "if due_ns < self._timer.monotonic_ns():"),
    ),
    _fault(
        "rehearsal-steps-the-real-one",
        "rehearsal",
        "test_a_rehearsed_loop_gives_the_same_bit_for_bit[50]",
        ("            guarded_twin(self.guarded, self._timer.monotonic_ns),\n", "            self.guarded,\n"),
    ),
    _fault(
        "rehearsal-that-always-fails-when-repeated",
        "rehearsal",
        "test_one_that_works_and_always_fails_when_repeated_is_switched_off",
        ("if self._again_failed_in_a_row == _FAILURES:", "if False:"),
    ),
    _fault(
        "two-commands-keep-theirs-in-one-file",
        "resume",
        "test_two_at_a_time_do_not_keep_theirs_in_one_file[rows]",
        ("        if not ours:\n", "        if False:\n"),
    ),
    _fault(
        "claim-of-what-was-swept",
        "resume",
        "test_what_is_swept_before_it_is_locked_is_claimed_again",
        (
            "            if _is_at(descriptor, name):\n                return descriptor\n        except",
            "            return descriptor\n        except",
        ),
    ),
    _fault(
        "header-of-an-engine-unchecked",
        "hash",
        "test_what_it_says_of_itself_was_edited[another GPU]",
        ('told = b"" if header.version == 1 else', 'told = b"" if header.version else'),
    ),
    _fault(
        "constants-compared-as-texts",
        "resume",
        "test_constants_from_the_example_to_the_stream",
        ('if name == "--constant":\n', 'if name == "constant":\n'),
    ),
    _fault(
        "rehearsals-of-scattered-samples",
        "rehearsal",
        "test_scattered_samples_are_not_predicted",
        ("return median if count >= _LEAST and spread <= _SCATTER * median else None", "return median"),
    ),
    _fault(
        "old-sample-is-fresh",
        "freshness",
        "test_what_is_too_old_is_stale_by_name_and_comes_back",
        ("if limit is not None and age > limit:", "if limit is not None and age > 99 * limit:"),
    ),
    _fault(
        "dropped-tick-not-counted",
        "lost ticks",
        "test_what_finds_no_room_is_dropped_and_counted",
        ("            self._full += 1\n", "            pass\n"),
    ),
    _fault(
        "slow-function-is-no-fault",
        "functions",
        "test_what_it_takes_too_long_for_is_a_fault_and_its_result_stays",
        ("if took > self._limit_ns:", "if took > 99 * self._limit_ns:"),
    ),
    _fault(
        "function-ends-the-loop",
        "functions",
        "test_before_that_raises_costs_the_sample_and_no_more[error1]",
        ("except BaseException as error:  # GeneratorExit as", "except Exception as error:  # GeneratorExit as"),
    ),
    _fault(
        "systemd-hears-of-a-loop-that-stands",
        "watchdog",
        "test_the_thread_beside_a_loop_that_stands_sends_no_word",
        ("self.systemd.alive(self._beat_ns)", "self.systemd.alive(self._timer.monotonic_ns())"),
    ),
)
BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
