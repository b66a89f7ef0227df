"""Training loop: epochs of mini-batches, windows with carried state, and the best weights at the end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from ncps.torch import LTCCell
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from ...remarks import warn_caller
from ..data.dataset import Augmentation, Batch, Dataset, ahead, seed_of
from ..network.module import LiquidModule
from ..settings import Settings
from .checkpoint import TrainingState, save_progress
from .loss import Objective
from .progress import Record, training_progress
from .schedule import rate_at

__all__ = ["Trainer", "repeatable"]


@contextlib.contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random numbers on the CPU and on `device` from this seed within, the caller's afterwards."""
    others = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(others, device_type=device.type):
        _seed(seed, device)
        yield


def _seed(seed: int, device: torch.device) -> None:
    """Not `torch.manual_seed`: it would also set the random numbers of every other GPU, which are the caller's."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        gpus = getattr(torch, device.type)
        with gpus.device(device):
            gpus.manual_seed(seed)


class Trainer:
    """One run of training.

    Args:
        network: What is trained, on its device.
        dataset: The training data.
        held_out: Data that is only looked at, to know when to stop; `None` for none.
        settings: The parameters.
        augmentation: What changes from epoch to epoch.
        run: Where the run is; at its beginning, or after the epochs of a checkpoint.
        fingerprint: Of the run, for its checkpoints.
    """

    def __init__(
        self,
        network: LiquidModule,
        dataset: Dataset,
        held_out: Dataset | None,
        settings: Settings,
        augmentation: Augmentation,
        run: TrainingState,
        fingerprint: str,
    ) -> None:
        self._network, self._dataset, self._held_out = network, dataset, held_out
        self._settings, self._augmentation, self.run = settings, augmentation, run
        self._fingerprint = fingerprint
        self._device = next(network.parameters()).device
        # without implicit constraints it is the trainer that keeps conductances and capacitances at 0 or above
        self._constrained = [m for m in network.modules() if isinstance(m, LTCCell)]
        trainable = [p for p in network.parameters() if p.requires_grad]  # the masks of a wiring are not
        rate, decay = float(settings.learning_rate), float(settings.weight_decay)
        self._optimizer = torch.optim.Adam(trainable, lr=rate, weight_decay=decay)
        if run.history:
            run.restore(network, self._optimizer)

    def train(self) -> str:
        """Train, and leave the network with its best weights.

        Returns:
            Why training ended: "finished", "early" (no better for `patience` epochs), "diverged" or "interrupted".

        Raises:
            ValueError: If the loss was not finite from the first epoch on.
            KeyboardInterrupt: If it was interrupted before the first epoch was done.

        Warns:
            ConvergenceWarning: If it diverged or was interrupted later.
        """
        settings, run = self._settings, self.run
        why = "finished"
        try:
            with training_progress(settings.verbose, settings.epochs, len(run.history)) as note:
                while why == "finished" and len(run.history) < settings.epochs and not self._patience_is_out():
                    record = self._epoch(len(run.history))
                    if not math.isfinite(record.watched):
                        why = "diverged"
                        break
                    run.note(record, self._network, self._optimizer)
                    note(len(run.history), record)
                    self._keep(len(run.history) % settings.checkpoint_every == 0)
        except KeyboardInterrupt:
            if not run.best_epoch:
                raise
            why = "interrupted"
        self._end(why)
        return "early" if why == "finished" and len(run.history) < settings.epochs else why

    def _patience_is_out(self) -> bool:
        patience = self._settings.patience
        return patience is not None and len(self.run.history) - self.run.best_epoch >= patience

    def _keep(self, due: bool) -> None:
        if due and self._settings.checkpoint is not None:
            save_progress(Path(self._settings.checkpoint), self.run, self._fingerprint)

    def _end(self, why: str) -> None:
        run, epochs = self.run, self._settings.epochs
        if why == "diverged" and run.best_epoch == len(run.history) and self._held_out is None:
            self._drop_what_diverged()
        if not run.best_epoch:
            raise ValueError(
                "training diverged: the loss was not finite in the first epoch. Lower `learning_rate` or `clip_value`, "
                "and look for extreme values in X and y"
            )
        self._network.load_state_dict(run.best)
        self._keep(bool(len(run.history) % self._settings.checkpoint_every) or why != "finished")
        kept = f"kept the weights of epoch {run.best_epoch} (loss {run.history[run.best_epoch - 1].watched:.4g})"
        if why == "diverged":
            warn_caller(
                f"training diverged in epoch {len(run.history) + 1} of {epochs}: {kept}. Lower `learning_rate` or "
                "`clip_value`",
                ConvergenceWarning,
            )
        if why == "interrupted":
            more = "" if self._settings.checkpoint is None else "; fit with the same checkpoint to go on"
            warn_caller(
                f"training was interrupted after epoch {len(run.history)} of {epochs}: {kept}{more}",
                ConvergenceWarning,
            )

    def _drop_what_diverged(self) -> None:
        """Take the better of the two best epochs, by the loss of the weights that they ended with.

        The training loss of an epoch is of its weights before each step; its last step may be what diverged.
        """
        run, losses = self.run, {}
        for epoch, weights in ((run.best_epoch, run.best), (run.second_epoch, run.second)):
            if epoch:
                self._network.load_state_dict(weights)
                losses[epoch] = self._loss_of(self._dataset)
        finite = {epoch: loss for epoch, loss in losses.items() if math.isfinite(loss)}
        chosen = min(finite, key=finite.__getitem__, default=0)
        if chosen != run.best_epoch:
            run.best, run.best_epoch = run.second, chosen

    def _epoch(self, epoch: int) -> Record:
        settings, seed = self._settings, self.run.seed
        makers = list(self._dataset.batches(settings.batch_size, seed, epoch, self._augmentation))
        _seed(seed_of(seed, epoch, 0), self._device)  # for dropout, which a resumed run must repeat
        self._network.train()
        total, counted, rate = 0.0, 0.0, settings.learning_rate
        with contextlib.closing(ahead(iter(makers), min(settings.workers, len(makers) - 1))) as batches:
            for number, batch in enumerate(batches):
                progress = (epoch + (number + 1) / len(makers)) / settings.epochs
                rate = rate_at(progress, settings.learning_rate, settings.schedule)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                loss, weight = self._batch(batch.to(self._device))
                total, counted = total + loss, counted + weight
        validation_loss = None if self._held_out is None else self._loss_of(self._held_out)
        return Record(total / counted if counted else math.nan, validation_loss, rate)

    def _batch(self, batch: Batch) -> tuple[float, float]:
        """Train on one batch, window by window with the state carried on; sums of losses and of weights."""
        objective = Objective(self._network.labels, self._dataset.readout)
        states, total, counted = None, 0.0, 0.0
        for part in batch.windows(self._settings.window):
            weight = float(part.weight.sum())
            with contextlib.nullcontext() if weight else torch.no_grad():
                raw, states = self._network.run(part.x, states, part.spans)
                loss = objective(raw, part)
            states = tuple(state.detach() for state in states)
            if weight:
                self._step(loss / weight)
            total, counted = total + float(loss.detach()), counted + weight
        return total, counted

    def _step(self, loss: torch.Tensor) -> None:
        """One step of the optimizer, unless it would make the weights NaN."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch has no types here
        limit = math.inf if self._settings.clip_value is None else float(self._settings.clip_value)
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), limit)
        if torch.isfinite(norm):
            self._optimizer.step()
            for cell in self._constrained:
                cell.apply_weight_constraints()

    def _loss_of(self, dataset: Dataset) -> float:
        """Mean loss of the weights as they are now."""
        self._network.eval()
        total, counted = 0.0, 0.0
        with torch.no_grad():
            for batch in dataset.plain(self._settings.batch_size):
                part = batch.to(self._device)
                raw, _ = self._network.run(part.x, None, part.spans)
                total += float(Objective(self._network.labels, dataset.readout)(raw, part))
                counted += float(part.weight.sum())
        return total / counted if counted else math.nan
