"""Short proofs of what estimators export: the tests are about what training hands on, not about proofs."""

from __future__ import annotations

import pytest
from exports import short_proofs


@pytest.fixture(autouse=True)
def _short_proofs(monkeypatch):
    short_proofs(monkeypatch, "lnn_edge.train.deploy.export_model")
