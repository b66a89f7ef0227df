"""Code as users write it, with the types that they get; mypy checks it, nothing runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ncps.torch import CfC
from typing_extensions import assert_type

import lnn_edge
from lnn_edge import ExportReport, Feature, Model, State, Stream, errors, export_model, load
from lnn_edge.bundle.spec import StatePair, Tensor, Time

assert_type(lnn_edge.__version__, str)


def exports(module: torch.nn.Module, samples: torch.Tensor) -> None:
    report = export_model(
        CfC(3, 8),
        "gait.lnn",
        example=samples,
        period_s=0.02,
        time="measured",
        inputs=["acc_x", Feature("acc_y", "m/s2", limits=(-20.0, 20.0))],
        overwrite=True,
    )
    assert_type(report, ExportReport)
    assert_type(report.passed, bool)
    assert_type(report.max_abs_error, float)
    assert_type(report.path, Path)
    assert_type(report.backends, tuple[str, ...])
    report.plot("error.svg")
    assert_type(lnn_edge.export_model(module, Path("gait.lnn")), ExportReport)
    assert_type(lnn_edge.save_checkpoint(module, Path("gait.safetensors")), str)
    assert_type(lnn_edge.load_checkpoint("gait.safetensors"), torch.nn.Module)
    assert_type(lnn_edge.load_checkpoint("gait.safetensors", into=module), torch.nn.Module)


def streams() -> None:
    model = load("gait.lnn", backend="auto", threads=1, self_test=True)
    assert_type(model, Model)
    assert_type(lnn_edge.load(Path("gait.lnn")), Model)
    assert_type(model.backend, str)
    assert_type(model.inputs, tuple[Tensor, ...])
    assert_type(model.inputs[0].features[0], Feature)
    assert_type(model.inputs[0].features[0].limits, tuple[float, float] | None)
    assert_type(model.states, tuple[StatePair, ...])
    assert_type(model.time, Time)
    assert_type(model.time.mode, Literal["fixed", "measured"])
    stream = model.stream()
    assert_type(stream, Stream)
    x = np.zeros(3, np.float32)
    assert_type(stream.step(x), Any)  # an array, or a dict of arrays when there are several outputs
    assert_type(stream.step(x, dt_s=0.02), Any)
    assert_type(stream.run(np.zeros((5, 3)), t_s=[0.1, 0.2, 0.3, 0.4, 0.5]), Any)
    assert_type(stream.steps, int)
    assert_type(stream.snapshot(), State)
    stream.restore(stream.snapshot())
    stream.reset()


def keeps_the_state_itself(model: Model) -> None:
    state = model.initial_state()
    assert_type(state, State)
    assert_type(state.t_s, float | None)
    y, state = model.step([0.0, 0.0, 0.0], state, t_s=1.5)
    assert_type(y, Any)
    assert_type(state, State)


def catches() -> str:
    try:
        load("gait.lnn")
    except (errors.BundleError, errors.VerificationError, errors.BackendUnavailable) as error:
        return str(error)
    except errors.NonFiniteError as error:
        value_error: ValueError = error
        return str(value_error)
    return ""


def mistakes(model: Model) -> None:
    """Every line here is wrong; `warn_unused_ignores` fails if mypy stops to say so."""
    load(3)  # type: ignore[arg-type]
    load("gait.lnn", "auto")  # type: ignore[call-arg]
    export_model(torch.nn.Linear(1, 1), "gait.lnn", time="guessed")  # type: ignore[arg-type]
    Feature("acc_x", limits=(1.0,))  # type: ignore[arg-type]
    model.name = "other"  # type: ignore[misc]
    model.stream().step([0.0], 0.1)  # type: ignore[call-arg]
    Feature("acc_x").name = "acc_y"  # type: ignore[misc]
