"""A stream: one sequence of samples through a model, with the recurrent state kept between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array
from ..bundle.manifest import Manifest
from ..bundle.spec import DT_INPUT
from ..errors import NonFiniteError
from .clock import make_clock
from .constants import CONSTANT, ConstantInputs
from .input_port import by_name, feature_label, input_port
from .readouts import label_of
from .sequence import check_lengths, check_recording, recording_in_unroll_blocks, samples_from_unroll_blocks
from .state import State, check_state, initial_state

if TYPE_CHECKING:
    from ..backends import Stepper

__all__ = ["SECOND_THREAD", "Stream", "checked_rows", "newest_label", "run_recording"]


SECOND_THREAD = "this stream is being stepped by another thread. Give each thread its own: model.stream()"


class Stream:
    """Steps a model once per sample and keeps its state. Made by `Model.stream()`; `steps` counts the samples.

    A step is all or nothing: when it raises, for whatever reason, state and clock are what they were before. Results
    live in the stream's buffers and last until the next call of `step`; copy what must last longer. A stream is for
    one thread at a time; a second one gets a RuntimeError. Several streams of one model may run in several threads.
    """

    fresh = True  # every step has a result; with windows, only those that complete one
    one_per_call = False  # a block of samples has a result for each

    def __init__(self, manifest: Manifest, stepper: Stepper) -> None:
        self._manifest = manifest
        self._stepper = stepper
        self._ports = {t.name: input_port(t, stepper.sample[t.name], manifest.name) for t in manifest.streamed}
        self._constants = ConstantInputs(manifest, stepper.sample)
        self._squeeze, self._unroll = manifest.batch == 1, manifest.unroll
        self._heads = frozenset(t.name for t in manifest.outputs)
        self._result: Any = None
        only = next(iter(self._ports.values())) if len(self._ports) == 1 else None
        self._put: Callable[[Any], None] = only.put if only and not self._constants.names else self._put_named
        self._clock = make_clock(manifest, stepper.sample.get(DT_INPUT))
        self._single = manifest.outputs[0].name if len(manifest.outputs) == 1 else None
        # A token that a step takes and gives back: list.pop is atomic, so two threads can never both hold it, and
        # unlike a lock nobody waits for it.
        self._token = [None]
        self.steps = 0
        self.restore(initial_state(manifest))

    def step(self, x: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """Advance by one sample, or by one block of samples if the bundle was exported with `unroll`.

        Args:
            x: The sample, of the manifest's dtype at best, shape (features,), or (batch, features) if the batch is
                above 1; a block has shape (unroll, features) or (batch, unroll, features). A dict of such arrays by
                input name if the model has several inputs, constants not among them.
            dt_s: Only with measured time: seconds since the previous sample, within the manifest's `dt_range_s`. One
                number, or shape (batch, unroll), with `unroll` 1 for single samples; for a block of a single row also
                shape (unroll,).
            t_s: Instead of `dt_s`: the sample's time in seconds, on any clock that goes forward; for a block the time
                of each sample, shape (unroll,). The first sample after a reset counts as one period.

        Returns:
            Output, shape (outputs,) or (batch, outputs), for a block (unroll, outputs) or (batch, unroll, outputs); a
            dict of these by name if there are several. It lives in the stream's buffer and lasts until the next call.

        Raises:
            TypeError: If the sample holds no real numbers.
            ValueError: If a shape or name is wrong, a value is outside its limits, or the time is missing, unexpected
                or illegal.
            NonFiniteError: If the sample, the result or the next state is not finite.
            BackendError: If the backend fails.
            RuntimeError: If another thread is stepping this stream.
        """
        try:
            self._token.pop()
        except IndexError:
            raise RuntimeError(SECOND_THREAD) from None
        try:
            self._put(x)
            now = self._clock.put(dt_s, t_s)
            if not self._stepper.run():
                raise NonFiniteError(self._result_message())
            self._clock.last_s = now
            self.steps += self._unroll
        finally:
            self._token.append(None)
        outputs = self._stepper.outputs
        if self._single is not None:
            result = outputs[self._single]
            self._result = result[0] if self._squeeze else result
        else:
            heads = ((name, array) for name, array in outputs.items() if name in self._heads)
            self._result = {name: array[0] if self._squeeze else array for name, array in heads}
        return self._result

    @property
    def label(self) -> str | tuple[str, ...] | None:
        """The class that the newest result stands for; one per row if there are several; `None` before the first.

        Raises:
            ValueError: If the model has no labels.
        """
        return newest_label(self._manifest.labels, self._result)

    def run(self, xs: Any, *, dt_s: Any = None, t_s: Any = None) -> Any:
        """Advance by a whole recording; the same as `step` for every sample or block.

        Args:
            xs: Samples, shape (T, features) or (T, batch, features); a dict of such arrays with several inputs. With
                `unroll` T must be a whole number of blocks.
            dt_s: Only with measured time: seconds since the previous sample, one number or shape (T,) or (T, batch, 1).
            t_s: Instead of `dt_s`: the samples' times in seconds, shape (T,).

        Returns:
            Outputs, shape (T, outputs) or (T, batch, outputs), a copy; a dict with several outputs.

        Raises:
            As `step`. State, clock and `steps` are then what they were before the call; the message names the sample.
        """
        return self._joined(run_recording(self, self._manifest, xs, dt_s, t_s))

    def reset(self, rows: Sequence[int] | None = None, *, constants: Mapping[str, Any] | None = None) -> None:
        """Go back to the initial state; the next sample starts a new sequence.

        Args:
            rows: Of a batch, the numbers of the rows that start anew; the others go on. `None` for all of them.
            constants: The constant inputs of the new sequence by name, shaped as one sample, (rows, ...) with `rows`.
                `None` keeps those of the last one.

        Raises:
            ValueError, TypeError, NonFiniteError: If there is no such row, or a constant is missing, unknown or does
                not fit. The stream keeps the state and the constants that it had.
        """
        start = initial_state(self._manifest)
        index = None if rows is None else checked_rows(rows, self._manifest.batch)
        self._constants.put(constants, index if self._manifest.batch > 1 else None)
        if index is None:
            self.restore(start)
            return
        state = self._stepper.read_state()
        for name, value in start.tensors.items():
            state[name][index] = value[index]
        self._stepper.write_state(state)
        self._result = None

    def snapshot(self) -> State:
        """Copy the state, to `restore` it later, in this stream or another one of the same model.

        It can be pickled, so a program that is restarted goes on where it was.
        """
        return State(self._stepper.read_state(), self._clock.last_s, self._constants.read())

    def restore(self, state: State) -> None:
        """Go on from a state that `snapshot`, `Model.step` or `Model.initial_state` gave.

        Raises:
            TypeError, ValueError, NonFiniteError: If it does not fit; the stream keeps the state it had.
        """
        check_state(state, self._manifest)
        kept = {name: value for name, value in state.kept.items() if not name.startswith(CONSTANT)}
        if kept:
            raise ValueError(
                "the state comes from a stream of windows or readouts, and holds what this one has no place for. "
                "Restore it into a stream that is made in the same way: model.stream(window=...)"
            )
        if state.kept:
            self._constants.put({name.removeprefix(CONSTANT): value for name, value in state.kept.items()})
        self._stepper.write_state(state.tensors)
        self._clock.last_s = state.t_s
        self._result = None

    def checked(self, x: Any) -> Any:
        """A copy of a sample as `step` takes it, checked as `step` does, which is not called.

        Raises:
            TypeError, ValueError, NonFiniteError: As `step`.
        """
        self._put(x)
        samples = {name: port.read() for name, port in self._ports.items()}
        return samples if len(samples) > 1 else next(iter(samples.values()))

    def _put_named(self, x: Any) -> None:
        if len(self._ports) == 1 and not isinstance(x, Mapping):
            x = dict.fromkeys(self._ports, x)
        for name, value in by_name(x, self._ports, self._constants.names).items():
            self._ports[name].put(value)

    def _result_message(self) -> str:
        tensors = {t.name: t for t in self._manifest.outputs}
        for name, array in self._stepper.read_results().items():
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                index = tuple(int(i) for i in bad[0])
                where = feature_label(tensors[name], index) if name in tensors else f"index {list(index)}"
                return (
                    f"the step gave {array[index]} in '{name}' at {where}; the state is unchanged. The sample is "
                    "finite but far outside what the model can compute: check its unit and scale"
                )
        return "the step gave a result that is not finite; the state is unchanged"

    def _joined(self, results: list[Any]) -> Any:
        """Results call by call, as one array of samples per output."""
        if not results:
            shapes = {t.name: t.shape[1:] if self._squeeze else t.shape for t in self._manifest.outputs}
            empty = {name: np.zeros((0, *shape), np.float32) for name, shape in shapes.items()}
            return empty[self._single] if self._single is not None else empty
        if isinstance(results[0], dict):
            return {name: self._samples(np.stack([r[name] for r in results])) for name in results[0]}
        return self._samples(np.stack(results))

    def _samples(self, calls: Array) -> Array:
        if self._unroll == 1:
            return calls
        return calls.reshape(-1, *calls.shape[2:]) if self._squeeze else samples_from_unroll_blocks(calls)


def run_recording(stream: Any, manifest: Manifest, xs: Any, dt_s: Any, t_s: Any) -> list[Any]:
    """What `run` does: the results of all calls, copied; any error leaves the stream as it was."""
    check_recording(manifest, xs)
    if isinstance(xs, Mapping):  # a constant among them has no length of its own
        by_name(xs, {t.name: None for t in manifest.streamed}, [t.name for t in manifest.constants])
    check_lengths(xs, dt_s=dt_s, t_s=t_s)
    if manifest.unroll > 1:
        xs, dt_s, t_s = recording_in_unroll_blocks(manifest, xs, dt_s, t_s)
    calls, before, results = _calls(xs), stream.snapshot(), []
    steps, fresh = stream.steps, stream.fresh
    for k, sample in enumerate(calls):
        try:
            y = stream.step(sample, dt_s=_at(dt_s, k), t_s=_at(t_s, k))
        except BaseException as error:  # Ctrl-C as well
            stream.restore(before)
            stream.steps, stream.fresh = steps, fresh
            if hasattr(error, "add_note"):
                what = "sample" if manifest.unroll == 1 else "block"
                error.add_note(f"in {what} {k} of {len(calls)}; the stream is back at the state before `run`")
            raise
        results.append({n: a.copy() for n, a in y.items()} if isinstance(y, dict) else y.copy())
    return results


def checked_rows(rows: Sequence[int], batch: int) -> list[int]:
    """Numbers of rows of a batch.

    Raises:
        TypeError: If one is no whole number.
        ValueError: If there is no such row.
    """
    if isinstance(rows, (str, bytes)) or not isinstance(rows, (Sequence, np.ndarray)):
        raise TypeError(f"`rows` is {rows!r}, expected a list of numbers of rows")
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, (int, np.integer)):
            raise TypeError(f"`rows` holds {row!r}, expected whole numbers")
        if not 0 <= row < batch:
            raise ValueError(f"`rows` holds {row}, but the model has the rows 0 to {batch - 1}")
    return [int(row) for row in rows]


def newest_label(labels: tuple[str, ...], result: Any) -> str | tuple[str, ...] | None:
    """The label of a result; `None` if there is none yet."""
    return label_of(labels, np.full(1, np.nan) if result is None else result)


def _calls(xs: Any) -> Any:
    """Samples or unroll blocks by index: rows of an array or sequence, or dicts of rows."""
    if isinstance(xs, dict):
        return [{name: value[k] for name, value in xs.items()} for k in range(len(next(iter(xs.values()), ())))]
    return xs


def _at(times: Any, k: int) -> Any:
    return times[k] if np.ndim(times) > 0 else times
