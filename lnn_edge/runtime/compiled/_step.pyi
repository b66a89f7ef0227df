import numpy as np
from numpy.typing import NDArray

def make_core(text: str, /) -> type: ...
def within(value: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], /) -> bool: ...
def limited(
    raw: object,
    sent: object,
    most_s: float,
    low: NDArray[np.float32] | None,
    high: NDArray[np.float32] | None,
    slew: NDArray[np.float64] | None,
    /,
) -> NDArray[np.float32] | None: ...
