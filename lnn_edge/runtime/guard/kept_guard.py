"""Knowledge of a guard beside its stream's state, as a file holds it: so that a restart changes no output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..call_token import alone
from .outputs import as_output
from .sample_time import At

if TYPE_CHECKING:
    from ...bundle.manifest import Manifest
    from .guarded import Guarded

__all__ = ["go_on", "kept_guard"]


def kept_guard(guarded: Guarded) -> dict[str, Any]:
    """What later ticks depend on beside the state, as JSON has it; see `go_on`.

    That is: the last outputs, how much of the warm-up is left, values that may stand in, late samples in a row, and the
    window of the pace. The monotonic clock goes on from where it stands then, as another boot begins it anew.

    Raises:
        RuntimeError: If another thread is using the guarded stream.
    """
    return alone(guarded, _kept, guarded)


def go_on(guarded: Guarded, kept: Mapping[str, Any]) -> None:
    """Go on from what `kept_guard` gave, behind `Guarded.restore`.

    Raises:
        KeyError, TypeError, ValueError: If it is none of this model's and guard's.
        RuntimeError: If another thread is using the guarded stream.
    """
    alone(guarded, _again, guarded, kept)


def _kept(own: Guarded) -> dict[str, Any]:
    stamp_s, monotonic_s, to_warm, sent, trusted = own._now
    return {
        "to_warm": to_warm,
        "trusted": _listed(trusted),
        "sent": None if sent is trusted else {"y": _listed(sent)},  # slew limits ask whether it is the same
        "came": own._came,
        "since_s": own._times.since_s(At(stamp_s, monotonic_s)),
        "clock_s": None if stamp_s is not None else monotonic_s,
        "holes": None if own._holes is None else own._holes.kept(),
        "held": dict(own.held),
        "late": own._times.kept(),
        "pace": None if own._pace is None else own._pace.kept(),
        "begun": own._begun,
    }


def _again(own: Guarded, kept: Mapping[str, Any]) -> None:
    manifest, times = own.model.manifest, own._times
    trusted = _output(manifest, kept["trusted"])
    sent = trusted if kept["sent"] is None else _output(manifest, kept["sent"]["y"])
    now = (*own._now[:2], int(kept["to_warm"]), sent, trusted)
    holes, pace, held = own._new_holes(), own._new_pace(), Counter(kept["held"])
    came, begun = int(kept["came"]), bool(kept["begun"])
    if holes is not None and kept["holes"] is not None:
        holes.go_on(kept["holes"], 0.0 if kept["clock_s"] is None else times.later_s(float(kept["clock_s"])))
    if pace is not None and kept["pace"] is not None:
        pace.go_on(kept["pace"])
    times.go_on(kept["late"])
    own._now, own._holes, own._pace, own._came, own._begun = now, holes, pace, came, begun
    own.held.clear()
    own.held.update(held)


def _listed(y: Any) -> Any:
    """An output as JSON has it: each float32 comes back as it is."""
    if y is None:
        return None
    return {name: own.tolist() for name, own in y.items()} if isinstance(y, Mapping) else y.tolist()


def _output(manifest: Manifest, y: Any) -> Any:
    return None if y is None else as_output(manifest, y)
