"""Public estimators; their base class is in `base`."""

from __future__ import annotations

import os
from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import ClassifierTags, RegressorTags

from .base import LiquidEstimator

__all__ = ["LiquidNeuralClassifier", "LiquidNeuralNetwork", "LiquidNeuralRegressor"]


class LiquidNeuralRegressor(RegressorMixin, LiquidEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Predicts values from sequences with a liquid neural network; see `LiquidNeuralNetwork` for the parameters."""

    def _task(self) -> str:
        return "regression"

    def score(self, X: Any, y: Any, sample_weight: Any = None, timespans: Any = None) -> float:  # noqa: N803
        """Coefficient of determination over all answers; 1 is perfect."""
        return self._score(X, y, sample_weight, timespans)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class LiquidNeuralClassifier(ClassifierMixin, LiquidEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Tells classes of sequences or of steps apart; see `LiquidNeuralNetwork` for the parameters."""

    def _task(self) -> str:
        return "classification"

    def score(self, X: Any, y: Any, sample_weight: Any = None, timespans: Any = None) -> float:  # noqa: N803
        """Share of right labels over all answers."""
        return self._score(X, y, sample_weight, timespans)


class LiquidNeuralNetwork(LiquidEstimator):
    """A liquid neural network trained on sequences, used as scikit-learn's estimators are, and exported to a device.

        model = LiquidNeuralNetwork(n_neurons=20, model_type="LTC")
        model.fit(X_train, y_train, epochs=400, clip_value=1, learning_rate=0.01, n_jobs=8)
        model.predict(X_test)
        model.export("name.lnn", period_s=0.1)

    Inputs and targets are scaled inside, and the scaling is exported with the network: the device takes raw units.

    The default score takes y of any shape, scikit-learn's own metrics at most two axes: for another `scoring` in a
    cross-validation give a single target as (sequences, time), or pass a function that takes the model, X and y.

    Args:
        n_neurons: Neurons of each liquid layer; with AutoNCP at least the outputs and 3 more.
        model_type: "LTC" or "CfC", in any case.
        wiring: "auto" is AutoNCP, whose motor neurons are the outputs; "full" connects all neurons and puts a Linear
            head behind them; or any wiring of `ncps.wirings` that was not built yet, which is copied, with a Linear
            head unless it has one motor neuron per output.
        sparsity: Of AutoNCP, 0.1 (dense) to 0.9 (sparse).
        wiring_seed: Seed of AutoNCP.
        stacked: Put a fully connected liquid layer before the wired one, and a Linear head behind it.
        per_target: One network per output, side by side.
        mixed_memory: Put an LSTM's memory into each liquid layer.
        cell_options: More arguments of `ncps.torch.LTC` or `CfC`: `ode_unfolds`, `mode`, `backbone_units`, ...
        rows: What the rows of a 2-D X are: the "steps" of one sequence, or "sequences" of one step each, as
            scikit-learn's own estimators read them.
        targets: Whether there is an answer for each of the "steps" or per "sequence"; "auto" looks at the shape of y,
            and takes (sequences, time) for steps, refuses one step more or less, and goes by `rows` for a 2-D X.
        readout: How one answer per sequence comes out of its outputs: the "last" one, the "mean" of all, or the mean of
            this many last ones; "auto" is the last one for values, and for labels the mean of as many as half a
            training sequence has steps.
        scale_inputs: Standardise the features.
        scale_targets: Standardise the targets.
        epochs: Passes over the data, at least 1.
        batch_size: Sequences per step of the optimizer (Adam).
        learning_rate: At its highest.
        schedule: How it changes: "cosine" (down to almost nothing), "one-cycle" (up, then down) or "constant".
        weight_decay: L2 penalty.
        clip_value: Largest norm of the gradient; `None` does not clip.
        window: Steps through which gradients flow; long sequences are trained in windows of so many steps, the state
            carried from one to the next (truncated backpropagation). `None`: through all.
        validation_split: Share of the sequences that is held out to judge the weights by, 0 to 0.9; of a single
            sequence its end. 0 judges them by the training loss.
        patience: Stop after so many epochs without a lower loss; `None` never does. The weights of the best epoch are
            kept in any case.
        noise: Standard deviation of the noise added to the features in training, as a share of theirs, scaled or not.
        gain: Largest change of a feature's gain in training: 0.3 multiplies with 0.7 to 1.3, anew in each epoch.
        crop: Share of a sequence that is shown at a time, from anywhere in it, above 0 to 1.
        random_state: Seed; the same one gives the same weights bit for bit, on the same machine with as many threads.
            `None` draws one, kept in `seed_`.
        device: "auto" trains on a GPU if there is one; or a device of torch: "cpu", "cuda", "cuda:1", "mps", ...
            Predictions are made on the CPU.
        n_jobs: Threads for torch, and for making the next batches meanwhile, at most one per CPU core; -1 for all;
            `None` takes one for a small network, below 2**25 weights times rows of a batch, where threads would wait
            for one another longer than they compute, and torch's setting for a larger one. That is put back afterwards.
        verbose: 0 says nothing; 1 draws a progress bar on terminals, and elsewhere writes a line every 10 s; 2 writes
            a line for each tenth of the epochs.
        checkpoint: File, `NAME.safetensors`, from which an interrupted fit with the same data and parameters goes on
            as if it had not been interrupted. Written whole or not at all. With more `epochs` it trains longer.
        checkpoint_every: Epochs between two checkpoints.
        task: "regression", "classification", or "auto": whole numbers, booleans and text are labels.

    Attributes:
        task_: What it was fitted for.
        classes_: The labels, sorted (classification only).
        n_features_in_, feature_names_in_: Columns of X; names only if it was a frame.
        n_outputs_, output_names_: Outputs of a step: targets, or one per class.
        readout_steps_: Over how many last steps an answer per sequence is averaged; `None` with answers per step.
        time_unit_: Median of the timespans, by which they are divided; `None` without.
        network_: The `torch.nn.Module`, on the CPU, in eval mode.
        history_: One record per epoch: loss, validation_loss, learning_rate.
        best_epoch_, n_epochs_: The epoch whose weights were kept, from 1, and how many were trained.
        stopped_: "finished", "early", "diverged" or "interrupted".
        seed_: Seed of the fit.
    """

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
        task: str = "auto",
    ) -> None:
        super().__init__(
            n_neurons,
            model_type,
            wiring=wiring,
            sparsity=sparsity,
            wiring_seed=wiring_seed,
            stacked=stacked,
            per_target=per_target,
            mixed_memory=mixed_memory,
            cell_options=cell_options,
            rows=rows,
            targets=targets,
            readout=readout,
            scale_inputs=scale_inputs,
            scale_targets=scale_targets,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            schedule=schedule,
            weight_decay=weight_decay,
            clip_value=clip_value,
            window=window,
            validation_split=validation_split,
            patience=patience,
            noise=noise,
            gain=gain,
            crop=crop,
            random_state=random_state,
            device=device,
            n_jobs=n_jobs,
            verbose=verbose,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        self.task = task

    def _task(self) -> str:
        return str(self.task)

    def score(self, X: Any, y: Any, sample_weight: Any = None, timespans: Any = None) -> float:  # noqa: N803
        """Coefficient of determination or, for labels, share of right ones, over all answers."""
        return self._score(X, y, sample_weight, timespans)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        task = getattr(self, "task_", self.task)
        if task == "classification":
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        elif task == "regression":
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        tags.target_tags.required = True
        tags.target_tags.multi_output = task != "classification"
        return tags
