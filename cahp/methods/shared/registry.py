"""The interface of pruning methods, and the registry that finds them by name.

A method is a file in ``cahp.methods`` with a decorated class. Other packages add theirs through the entry point group
``cahp.methods``, whose entries name such a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from cahp.models.cards import ModelCard
from cahp.stages.selection import Minimum
from cahp.tasks.texts import Texts
from cahp.values import Fields, Floats, Names, OptionError, Progress, Selection, check_known
from cahp.values.statistics import Clustering, Moments, Signatures, Space

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

ENTRY_POINTS = "cahp.methods"
#: How a method uses labels: never, as the classes of texts (the model's predictions serve as well), or only true ones.
Labels = Literal["none", "or predictions", "needed"]


class Evidence(Protocol):
    """Measurements of a model's heads on calibration texts for methods; each part is measured once, when it is used."""

    @property
    def card(self) -> ModelCard:
        """The model's shape and name, without reading its weights."""

    @property
    def model(self) -> HeadModel:
        """The model, loaded when it is first used. It is shared and must not be changed."""

    @property
    def texts(self) -> Texts:
        """The calibration texts; where they have no labels, the model's predictions take their place."""

    @property
    def seed(self) -> int:
        """The seed of a method's random numbers."""

    @property
    def progress(self) -> Progress:
        """To be called between batches; may raise ``Cancelled``."""

    def cached(self, name: str, make: Callable[[], Floats]) -> Floats:
        """The result of ``make``, cached for this model, these texts and this seed.

        ``name`` must contain everything else on which the result depends.
        """

    @property
    def signatures(self) -> Signatures:
        """Attention statistics of each head, per class."""

    @property
    def gradients(self) -> Floats:
        """Signed gradients ``(M, L, H)`` of each example's loss at open gates, for the first quarter of the texts."""

    @property
    def salience(self) -> Floats:
        """Salience ``(L, H)`` in 0..1."""

    @property
    def moments(self) -> Moments:
        """Second moments of context vectors and their gradients, without labels."""

    @property
    def space(self) -> Space:
        """The heads as points, with distances."""

    @property
    def clustering(self) -> Clustering:
        """Clusters for every k."""


class Method(Protocol):
    """A method to choose heads: its ``name``, and whether it ``needs_budget`` because it cannot suggest one.

    It is constructed without arguments, or with keywords that have defaults; a keyword with the name of a field of
    ``cahp.run.settings.Settings`` gets its value in a run. Methods may also have
    ``estimate_cost(evidence, *, budget) -> SelectionCost``, what a choice costs, and state what ``Facts`` holds as
    class attributes of these names.
    """

    name: str
    needs_budget: bool

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: Minimum = 1) -> Selection:
        """Keep exactly ``budget`` heads (None: as many as the method suggests).

        ``min_per_layer`` is what each layer keeps at least: one number, or an array ``(L,)``.
        """


@dataclass(frozen=True)
class Facts:
    """Properties of a method for comparisons.

    ``options`` are the names of its keywords, and ``tries`` values of them to be tuned (the first entry is the
    default). ``draws`` is the number of masks in a comparison, more than one for random methods; ``learned`` says
    whether it trains gates; ``expensive`` whether it takes as long as all other methods together; ``labels`` how it
    uses labels.
    """

    options: Names
    tries: Sequence[Fields] = ({},)
    draws: int = 1
    learned: bool = False
    expensive: bool = False
    labels: Labels = "or predictions"


#: Other names of methods.
_ALIASES = {"cahp": "complementary"}
#: The class of a method, or another function that makes one.
Maker = Callable[..., Method]
_methods: dict[str, Maker] = {}
Made = TypeVar("Made", bound=Maker)


class NameTakenError(OptionError, ValueError):
    """Another method has the name."""


def register(method: Made) -> Made:
    """Class decorator: register a method under its ``name``.

    A class that is defined again, as when a cell of a notebook runs again, replaces the class of before.

    Raises:
        NameTakenError: If another method has the name.
    """
    name: str = method.name  # type: ignore[attr-defined]
    known = _methods.get(name)
    if known is method or repr(known) not in ("None", repr(method)):
        raise NameTakenError(f"two methods are named {name!r}; rename one")
    _methods[name] = method
    return method


def name_of(method: Any) -> str:
    """Return the name of a method that is given by its name, as a class or as an object; register a new class.

    Raises:
        OptionError: If another method has its name, or an object has options of its own.
    """
    if not hasattr(method, "name"):
        return _ALIASES.get(method, str(method))
    kind = method
    if not isinstance(method, type):
        kind = type(method)
        if vars(method) != vars(kind()):
            raise OptionError(f"a run has no place for options of {kind.__name__}; derive a class with other defaults")
    if kind is not _methods.get(kind.name):
        register(kind)
    return str(kind.name)


def names() -> list[str]:
    """Names of all methods, also those of other packages."""
    return sorted({*_methods, *_outside()})


def get(name: str, **options: Any) -> Method:
    """Make the method ``name`` with its default options or others.

    Raises:
        OptionError: If there is none.
    """
    return _find(name)(**options)


def facts(name: str) -> Facts:
    """The properties of the method ``name``.

    Raises:
        OptionError: If there is none.
    """
    method = _find(name)
    own = ("tries", "draws", "learned", "expensive", "labels")
    stated = {fact: getattr(method, fact) for fact in own if hasattr(method, fact)}
    return Facts(_list_options(method), **stated)


@cache
def _list_options(method: Maker) -> Names:
    # Cached, since the form of a comparison asks for those of all methods whenever its page is drawn.
    parameters = signature(method).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is not Parameter.VAR_KEYWORD)


def _find(name: str) -> Maker:
    check_known("method", name, names())
    if name in _methods:
        return _methods[name]
    method: Maker = _outside()[name].load()
    return method


@cache
def _outside() -> dict[str, EntryPoint]:
    # Cached, since it reads a file of every installed package.
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}
