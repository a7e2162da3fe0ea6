"""Presets of comparisons, and the plan that options and a preset make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cahp import methods
from cahp.comparison.plan import REFERENCE, TRAINED_ONCE, Plan
from cahp.models.cards import ModelCard
from cahp.run.settings import Settings
from cahp.tasks import CLASSIFICATION, NEXT_TOKEN, Task
from cahp.values import OptionError

_FIVE_SEEDS = (42, 43, 44, 45, 46)
#: The default presets, of classifiers and of language models that are measured on the next tokens.
QUICK, LANGUAGE = "quick", "language"


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
    # two seeds hardly any difference is resolved.
    LANGUAGE: Preset(
        budgets=("50%",),
        seeds=_FIVE_SEEDS[:3],
        limit=2000,
        eval_limit=1000,
        expensive="left out",
        draws=3,
        named=(REFERENCE, "fisher-output", "obs-fisher", "gradient", "random"),
    ),
}


#: The preset that a comparison starts from, by the task of its model.
_BY_TASK: Mapping[Task, str] = {CLASSIFICATION: QUICK, NEXT_TOKEN: LANGUAGE}


def default_preset(card: ModelCard) -> str:
    """Return the preset that a comparison of a model starts from."""
    return _BY_TASK[card.task]


#: A list of methods, budgets or recoveries: a text with commas, as on the command line, or the items themselves.
ListOption = str | Iterable[str | int] | None
#: How many seeds, or the seeds themselves, as a text with commas or a list.
SeedsOption = str | int | Iterable[int] | None


def make_plan(
    settings: Settings,
    *,
    preset: str | None = None,
    methods: ListOption = None,
    budgets: ListOption = None,
    seeds: SeedsOption = None,
    recover: ListOption = None,
    limit: int | None = None,
    eval_limit: int | None = None,
    tries: int = 1,
    draws: int | None = None,
    default: str = QUICK,
) -> Plan:
    """Combine a preset with the options that replace its parts.

    Without one it is the ``default``, but where methods of a classifier are named, a plan with more texts and budgets.
    ``draws`` masks of each random method are drawn over all seeds and recovered (None: as the preset says).

    Raises:
        OptionError: If the preset is unknown, or a list or number is impossible.
    """
    name = preset or (default if methods is None or default == LANGUAGE else None)
    if name is not None and name not in PRESETS:
        raise OptionError(f"--preset {name} is unknown; choose one of {', '.join(PRESETS)}")
    start = _NAMED_METHODS if name is None else PRESETS[name]
    return Plan(
        replace(
            settings,
            limit=start.limit if limit is None else limit,
            eval_limit=start.eval_limit if eval_limit is None else eval_limit,
        ),
        methods=start.methods if methods is None else read_items(methods),
        budgets=start.budgets if budgets is None else read_items(budgets),
        seeds=start.seeds if seeds is None else read_seeds(seeds),
        recoveries=start.recoveries if recover is None else read_items(recover),
        tries=tries,
        draws=start.draws if draws is None else draws,
        recovered_draws=start.recovered_draws if draws is None else draws,
        learned_budgets=start.learned_budgets if budgets is None else None,
        distilled_budgets=start.distilled_budgets if budgets is None and recover is None else None,
        finetuned_budgets=start.finetuned_budgets if budgets is None and recover is None else None,
        trained=start.trained if methods is None and recover is None else None,
        few_seeds=start.few_seeds if seeds is None else (),
    )


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
