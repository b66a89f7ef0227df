"""Arguments of wrong types, refused by their names, before any long work, in our own words."""

import datetime
import re

import numpy as np
import pytest
import torch
from exports import quick_export
from ncps.torch import CfC

import lnn_edge
from lnn_edge import Feature, export_model, load, load_checkpoint, save_checkpoint
from lnn_edge.errors import BundleError

HUGE = 10**400  # more than a float holds
SAMPLES = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)


def refused(kind, text, call):
    with pytest.raises(kind, match=text) as caught:
        call()
    assert len(str(caught.value)) < 400


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return CfC(3, 5)


@pytest.mark.parametrize(
    ("argument", "value", "kind", "expected"),
    [
        ("period_s", "0.02", TypeError, r"is '0.02', expected a number above 0, in seconds. Type: period_s=0.02"),
        ("period_s", [0.02], TypeError, r"is \[0.02\], expected a number above 0, in seconds"),
        ("period_s", True, TypeError, "is True, expected a number above 0, in seconds"),
        ("period_s", np.array([0.02]), TypeError, "expected a number above 0, in seconds"),
        ("period_s", HUGE, ValueError, "expected a number above 0, in seconds"),
        ("period_s", float("nan"), ValueError, "is nan, expected a number above 0, in seconds"),
        ("period_s", datetime.timedelta(0), ValueError, "is 0.0, expected a number above 0, in seconds"),
        ("timespan", "1", TypeError, "is '1', expected a number above 0"),
        ("timespan", None, TypeError, "is None, expected a number above 0"),
        ("timespan", True, TypeError, "is True, expected a number above 0"),
        ("dt_range_s", 0.5, TypeError, r"is 0.5, expected \(low, high\) in seconds"),
        ("dt_range_s", (0.01,), TypeError, r"expected \(low, high\) in seconds"),
        ("dt_range_s", ("a", "b"), TypeError, "expected a number above 0, in seconds"),
        ("dt_range_s", (0.01, HUGE), ValueError, "expected a number above 0, in seconds"),
        ("time", None, ValueError, "is None. Valid: fixed, measured"),
        ("batch", 2.0, ValueError, "is 2.0, expected a whole number of at least 1"),
        ("batch", HUGE, ValueError, "expected a whole number from 1 to"),
        ("unroll", "4", ValueError, "is '4', expected a whole number from 1 to 1024"),
        ("steps", "1000", TypeError, "is '1000', expected a whole number from"),
        ("steps", 1e3, TypeError, "is 1000.0, expected a whole number from"),
        ("steps", None, TypeError, "is None, expected a whole number from"),
        ("steps", 10**30, ValueError, "expected a whole number from"),
        ("constants", 3, TypeError, r"is 3, expected a list of names: constants=\['NAME'\]"),
        ("inputs", 3, TypeError, "is 3, expected a list of names or lnn_edge.Feature"),
        ("outputs", 7, TypeError, "is 7, expected a list of names or lnn_edge.Feature"),
        ("overwrite", "no", TypeError, "is 'no', expected True or False"),
        ("progress", 3, TypeError, r"is 3, expected a function of \(phase, done, total\)"),
        ("backends", "native", TypeError, r"is 'native', expected a list of names: backends=\['onnxruntime'\]"),
        ("backends", 3, TypeError, "is 3, expected a list of names"),
        ("backends", (), ValueError, r"is \(\), expected at least one name, and each once"),
        ("backends", ["native", "native"], ValueError, "expected at least one name, and each once"),
        ("backends", ["all"], ValueError, "holds 'all': unknown backend 'all'. Valid: tensorrt, tensorrt-rtx"),
        ("backends", [None], TypeError, "holds None: `backend` is None, expected a name"),
        ("checkpoint_sha256", 3, TypeError, "is 3, expected a text of 64 digits"),
        ("checkpoint_sha256", "zz", ValueError, "is 'zz', expected a text of 64 digits"),
        ("path", 3, TypeError, "is 3, expected the path of a bundle: 'NAME.lnn'"),
        ("path", None, TypeError, "is None, expected the path of a bundle"),
        ("path", b"x.lnn", TypeError, "is b'x.lnn', expected the path of a bundle"),
        ("path", "a\0b.lnn", ValueError, "a name that no file has"),
    ],
)  # fmt: skip
def test_an_argument_of_the_export(model, tmp_path, argument, value, kind, expected):
    given = {"path": tmp_path / "x.lnn", "example": SAMPLES, "overwrite": True}
    if argument == "dt_range_s":
        given |= {"time": "measured", "period_s": 0.02}
    given |= {argument: value}
    name = r"`dt_range_s(\[\d\])?`" if argument == "dt_range_s" else f"`{argument}`"
    refused(kind, f"{name} .*{expected}", lambda: export_model(model, **given))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("period", [datetime.timedelta(milliseconds=20), np.timedelta64(20, "ms"), np.float32(0.02)])
def test_a_period_may_be_a_span_of_time_or_a_number_of_numpy(model, tmp_path, period):
    quick_export(model, tmp_path / "x.lnn", example=SAMPLES, period_s=period)
    assert load(tmp_path / "x.lnn").time.period_s == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ([[1, 2, 3], [4, 5]], ValueError, "its rows have different lengths"),
        (
            torch.zeros(20, 3).to_sparse(),
            TypeError,
            r"is a sparse tensor, expected a plain one. Type: example.to_dense",
        ),
        (torch.zeros(20, 3, device="meta"), TypeError, "on the device 'meta', which holds no values"),
    ],
)
def test_an_example_that_is_no_array(model, tmp_path, value, kind, expected):
    refused(kind, f"`example` .*{expected}", lambda: export_model(model, tmp_path / "x.lnn", example=value))


@pytest.mark.parametrize(
    ("argument", "value", "kind", "expected"),
    [
        ("backend", 3, TypeError, "is 3, expected a name. Valid: auto, "),
        ("backend", None, TypeError, "is None, expected a name. Valid: auto, "),
        ("threads", "1", ValueError, "is '1', expected a whole number from 1 to"),
        ("threads", True, ValueError, "is True, expected a whole number from 1 to"),
        ("threads", HUGE, ValueError, "expected a whole number from 1 to .*, the cores of this machine"),
        ("self_test", "no", TypeError, "is 'no', expected True or False"),
        ("options", 3, TypeError, "is 3, expected a dict of values by name"),
        ("options", "graph", TypeError, "is 'graph', expected a dict of values by name"),
    ],
)
def test_an_argument_of_load(cfc_bundle, argument, value, kind, expected):
    refused(kind, f"`{argument}` .*{expected}", lambda: load(cfc_bundle, **{argument: value}))


def test_threads_may_be_a_number_of_numpy(cfc_bundle):
    assert load(cfc_bundle, threads=np.int64(1)).backend


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ((3,), TypeError, r"Feature\(3, ...\) has a name that is no text"),
        (("a", 3), TypeError, "has a unit that is no text"),
        (("a", None, None, (HUGE, 2 * HUGE)), ValueError, r"`limits` of 'a' is .*expected \(low, high\), both finite"),
        (("a", None, 0, HUGE), ValueError, r"`limits` of 'a' is .*expected \(low, high\), both finite"),
        (("a", None, None, "01"), ValueError, r"`limits` of 'a' is '01', expected \(low, high\)"),
        (("a", None, True, False), ValueError, r"of 'a' is True, expected \(low, high\)"),
    ],
)
def test_a_feature(given, kind, expected):
    refused(kind, expected, lambda: Feature(*given))


@pytest.mark.parametrize("limits", [np.array([0, 1.5]), (np.float32(0), np.float32(1.5)), [0, 1.5]])
def test_limits_may_be_numbers_of_numpy(limits):
    assert Feature("a", limits=limits) == Feature("a", None, 0.0, np.float32(1.5)) == Feature("a", limits=(0.0, 1.5))


@pytest.mark.parametrize("path", [3, None, b"x.safetensors"])
def test_paths_of_checkpoints_and_estimators(model, path):
    shown = re.escape(repr(path))
    for call in (
        lambda: save_checkpoint(model, path),
        lambda: load_checkpoint(path),
        lambda: lnn_edge.LiquidNeuralRegressor.load(path),
    ):
        refused(TypeError, f"`path` is {shown}, expected the", call)


def test_an_empty_path(model):
    refused(ValueError, "`path` is '', a name that no file has", lambda: export_model(model, ""))
    refused(BundleError, "no bundle at", lambda: load("none.lnn"))
