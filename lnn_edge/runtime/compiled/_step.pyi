from typing import Any

import numpy as np
from numpy.typing import NDArray

def make_core(text: str, /) -> type: ...
def within(value: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], /) -> bool: ...
def side_by_side(
    function: int,
    work: int,
    limits: NDArray[np.float32] | None,
    given: tuple[NDArray[np.float32], ...],
    sizes: tuple[int, ...],
    shapes: tuple[tuple[int, ...], ...],
    may: NDArray[np.bool_] | None,
    /,
) -> tuple[NDArray[Any], ...]: ...
def pack(
    memory: bytearray,
    start: int,
    layout: tuple[int, ...],
    tick: tuple[object, ...],
    number: int,
    t_s: object,
    mono_ns: int,
    wall_ns: int,
    has_state: bool,
    /,
) -> bool: ...
def limited(
    raw: object,
    sent: object,
    most_s: float,
    low: NDArray[np.float32] | None,
    high: NDArray[np.float32] | None,
    slew: NDArray[np.float64] | None,
    /,
) -> NDArray[np.float32] | None: ...
