"""Timespans that a network gives its cores by itself, checked where they are used."""

from __future__ import annotations

from ..wording import chosen, typed

__all__ = ["check_timespan"]


def check_timespan(name: str, shortest: float, divides: bool) -> None:
    """Refuse time that runs backwards, and time that stands still where the solver divides by it.

    Args:
        name: The core.
        shortest: The shortest timespan of a call.
        divides: Whether the core divides by it, as an LTC does.

    Raises:
        ValueError: Naming the core, and how to say what its inputs may be.
    """
    if shortest < 0 or (divides and shortest == 0):
        limited = typed("inputs=[..., 'gap:s:0.001:0.5']", "--inputs ...,gap:s:0.001:0.5")
        raise ValueError(
            f"the model itself gives the core '{name}' the timespan {shortest:.3g}, expected "
            f"{'more than 0' if divides else 'at least 0'}. If it comes from an input, say what is legal there: "
            f"{limited}. The proof and "
            "the robot then keep to it. If it is the time between samples, call that argument `timespans` in the "
            "forward, and leave it out of the example. If it comes from time stamps, give it an argument `timespans` "
            f"in their place and export with {chosen('time', 'measured')}: "
            f"{typed('stream.step(x, t_s=...)', 'lnn-edge run --time-column NAME')} takes stamps"
        )
