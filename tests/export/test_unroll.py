"""Blocks of samples (`unroll`): one call gives what as many single steps give, time and state included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundles import copied, edit_golden, small_cfc, small_ltc
from cases import BY_NAME
from exports import quick_export
from networks import NETWORKS, TwoInputs, built
from offline import LIMIT, PERIOD_S, TIMESPAN, jittered, samples, whole_sequence

import lnn_edge
from lnn_edge.errors import BundleError, NonFiniteError

BLOCK = 5
TIMED = {"time": "measured", "period_s": PERIOD_S, "timespan": TIMESPAN}


def both(module, tmp_path, **options):
    """The module exported once for single samples and once for blocks, each loaded."""
    bundles = [tmp_path / "single.lnn", tmp_path / "blocks.lnn"]
    for bundle, unroll in zip(bundles, (1, BLOCK), strict=True):
        quick_export(module, bundle, unroll=unroll, **options)
    return [lnn_edge.load(bundle) for bundle in bundles]


@pytest.mark.parametrize("name", ["ltc-autoncp", "ltc-mixed", "cfc-units", "cfc-mixed-autoncp", "cfc-pure", "cfc-proj"])
@pytest.mark.parametrize("options", [{}, TIMED], ids=["fixed", "measured"])
def test_blocks_equal_the_whole_sequence(name, options, tmp_path, tmp_path_factory):
    quick_export(BY_NAME[name].build(), tmp_path / "m.lnn", unroll=BLOCK, **options)
    x, dt_s, expected = whole_sequence(tmp_path_factory, name, measured=bool(options))
    got = lnn_edge.load(tmp_path / "m.lnn").stream().run(x, dt_s=dt_s)
    np.testing.assert_allclose(got, expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("name", ["ltc-autoncp", "cfc-autoncp", "cfc-mixed"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_block_equals_single_steps(name, batch, tmp_path):
    single, blocks = (model.stream() for model in both(BY_NAME[name].build(), tmp_path, batch=batch, **TIMED))
    x = np.stack([samples(k, 40) for k in range(batch)], axis=1)
    dt_s = np.stack([jittered(k, 40) for k in range(batch)], axis=1)[..., None]
    x = x[:, 0] if batch == 1 else x
    np.testing.assert_allclose(blocks.run(x, dt_s=dt_s), single.run(x, dt_s=dt_s), rtol=0, atol=1e-6)
    assert blocks.steps == single.steps == 40
    after = single.snapshot()
    for key, value in blocks.snapshot().tensors.items():  # the states agree, so either can go on from the other's
        np.testing.assert_allclose(value, after.tensors[key], rtol=0, atol=1e-6)
    blocks.restore(after)


@pytest.mark.parametrize(("name", "batch"), [("conv-encoder", 2), ("stacked", 1), ("last-step", 2)])
def test_networks_take_blocks(name, batch, tmp_path):
    make, example = NETWORKS[name]
    module, x = built(make), example()
    single, blocks = both(module, tmp_path, example=x, batch=batch)
    xs = x[0] if batch == 1 else np.stack([x[0], x[-1] + 1.0], axis=1)
    one, several = single.stream().run(xs), blocks.stream().run(xs)
    for a, b in zip(*(y.values() if isinstance(y, dict) else [y] for y in (one, several)), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_several_inputs_take_blocks(tmp_path):
    torch.manual_seed(3)
    example = {"lidar": torch.randn(1, 60, 12), "speed": torch.randn(1, 60, 2)}
    single, blocks = both(TwoInputs(), tmp_path, example=example)
    xs = {name: value[0].numpy() for name, value in example.items()}
    np.testing.assert_allclose(blocks.stream().run(xs), single.stream().run(xs), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"different numbers of samples: .'lidar': 60, 'speed': 55"):
        blocks.stream().run(xs | {"speed": xs["speed"][:55]})


def test_times_of_a_block(tmp_path):
    """The time of each sample, whatever lies between two blocks, gives what single steps with `t_s` give."""
    single, blocks = (model.stream() for model in both(small_ltc(), tmp_path, **TIMED))
    t_s = 100.0 + np.cumsum(jittered(5, 20).astype(np.float64))
    x = samples(6, 20)[:, :3]
    np.testing.assert_allclose(blocks.run(x, t_s=t_s), single.run(x, t_s=t_s), rtol=0, atol=1e-6)
    assert blocks.snapshot().t_s == single.snapshot().t_s == t_s[-1]


def test_a_clock_goes_on_through_dt(tmp_path):
    """After `t_s`, blocks with `dt_s` move the clock by the sum of their dt."""
    _, model = both(small_ltc(), tmp_path, **TIMED)
    stream, x = model.stream(), samples(6, BLOCK)[:, :3]
    stream.step(x, t_s=np.arange(1, BLOCK + 1) * PERIOD_S)
    stream.step(x, dt_s=PERIOD_S)
    assert stream.snapshot().t_s == pytest.approx(2 * BLOCK * PERIOD_S)
    stream.step(x, dt_s=np.full(BLOCK, 2 * PERIOD_S))
    assert stream.snapshot().t_s == pytest.approx(4 * BLOCK * PERIOD_S)


def test_proof_covers_every_step_and_the_states_at_the_ends(tmp_path):
    report = quick_export(small_cfc(), tmp_path / "m.lnn", unroll=16, steps=100)
    assert report.steps % 16 == 0
    assert report.steps >= 100
    steps = {c.tensor: c.steps for c in report.comparisons if c.segment == "random" and c.subject == "onnxruntime"}
    assert steps == {"output": 112, "h_out": 112}


@pytest.fixture(scope="module")
def block_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("blocks") / "m.lnn"
    quick_export(small_cfc(), path, unroll=4, time="measured", period_s=0.1)
    return lnn_edge.load(path)


@pytest.mark.parametrize(
    ("x", "time", "message"),
    [
        (np.zeros(3), {"dt_s": 0.1}, r"has shape \(3,\), but model 'm' takes shape \(4, 3\) per block of 4 samples"),
        (np.zeros((6, 3)), {"dt_s": 0.1}, r"If these are several samples, type: stream.run\(x\)"),
        (np.zeros((2, 4, 3)), {"dt_s": 0.1}, r"has shape \(2, 4, 3\), .* per block of 4 samples: .*input_2.$"),
        (np.zeros((4, 3)), {}, "pass either `dt_s`"),
        (np.zeros((4, 3)), {"dt_s": np.full(3, 0.1)}, r"`dt_s` has shape \(3,\), expected one number or shape \(4,\)"),
        (np.zeros((4, 3)), {"dt_s": [0.1, 0.1, 9.0, 0.1]}, "was proven for 0.005 to 2 seconds"),
        (np.zeros((4, 3)), {"t_s": 1.0}, "expected the times in seconds of all 4 samples"),
        (np.zeros((4, 3)), {"t_s": [1.0, 1.1, np.nan, 1.3]}, "expected the times in seconds of all 4 samples"),
        (np.zeros((4, 3)), {"t_s": [1.0, 1.1, 1.1, 1.3]}, "`t_s` is 1.1, not after the previous sample at 1.1"),
    ],
)
def test_bad_blocks_are_refused_and_change_nothing(x, time, message, block_model):
    stream = block_model.stream()
    stream.step(np.ones((4, 3)), t_s=[0.1, 0.2, 0.3, 0.4])
    before = stream.snapshot()
    with pytest.raises(ValueError, match=message):
        stream.step(x, **time)
    after = stream.snapshot()
    assert after.t_s == before.t_s == 0.4
    np.testing.assert_array_equal(after.tensors["h_in"], before.tensors["h_in"])


def test_a_block_before_the_last_one_is_refused(block_model):
    stream = block_model.stream()
    stream.step(np.ones((4, 3)), t_s=[0.1, 0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match=r"`t_s` is 0.35, not after the previous sample at 0.4"):
        stream.step(np.ones((4, 3)), t_s=[0.35, 0.45, 0.55, 0.65])


def test_one_dt_per_row_cannot_be_mistaken_for_one_per_sample(tmp_path):
    quick_export(small_cfc(), tmp_path / "m.lnn", unroll=2, batch=2, **TIMED)
    stream = lnn_edge.load(tmp_path / "m.lnn").stream()
    with pytest.raises(ValueError, match=r"`dt_s` has shape \(2,\), expected one number or shape \(2, 2\)"):
        stream.step(np.zeros((2, 2, 3)), dt_s=[0.1, 0.1])


def test_a_bad_sample_in_a_block_is_named(block_model):
    x = np.zeros((4, 3), np.float32)
    x[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"holds nan at 'input_1' \(index \[2, 1\]\)"):
        block_model.stream().step(x, dt_s=0.1)


def test_samples_that_fill_no_block(block_model):
    message = r"`xs` has 10 samples, but model 'm' takes whole blocks of 4. Keep the last 2 for the next call: xs\[:8\]"
    with pytest.raises(ValueError, match=message):
        block_model.stream().run(np.zeros((10, 3)), dt_s=0.1)
    assert block_model.stream().run(np.zeros((0, 3)), dt_s=0.1).shape == (0, 2)


@pytest.mark.parametrize("unroll", [0, -1, 2.0, True, "8", 1025])
def test_bad_unroll(unroll, tmp_path):
    with pytest.raises(ValueError, match=r"`unroll` is .*, expected a whole number from 1 to 1024"):
        quick_export(small_cfc(), tmp_path / "m.lnn", unroll=unroll)
    assert not any(tmp_path.iterdir())


def test_an_example_shorter_than_a_block(tmp_path):
    message = "longest recording has 6 samples, fewer than the 8 of one call"
    with pytest.raises(ValueError, match=message):
        quick_export(small_cfc(), tmp_path / "m.lnn", unroll=8, example=np.zeros((6, 3)))


def test_recordings_are_cut_to_whole_blocks(tmp_path):
    recordings = [samples(k, n)[:, :3] for k, n in enumerate((13, 6, 21))]
    report = quick_export(small_cfc(), tmp_path / "m.lnn", unroll=8, example=recordings)
    assert report.passed


def test_golden_sequences_are_whole_blocks(block_model, tmp_path):
    def shift(tensors):
        tensors["reset"][5] = 1

    bundle = edit_golden(copied(block_model.path, tmp_path / "m.lnn"), shift)
    with pytest.raises(BundleError, match="its sequences are no whole blocks of 4 samples"):
        lnn_edge.load(bundle)
