"""Weights of cores: hidden while a step is traced, and found quickly while it is called thousands of times.

In a trace a core is one operation, and computes with none of its weights; but torch makes something of every tensor in
a module that it traces, and nearly all of them are in cores: half of its time. A forward that looks at them all the
same is noticed, and can be traced with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["HiddenWeights", "quick_lookup"]

_STORES = ("_parameters", "_buffers")  # in which a module keeps its tensors


class HiddenWeights:
    """The parameters and buffers of some modules, and of those inside them.

    Args:
        modules: The modules.

    Attributes:
        asked_for: Whether the code that was watched looked for one of them while they were hidden.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._parts = list({id(part): part for module in modules for part in module.modules()}.values())
        self._watched = self.asked_for = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notice who looks for them within."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Without them within."""
        self.asked_for = False
        stores = [(vars(part), name, vars(part)[name]) for part in self._parts for name in _STORES]
        for contents, name, store in stores:
            contents[name] = _Empty(frozenset(store), self)
        try:
            yield
        finally:
            for contents, name, store in stores:
                contents[name] = store

    def notice(self) -> None:
        """Somebody looks for one of them."""
        self.asked_for |= self._watched


class _Empty(dict[str, Any]):
    """A store of tensors that has none, and notices who looks for those that it had, or goes through them all."""

    def __init__(self, names: frozenset[str], owner: HiddenWeights) -> None:
        super().__init__()
        self._names, self._owner = names, owner

    def __contains__(self, name: object) -> bool:
        if name in self._names:
            self._owner.notice()
        return False

    def __iter__(self) -> Iterator[str]:
        self._owner.notice()
        return super().__iter__()

    def __len__(self) -> int:
        self._owner.notice()
        return 0

    def __getitem__(self, name: str) -> Any:
        self._owner.notice()
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._owner.notice()
        return super().get(name, default)

    def keys(self) -> Any:
        self._owner.notice()
        return super().keys()

    def values(self) -> Any:
        self._owner.notice()
        return super().values()

    def items(self) -> Any:
        self._owner.notice()
        return super().items()


@contextmanager
def quick_lookup(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let parameters and parts of some modules, and of all inside them, be found where Python looks first.

    What they compute is the same. Python else asks torch's `__getattr__` for each, up to a quarter of the time of a
    step. Buffers are left out, as a forward may set them. No trace may run within, as it puts other tensors in the
    place of parameters.
    """
    put = []
    for part in {id(part): part for module in modules for part in module.modules()}.values():
        contents = vars(part)
        own = {k: v for k, v in {**part._parameters, **part._modules}.items() if k not in contents}
        contents.update(own)
        put += [(contents, name) for name in own]
    try:
        yield
    finally:
        for contents, name in put:
            contents.pop(name, None)
