"""Self-test of a loaded model: the bundle's golden sequences, replayed closed loop and compared."""

from __future__ import annotations

from collections.abc import Callable

from ..arrays import Array
from ..bundle.directory import Bundle
from ..bundle.golden import Golden, golden_from_bundle
from ..errors import VerificationError
from .closed_loop import replay
from .model import Model
from .proof import all_equal, compare_results

__all__ = ["prove_golden", "replay_golden"]


def prove_golden(model: Model, bundle: Bundle) -> None:
    """Replay the golden sequences; see `load`.

    Raises:
        BundleError: If golden.safetensors does not fit the manifest.
        VerificationError: Naming the worst tensor, the error and the step.
    """
    golden = golden_from_bundle(bundle)
    results = replay_golden(model, golden)
    if all_equal(model, results, golden.float32, golden.float64, "golden"):  # the figures are for a failure alone
        return
    segments = [("golden", 0, golden.steps)]
    comparisons = compare_results(model, results, golden.float32, golden.float64, segments)
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
