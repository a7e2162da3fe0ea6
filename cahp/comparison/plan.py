"""The plan of a comparison: its methods, budgets, seeds and recoveries, and presets of plans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from cahp import methods
from cahp.methods.complementary import Complementary
from cahp.methods.shared.registry import Facts, Method, name_of
from cahp.recoveries import COMPARED, RECOVERIES
from cahp.run.settings import Settings, identify_model, key_fields
from cahp.values import BudgetError, Fields, HasHeads, JsonObject, Names, Notices, OptionError, check_known

#: The method that the others are compared with, if it takes part.
REFERENCE = Complementary.name
#: The full model, in the place of a method's name.
FULL = "full"
_OTHER_MINIMUM = re.compile(r"(?P<method>.+)-min-(?P<heads>[0-9]{1,3})")

#: Those of them that train a model at most once.
TRAINED_ONCE = tuple(name for name in COMPARED if not RECOVERIES[name].rates)


@dataclass(frozen=True)
class Plan:
    """The methods to compare, and how to measure them.

    Args:
        settings: Model, data and samples; their method, budget, recovery and seed are ignored.
        methods: Names of methods; see ``split_minimum``.
        budgets: Numbers of heads or shares, as ``cahp.stages.selection.read_budget`` reads them.
        seeds: Each draws its own calibration texts and random masks.
        recoveries: Recoveries to measure besides the pruned model, which is always measured.
        tries: Settings of each method that the tuning texts choose among.
        draws: Most masks of a random method, over all seeds (None: as many as it states).
        trained: Methods whose masks are distilled and fine-tuned (None: all).
        trained_budgets: Budgets at which gates are trained, and masks are distilled and fine-tuned (None: all).

    Raises:
        OptionError: If a value is impossible.
    """

    settings: Settings
    methods: Names
    budgets: Names
    seeds: tuple[int, ...]
    recoveries: Names = ("none",)
    tries: int = 1
    draws: int | None = None
    trained: Names | None = None
    trained_budgets: Names | None = None

    def __post_init__(self) -> None:
        if self.settings.precision != "float32":
            raise OptionError(
                "comparisons are computed in float32, so that rounding has no effect; leave precision out"
            )
        for name, given in (("methods", self.methods), ("budgets", self.budgets), ("seeds", self.seeds)):
            if not given or len(set(given)) < len(given):
                raise OptionError(f"--{name} is empty, or contains one twice; give at least one, each once")
        for method in self.methods:
            methods.get(split_minimum(method)[0])
        for recovery in self.recoveries:
            if recovery not in COMPARED:
                raise OptionError(
                    f"--recover {recovery} is unknown, or depends on the speed of the machine; choose one of "
                    f"{', '.join(COMPARED)}"
                )
        object.__setattr__(self, "recoveries", tuple(dict.fromkeys(("none", *self.recoveries))))
        for seed in self.seeds:
            replace(self.settings, seed=seed)
        for name, number in (("tries", self.tries), ("draws", self.draws)):
            if number is not None and number < 1:
                raise OptionError(f"--{name} {number} is impossible; give 1 or more")

    def heads(self, model: HasHeads) -> dict[str, int]:
        """The number of heads of each budget.

        Raises:
            BudgetError: If a budget is impossible, or two are the same.
        """
        counts: dict[str, int] = {}
        minima = (self.settings.min_per_layer, *(split_minimum(name)[1] or 0 for name in self.methods))
        rules = replace(self.settings, min_per_layer=max(minima)).budget_rules(model)
        for budget in dict.fromkeys((*self.budgets, *(self.trained_budgets or ()))):
            count = rules.parse(budget)
            if count is None or count in counts.values():
                raise BudgetError(f"--budgets {budget} is no number of heads of its own; give other numbers or shares")
            counts[budget] = count
        return counts

    @property
    def tries_used(self) -> int:
        """Settings per method that the tuning texts choose among: equally many for every method that has several."""
        counts = [count for name in self.methods if (count := len(facts_of(name).tries)) > 1]
        return min([self.tries, *counts])

    def cells(self, model: HasHeads) -> list[Cell]:
        """All cells in the order of measuring. Seeds alternate fastest, so that workers start with different ones."""
        counts = self.heads(model)
        cells = []
        for name in self.methods:
            facts = facts_of(name)
            budgets = self.budgets
            if facts.learned and self.trained_budgets is not None:
                budgets = self.trained_budgets
            total = min(facts.draws, self.draws or facts.draws)
            for draw, budget, (place, seed) in product(range(total), budgets, enumerate(self.seeds)):
                # A random method spreads its masks evenly; each seed draws at least one.
                if draw and draw * len(self.seeds) + place >= total:
                    continue
                noise = seed
                if facts.draws > 1:
                    # Another one for each method, the same with each per-layer minimum: two random methods with the
                    # same numbers would share more heads than independent masks do.
                    own = split_minimum(name)[0].encode()
                    noise = int(np.random.SeedSequence([seed, draw, *own]).generate_state(1)[0])
                trained = name in (self.trained or self.methods) and budget in (self.trained_budgets or self.budgets)
                recoveries = tuple(one for one in self.recoveries if trained or not RECOVERIES[one].trains)
                cells.append(Cell(name, counts[budget], seed, noise, draw, recoveries))
        return cells

    def full_cells(self, model: HasHeads) -> list[Cell]:
        """The cells of the full model, one per seed; only training on labels changes its weights, once for all."""
        labelled = [name for name in self.recoveries if RECOVERIES[name].needs_labels and not RECOVERIES[name].solves]
        recoveries = ("none", *labelled)
        return [Cell(FULL, model.layers * model.heads, seed, seed, recoveries=recoveries) for seed in self.seeds]

    def settings_to_try(self, name: str) -> Sequence[Fields]:
        """The settings of a method that the tuning texts choose among; without tuning, the default alone."""
        return facts_of(name).tries[: self.tries_used]

    def as_json(self) -> JsonObject:
        """The ``settings`` of ``compare.json``."""
        unused = ("method", "budget", "goal", "recover", "seed", "latency", "representative")
        own = {name: value for name, value in vars(self).items() if name not in ("settings", "methods", "tries")}
        tries = {"asked": self.tries, "used": self.tries_used}
        return {**key_fields(self.settings, without=unused), **own, "tries": tries}


@dataclass(frozen=True)
class Cell:
    """One mask to select and measure: a method at a budget with a seed, and its number among the seed's draws.

    ``noise`` is the seed of the method's own randomness.
    """

    method: str
    budget: int
    seed: int
    noise: int
    draw: int = 0
    recoveries: Names = ("none",)


def split_minimum(name: str) -> tuple[str, int | None]:
    """Return the method of a participant, and the per-layer minimum that its name ends with (None: the settings').

    ``gradient-min-0`` is ``gradient`` without a per-layer minimum.
    """
    other = _OTHER_MINIMUM.fullmatch(name)
    if other is None or name in methods.names():
        return name, None
    return other["method"], int(other["heads"])


def facts_of(name: str) -> Facts:
    """The properties of a participant's method."""
    return methods.facts(split_minimum(name)[0])


def without_labels(plan: Plan) -> tuple[Plan, Notices]:
    """Return the plan for text without labels, and a notice that names what was left out because it needs labels.

    Raises:
        OptionError: If no method is left.
    """
    needs = [name for name in plan.methods if facts_of(name).labels == "needed"]
    trained = [name for name in plan.recoveries if RECOVERIES[name].needs_labels]
    kept = tuple(name for name in plan.methods if name not in needs)
    if not kept:
        raise OptionError(f"{', '.join(needs)} need labels, and the texts have none; choose other methods")
    if not needs and not trained:
        return plan, ()
    recoveries = tuple(name for name in plan.recoveries if name not in trained)
    notice = f"left out, because they need labels: {', '.join((*needs, *trained))}."
    return replace(plan, methods=kept, recoveries=recoveries), (notice,)


# Presets -----------------------------------------------------------------------------------------------------

_FIVE_SEEDS = (42, 43, 44, 45, 46)
#: The fields of a plan that a preset has, too.
_SHARED = ("methods", "budgets", "seeds", "recoveries", "draws", "trained", "trained_budgets")
#: The default presets, of classifiers and of language models that are measured on the next tokens.
QUICK = "quick"
LANGUAGE = "language"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A comparison whose duration was measured; each of its parts can be replaced.

    The ``named`` methods take part. Without names all do, but those that take as long as all the others together, and
    those that train gates only if ``learned``. The other fields are those of ``Plan`` and its settings.
    """

    budgets: Names
    limit: int
    eval_limit: int
    recoveries: Names = ("none", "refit")
    seeds: tuple[int, ...] = _FIVE_SEEDS
    draws: int | None = None
    learned: bool = False
    named: Names = ()
    trained: Names | None = None
    trained_budgets: Names | None = None

    @property
    def methods(self) -> Names:
        """Its methods, as they are registered now, the reference first."""
        if self.named:
            return self.named
        facts = {name: methods.facts(name) for name in methods.names()}
        names = [name for name, own in facts.items() if not own.expensive and (self.learned or not own.learned)]
        return tuple(sorted(names, key=lambda name: (name != REFERENCE, name)))


#: The rest of a plan whose methods are named.
_NAMED_METHODS = Preset(budgets=("6", "12", "20"), limit=2000, eval_limit=1000, recoveries=("none",))
_POSTHOC = Preset(budgets=("6", "12", "20", "36", "54"), limit=400, eval_limit=300, draws=5)
PRESETS = {
    QUICK: Preset(budgets=("12", "36"), seeds=_FIVE_SEEDS[:2], limit=400, eval_limit=300, draws=4),
    "posthoc": _POSTHOC,
    "full": replace(_POSTHOC, learned=True, trained_budgets=("12",), recoveries=("none", "refit", "finetune")),
    # How much the selection of heads matters after each recovery, on enough texts to tell methods apart. Training a
    # mask takes minutes, so five methods are trained, at one budget.
    "recovery": Preset(
        budgets=("6", "12", "20"),
        limit=1000,
        eval_limit=1101,
        draws=10,
        trained=(REFERENCE, "gradient", "salience", "obs-fisher", "random"),
        trained_budgets=("12",),
        recoveries=TRAINED_ONCE,
        named=(REFERENCE, "gradient", "fisher", "salience", "magnitude", "fisher-output", "obs-fisher", "random"),
    ),
    # For language models, a window of which takes as long as dozens of texts. A refit takes most of the time, and with
    # fewer than five seeds hardly any difference is significant.
    LANGUAGE: Preset(
        budgets=("50%",),
        limit=2000,
        eval_limit=1000,
        draws=5,
        named=(REFERENCE, "fisher-output", "obs-fisher", "gradient", "random"),
    ),
}


#: A list of methods, budgets, seeds or recoveries: a text with commas, as on the command line, or the items.
Listed = str | int | Iterable[str | int | Method | type[Method]]
ListOption = Listed | None


def make_plan(
    settings: Settings,
    *,
    preset: str | None = None,
    limit: int | None = None,
    eval_limit: int | None = None,
    tries: int = 1,
    draws: int | None = None,
    **lists: ListOption,
) -> Plan:
    """Combine a preset with the options that replace its parts: ``methods``, ``budgets``, ``recover`` and ``seeds``.

    Without one it is that of the model, but where methods of a classifier are named, one with more texts and budgets.
    Numbers of texts that the settings name replace those of the preset. ``draws`` masks of each random method are drawn
    over all seeds, and ``tries`` settings of each method are tried.

    Raises:
        OptionError: If the preset is unknown, or a list or number is impossible.
    """
    name = preset or identify_model(settings).task.preset
    check_known("--preset", name, PRESETS)
    start = PRESETS[name]
    if preset is None and name == QUICK and lists.get("methods") is not None:
        start = _NAMED_METHODS
    parts = {name: getattr(start, name) for name in _SHARED}
    for option, value in lists.items():
        if option == "seeds" and value is not None:
            parts["seeds"] = read_seeds(value)
        elif value is not None:
            parts["recoveries" if option == "recover" else option] = read_items(value)
            # What a person names is trained for every method and budget.
            parts |= {"trained": None, "trained_budgets": None}
    if draws is not None:
        parts["draws"] = draws
    sizes: JsonObject = {"limit": limit, "eval_limit": eval_limit}
    for name, given in sizes.items():
        if given is None:
            sizes[name] = getattr(settings, name)
            if sizes[name] == getattr(Settings, name):
                sizes[name] = getattr(start, name)
    return Plan(replace(settings, **sizes), tries=tries, **parts)


def read_items(option: Listed) -> Names:
    """Return the items of a ``ListOption``."""
    if isinstance(option, str | int):
        option = [item.strip() for item in str(option).split(",")]
    return tuple(name_of(item) for item in option if item != "")


def read_seeds(option: Listed) -> tuple[int, ...]:
    """Return the seeds of an option: ``"5"`` is five seeds from 42 on; ``"7,11"``, or ``"7,"``, are these.

    Raises:
        OptionError: If its text cannot be read.
    """
    items = read_items(option)
    if not items or not all(item.isascii() and item.isdigit() and len(item) < 11 for item in items):
        raise OptionError(f"cannot read seeds {option!r}; write how many (5), or which (42,43)")
    seeds = tuple(map(int, items))
    if not isinstance(option, str | int) or "," in str(option):
        return seeds
    if not 1 <= seeds[0] <= 1000:
        raise OptionError(f"--seeds {option} is impossible; give 1 to 1000, or seeds themselves with commas (42,43)")
    return tuple(range(_FIVE_SEEDS[0], _FIVE_SEEDS[0] + seeds[0]))
