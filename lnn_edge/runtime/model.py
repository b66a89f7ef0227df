"""A loaded model: verified, immutable, shared by any number of streams."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, NoReturn

from ..backend_protocols import MeasuresDevice, StepsRows
from ..bundle.manifest import Manifest
from ..bundle.spec import Guard, StatePair, Tensor, Time
from ..given_numbers import given_flag, number_text
from ..wording import listed
from .compiled.stream import make_stream
from .constants import ConstantInputs, kept_constants
from .modes.mode import as_result, copied
from .modes.plain import Plain
from .state import State, check_build, initial_state, of_build

if TYPE_CHECKING:  # here and below: a start needs none of it
    from ..arrays import Array
    from ..backend_protocols import Backend
    from .figures.durations import DeviceFigures
    from .guard.guarded import Guarded
    from .modes.many import RowsPort
    from .stream import Stream

__all__ = ["Model"]


class Model:
    """A bundle ready to run; made by `lnn_edge.load`. Safe to share between threads.

    Attributes:
        name: The model's name.
        path: Where the bundle lies.
        backend: Name of the backend that really runs.
        description: The backend with its version and device.
        manifest: Everything the bundle says about itself.
    """

    def __init__(self, path: Path, manifest: Manifest, backend: Backend, backend_name: str) -> None:
        self.path = path
        self.manifest = manifest
        self.backend = backend_name
        self.description = backend.description
        self._backend = backend
        self._build: str = getattr(backend, "build", "")  # a backend that runs the bundle as it is has none
        self._local = threading.local()
        self._rows_port: RowsPort | None = None
        self._rows_backend: StepsRows | None = None

    @property
    def name(self) -> str:
        """The model's name, from the manifest."""
        return self.manifest.name

    @property
    def build(self) -> str:
        """Name of the build of the step, where the backend builds it for the device, else ""."""
        return self._build

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Inputs with shapes and features, `dt` not among them."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Outputs with shapes and features."""
        return self.manifest.outputs

    @property
    def states(self) -> tuple[StatePair, ...]:
        """Recurrent states: which graph input each graph output feeds."""
        return self.manifest.states

    @property
    def time(self) -> Time:
        """How the model sees time."""
        return self.manifest.time

    def stream(
        self,
        *,
        window: int | None = None,
        every: int | None = None,
        readout: bool = True,
        constants: Mapping[str, Any] | None = None,
        reuse: bool = False,
    ) -> Stream:
        """Start a stream with a state of its own, at the initial state.

        Args:
            window: Step windows of so many samples, each from the initial state, as a model that was trained on windows
                is evaluated; a step returns the readout of the newest complete one, NaN before the first, and
                `stream.fresh` says whether it completed one. With measured time each sample keeps the time since the
                sample before it, also where it is the first of a window. `None` keeps the state for ever.
            every: Samples from the beginning of one window to that of the next, at most `window`; by default as the
                model was exported for such windows, else `window`.
            readout: Whether a model with a readout (a mean over its last outputs, for instance) gives it; otherwise it
                gives the output of each sample.
            constants: The constant inputs of the first sequence by name, shaped as one sample, if the model has any;
                `reset` takes those of the next.
            reuse: Whether `step` gives its own buffers, overwritten by the next step, where each result would be a new
                array. It saves a copy, for loops that count nanoseconds.

        Raises:
            TypeError, ValueError: If window and every do not fit together, or not the blocks of a model with `unroll`;
                or if a constant is missing, unknown or does not fit, or an argument has another type.
        """
        given_flag("readout", readout)
        given_flag("reuse", reuse)
        own = self.manifest.readout if readout else None
        if window is None and every is None and own is None:
            return self.plain_stream(constants, reuse=reuse)
        known = self.manifest.window
        if window is None and every is not None and known is not None:
            window = known.length
        if every is None and known is not None and known.length == window:
            every = known.every
        from .modes.windows import readout_mode

        mode = readout_mode(self.manifest, self._plain, own, window, every)
        return make_stream(self.manifest, mode, mode.start(constants), reuse=reuse, build=self._build)

    def guarded(
        self,
        guard: Guard | None = None,
        *,
        clock: Callable[[], int] = monotonic_ns,
        constants: Mapping[str, Any] | None = None,
    ) -> Guarded:
        """Start a stream with a guard around it: policies on bad, late and gapped samples and on its state.

        Args:
            guard: The policies; `None` for those of the bundle, or a guard's own defaults.
            clock: The monotonic clock in nanoseconds, for samples that bring no time.
            constants: As `stream`.

        Raises:
            TypeError: If it is no guard, or the clock no function.
            ValueError: If the guard does not fit the model, or the model takes blocks of samples.
        """
        from .guard.guarded import Guarded

        if guard is not None and not isinstance(guard, Guard):
            raise TypeError(f"`guard` is a {type(guard).__name__}, expected lnn_edge.Guard(on_gap='reset', ...)")
        if not callable(clock):
            raise TypeError(
                f"`clock` is {number_text(clock)}, expected a function that gives nanoseconds: time.monotonic_ns"
            )
        return Guarded(self, self.stream(constants=constants), guard or self.manifest.guard or Guard(), clock)

    def plain_stream(self, constants: Mapping[str, Any] | None = None, *, reuse: bool = False) -> Stream:
        """Start a stream that gives the output of each sample, with a state that is kept.

        Raises:
            TypeError, ValueError, NonFiniteError: If a constant is missing, unknown or does not fit.
        """
        mode = self._plain()
        return make_stream(self.manifest, mode, mode.start(constants), reuse=reuse, build=self._build)

    def _plain(self) -> Plain:
        """A plain mode with buffers of its own."""
        return Plain(self.manifest, self._backend.stepper())

    def initial_state(self, *, constants: Mapping[str, Any] | None = None, rows: int | None = None) -> State:
        """The state in which every stream starts; it holds the constants, if the model has any.

        Args:
            constants: By name, shaped as one sample, if the model has any.
            rows: For `step_many`: of so many streams, each tensor (rows, units), or (rows, batch, units) with a batch
                above 1; all have the same constants.

        Raises:
            TypeError, ValueError, NonFiniteError: If a constant is missing, unknown or does not fit.
        """
        known = bool(self.manifest.constants) or constants is not None
        kept = kept_constants(ConstantInputs(self.manifest).checked(constants)) if known else {}
        if rows is not None:
            from .modes.many import initial_rows

            return initial_rows(self.manifest, rows, kept)
        return State(initial_state(self.manifest).tensors, None, kept)

    def step(self, x: Any, state: State, *, dt_s: Any = None, t_s: Any = None) -> tuple[Any, State]:
        """Advance by one sample or block, with the state as a value: nothing is kept between calls.

        Args:
            x: The sample, as for `Stream.step`.
            state: From `initial_state()`, from the last `step`, or from `Stream.snapshot()`; not modified.
            dt_s: As for `Stream.step`.
            t_s: As for `Stream.step`; the time of the last sample travels in the state.

        Returns:
            Output and next state, both new arrays. Slower than `Stream.step` by the copies.

        Raises:
            As `Stream.step` and `Stream.restore`.
        """
        # Out of reach while it is in use: a signal's handler that interrupts this and steps the model gets another one.
        plain: Plain = self._local.__dict__.pop("plain", None) or self._plain()
        try:
            check_build(state, self._build)
            start = plain.restored(plain.beginning(None), state)
            if self.manifest.constants and not state.kept:
                raise ValueError(self._missing_constants())
            now = plain.advance(start, x, dt_s, t_s)
            return copied(plain.result(now)), of_build(plain.state(now), self._build)
        finally:
            self._local.plain = plain

    def step_many(self, x: Any, state: State, dt_s: Any = None) -> tuple[Any, State, Array]:
        """Advance many streams by one sample or block each, a row for every stream.

        What a row gives is the same, bit for bit, whatever other rows there are; from `step` it may differ in the last
        bits, as many are computed at once where the backend can.

        Args:
            x: A sample for each row, shape (rows, features): one axis more in front than `step` takes. A dict of such
                arrays by input name if the model has several, constants not among them.
            state: Of all rows, from `initial_state(rows=...)` or the last `step_many`; not modified.
            dt_s: Only with measured time: seconds since each row's previous sample, one number or shape (rows,).

        Returns:
            Outputs, (rows, outputs), a dict of these if there are several; the next state; and which rows were done,
            bool (rows,). A row whose sample, time or result `step` would refuse keeps its state and gets NaN; so does
            one with a masked value, None, or other things than the numbers of a sample, beside rows that have them, and
            an object that raises when it is asked for its numbers.

        Raises:
            TypeError, ValueError: If shapes, types or names are wrong for all rows, or the state is one of other rows.
            Exception: What the rows' objects raise, if none of them can be read.
            BackendError: If the backend fails.
        """
        port = self._rows_port or self._with_rows()
        count, given = port.samples(x)
        port.check_state(state, count)
        check_build(state, self._build)
        spans = port.spans(dt_s, count)
        stepper = self._rows_backend.rows() if self._rows_backend is not None else None
        if stepper is None:
            from .modes.many import step_each

            y, after, ok = step_each(self.manifest, self.step, given, state, spans)
        else:
            y, after, ok = stepper.step(given, state.tensors, spans)
        return as_result(y), State(after, None, state.kept, self._build), ok

    def _with_rows(self) -> RowsPort:
        """What `step_many` needs, made at its first call."""
        from .modes.many import RowsPort

        self._rows_backend = self._backend if isinstance(self._backend, StepsRows) else None
        self._rows_port = RowsPort(self.manifest)
        return self._rows_port

    def _missing_constants(self) -> str:
        names = listed(t.name for t in self.manifest.constants)
        return (
            f"the state holds no constants, and model '{self.name}' has {names}. Begin with "
            "model.initial_state(constants={...})"
        )

    def device_figures(self, steps: int) -> DeviceFigures | None:
        """Measure where the time of a step goes on the backend's device.

        Args:
            steps: Number of measurements of each figure, >= 1.

        Returns:
            The figures, or `None` if this backend has no device apart from the CPU.
        """
        return self._backend.device_figures(steps) if isinstance(self._backend, MeasuresDevice) else None

    def __repr__(self) -> str:
        return f"Model({self.name!r}, backend={self.backend!r})"

    def __copy__(self) -> Model:
        return self  # it is immutable

    def __deepcopy__(self, _memo: Any) -> Model:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"model '{self.name}' cannot be pickled: its backend lives in this process. Load it in each process: "
            f"lnn_edge.load({str(self.path)!r})"
        )
