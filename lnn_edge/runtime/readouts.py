"""Readouts: one result out of the last outputs of a window or a sequence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..arrays import Array
from ..bundle.spec import MAX_WINDOW, Readout
from ..wording import typed

__all__ = ["LAST", "RecentOutputs", "label_of", "parse_readout", "read_out", "readout_text"]

LAST = Readout("last")  # where a manifest says nothing


class RecentOutputs:
    """The outputs of a sequence that count for its readout. A value: `with_output` gives another one.

    Sums of all outputs of a sequence are kept in float64, so a long one loses nothing.
    """

    def __init__(self, readout: Readout, count: int = 0, terms: tuple[dict[str, Array], ...] = ()) -> None:
        self._readout, self._count = readout, count
        self._terms = terms  # of the last outputs, or their sum where all count

    def with_output(self, outputs: Mapping[str, Array]) -> RecentOutputs:
        """These and the output of one more sample, copied: per name (..., columns)."""
        vote = self._readout.kind == "vote"
        terms = {name: _votes(value) if vote else value.astype(np.float64) for name, value in outputs.items()}
        over = self._over
        if over is not None:
            return type(self)(self._readout, self._count + 1, (*self._terms, terms)[-over:])
        if self._terms:
            terms = {name: term + self._terms[0][name] for name, term in terms.items()}
        return type(self)(self._readout, self._count + 1, (terms,))

    def value(self) -> dict[str, Array]:
        """The readout, float32, of at least one output."""
        if self._over is None:
            return {name: (total / self._count).astype(np.float32) for name, total in self._terms[0].items()}
        count = len(self._terms)
        sums = {name: np.sum([own[name] for own in self._terms], axis=0) for name in self._terms[0]}
        return {name: np.asarray(total / count, np.float32) for name, total in sums.items()}

    def read(self) -> dict[str, Array]:
        """What was taken, as arrays, for a snapshot."""
        names = self._terms[0] if self._terms else ()
        terms = {f"terms.{name}": np.stack([own[name] for own in self._terms]) for name in names}
        return {**terms, "count": np.array(self._count)}

    def restored(self, kept: Mapping[str, Array]) -> RecentOutputs:
        """Those of which `read` gave `kept`."""
        terms = {name.removeprefix("terms."): value for name, value in kept.items() if name.startswith("terms.")}
        rows = tuple(dict(zip(terms, row, strict=True)) for row in zip(*terms.values(), strict=True))
        return type(self)(self._readout, int(kept["count"]), rows if self._over is None else rows[-self._over :])

    @property
    def _over(self) -> int | None:
        return 1 if self._readout.kind == "last" else self._readout.over


def read_out(readout: Readout, outputs: Array, reset: Array, at: Array | None = None) -> Array:
    """The readout at every step of a recording, (steps, ...): of the outputs since the last reset.

    Where only some steps are asked for, `at` their numbers, those alone, in that order.
    """
    if readout.kind == "last":
        return np.array(outputs if at is None else outputs[at], np.float32)
    recent, results = RecentOutputs(readout), np.empty(outputs.shape, np.float32)
    wanted = None if at is None else set(at.tolist())
    for k, output in enumerate(outputs):
        if reset[k]:
            recent = RecentOutputs(readout)
        recent = recent.with_output({"": output})
        if wanted is None or k in wanted:
            results[k] = recent.value()[""]
    return results if at is None else results[at]


def parse_readout(text: object) -> Readout:
    """A readout as people write it: "last", "mean" of all outputs, "mean:5" of the last five, "vote", "vote:5".

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(text, Readout):
        text = text.kind if text.over is None else f"{text.kind}:{text.over}"
    kind, _, over = str(text).partition(":")
    known = kind in ("last", "mean", "vote") and (not over or (over.isdecimal() and kind != "last"))
    if not known or (over and not 1 <= int(over) <= MAX_WINDOW):
        raise ValueError(
            f"`readout` is {text!r}, expected 'last', 'mean' or 'vote' of all outputs, or of the last so many: 'mean:5'"
        )
    return Readout(kind, int(over) if over else None)  # type: ignore[arg-type]


def readout_text(readout: Readout) -> str:
    """A readout in words."""
    if readout.kind == "last":
        return "last output"
    return f"{readout.kind} of {'all' if readout.over is None else f'the last {readout.over}'} outputs"


def _votes(value: Array) -> Array:
    """1 in the column that is the largest, the first of equal ones."""
    return np.asarray(np.arange(value.shape[-1]) == value.argmax(axis=-1)[..., None], np.float64)


def label_of(labels: tuple[str, ...], outputs: Array) -> str | tuple[str, ...] | None:
    """The label of the largest column: of (columns,), or a tuple for (rows, columns); `None` without a result yet."""
    if not labels:
        named = typed("labels=[...]", "--labels NAMES")
        raise ValueError(f"this model has no labels. Name its classes when it is exported: {named}")
    if np.isnan(outputs).any():
        return None
    if outputs.ndim == 1:
        return labels[int(outputs.argmax())]
    return tuple(labels[int(k)] for k in outputs.argmax(axis=-1))
