"""Practice: a second stream of a model, stepped on the last good sample by a loop that rehearses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

from ...backends import BACKENDS
from ...bundle.spec import Tensor
from ...wording import listed
from ..model import Model

if TYPE_CHECKING:
    from ..guard.guarded import Guarded

__all__ = ["Practice", "guarded_twin", "plain_sample", "refuse_gpu"]


class Practice:
    """Steps something on the sample that it saw last. Called without arguments, as a `Rehearsal` does.

    Args:
        step: Called as `step(x)`, or `step(x, dt_s=...)` with measured time. Its results are thrown away.
        x: The sample to begin with.
        dt_s: With measured time seconds since the one before, else `None`.
    """

    def __init__(self, step: Callable[..., object], x: Any, dt_s: float | None = None) -> None:
        self._step, self._x, self._dt_s = step, x, dt_s

    def see(self, x: Any, dt_s: float | None = None) -> None:
        """Take the sample that the next rehearsals are of; it must not change later."""
        self._x = x
        if dt_s is not None:
            self._dt_s = dt_s

    def __call__(self) -> None:
        """Make one step."""
        if self._dt_s is None:
            self._step(self._x)
        else:
            self._step(self._x, dt_s=self._dt_s)


def guarded_twin(guarded: Guarded, clock: Callable[[], int]) -> Guarded:
    """A guarded stream of its own, with the same model, guard and constants, that counts each sample as a period.

    Args:
        guarded: Whose twin it is.
        clock: The monotonic clock, nanoseconds.

    Raises:
        ValueError: If the model runs on a GPU.
    """
    model = guarded.model
    refuse_gpu(model.backend)
    constants = {t.name: _zeros(t, 1, model.manifest.batch) for t in model.manifest.constants} or None
    twin = model.guarded(replace(guarded.guard, dt_from="nominal", warm_up=0), clock=clock, constants=constants)
    twin.restore(guarded.snapshot())  # with the constants of the real one
    twin.reset()
    return twin


def refuse_gpu(backend: str) -> None:
    """Refuse to rehearse on a GPU.

    Raises:
        ValueError: If the backend steps on one, with the ways to wait that are left.
    """
    if any(entry.on_gpu for entry in BACKENDS if entry.name == backend):
        others = listed(f"'{entry.name}'" for entry in BACKENDS if not entry.on_gpu)
        raise ValueError(
            f"`wait` is 'rehearse', but '{backend}' steps on a GPU, where rehearsals have not been measured. Wait with "
            f"'sleep' or 'spin', or load the model with another backend: {others}"
        )


def plain_sample(model: Model) -> tuple[Any, float | None]:
    """A sample that `step` takes, zeros or the nearest legal values, and seconds since the one before, if there are."""
    manifest = model.manifest
    samples = {t.name: _zeros(t, manifest.unroll, manifest.batch) for t in manifest.streamed}
    x = samples if len(samples) > 1 else next(iter(samples.values()))
    if model.time.mode != "measured" or model.time.period_s is None:
        return x, None
    return x, model.time.period_s


def _zeros(tensor: Tensor, unroll: int, batch: int) -> Any:
    """A legal sample of one input, as near to zero as its limits let it."""
    own = np.zeros(tensor.shape, tensor.dtype)
    limits = [feature.limits or (-np.inf, np.inf) for feature in tensor.features]
    if limits:
        own = np.clip(own, *np.transpose(limits)).astype(tensor.dtype)
    if unroll > 1:
        own = np.repeat(own[:, None], unroll, axis=1)
    return own[0] if batch == 1 else own
