"""Self-test of a loaded model: the bundle's golden sequences, replayed closed loop and compared."""

from __future__ import annotations

from collections.abc import Callable

from ..arrays import Array
from ..bundle.directory import Bundle
from ..bundle.golden import Golden, golden_from_bundle
from ..errors import VerificationError
from ..verify.comparison import Comparison
from .closed_loop import replay
from .model import Model
from .proof import compare_results

__all__ = ["prove_golden", "replay_golden"]


def prove_golden(model: Model, bundle: Bundle) -> None:
    """Replay the golden sequences; see `load`.

    Raises:
        BundleError: If golden.safetensors does not fit the manifest.
        VerificationError: Naming the worst tensor, the error and the step.
    """
    comparisons = _compare_with_golden(model, golden_from_bundle(bundle))
    failed = [c for c in comparisons if not c.passed]
    if failed:
        worst = max(failed, key=lambda c: c.max_abs / c.limit)
        raise VerificationError(
            f"bundle '{bundle.path}' failed its self-test on {model.description}: {worst}. It does not start. "
            f"Type: lnn-edge verify {bundle.path}"
        )


def replay_golden(
    model: Model, golden: Golden, progress: Callable[[int], None] | None = None, order: Array | None = None
) -> dict[str, Array]:
    """Replay golden sequences, and what follows them; see `replay`.

    Raises:
        VerificationError: If a step refuses a golden sample or gives a result that is not finite.
    """
    try:
        return replay(model, golden.inputs, golden.reset, progress, order=order)
    except ValueError as error:
        raise VerificationError(
            f"bundle '{model.path}' failed its self-test on {model.description}: a golden step was refused: {error}"
        ) from error


def _compare_with_golden(model: Model, golden: Golden) -> list[Comparison]:
    """Replay the golden sequences and compare every output and state with torch and with the float64 reference.

    Raises:
        VerificationError: As `replay_golden`.
    """
    results = replay_golden(model, golden)
    return compare_results(model, results, golden.float32, golden.float64, [("golden", 0, golden.steps)])
