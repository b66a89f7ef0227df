"""Base class of the estimators: scikit-learn's face of training, prediction, forecasts and export."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..arrays import Array
from ..bundle.spec import Feature
from ..export import ExportReport
from ..export.torch_settings import usual_torch
from ..wording import one_line
from .data.frames import Rows, in_frames, is_framed, rows_of_each, warn_of_parts
from .data.prepare import Given, prepare
from .data.sequences import Sequences, read_sequences, read_timespans
from .deploy import export_fitted
from .fit.run import Trained, train_network
from .forecasting import check_horizon, forecast_series
from .former_pickles import todays_state
from .plotting import plot_losses, plot_synapses
from .predicting import (
    State,
    averaged_outputs,
    check_state,
    check_timed,
    raw_outputs,
    read_sample,
    read_timespan,
    run_sequences,
    states_after,
    step_network,
)
from .saving import SavedEstimator, load_estimator, save_estimator
from .scoring import score_outputs
from .settings import make_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LiquidEstimator"]

_Self = TypeVar("_Self", bound="LiquidEstimator")


def _has_classes(estimator: LiquidEstimator) -> bool:
    """Whether there are probabilities to ask for; scikit-learn turns False into an AttributeError."""
    task = getattr(estimator, "task_", estimator._task())
    return bool(task != "regression")


class LiquidEstimator(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Base class of the three estimators. Their parameters are explained at `LiquidNeuralNetwork`."""

    _fitted_rows: Rows

    def __init__(
        self,
        n_neurons: int = 20,
        model_type: str = "LTC",
        *,
        wiring: Any = "auto",
        sparsity: float = 0.5,
        wiring_seed: int = 22222,
        stacked: bool = False,
        per_target: bool = False,
        mixed_memory: bool = False,
        cell_options: dict[str, Any] | None = None,
        rows: str = "steps",
        targets: str = "auto",
        readout: str | int = "auto",
        scale_inputs: bool = True,
        scale_targets: bool = True,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        schedule: str = "cosine",
        weight_decay: float = 0.0,
        clip_value: float | None = 1.0,
        window: int | None = None,
        validation_split: float = 0.0,
        patience: int | None = None,
        noise: float = 0.0,
        gain: float = 0.0,
        crop: float = 1.0,
        random_state: Any = None,
        device: str = "auto",
        n_jobs: int | None = None,
        verbose: int = 1,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 10,
    ) -> None:
        self.n_neurons = n_neurons
        self.model_type = model_type
        self.wiring = wiring
        self.sparsity = sparsity
        self.wiring_seed = wiring_seed
        self.stacked = stacked
        self.per_target = per_target
        self.mixed_memory = mixed_memory
        self.cell_options = cell_options
        self.rows = rows
        self.targets = targets
        self.readout = readout
        self.scale_inputs = scale_inputs
        self.scale_targets = scale_targets
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_value = clip_value
        self.window = window
        self.validation_split = validation_split
        self.patience = patience
        self.noise = noise
        self.gain = gain
        self.crop = crop
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    def __init_subclass__(cls, **options: Any) -> None:
        """Name the constructor after each class: Python names the class that has it where an argument is unknown."""
        super().__init_subclass__(**options)
        own = cls.__init__
        if "__init__" in vars(cls) or not isinstance(own, FunctionType):
            return
        named = FunctionType(own.__code__, own.__globals__, own.__name__, own.__defaults__, own.__closure__)
        named.__kwdefaults__, named.__annotations__ = own.__kwdefaults__, own.__annotations__
        named.__qualname__ = f"{cls.__qualname__}.__init__"
        cls.__init__ = named  # type: ignore[method-assign]

    @usual_torch()
    def fit(
        self: _Self,
        X: Any,  # noqa: N803 - scikit-learn's name
        y: Any = None,
        sample_weight: Any = None,
        timespans: Any = None,
        validation: Any = None,
        **parameters: Any,
    ) -> _Self:
        """Train on sequences. A fit that fails leaves the estimator as it was.

        Args:
            X: Samples in raw units, as NumPy array, torch tensor or pandas frame: (sequences, time, features); a list
                of (time, features) of any lengths; one (time, features), see the parameter `rows`; or a frame whose
                index has two levels, the first of which tells the sequences apart. Columns with names are put in the
                order of the fit's everywhere else. An index that starts again is refused: recordings glued together.
            y: Answers per step, (sequences, time) or (sequences, time, outputs) or a list likewise; per sequence,
                (sequences,) or (sequences, outputs); labels instead of numbers in the same shapes without outputs.
                `None`: the next sample is the answer, which `forecast` needs.
            sample_weight: How much each answer counts, at least 0: one number per answer, or one per sequence.
            timespans: Time since the previous sample, above 0 and in seconds if the model is to be exported, in the
                shape of answers per step. `None` where samples are evenly spaced.
            validation: Sequences to judge the weights by, apart from those that are trained on: (X, y), or (X, y,
                timespans), as the other arguments; instead of `validation_split`.
            parameters: Any parameter of the constructor, for this fit only.

        Returns:
            The estimator.

        Raises:
            ValueError, TypeError: If the data or a parameter is not as expected.
            OSError: If a checkpoint cannot be written.
            KeyboardInterrupt: If interrupted before the first epoch was done.

        Warns:
            ConvergenceWarning: If training diverged, or was interrupted with Ctrl-C: the best weights so far are kept.
        """
        settings = make_settings(self.get_params(deep=False), parameters, type(self).__name__)
        fresh = copy.copy(self)
        task = parameters.get("task", self._task())
        prepared = prepare(fresh, settings, Given(X, y, sample_weight, timespans, validation), task)
        fresh._take(train_network(settings, type(self).__name__, prepared))
        fresh._fitted_rows = rows_of_each(X)
        self.__dict__ = fresh.__dict__
        return self

    def _task(self) -> str:
        return "auto"

    def _take(self, trained: Trained) -> None:
        """Set what a fit made as attributes."""
        metadata = trained.metadata
        self._metadata, self._arrays, self.network_ = metadata, trained.arrays, trained.network
        self.task_, self.n_outputs_, self.output_names_ = metadata.task, metadata.outputs, metadata.output_names
        self.readout_steps_, self.time_unit_ = metadata.readout, metadata.time_unit
        self.history_, self.best_epoch_, self.n_epochs_ = trained.history, trained.best_epoch, len(trained.history)
        self.stopped_, self.seed_ = trained.stopped, trained.seed
        self.__dict__.pop("classes_", None)
        if metadata.classes is not None:
            self.classes_ = metadata.class_array()

    def predict(self, X: Any, timespans: Any = None, *, state: State | None = None) -> Any:  # noqa: N803
        """Predict whole sequences.

        Args:
            X: Samples, as for `fit`.
            timespans: As for `fit`; needed if and only if the model was fitted with some.
            state: Where the sequences start, from `warm_up`; `None` for the beginning.

        Returns:
            Values (float64) or labels, in the shape of the y of the fit: per step in the form of X, or one
            per sequence. If X and that y are frames or series of pandas, so is this, with the index of X; of one answer
            per sequence that index's first level. So scikit-learn's metrics take it beside y.
        """
        sequences, results = self._outputs(X, timespans, state)
        labels = self._metadata.class_array()
        if labels is not None:
            results = [labels[part.argmax(axis=-1)] for part in results]
        elif self._metadata.flat:
            results = [part[:, 0].astype(np.float64) for part in results]
        else:
            results = [part.astype(np.float64) for part in results]
        return self._shaped(X, sequences, results, self._answer_names())

    @available_if(_has_classes)  # type: ignore[untyped-decorator] # scikit-learn has no types
    def predict_proba(self, X: Any, timespans: Any = None, *, state: State | None = None) -> Any:  # noqa: N803
        """Probability of each class of `classes_`: as `predict`, with a last axis, or columns, for the classes."""
        sequences, results = self._outputs(X, timespans, state)
        return self._shaped(X, sequences, results, np.asarray(self.classes_).tolist())

    @usual_torch()
    def _outputs(self, X: Any, timespans: Any, state: State | None) -> tuple[Sequences, list[Array]]:  # noqa: N803
        """Per sequence values or probabilities, (steps or 1, outputs)."""
        sequences = self._read(X, timespans)
        check_state(state, len(sequences.samples), self.network_.state_widths)
        outputs = run_sequences(self.network_, sequences, self._metadata.time_unit, state)
        if self._metadata.readout is not None:
            outputs = averaged_outputs(outputs, self._metadata.readout)
        return sequences, [raw_outputs(part, self._arrays) for part in outputs]

    def _answer_names(self) -> Sequence[str]:
        """Names of the columns of predictions; none where y had none."""
        if self._metadata.labels or (self._metadata.flat and self.output_names_ == ("output",)):
            return ()
        return self.output_names_

    def _shaped(self, X: Any, sequences: Sequences, results: Sequence[Array], names: Sequence[Any]) -> Any:  # noqa: N803
        per_step = self._metadata.level == "step"
        if self._metadata.framed and is_framed(X, series=False):
            framed = in_frames(X, results, names, per_step=per_step)
            if framed is not None:
                return framed
        if self._metadata.level == "sequence":
            return np.concatenate(results)
        return sequences.per_step(results)

    def _read(self, X: Any, timespans: Any) -> Sequences:  # noqa: N803
        check_is_fitted(self, "network_")
        check_timed(self._metadata, timespans)
        read = read_timespans(timespans, read_sequences(self, X, rows=self._metadata.rows, reset=False))
        warn_of_parts(getattr(self, "_fitted_rows", {}), rows_of_each(X))
        return read.centred(self._arrays.get("x_center"))

    @usual_torch()
    def warm_up(self, X: Any, timespans: Any = None) -> State:  # noqa: N803
        """The state after a history, to predict or to step on from.

        Args:
            X: The history, as for `fit`; any number of sequences.
            timespans: As for `fit`.

        Returns:
            The states, (sequences, units) float32 each, in the order of the bundle's states.
        """
        sequences = self._read(X, timespans)
        return states_after(self.network_, sequences, self._metadata.time_unit)[0]

    @usual_torch()
    def predict_step(self, x: Any, state: State | None = None, timespan: float | None = None) -> tuple[Array, State]:
        """Predict one sample, as the device will.

        Args:
            x: The sample, (features,), in raw units; a series with the names of the columns is put in their order.
            state: What the call before returned, or `warm_up` of one sequence; `None` at the beginning.
            timespan: Time since the previous sample; needed if and only if the model was fitted with timespans.

        Returns:
            Values or class probabilities, (outputs,) float32, or float64 where that is too coarse, and the next state;
            `state` is not changed.
        """
        check_is_fitted(self, "network_")
        check_timed(self._metadata, timespan)
        check_state(state, 1, self.network_.state_widths)
        names = getattr(self, "feature_names_in_", None)
        sample = read_sample(x, names, self.n_features_in_, self._arrays.get("x_center"))
        span = None if timespan is None else read_timespan(timespan, self._metadata.time_unit)
        output, after = step_network(self.network_, sample, state, span)
        return raw_outputs(output, self._arrays), after

    @usual_torch()
    def forecast(
        self,
        horizon: int,
        X: Any = None,  # noqa: N803
        *,
        timespans: Any = None,
        future: Any = None,
        future_timespans: Any = None,
        columns: Sequence[int | str] | None = None,
    ) -> Array:
        """Predict samples to come by feeding predictions back as inputs.

        Args:
            horizon: Number of samples, at least 1.
            X: One sequence that came before, (time, features); `None` goes on from the one that was fitted.
            timespans: As for `fit`, for X.
            future: Columns that are known beforehand, for the samples to come, (horizon - 1 or more, features without
                those that are predicted), those of a frame by name; needed if not every column is predicted.
            future_timespans: Timespans of the samples to come, (horizon - 1 or more,); needed if the model was
                fitted with some.
            columns: Which columns of X the outputs are, by name or number; `None` if they are all of them, or a frame's
                columns of the same names.

        Returns:
            Float32, or float64 where that is too coarse, (horizon, outputs): the samples after the last one of X.

        Raises:
            ValueError: If the outputs are no columns of X, or something is missing or has the wrong shape.
        """
        check_is_fitted(self, "network_")
        check_horizon(horizon)
        history = None if X is None else self._read(X, timespans)
        names = getattr(self, "feature_names_in_", None)
        return forecast_series(
            self.network_,
            self._metadata,
            self._arrays,
            horizon,
            history,
            future,
            future_timespans,
            columns,
            self.n_features_in_,
            names,
        )

    def plot_loss(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the losses over the epochs.

        Args:
            path: Where to save the picture, .svg, .png or .pdf; `None` saves none.

        Returns:
            The matplotlib figure; a notebook shows it.

        Raises:
            ImportError: If matplotlib is not installed (extra `plot`).
            ValueError, OSError: If the picture cannot be saved under this name.
        """
        check_is_fitted(self, "network_")
        return plot_losses(self.history_, self.best_epoch_, path)

    @usual_torch()
    def plot_wiring(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the neurons and the synapses of every liquid layer, as they are after training.

        An LTC's synapses are coloured by their polarity. Those of a CfC, which has none, are what the masks of its
        candidates let through; its time gates see everything. Arguments, result and errors as `plot_loss`.
        """
        check_is_fitted(self, "network_")
        names = getattr(self, "feature_names_in_", None)
        return plot_synapses(self.network_, names, self.output_names_, path)

    @usual_torch()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the fitted estimator as a safetensors file without code; an existing one is replaced when it is whole.

        Args:
            path: The file, `NAME.safetensors`.

        Raises:
            ValueError: If the name ends in something else.
            TypeError: If a parameter cannot be written down.
            OSError: If it cannot be written.
        """
        check_is_fitted(self, "network_")
        names = getattr(self, "feature_names_in_", None)
        save_estimator(
            path,
            SavedEstimator(
                estimator=type(self).__name__,
                params=self.get_params(deep=False),
                features=None if names is None else list(names),
                columns=self.n_features_in_,
                metadata=self._metadata,
                history=self.history_,
                best_epoch=self.best_epoch_,
                stopped=self.stopped_,
                seed=self.seed_,
            ),
            self.network_,
            self._arrays,
        )

    @classmethod
    @usual_torch()
    def load(cls: type[_Self], path: str | os.PathLike[str]) -> _Self:
        """Load what `save` wrote. Nothing in the file is run, so one of unknown origin can be opened.

        A wiring of an own class comes back as its synapses; a `random_state` that was an object comes back as `None`.

        Raises:
            ValueError: If the file is no saved estimator of this class, damaged or of a newer format.
            OSError: If it cannot be read.
        """
        saved, network, arrays = load_estimator(path, cls.__name__)
        try:
            estimator = cls(**saved.params)
        except TypeError as error:  # a parameter that this class has not
            raise ValueError(f"'{path}' is damaged: it contradicts itself: {one_line(error)}") from error
        estimator.n_features_in_ = saved.columns
        if saved.features is not None:
            estimator.feature_names_in_ = np.array(saved.features, object)
        estimator._take(
            Trained(saved.metadata, arrays, network, saved.history, saved.best_epoch, saved.stopped, saved.seed)
        )
        return estimator

    @usual_torch()
    def export(
        self,
        path: str | os.PathLike[str],
        *,
        time: Literal["fixed", "measured"] | None = None,
        period_s: float | None = None,
        margin: float | None = 1.0,
        inputs: Sequence[str | Feature] | None = None,
        outputs: Sequence[str | Feature] | None = None,
        **options: Any,
    ) -> ExportReport:
        """Export as a bundle that takes raw sensor units, and prove it equal.

        The step gives what `predict_step` gives: values, or the probability of each class. Where there is one answer
        per sequence, `predict` averages the last `readout_steps_` of them, and so does a stream on the device: what its
        step returns is what `predict` gives for the samples since the last reset. A classifier's stream has a `label`.
        The bounds of the states in the bundle are those of the proof, which steps through training data first.

        Args:
            path: Where the bundle goes, `NAME.lnn`.
            time: "measured" makes dt an input, "fixed" takes every dt as the period; `None` is "measured" for a model
                fitted with timespans, which then must have been in seconds, else "fixed".
            period_s: Nominal time between samples, seconds; `None` is the median of the timespans of training.
            margin: Samples are refused on the device if they are further outside the range seen in training than this
                many widths of it; `None` for no limits.
            inputs: Name or `lnn_edge.Feature` per column; `None` for the frame's columns. What a Feature knows about
                its range and limits is kept.
            outputs: Likewise; `None` for the columns of y, or the classes.
            options: More arguments of `export_model`: overwrite, batch, unroll, precision, dt_range_s, progress, ...

        Returns:
            The report; it prints as a sentence.

        Raises:
            ValueError, TypeError, VerificationError, OSError: As `export_model`.
        """
        check_is_fitted(self, "network_")
        named = getattr(self, "feature_names_in_", None)
        names = [f"input_{k}" for k in range(self.n_features_in_)] if named is None else list(named)
        given = {name: value for name, value in (("time", time), ("period_s", period_s)) if value is not None}
        return export_fitted(
            self.network_,
            self._metadata,
            self._arrays,
            path,
            inputs=inputs,
            outputs=outputs,
            names=names,
            margin=margin,
            options={**options, **given},
        )

    def _score(self, X: Any, y: Any, sample_weight: Any, timespans: Any) -> float:  # noqa: N803
        """Accuracy or coefficient of determination over all answers, one per step or one per sequence."""
        check_is_fitted(self, "network_")
        if y is None:
            raise ValueError("This estimator requires y to be passed, but the target y is None: a score needs answers")
        return score_outputs(self._metadata, *self._outputs(X, timespans, None), y, sample_weight)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(todays_state(state))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
