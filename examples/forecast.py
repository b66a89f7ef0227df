"""Forecast a series that is sampled whenever it pleases, and say how sure the forecast is.

Recordings of a van der Pol oscillator, each with a damping and a start of its own, seen with noise at irregular times.
Several `LiquidNeuralRegressor`s, which differ in their seed alone, learn to predict the next sample from the samples so
far, the time between them, and how far ahead the next one is. Where they disagree, the forecast is unsure: the interval
is their mean, plus and minus their spread times a factor that holds 90 % on recordings kept for that (split conformal
prediction, Lei et al. 2018). Other recordings, which nothing has seen, tell whether it holds there as well.

    python examples/forecast.py
    python examples/forecast.py --quick

Needs the extras: pip install '.[train,plot]'
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

import lnn_edge

NOISE = 0.05  # standard deviation; the oscillation goes from about -2 to 2
SAMPLES, HORIZON = 100, 25  # per recording, and how many of them are forecast
COVERAGE = 0.9
INTEGRATION_S = 0.01

Recording = tuple[np.ndarray, np.ndarray]  # positions (SAMPLES,) and times in seconds (SAMPLES,)


def oscillate(rng: np.random.Generator, recordings: int) -> list[Recording]:
    """x'' = damping * (1 - x^2) * x' - x, integrated by midpoint steps and seen at irregular times."""
    times = rng.uniform(0.05, 0.6, (recordings, SAMPLES)).cumsum(axis=1)
    damping = rng.uniform(0.5, 2.0, recordings)
    state = rng.uniform(-2, 2, (2, recordings))

    def slope(at: np.ndarray) -> np.ndarray:
        return np.stack([at[1], damping * (1 - at[0] ** 2) * at[1] - at[0]])

    way = []
    for _ in range(int(times.max() / INTEGRATION_S) + 2):
        way.append(state[0])
        state = state + INTEGRATION_S * slope(state + INTEGRATION_S / 2 * slope(state))
    grid = np.arange(len(way)) * INTEGRATION_S
    exact = [np.interp(t, grid, x) for t, x in zip(times, np.transpose(way), strict=True)]
    return [(x + NOISE * rng.standard_normal(SAMPLES), t) for x, t in zip(exact, times, strict=True)]


def inputs(recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a model sees of all samples but the last: position and time ahead (SAMPLES - 1, 2), time since the one
    before (SAMPLES - 1,); and what it should predict, the position of the next one (SAMPLES - 1, 1)."""
    x, t = recording
    gaps = np.diff(t)
    since = np.concatenate([gaps[:1], gaps[:-1]])  # nothing came before the first
    return np.stack([x[:-1], gaps], axis=1), since, x[1:, None]


def train(recordings: Sequence[Recording], seeds: int, epochs: int) -> list[lnn_edge.LiquidNeuralRegressor]:
    """One model per seed, on the same data."""
    x, since, wanted = (np.stack(part) for part in zip(*map(inputs, recordings), strict=True))
    models = []
    for seed in range(seeds):
        started = time.monotonic()
        model = lnn_edge.LiquidNeuralRegressor(
            32, "CfC", epochs=epochs, validation_split=0.1, random_state=seed, n_jobs=1, verbose=0
        )
        models.append(model.fit(x, wanted, timespans=since))
        loss = min(record.validation_loss for record in model.history_)
        print(f"  seed {seed}  validation loss {loss:.4f}  ({time.monotonic() - started:.0f} s)", flush=True)
    return models


def forecast(models: Sequence[lnn_edge.LiquidNeuralRegressor], recording: Recording) -> np.ndarray:
    """What each model makes of the last `HORIZON` samples, from those before them, (models, HORIZON)."""
    x, since, _ = inputs(recording)
    known = SAMPLES - HORIZON
    return np.stack([
        model.forecast(
            HORIZON, x[:known], timespans=since[:known], columns=[0],
            future=x[known:, 1:], future_timespans=since[known:],
        )[:, 0]
        for model in models
    ])  # fmt: skip


def spread(forecasts: np.ndarray) -> np.ndarray:
    """How far the models are apart, and never less than the noise, (HORIZON,)."""
    return np.hypot(forecasts.std(axis=0, ddof=1), NOISE)


def calibrate(models: Sequence[lnn_edge.LiquidNeuralRegressor], recordings: Sequence[Recording]) -> np.ndarray:
    """The factors of the spread that `COVERAGE` of the errors stay within, one for each sample ahead, (HORIZON,)."""
    found = [(forecast(models, recording), recording[0][-HORIZON:]) for recording in recordings]
    scores = np.stack([np.abs(f.mean(axis=0) - truth) / spread(f) for f, truth in found])
    rank = min(1.0, np.ceil((len(scores) + 1) * COVERAGE) / len(scores))  # one more recording is to come
    return np.quantile(scores, rank, axis=0)


def evaluate(
    models: Sequence[lnn_edge.LiquidNeuralRegressor], factor: np.ndarray, recordings: Sequence[Recording]
) -> None:
    """Errors and how often the interval holds, near and far ahead, on recordings that nothing has seen."""
    found = [forecast(models, recording) for recording in recordings]
    truth = np.stack([recording[0][-HORIZON:] for recording in recordings])
    mean, width = np.stack([f.mean(axis=0) for f in found]), factor * np.stack([spread(f) for f in found])
    last = np.stack([np.full(HORIZON, recording[0][-HORIZON - 1]) for recording in recordings])
    print(f"  {'samples ahead':<14} {'rms error':>9} {'one model':>10} {'last value':>11} {'interval':>9} {'holds':>6}")
    for start, stop in ((0, 5), (5, 15), (15, HORIZON), (0, HORIZON)):
        part = np.s_[:, start:stop]
        alone = np.stack([f[0] for f in found])
        errors = [np.sqrt(np.mean((guess[part] - truth[part]) ** 2)) for guess in (mean, alone, last)]
        holds = np.mean(np.abs(mean[part] - truth[part]) <= width[part])
        print(
            f"  {f'{start + 1} to {stop}':<14} {errors[0]:>9.3f} {errors[1]:>10.3f} {errors[2]:>11.3f} "
            f"{np.mean(width[part]):>8.2f}± {holds:>6.0%}"
        )


def draw(
    path: Path, models: Sequence[lnn_edge.LiquidNeuralRegressor], factor: np.ndarray, recordings: Sequence[Recording]
) -> None:
    """Some recordings, their forecasts and intervals; all on the same axes, time from where each forecast begins."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    count = len(recordings)
    figure, axes = plt.subplots(count, figsize=(9, 2.3 * count), layout="constrained", sharex=True, sharey=True)
    for axis, recording in zip(axes, recordings, strict=True):
        x, t = recording
        t = t - t[-HORIZON - 1]  # the last sample that is known
        found = forecast(models, recording)
        mean, width, ahead = found.mean(axis=0), factor * spread(found), t[-HORIZON:]
        held = f"should hold {COVERAGE:.0%} of them"
        axis.fill_between(ahead, mean - width, mean + width, color="tab:orange", alpha=0.25, label=held)
        axis.plot(ahead, found.T, color="tab:orange", lw=0.6)
        axis.plot(ahead, mean, color="tab:orange", label="forecast")
        axis.plot(t, x, ".", color="tab:blue", ms=4, label="samples")
        axis.axvline(0, color="0.4", ls="--", lw=1)
        axis.set(ylabel="position", xlim=(-12, 8), ylim=(-4, 4), xticks=range(-12, 9, 2), yticks=range(-4, 5, 2))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False)
    axes[0].set_title(f"{count} recordings that no model has seen", loc="left", fontsize=11)
    axes[-1].set(xlabel="seconds from the last known sample")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def stream_equals_predict(model: lnn_edge.LiquidNeuralRegressor, bundle: Path, recording: Recording) -> float:
    """Stream a recording through the bundle with the time measured; how far it is from `predict` at most."""
    x, since, _ = inputs(recording)
    stream = lnn_edge.load(bundle).stream()
    streamed = np.stack(
        [stream.step(sample.astype(np.float32), dt_s=dt)[0] for sample, dt in zip(x, since, strict=True)]
    )
    return float(np.abs(streamed - model.predict(x, since)[:, 0]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/forecast"), help="where bundle and picture go")
    parser.add_argument("--seeds", type=int, default=5, help="how many models (default 5)")
    parser.add_argument("--quick", action="store_true", help="train for some seconds only, for a look")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    bundle, picture = arguments.output / "oscillator.lnn", arguments.output / "forecast.png"
    count, epochs, seeds = (8, 15, 2) if arguments.quick else (160, 150, arguments.seeds)
    seen, kept, unseen = (
        oscillate(np.random.default_rng(k), n) for k, n in ((1, count), (2, count // 2), (3, count // 2))
    )

    print(f"1. train {seeds} models on {count} recordings of {SAMPLES} samples", flush=True)
    models = train(seen, seeds, epochs)

    print(f"\n2. set the width of the interval on {len(kept)} other recordings", flush=True)
    factor = calibrate(models, kept)
    print(f"  {factor[0]:.1f} times the spread holds {COVERAGE:.0%} one sample ahead, {factor[-1]:.1f} times {HORIZON}")

    print(f"\n3. forecast the last {HORIZON} samples of {len(unseen)} recordings that nothing has seen", flush=True)
    evaluate(models, factor, unseen)
    draw(picture, models, factor, unseen[:3])

    print("\n4. export one model with the measured time as an input, and stream a recording through it", flush=True)
    print(f"saved {models[0].export(bundle, overwrite=True)}")
    print(f"  stream and predict {stream_equals_predict(models[0], bundle, unseen[0]):.1e} apart at most")
    print(f"\nsaved {bundle} and {picture}")
    if arguments.quick:
        print(
            f"\n{count} recordings are too few to forecast well from: the figures show that every stage runs, and not "
            "how good such forecasts get. For that leave out --quick."
        )


if __name__ == "__main__":
    main()
