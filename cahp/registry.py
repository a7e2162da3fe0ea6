"""What a pruning method is, and how the others find it.

A method is one file with one decorated class. Packages outside add theirs through the entry point group
``cahp.methods``, whose entries name such a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.values import Clustering, GateGradients, OptionError, Selection, Signatures, Space, Texts

ENTRY_POINTS = "cahp.methods"


class Evidence(Protocol):
    """What is known of a model's heads on the selection texts; each part is computed when first asked, once."""

    @property
    def texts(self) -> Texts:
        """The selection texts."""

    @property
    def signatures(self) -> Signatures:
        """How each head attends, per class."""

    @property
    def gradients(self) -> GateGradients:
        """Signed per-example gradients of the loss at open gates."""

    @property
    def salience(self) -> NDArray[np.float64]:
        """Salience ``(L, H)`` in 0..1."""

    @property
    def space(self) -> Space:
        """Where each head lies."""

    @property
    def clustering(self) -> Clustering:
        """Clusters for every k."""


class Method(Protocol):
    """A way to choose heads. ``name`` is how people call it, ``needs_budget`` whether it cannot suggest one."""

    name: str
    needs_budget: bool

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads (None: as many as the method suggests)."""


_methods: dict[str, Callable[[], Method]] = {}
Made = TypeVar("Made", bound=Callable[[], Method])


def register(made: Made) -> Made:
    """Class decorator: make a method known under its ``name``.

    Raises:
        ValueError: If another method has the name.
    """
    name: str = made.name  # type: ignore[attr-defined]
    if name in _methods:
        raise ValueError(f"two methods are named {name!r}")
    _methods[name] = made
    return made


def names() -> list[str]:
    """Names of all methods, those of outside packages included."""
    return sorted({*_methods, *(point.name for point in _outside())})


def get(name: str) -> Method:
    """The method of that name, with its default options.

    Raises:
        OptionError: If there is none.
    """
    if name in _methods:
        return _methods[name]()
    for point in _outside():
        if point.name == name:
            made: Callable[[], Method] = point.load()
            return made()
    raise OptionError(f"no method named {name!r}; choose one of {', '.join(names())}")


def _outside() -> Iterator[EntryPoint]:
    yield from entry_points(group=ENTRY_POINTS)
