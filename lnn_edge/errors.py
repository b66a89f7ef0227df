"""Errors that a robot program may want to catch.

    LnnEdgeError
    ├── BundleError          the bundle on disk is not one, is damaged or is newer than this program   (exit 6)
    ├── VerificationError    the deployed step does not equal the trained model                        (exit 3)
    ├── BackendUnavailable   the backend asked for cannot run on this machine                          (exit 5)
    ├── BackendError         the backend failed in the middle of a step; the state is untouched        (exit 1)
    ├── NonFiniteError       NaN or infinity in a sample, a result or a state; also a ValueError       (exit 2)
    ├── LateSample           a sample whose time is not after the one before; also a ValueError        (exit 2)
    ├── Gap                  more time before a sample than the model knows; also a ValueError         (exit 2)
    └── StateError           a state that left its bounds; also a ValueError                           (exit 2)

    ExportWarning            what export handled, but whoever trained the model should know; a UserWarning

Everything else that the caller can get wrong is a plain `ValueError` or `TypeError`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in __init__.py
if TYPE_CHECKING:
    from .verify.report import ExportReport

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "BundleError",
    "ExportWarning",
    "Gap",
    "LateSample",
    "LnnEdgeError",
    "ModelWarning",
    "NonFiniteError",
    "StateError",
    "VerificationError",
]


class LnnEdgeError(Exception):
    """Base of all errors that belong to lnn-edge."""


class BundleError(LnnEdgeError):
    """A bundle is missing, damaged, inconsistent, or of a schema this version cannot read."""


class VerificationError(LnnEdgeError):
    """What runs does not equal what was trained.

    Attributes:
        report: Everything that an export compared, an `ExportReport` to look at or to plot; `None` from a self-test.
    """

    def __init__(self, message: str, report: ExportReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class BackendUnavailable(LnnEdgeError):
    """A backend is not installed here or cannot run on this machine."""


class BackendError(LnnEdgeError):
    """A backend failed during a step. The stream's state is what it was before the step."""


class NonFiniteError(LnnEdgeError, ValueError):
    """A sample, a result or a state holds NaN or infinity. The stream's state is what it was before.

    Attributes:
        result: Whether it is the result of a step or its next state, of a sample that is finite.
    """

    result = False


class LateSample(LnnEdgeError, ValueError):
    """A sample's time is not after that of the one before. Leave it out; the stream's state is what it was before."""


class Gap(LnnEdgeError, ValueError):
    """More time lies before a sample than the model was proven for. The stream's state is what it was before.

    To go on, reset the stream and step the same sample again.
    """


class StateError(LnnEdgeError, ValueError):
    """A step took the state out of its bounds; the stream's state is what it was before that step."""


class ModelWarning(UserWarning):
    """Something about a model that whoever runs it should know."""


class ExportWarning(UserWarning):
    """Something about a model or its weights that is handled, but that whoever trained it should know."""
