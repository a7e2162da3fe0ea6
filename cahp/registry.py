"""What a pruning method is, and how the others find it.

A method is one file with one decorated class; most are a score and derive from ``Scored``. Packages outside add
theirs through the entry point group ``cahp.methods``, whose entries name such a class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.stages.selection import top
from cahp.values import (
    Clustering,
    Floats,
    GateGradients,
    ModelCard,
    OptionError,
    Price,
    Progress,
    Selection,
    Signatures,
    Space,
    Texts,
)

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

ENTRY_POINTS = "cahp.methods"


class Evidence(Protocol):
    """What is known of a model's heads on the selection texts; each part is computed when first asked, once."""

    @property
    def card(self) -> ModelCard:
        """The model's shape and name; known without reading its weights."""

    @property
    def model(self) -> HeadModel:
        """The model, read when first asked for. It is shared: nobody changes it."""

    @property
    def texts(self) -> Texts:
        """The selection texts."""

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

    Methods may also have ``price(evidence, *, budget) -> Price``, what a choice costs; ``tries``, other options to
    construct it with that validation data may choose among (the first entry is the default); ``draws`` (an int): how
    many masks a comparison draws of a method that is pure chance; and ``learned``, whether it trains gates.
    """

    name: str
    needs_budget: bool

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads (None: as many as the method suggests)."""


class Scored(ABC):
    """A method that is a score: the heads of highest score stay."""

    name: str
    needs_budget = True
    tries: Sequence[Mapping[str, Any]] = ({},)

    @abstractmethod
    def score(self, evidence: Evidence) -> Floats:
        """How much each head matters, shape ``(L, H)``."""

    @abstractmethod
    def price(self, evidence: Evidence, *, budget: int) -> Price:
        """What choosing ``budget`` heads costs when nothing is known yet."""

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads.

        Raises:
            OptionError: Without a budget: a score alone suggests none.
            BudgetError: If no mask can meet it.
        """
        if budget is None:
            raise OptionError(f"{self.name} cannot suggest how many heads to keep; give a budget")
        # Scores can take minutes, so what cannot be chosen is refused before.
        top(np.zeros((evidence.card.layers, evidence.card.heads)), budget=budget, min_per_layer=min_per_layer)
        return top(self.score(evidence), budget=budget, min_per_layer=min_per_layer)


_methods: dict[str, Callable[..., Method]] = {}
Made = TypeVar("Made", bound=Callable[..., Method])


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


def get(name: str, **options: Any) -> Method:
    """The method of that name, with its default options or others.

    Raises:
        OptionError: If there is none.
    """
    if name in _methods:
        return _methods[name](**options)
    for point in _outside():
        if point.name == name:
            made: Callable[..., Method] = point.load()
            return made(**options)
    raise OptionError(f"no method named {name!r}; choose one of {', '.join(names())}")


def _outside() -> Iterator[EntryPoint]:
    yield from entry_points(group=ENTRY_POINTS)
