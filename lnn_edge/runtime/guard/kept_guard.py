"""What a guard knows beside its stream's state, as a file holds it: so that a restart changes no output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .outputs import as_output

if TYPE_CHECKING:
    from ...bundle.manifest import Manifest
    from .guarded import Guarded
    from .held_values import HeldValues
    from .pace import PaceWindow

__all__ = ["go_on", "kept_guard"]


def kept_guard(guarded: Guarded) -> dict[str, Any]:
    """What later ticks depend on beside the state, as JSON has it; see `go_on`.

    That is: the last outputs, how much of the warm-up is left, values that may stand in, late samples in a row, and the
    window of the pace. The monotonic clock goes on from where it stands then, as another boot begins it anew.

    Raises:
        RuntimeError: If another thread is using the guarded stream.
    """
    kept: dict[str, Any] = guarded._alone(_kept, guarded)
    return kept


def go_on(guarded: Guarded, kept: Mapping[str, Any]) -> None:
    """Go on from what `kept_guard` gave, behind `Guarded.restore`.

    Raises:
        KeyError, TypeError, ValueError: If it is none of this model's and guard's.
        RuntimeError: If another thread is using the guarded stream.
    """
    guarded._alone(_again, guarded, kept)


def _kept(own: Guarded) -> dict[str, Any]:
    own._tell_held()
    now, times = own._now, own._times
    return {
        "to_warm": now.to_warm,
        "trusted": _listed(now.trusted),
        "sent": None if now.sent is now.trusted else {"y": _listed(now.sent)},  # slew limits ask whether it is the same
        "came": own._came,
        "since_s": _since_s(own),
        "clock_s": None if now.at.stamp_s is not None else now.at.monotonic_s,
        "held": None if own._held is None else _kept_held(own._held),
        "held_by_column": dict(own.held),
        "late": times._late_in_a_row,
        "late_newest_s": float(times._newest_s) if math.isfinite(times._newest_s) else None,
        "pace": None if own._pace is None else _kept_pace(own._pace),
        "begun": own._begun,
    }


def _again(own: Guarded, kept: Mapping[str, Any]) -> None:
    manifest, times = own.model.manifest, own._times
    trusted = _output(manifest, kept["trusted"])
    sent = trusted if kept["sent"] is None else _output(manifest, kept["sent"]["y"])
    now = own._now._replace(to_warm=int(kept["to_warm"]), trusted=trusted, sent=sent)
    held, pace = own._new_held(), own._new_pace()
    if held is not None and kept["held"] is not None:
        later_s = 0.0 if kept["clock_s"] is None else times._clock() * 1e-9 - float(kept["clock_s"])
        _hold_again(held, kept["held"], later_s)
    if pace is not None and kept["pace"] is not None:
        _pace_again(pace, kept["pace"])
    newest_s = -math.inf if kept["late_newest_s"] is None else float(kept["late_newest_s"])
    came, late, by_column, begun = int(kept["came"]), int(kept["late"]), Counter(kept["held_by_column"]), kept["begun"]
    own._now, own._held, own._pace, own._good = now, held, pace, None
    own._came, own._begun, own.held = came, bool(begun), by_column
    times._late_in_a_row, times._newest_s = late, newest_s


def _since_s(own: Guarded) -> float:
    """Seconds since the last sample that was stepped, as far as the monotonic clock was read."""
    then_s = own._now.at.monotonic_s
    return 0.0 if then_s is None else max(0.0, own._times._clock() * 1e-9 - then_s)


def _listed(y: Any) -> Any:
    """An output as JSON has it: each float32 comes back as it is."""
    if y is None:
        return None
    return {name: own.tolist() for name, own in y.items()} if isinstance(y, Mapping) else y.tolist()


def _output(manifest: Manifest, y: Any) -> Any:
    return None if y is None else as_output(manifest, y)


def _kept_held(held: HeldValues) -> dict[str, Any]:
    return {**held.kept(), "slopes": held._slopes.tolist()}


def _hold_again(held: HeldValues, kept: Mapping[str, Any], later_s: float) -> None:
    held.go_on(kept)
    held._times_s = held._times_s + later_s
    slopes = np.asarray(kept["slopes"], np.float64)
    if slopes.shape != held._slopes.shape:
        raise ValueError(f"`slopes` has the shape {slopes.shape}, expected {held._slopes.shape}")
    held._slopes = slopes


def _kept_pace(pace: PaceWindow) -> dict[str, Any]:
    return {"spans_s": list(pace._spans), "count": pace._count, "sum_s": pace._sum}


def _pace_again(pace: PaceWindow, kept: Mapping[str, Any]) -> None:
    spans = [float(own) for own in kept["spans_s"]]
    if len(spans) != pace._length:
        raise ValueError(f"`spans_s` has {len(spans)} numbers, expected {pace._length}")
    pace._spans, pace._count, pace._sum = spans, int(kept["count"]), float(kept["sum_s"])
