"""Presets of comparisons, and the plan that options and a preset make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

from cahp import methods
from cahp.comparison.plan import REFERENCE, TRAINED_ONCE, Plan
from cahp.models.cards import ModelCard
from cahp.run.settings import Settings
from cahp.values import OptionError

_FIVE_SEEDS = (42, 43, 44, 45, 46)
#: The default presets, of classifiers and of language models that are measured on the next tokens.
QUICK = "quick"
LANGUAGE = "language"


@dataclass(frozen=True)
class Preset:
    """A comparison whose duration was measured; each of its parts can be replaced.

    The ``named`` methods take part (empty: all). Of all methods, ``learned`` tells whether those that train gates take
    part, and ``expensive`` what happens to those that take as long as all the others together. The other fields are
    those of ``Plan`` and its settings.
    """

    budgets: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int
    eval_limit: int
    learned: bool = False
    expensive: Literal["as others", "first seed", "left out"] = "as others"
    draws: int | None = None
    recovered_draws: int | None = None
    learned_budgets: tuple[str, ...] | None = None
    distilled_budgets: tuple[str, ...] | None = None
    finetuned_budgets: tuple[str, ...] | None = None
    trained: tuple[str, ...] | None = None
    recoveries: tuple[str, ...] = ("none", "refit")
    named: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Its methods, as they are registered now, the reference first."""
        if self.named:
            return self.named
        facts = {name: methods.facts(name) for name in methods.names()}
        names = [
            name
            for name, about in facts.items()
            if (self.learned or not about.learned) and (self.expensive != "left out" or not about.expensive)
        ]
        return tuple(sorted(names, key=lambda name: (name != REFERENCE, name)))

    @property
    def few_seeds(self) -> tuple[str, ...]:
        """The methods that are measured with the first seed alone."""
        return tuple(name for name in self.methods if self.expensive == "first seed" and methods.facts(name).expensive)

    def make_plan(self, settings: Settings) -> Plan:
        """Return the plan of the preset for a model and data."""
        return Plan(
            replace(settings, limit=self.limit, eval_limit=self.eval_limit),
            methods=self.methods,
            budgets=self.budgets,
            seeds=self.seeds,
            recoveries=self.recoveries,
            draws=self.draws,
            recovered_draws=self.recovered_draws,
            learned_budgets=self.learned_budgets,
            distilled_budgets=self.distilled_budgets,
            finetuned_budgets=self.finetuned_budgets,
            trained=self.trained,
            few_seeds=self.few_seeds,
        )


#: The rest of a plan whose methods are named.
_NAMED_METHODS = Preset(budgets=("6", "12", "20"), seeds=_FIVE_SEEDS, limit=2000, eval_limit=1000, recoveries=("none",))
_POSTHOC = Preset(
    budgets=("6", "12", "20", "36", "54"),
    seeds=_FIVE_SEEDS,
    limit=400,
    eval_limit=300,
    recovered_draws=5,
    expensive="first seed",
)
PRESETS: Mapping[str, Preset] = {
    QUICK: Preset(
        budgets=("12", "36"),
        seeds=_FIVE_SEEDS[:2],
        limit=400,
        eval_limit=300,
        expensive="left out",
        draws=6,
        recovered_draws=2,
    ),
    "posthoc": _POSTHOC,
    "full": replace(
        _POSTHOC,
        learned=True,
        learned_budgets=("12", "36"),
        finetuned_budgets=("12",),
        recoveries=("none", "refit", "finetune"),
    ),
    # How much the selection of heads matters after each recovery, on enough texts to tell methods apart. Training a
    # mask takes minutes, so five methods are trained, at one budget.
    "recovery": Preset(
        budgets=("6", "12", "20"),
        seeds=_FIVE_SEEDS,
        limit=1000,
        eval_limit=1101,
        draws=10,
        distilled_budgets=("12",),
        finetuned_budgets=("12",),
        trained=(REFERENCE, "gradient", "salience", "obs-fisher", "random"),
        recoveries=TRAINED_ONCE,
        named=(REFERENCE, "gradient", "fisher", "salience", "magnitude", "fisher-output", "obs-fisher", "random"),
    ),
    # For language models, a window of which takes as long as dozens of texts. A refit takes most of the time, and with
    # fewer than five seeds hardly any difference is significant.
    LANGUAGE: Preset(
        budgets=("50%",),
        seeds=_FIVE_SEEDS,
        limit=2000,
        eval_limit=1000,
        expensive="left out",
        draws=3,
        named=(REFERENCE, "fisher-output", "obs-fisher", "gradient", "random"),
    ),
}


def default_preset(card: ModelCard) -> str:
    """Return the preset that a comparison of a model starts from."""
    if card.task.predicts_labels:
        return QUICK
    return LANGUAGE


#: A list of methods, budgets or recoveries: a text with commas, as on the command line, or the items themselves.
ListOption = str | Iterable[str | int] | None
#: How many seeds, or the seeds themselves, as a text with commas or a list.
SeedsOption = str | int | Iterable[int] | None


class PlanOptions(TypedDict, total=False):
    """Options that replace parts of a preset; None, or one that is left out, keeps the part.

    ``tries`` is the number of settings of each method that the tuning texts choose among (default: 1). ``draws`` masks
    of each random method are drawn over all seeds and recovered.
    """

    methods: ListOption
    budgets: ListOption
    seeds: SeedsOption
    recover: ListOption
    limit: int | None
    eval_limit: int | None
    tries: int
    draws: int | None


def make_plan(
    settings: Settings, *, preset: str | None = None, default: str = QUICK, **options: Unpack[PlanOptions]
) -> Plan:
    """Combine a preset with the options that replace its parts.

    Without one it is the ``default``, but where methods of a classifier are named, a plan with more texts and budgets.

    Raises:
        OptionError: If the preset is unknown, or a list or number is impossible.
    """
    given: dict[str, Any] = {name: option for name, option in options.items() if option is not None}
    if preset or "methods" not in given or default == LANGUAGE:
        start = _find_preset(preset or default)
    else:
        start = _NAMED_METHODS
    sizes: dict[str, Any] = {name: given[name] for name in ("limit", "eval_limit") if name in given}
    parts: dict[str, Any] = {name: given[name] for name in ("tries", "draws") if name in given}
    if "methods" in given:
        parts |= {"methods": read_items(given["methods"]), "trained": None}
    if "budgets" in given:
        parts |= {"budgets": read_items(given["budgets"]), "learned_budgets": None}
    if "recover" in given:
        parts |= {"recoveries": read_items(given["recover"]), "trained": None}
    if "budgets" in given or "recover" in given:
        parts |= {"distilled_budgets": None, "finetuned_budgets": None}
    if "seeds" in given:
        parts |= {"seeds": read_seeds(given["seeds"]), "few_seeds": ()}
    if "draws" in given:
        parts |= {"recovered_draws": given["draws"]}
    plan = start.make_plan(settings)
    return replace(plan, settings=replace(plan.settings, **sizes), **parts)


def _find_preset(name: str) -> Preset:
    if name not in PRESETS:
        raise OptionError(f"--preset {name} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def read_items(option: str | Iterable[str | int]) -> tuple[str, ...]:
    """Return the items of a ``ListOption``."""
    if isinstance(option, str):
        return tuple(item for part in option.split(",") if (item := part.strip()))
    return tuple(map(str, option))


def read_seeds(option: str | int | Iterable[int]) -> tuple[int, ...]:
    """Return the seeds of a ``SeedsOption``: ``"5"`` is five seeds from 42 on; ``"7,11"``, or ``"7,"``, are these.

    Raises:
        OptionError: If its text cannot be read.
    """
    if not isinstance(option, str | int):
        return tuple(option)
    text = str(option)
    items = read_items(text)
    if not items or not all(item.isascii() and item.isdigit() and len(item) < 11 for item in items):
        raise OptionError(f"cannot read seeds {text!r}; write how many (5), or which (42,43)")
    if "," in text:
        return tuple(int(item) for item in items)
    if not 1 <= int(text) <= 1000:
        raise OptionError(f"--seeds {text} is impossible; give 1 to 1000, or seeds themselves with commas (42,43)")
    return tuple(range(_FIVE_SEEDS[0], _FIVE_SEEDS[0] + int(text)))
