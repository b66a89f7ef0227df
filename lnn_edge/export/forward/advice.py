"""Advice on errors that the user's own code raises: what to write instead, by what torch says."""

from __future__ import annotations

import re

from ...wording import plural, typed
from ..trace.trace import UNIMPORTED

__all__ = ["FEWER", "advice_on", "any_length", "other_width", "widths_to_try"]

FEWER = (
    "A convolution over time that is not padded, or has a stride, and a pooling over time give fewer outputs than they "
    "get samples, and a stream gives one for each. Let it see the past alone, functional.pad(x, (kernel_size - 1, 0)) "
    "along time before it, with stride=1, and train it so; or make one sample of those that belong together, "
    "x.reshape(batch, time // n, n * features), before the model"
)
_STATE = (
    "The forward needs `{}` in every call, and was given None, as at the start of a sequence: give it a default, and "
    "let it make zeros of None, or pass None on to its cores. If it is an observation, record it in the example as well"
)
_FLOAT32 = "Export computes in float32 throughout: leave casts such as x.double() and x.half() out of the forward"
_WHOLE_NUMBERS = "Places in a table are whole numbers: pass them as integers, example.astype(int), or cast here"
_TABLE = "If these are places in a table, it is smaller: correct the example, or say how far the column goes, {}"
_PAIR = (
    "LTC and CfC return (outputs, state), as torch's GRU and LSTM do, and the outputs are what goes on: "
    "y, _ = self.rnn(x). In an nn.Sequential put a module between them that takes those, class Outputs(nn.Module): "
    "def forward(self, pair): return pair[0]"
)
_DEVICE = (
    "Export runs a copy of the model on the CPU, and its code names another device: write device=x.device and "
    "y.to(x.device) there; or, if the code chooses by torch.cuda.is_available(), hide the GPU from the program that "
    "exports, CUDA_VISIBLE_DEVICES= before its command"
)

_SIZES, _WIDEST = 6, 1 << 16  # sizes that an error names, and columns that anybody has
# What Python and torch say of a pair in the place of a tensor.
_TUPLE = r"not tuple|'tuple'|to tuple|tuple indices|multiply sequence"
# What torch says of a convolution, and of a pooling, over so many samples.
_TOO_FEW = r"input size per channel: \({0}\)|input size: \(\d+x1x{0}\)"
# Of tensors in two places; of a device that this torch, or this machine, has not.
_OTHER_DEVICE = (
    r"on the same device|not on the expected device|Torch not compiled with|Found no NVIDIA driver|No CUDA GPUs|"
    r"Expected one of .* device type"
)


def advice_on(error: Exception, length: int | None = None, state: str | None = None) -> str:
    """What to write instead of code that raised an error; nothing, where the error alone does not say.

    Args:
        error: What it raised.
        length: The samples of the sequence it was called with, unless it was a single one.
        state: The argument that it was given None for, as at the start of a sequence.
    """
    told = str(error)
    if isinstance(error, ImportError):
        return UNIMPORTED
    if re.search(_OTHER_DEVICE, told):
        return _DEVICE
    if length is None:
        return ""
    if isinstance(error, (TypeError, AttributeError)) and re.search(_TUPLE, told):
        return _PAIR
    if isinstance(error, IndexError) and "out of range" in told:
        return _TABLE.format(typed("inputs=[..., 'kind::0:6']", "--inputs ...,kind::0:6"))
    if re.search(_TOO_FEW.format(length), told):
        return FEWER
    if "NoneType" in told and state:
        return _STATE.format(state)
    if "Long, Int" in told:
        return _WHOLE_NUMBERS
    return _FLOAT32 if re.search("Double|Half|BFloat16", told) else ""


def widths_to_try(error: Exception, width: int) -> list[int]:
    """How many columns a model may take whose code raised an error about sizes when it was given `width`.

    Torch's words differ from layer to layer and name the sizes, sometimes with those of a state added to both.
    """
    found = [int(number) for number in re.findall(r"\d+", str(error))][:_SIZES]
    near = [width + b - a for a in found for b in found]
    return [size for size in dict.fromkeys(found + near) if 0 < size < _WIDEST and size != width]


def other_width(takes: int, width: int) -> str:
    """What to do where a model takes another number of columns than the example has."""
    how = typed("", ", those of a .csv file by their names: --inputs NAME,NAME,...")
    return f"The model takes {plural(takes, 'column')}, and the example has {width}. Pass one with {takes}{how}"


def any_length() -> str:
    """What to write where nothing more is known of the error."""
    return (
        "Export calls it with one row and with any number of samples, one as well: write it for any length, or "
        f"export what it does with one sample as {typed('step=function', '--step NAME')}"
    )
