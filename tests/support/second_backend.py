"""Backends that tests put into the table: right ones, one that drifts, one that this machine cannot run."""

from __future__ import annotations

import time

from lnn_edge.backends import BACKENDS, BackendEntry
from lnn_edge.errors import BackendUnavailable
from lnn_edge.runtime.backends.ort import CpuBackend

DRIFT_AFTER = 1500  # steps: more than the golden sequences have, fewer than any proof


class Second(CpuBackend):
    def __init__(self, bundle, threads, options):
        super().__init__(bundle, threads, options)
        self.description = "second backend"


class Drifting(Second):
    """Right for a while; then every result is off by more and more, resets or not."""

    def stepper(self):
        stepper = super().stepper()
        run, done = stepper.run, [0]

        def drifting(source):
            finite = run(source)
            done[0] += 1
            if done[0] > DRIFT_AFTER:
                stepper.places[1 - source]["output"][...] += 1e-4 * (done[0] - DRIFT_AFTER)
            return finite

        stepper.run = drifting
        return stepper


class Slow(Second):
    """Right, and never faster than a millisecond a step."""

    def stepper(self):
        stepper = super().stepper()
        run = stepper.run

        def slowly(source):
            time.sleep(1e-3)
            return run(source)

        stepper.run = slowly
        return stepper


class Unavailable(Second):
    def __init__(self, bundle, threads, options):
        raise BackendUnavailable("backend 'unavailable' finds no device")


class Choosy(Second):
    """Right, and not for every bundle."""

    @classmethod
    def why_not_bundle(cls, bundle):
        return f"it takes no model called {bundle.manifest.name}"


def row(kind: type, modules=()) -> BackendEntry:
    name = kind.__name__.lower()
    return BackendEntry(name, "tests", "nothing", None, modules, f"second_backend:{kind.__name__}")


def put_into_the_table(monkeypatch, *rows: BackendEntry) -> None:
    for place in ("lnn_edge.backends.BACKENDS", "lnn_edge.runtime.loading.BACKENDS"):
        monkeypatch.setattr(place, (*BACKENDS, *rows))
