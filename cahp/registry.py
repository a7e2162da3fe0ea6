"""What a pruning method is, and how the others find it.

A method is one file in ``cahp.methods`` with a decorated class. Packages outside add theirs through the entry point
group ``cahp.methods``, whose entries name such a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.cards import ModelCard
from cahp.head_statistics import Clustering, GateGradients, Signatures, Space
from cahp.values import Floats, OptionError, Progress, Selection, Texts

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

ENTRY_POINTS = "cahp.methods"


class Evidence(Protocol):
    """What methods may know of a model's heads: measured on calibration texts, each part once, when first asked for."""

    @property
    def card(self) -> ModelCard:
        """The model's shape and name, for which its weights need not be read."""

    @property
    def model(self) -> HeadModel:
        """The model, read when first asked for. It is shared: nobody changes it."""

    @property
    def texts(self) -> Texts:
        """The calibration texts."""

    @property
    def seed(self) -> int:
        """Where a method's own randomness starts."""

    @property
    def progress(self) -> Progress:
        """To be called between batches; may raise ``Cancelled``."""

    def remembered(self, name: str, make: Callable[[], Floats]) -> NDArray[np.float64]:
        """What ``make`` gives, or gave before for this model, these texts and this seed.

        ``name`` must hold all else that the result depends on.
        """

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
    """A way to choose heads. ``name`` is how people call it, ``needs_budget`` whether it cannot suggest one.

    It is constructed without arguments, or with keywords that have defaults; a keyword that is named as a field of
    ``cahp.run.settings.Settings`` gets, in a run, what the settings say. Methods may also have
    ``price(evidence, *, budget) -> Price``, what a choice costs, and say of themselves what ``Facts`` holds, as class
    attributes of these names.
    """

    name: str
    needs_budget: bool

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads (None: as many as the method suggests)."""


@dataclass(frozen=True)
class Facts:
    """What those who run many methods need to know of one.

    ``options`` are the names of what it can be constructed with, and ``tries`` such options that tuning texts may
    choose among (the first entry is the default). ``draws`` is how many masks a comparison draws, more than one of
    methods that are pure chance; ``learned`` whether it trains gates; ``expensive`` whether it takes as long as all the
    others together.
    """

    options: tuple[str, ...]
    tries: Sequence[Mapping[str, Any]] = ({},)
    draws: int = 1
    learned: bool = False
    expensive: bool = False


_methods: dict[str, Callable[..., Method]] = {}
Made = TypeVar("Made", bound=Callable[..., Method])


def register(made: Made) -> Made:
    """Class decorator: register a method under its ``name``.

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


def get(name: str, **options: Any) -> Method:
    """The method of that name, with its default options or others.

    Raises:
        OptionError: If there is none.
    """
    return _made(name)(**options)


def facts(name: str) -> Facts:
    """What the method of that name says of itself.

    Raises:
        OptionError: If there is none.
    """
    return _facts(_made(name))


@cache
def _facts(made: Callable[..., Method]) -> Facts:
    said = {fact: getattr(made, fact) for fact in ("tries", "draws", "learned", "expensive") if hasattr(made, fact)}
    options = tuple(one.name for one in signature(made).parameters.values() if one.kind is not Parameter.VAR_KEYWORD)
    return Facts(options, **said)


def _made(name: str) -> Callable[..., Method]:
    if name in _methods:
        return _methods[name]
    for point in _outside():
        if point.name == name:
            made: Callable[..., Method] = point.load()
            return made
    raise OptionError(f"no method named {name!r}; choose one of {', '.join(names())}")


@cache
def _outside() -> tuple[EntryPoint, ...]:
    # To look reads a file of every package that is installed, which takes longer than many a page that asks.
    return tuple(entry_points(group=ENTRY_POINTS))
