"""Training data as tensors, handed out in mini-batches that depend on the seed, the epoch and nothing else."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

__all__ = ["Augmentation", "Batch", "Dataset", "ahead", "seed_of"]


@dataclass(frozen=True)
class Batch:
    """Sequences padded to the longest.

    Args:
        x: Samples, float32 (rows, time, features).
        y: Scaled values, float32 (rows, time, outputs), or classes, int64 (rows, time).
        weight: How much each target counts, float32 (rows, time); 0 where there is none.
        spans: Timespans in the unit of training, float32 (rows, time), or `None`.
    """

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor
    spans: torch.Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        spans = None if self.spans is None else self.spans.to(device)
        return Batch(self.x.to(device), self.y.to(device), self.weight.to(device), spans)

    def windows(self, length: int | None) -> Iterator[Batch]:
        """Pieces of at most `length` steps."""
        steps = self.x.shape[1]
        for start in range(0, steps, length or steps):
            part = slice(start, start + (length or steps))
            spans = None if self.spans is None else self.spans[:, part]
            yield Batch(self.x[:, part], self.y[:, part], self.weight[:, part], spans)


@dataclass(frozen=True)
class Augmentation:
    """What changes from epoch to epoch.

    Args:
        noise: Standard deviation of what is added to each feature, (features,); `None` for none.
        gain: Each feature of a sequence is multiplied by 1 plus or minus at most this.
        crop: Share of a sequence that is seen at a time; it starts anywhere.
    """

    noise: torch.Tensor | None = None
    gain: float = 0.0
    crop: float = 1.0


@dataclass(frozen=True)
class Dataset:
    """Sequences with targets.

    Args:
        x: Per sequence float32 (time, features).
        y: Per sequence float32 (targets, outputs) or int64 (targets,).
        weight: Per sequence float32 (targets,): one per step, or one for the sequence.
        spans: Per sequence float32 (time,), or `None`.
        readout: With one target per sequence, over how many steps outputs are averaged; `None` with one per step.
        running: Whether a target per sequence is asked for from the first full average on, rather than at the end.
    """

    x: tuple[torch.Tensor, ...]
    y: tuple[torch.Tensor, ...]
    weight: tuple[torch.Tensor, ...]
    spans: tuple[torch.Tensor, ...] | None
    readout: int | None
    running: bool

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, size: int, seed: int, epoch: int, augmentation: Augmentation) -> Iterator[Callable[[], Batch]]:
        """Makers of this epoch's mini-batches, in random order; each may be called on any thread."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.x))
        for number, index in enumerate(np.array_split(order, -(-len(order) // size))):  # of about the same size
            yield partial(self.batch, index.tolist(), augmentation, seed_of(seed, epoch, number + 1))

    def plain(self, size: int) -> Iterator[Batch]:
        """All sequences in order, as they are."""
        for start in range(0, len(self.x), size):
            yield self.batch(list(range(start, min(start + size, len(self.x)))), Augmentation(), 0)

    def batch(self, index: Sequence[int], augmentation: Augmentation, seed: int) -> Batch:
        """Some sequences, cropped, padded and augmented."""
        random = torch.Generator().manual_seed(seed)
        cuts = [self._cut(k, augmentation.crop, random) for k in index]
        x = pad_sequence([self.x[k][cut] for k, cut in zip(index, cuts, strict=True)], batch_first=True)
        if augmentation.gain:
            x = x * (1.0 + augmentation.gain * (2.0 * torch.rand(len(x), 1, x.shape[2], generator=random) - 1.0))
        if augmentation.noise is not None:
            x = x + augmentation.noise * torch.randn(x.shape, generator=random)
        pairs = [self._targets(k, cut) for k, cut in zip(index, cuts, strict=True)]
        y = pad_sequence([targets for targets, _ in pairs], batch_first=True)
        weight = pad_sequence([weights for _, weights in pairs], batch_first=True)
        return Batch(x, y, weight, self._spans(index, cuts))

    def _cut(self, k: int, crop: float, random: torch.Generator) -> slice:
        length = len(self.x[k])
        kept = max(1, math.ceil(crop * length))
        start = int(torch.randint(length - kept + 1, (), generator=random)) if kept < length else 0
        return slice(start, start + kept)

    def _targets(self, k: int, cut: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """Targets and weights of a part of a sequence, one per step."""
        if self.readout is None:
            return self.y[k][cut], self.weight[k][cut]
        steps = cut.stop - cut.start
        first = min(self.readout, steps) - 1 if self.running else steps - 1
        weight = torch.zeros(steps)
        weight[first:] = self.weight[k] / (steps - first)  # long sequences count no more than short ones
        return self.y[k].expand(steps, *self.y[k].shape[1:]), weight

    def _spans(self, index: Sequence[int], cuts: Sequence[slice]) -> torch.Tensor | None:
        if self.spans is None:
            return None
        parts = [self.spans[k][cut] for k, cut in zip(index, cuts, strict=True)]
        return pad_sequence(parts, batch_first=True, padding_value=1.0)  # a dt of 0 would be NaN in an LTC


def seed_of(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def ahead(makers: Iterator[Callable[[], Batch]], workers: int) -> Generator[Batch, None, None]:
    """Make batches on other threads while the last one is used; with no workers, when they are asked for."""
    if not workers:
        yield from (make() for make in makers)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(make) for make in islice(makers, workers))
        while waiting:
            done = waiting.popleft()
            following = next(makers, None)
            if following is not None:
                waiting.append(pool.submit(following))
            yield done.result()
