"""Balance a pole in MuJoCo by what a cheap sensor tells, with a liquid network that knows how old each sample is.

The cart and pole of gymnasium's InvertedPendulum-v5, simulated every 10 ms. The controller sees positions only, no
velocities, with noise, and not every 20 ms as it should: samples jitter, and in bursts most of them are dropped, so
that 140 ms pass between two of them. Until the next one comes, the last action is held.

An expert that sees the full state at every step of the simulator (a linear quadratic regulator) shows what to do. The
policy, a CfC with NCP wiring, learns to do the same from the samples and the time between them, in rounds: what it
does wrong leads to states that the expert never visits, so after the first round the policy drives and the expert says
what it would have done (DAgger, Ross et al. 2011). It is then exported with `time="measured"`, loaded on every backend
that is ready, and driven in the loop on seeds that it has not seen; then once more with a dt that is assumed.

    python examples/closed_loop.py
    python examples/closed_loop.py --quick

Needs the extra: pip install '.[examples]'
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import gymnasium
import matplotlib
import numpy as np
import scipy.linalg
import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP
from torch import nn

import lnn_edge
from lnn_edge.backends import BACKENDS, why_not_ready
from lnn_edge.train.unrolled.layer import unrolled

STEP_S = 0.01  # of the simulator
PERIOD_S = 0.02  # of the sensor, on paper
NOISE = (0.001, 0.001)  # standard deviation of a sample: m, rad
SECONDS = 10  # of an episode, if the pole stays up; the return is 1 per step of the simulator, so 1000 at most
LIMIT = 3.0  # of the actuator
DRIVER = 48  # characters for the longest name of a driver in the table
CHANNELS = [lnn_edge.Feature("cart", "m"), lnn_edge.Feature("pole", "rad")]


class Sensor:
    """When samples come: 10 or 20 ms apart, and in bursts, which begin and end at random, 70 to 140 ms."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._burst = False

    def read(self, state: np.ndarray) -> np.ndarray:
        """Positions with noise, float32."""
        return (state[:2] + NOISE * self._random.standard_normal(2)).astype(np.float32)

    def steps_to_next(self) -> int:
        """Steps of the simulator until the next sample."""
        if self._random.random() < 0.1:
            self._burst = not self._burst
        return int(self._random.integers(7, 15) if self._burst else self._random.integers(1, 3))


class Controller(Protocol):
    """What drives the cart."""

    def reset(self) -> None:
        """Forget the last episode."""

    def act(self, sample: np.ndarray, dt_s: float) -> float:
        """The action on a sample that comes `dt_s` after the one before it."""


def make_simulator(seconds: float) -> gymnasium.Env:
    """The pendulum, stepped every `STEP_S`."""
    simulator = gymnasium.make(
        "InvertedPendulum-v5", frame_skip=1, reset_noise_scale=0.05, max_episode_steps=round(seconds / STEP_S)
    )
    simulator.unwrapped.model.opt.timestep = STEP_S
    return simulator


def expert_gains(simulator: gymnasium.Env) -> np.ndarray:
    """Gains of a linear quadratic regulator, action = -gains @ state.

    Around the upright pole a step of the simulator is nearly linear, state' = A state + B action; A and B come from the
    simulator itself, by central differences. The regulator is the feedback with the least sum of state' Q state +
    R action**2 over all time, which the discrete Riccati equation gives.
    """
    bare, size = simulator.unwrapped, 1e-5

    def after(state: np.ndarray, action: float) -> np.ndarray:
        bare.set_state(state[:2], state[2:])
        bare.do_simulation([action], 1)
        return np.concatenate([bare.data.qpos, bare.data.qvel])

    simulator.reset(seed=0)
    rest = np.zeros(4)
    a = np.stack([after(size * e, 0) - after(-size * e, 0) for e in np.eye(4)], axis=1) / (2 * size)
    b = (after(rest, size) - after(rest, -size))[:, None] / (2 * size)
    q, r = np.diag([1.0, 10.0, 0.1, 0.1]), np.array([[1.0]])
    p = scipy.linalg.solve_discrete_are(a, b, q, r)
    return np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)[0]


@dataclass
class Episode:
    """What happened, per step of the simulator and per sample."""

    states: list[np.ndarray] = field(default_factory=list)
    reward: float = 0.0
    sampled_at: list[int] = field(default_factory=list)  # step of the simulator
    samples: list[np.ndarray] = field(default_factory=list)
    dts_s: list[float] = field(default_factory=list)
    actions: list[float] = field(default_factory=list)
    wanted: list[float] = field(default_factory=list)  # what the expert would have done


class Loop:
    """The simulator with its sensor and its expert."""

    def __init__(self, seconds: float) -> None:
        self._simulator = make_simulator(seconds)
        self._gains = expert_gains(self._simulator)

    def by_expert(self, seed: int) -> Episode:
        """The expert drives, at every step of the simulator and by the true state."""
        episode, (state, _) = Episode(), self._simulator.reset(seed=seed)
        while not self._advance(episode, state, self._expert(state)):
            state = self._state()
        return episode

    def by(self, controller: Controller | None, seed: int, disturbance: float = 0.0) -> Episode:
        """A controller drives, at every sample and by that.

        Args:
            controller: What drives; `None` for the expert, which still looks at the true state.
            seed: Of the start, the sensor and the disturbance.
            disturbance: Standard deviation of what is added to the actions, which shows the expert more states.
        """
        episode, sensor, random = Episode(), Sensor(seed), np.random.default_rng([seed, 1])
        state, _ = self._simulator.reset(seed=seed)
        if controller is not None:
            controller.reset()
        step, due, last, done = 0, 0, None, False
        while not done:
            if step == due:
                dt_s = PERIOD_S if last is None else (step - last) * STEP_S
                sample = sensor.read(state)
                wanted = self._expert(state)
                action = wanted if controller is None else controller.act(sample, dt_s)
                episode.sampled_at.append(step)
                episode.samples.append(sample)
                episode.dts_s.append(dt_s)
                episode.actions.append(action)
                episode.wanted.append(wanted)
                held = action + disturbance * random.standard_normal()
                last, due = step, step + sensor.steps_to_next()
            done = self._advance(episode, state, held)
            state, step = self._state(), step + 1
        return episode

    def _expert(self, state: np.ndarray) -> float:
        return float(np.clip(-self._gains @ state, -LIMIT, LIMIT))

    def _state(self) -> np.ndarray:
        data = self._simulator.unwrapped.data
        return np.concatenate([data.qpos, data.qvel])

    def _advance(self, episode: Episode, state: np.ndarray, action: float) -> bool:
        """One step of the simulator; whether the episode is over."""
        clipped = np.clip([action], -LIMIT, LIMIT).astype(np.float32)
        _, reward, fell, out_of_time, _ = self._simulator.step(clipped)
        episode.states.append(state)
        episode.reward += reward
        return bool(fell or out_of_time)


class Policy(nn.Module):
    """Samples and the time between them to actions: scaled, a CfC with NCP wiring, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([10.0, 20.0]))  # positions are some cm and hundredths of a rad
        self.core = CfC(2, AutoNCP(32, 8))
        self.head = nn.Linear(8, 1)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As ncps calls it, for the export and for one sample."""
        y, hx = self.core(x * self.scale, hx, timespans)
        return self.head(y), hx

    def whole(self, x: torch.Tensor, timespans: torch.Tensor) -> torch.Tensor:
        """Whole sequences for the training: each row with its own time spans, which ncps would mix up."""
        y, _ = unrolled(self.core, x * self.scale, timespans=timespans)
        return self.head(y)


class TorchController:
    """The trained policy, run by torch."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.reset()

    def reset(self) -> None:
        """See `Controller`."""
        self._state = None

    def act(self, sample: np.ndarray, dt_s: float) -> float:
        """See `Controller`."""
        span = torch.tensor([[dt_s / PERIOD_S]], dtype=torch.float32)
        with torch.no_grad():
            y, self._state = self._policy(torch.from_numpy(sample)[None, None], self._state, timespans=span)
        return float(y)


class DeployedController:
    """The exported policy on one backend.

    Args:
        model: What `lnn_edge.load` gave.
        assumed_s: What it takes for the time between samples; `None` for the measured one.
    """

    def __init__(self, model: lnn_edge.Model, assumed_s: float | None = None) -> None:
        self._stream, self._assumed_s = model.stream(), assumed_s

    def reset(self) -> None:
        """See `Controller`."""
        self._stream.reset()

    def act(self, sample: np.ndarray, dt_s: float) -> float:
        """See `Controller`."""
        return float(self._stream.step(sample, dt_s=self._assumed_s or dt_s)[0])


class BothControllers:
    """The deployed policy drives; torch's sees the same samples, and how far its actions are apart is kept."""

    def __init__(self, deployed: Controller, torch_policy: Controller) -> None:
        self._deployed, self._torch = deployed, torch_policy
        self.apart, self.count = 0.0, 0

    def reset(self) -> None:
        """See `Controller`."""
        self._deployed.reset()
        self._torch.reset()

    def act(self, sample: np.ndarray, dt_s: float) -> float:
        """See `Controller`."""
        action = self._deployed.act(sample, dt_s)
        self.apart = max(self.apart, abs(action - self._torch.act(sample, dt_s)))
        self.count += 1
        return action


def imitate(policy: Policy, loop: Loop, rounds: int, episodes: int, updates: int) -> list[Episode]:
    """Train a policy to do as the expert would. The expert drives first, then the policy itself, on ever new seeds."""
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, rounds * updates)
    seen: list[Episode] = []
    for number in range(rounds):
        started, driver = time.monotonic(), TorchController(policy) if number else None
        seeds = range(1000 + number * episodes, 1000 + (number + 1) * episodes)
        new = [loop.by(driver, seed, disturbance=0.5 * (seed % 2)) for seed in seeds]
        seen += new
        error = fit(policy, seen, optimizer, schedule, updates)
        upright = np.mean([len(episode.states) for episode in new]) * STEP_S
        driven = "policy" if number else "expert"
        print(
            f"  round {number + 1}/{rounds}  the {driven} drove, {upright:.1f} s until it fell or time was up; "
            f"rms error {error:.3f} after {len(seen)} episodes  ({time.monotonic() - started:.0f} s)",
            flush=True,
        )
    return seen


def fit(policy: Policy, episodes: list[Episode], optimizer, schedule, updates: int) -> float:
    """Some updates on batches of episodes; the rms error of the last fifth of them, in units of the action."""
    x, spans, wanted, valid = padded(episodes)
    errors = []
    for _ in range(updates):
        rows = torch.randint(len(x), (32,))
        wrong = policy.whole(x[rows], spans[rows]).squeeze(2) - wanted[rows]
        loss = (wrong.square() * valid[rows]).sum() / valid[rows].sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append(float(loss.detach()))
    return float(np.sqrt(np.mean(errors[-max(1, updates // 5) :])))


def padded(episodes: list[Episode]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples, time spans, wanted actions and which of them are real, all (episodes, longest, ...)."""
    shape = (len(episodes), max(len(episode.samples) for episode in episodes))
    x, spans, wanted, valid = np.zeros((*shape, 2)), np.ones(shape), np.zeros(shape), np.zeros(shape)
    for k, episode in enumerate(episodes):
        length = len(episode.samples)
        x[k, :length], spans[k, :length] = episode.samples, np.array(episode.dts_s) / PERIOD_S
        wanted[k, :length], valid[k, :length] = episode.wanted, 1
    return tuple(torch.from_numpy(part).float() for part in (x, spans, wanted, valid))


def evaluate(name: str, drive: Callable[[int], Episode], seeds: range) -> list[Episode]:
    """Drive once per seed and print what came of it."""
    episodes = [drive(seed) for seed in seeds]
    returns = np.array([episode.reward for episode in episodes])
    tilt = np.degrees(np.sqrt(np.mean(np.concatenate([e.states for e in episodes])[:, 1] ** 2)))
    fell = int(np.sum(returns < round(SECONDS / STEP_S)))
    print(
        f"  {name:<{DRIVER}} {returns.mean():>6.0f} +- {returns.std():>3.0f}"
        f" {returns.min():>6.0f} {returns.max():>6.0f} {fell:>5} {tilt:>9.2f}",
        flush=True,
    )
    return episodes


def draw(path: Path, runs: dict[str, Episode]) -> None:
    """The pole and the cart over time, and when samples came."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, (pole, cart, gaps) = plt.subplots(
        3, sharex=True, figsize=(9, 7), height_ratios=[3, 2, 1], layout="constrained"
    )
    for name, episode in runs.items():
        style = "--" if "assumed" in name else "-"
        states = np.array(episode.states)
        seconds = np.arange(len(states)) * STEP_S
        pole.plot(seconds, np.degrees(states[:, 1]), style, label=name)
        cart.plot(seconds, 100 * states[:, 0], style)
    sampled = runs["policy, measured dt"]
    gaps.step(np.array(sampled.sampled_at) * STEP_S, 1000 * np.array(sampled.dts_s), where="pre", color="0.4", lw=0.8)
    gaps.axhline(1000 * PERIOD_S, color="tab:green", ls="--", lw=1, label=f"{1000 * PERIOD_S:.0f} ms, on paper")
    gaps.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.1)
    pole.set_ylabel("pole, degrees")
    figure.legend(*pole.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    pole.set_title("The same start and the same sensor, each with another driver", loc="left", fontsize=11)
    cart.set(ylabel="cart, cm")
    gaps.set(ylabel="dt, ms", xlabel="time, s")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def heading(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def main() -> None:
    arguments = _parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)  # operations this small are slower on two threads than on one
    arguments.output.mkdir(parents=True, exist_ok=True)
    bundle, picture = arguments.output / "balance.lnn", arguments.output / "closed_loop.png"
    rounds, episodes, updates, tests = (2, 4, 20, 2) if arguments.quick else (8, 32, 250, 20)

    heading(1, "train a CfC with AutoNCP wiring to do as the expert would")
    policy = Policy()
    seen = imitate(policy, Loop(4), rounds, episodes, updates)

    heading(2, "export one step with the measured time as an input, and prove it equal to torch")
    report = lnn_edge.export_model(
        policy.eval(),
        bundle,
        example=np.concatenate([episode.samples for episode in seen[-4:]]),
        period_s=PERIOD_S,
        time="measured",
        inputs=CHANNELS,
        outputs=["force"],
        overwrite=True,
    )
    print(f"saved {report}")

    loop, seeds = Loop(SECONDS), range(tests)
    heading(3, f"balance for {SECONDS} s, {tests} episodes on seeds of their own, the same for every driver")
    print(f"  {'':<{DRIVER}} {'return':>13} {'least':>6} {'most':>6} {'fell':>5} {'tilt, deg':>9}")
    runs = {"expert, full state": evaluate("expert, full state every 10 ms", loop.by_expert, seeds)[0]}
    evaluate("policy, torch", lambda seed: loop.by(TorchController(policy), seed), seeds)
    models = {e.name: lnn_edge.load(bundle, backend=e.name) for e in BACKENDS if why_not_ready(e) is None}
    equal = []
    for name, model in models.items():
        both = BothControllers(DeployedController(model), TorchController(policy))
        deployed = evaluate(f"policy, deployed on {name}", lambda seed, drive=both: loop.by(drive, seed), seeds)
        runs["policy, measured dt"] = deployed[0]
        equal.append(f"  {name}: actions within {both.apart:.1e} of torch's, over {both.count:,} samples of these runs")
    mean_s = float(np.mean(np.concatenate([episode.dts_s for episode in seen])))
    for assumed_s, origin in ((PERIOD_S, "as on paper"), (mean_s, "the mean")):
        wrong = DeployedController(model, assumed_s)
        name = f"policy, deployed, dt assumed {1000 * assumed_s:.0f} ms, {origin}"
        runs[f"policy, dt assumed {1000 * assumed_s:.0f} ms"] = evaluate(
            name, lambda seed, drive=wrong: loop.by(drive, seed), seeds
        )[0]
    print("  return: steps of 10 ms until the pole is 11 degrees off or time is up, mean and standard deviation")
    print("\n".join(equal))

    draw(picture, runs)
    print(f"\nsaved {bundle} and {picture}")
    if arguments.quick:
        print(
            f"\n{rounds * episodes} episodes are too few to balance well: the figures show that every stage runs, and "
            "not how good such a policy gets. For that leave out --quick."
        )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("build/closed_loop"), help="where bundle and picture go")
    parser.add_argument("--seed", type=int, default=1, help="seed of the training (default 1)")
    parser.add_argument(
        "--quick", action="store_true", help="train and test in some seconds, for a look; balances badly"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
