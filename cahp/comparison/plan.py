"""What a comparison is asked: which methods, at which budgets, over which seeds, with which recoveries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from cahp import methods
from cahp.methods.complementary import Complementary
from cahp.run.settings import Settings, key_fields
from cahp.stages.selection import parse_budget
from cahp.values import BudgetError, OptionError

#: The method that the others are held against, if it takes part.
OURS = Complementary.name
#: What stands for the unpruned model where a method's name would stand.
FULL = "full"
FIRST_SEED = 42

#: Recoveries that can be compared; the cheapest first.
COMPARED: tuple[str, ...] = ("none", "refit", "distill", "finetune")


@dataclass(frozen=True)
class Plan:
    """What is compared.

    ``settings`` name the model, the data and the samples (its method, budget, recovery and seed are not used).
    ``budgets`` are numbers of heads or shares, as ``cahp.stages.selection.parse_budget`` reads them. The
    unrecovered model is always measured, whatever ``recoveries`` says. ``tries`` is how many settings of a method
    tuning texts choose among. ``draws`` limits the masks drawn of a method of chance, and ``recovered_draws``
    those of them that are recovered, over all seeds (None: all); each seed recovers as many, so there may be more.
    ``learned_budgets`` are those at which gates are learned (None: all), ``distilled_budgets`` and
    ``finetuned_budgets`` those at which masks are distilled and fine-tuned, if the recoveries say so (None: all),
    ``trained`` the methods whose masks are (None: all), and ``few_seeds`` the methods that are measured with the first
    seed alone.
    """

    settings: Settings
    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: tuple[int, ...]
    recoveries: tuple[str, ...] = ("none",)
    tries: int = 1
    draws: int | None = None
    recovered_draws: int | None = None
    learned_budgets: tuple[str, ...] | None = None
    distilled_budgets: tuple[str, ...] | None = None
    finetuned_budgets: tuple[str, ...] | None = None
    trained: tuple[str, ...] | None = None
    few_seeds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.settings.precision != "float32":
            raise OptionError("methods are compared in float32, so that rounding decides nothing; leave precision out")
        for name, given in (("methods", self.methods), ("budgets", self.budgets), ("seeds", self.seeds)):
            if not given:
                raise OptionError(f"--{name} names none; give at least one")
            if len(set(given)) < len(given):
                raise OptionError(f"--{name} names {next(one for one in given if given.count(one) > 1)} twice")
        for method in self.methods:
            methods.get(method)
        for recovery in self.recoveries:
            if recovery == "auto":
                raise OptionError("--recover auto depends on the time there is and not on the mask alone; use distill")
            if recovery not in COMPARED:
                raise OptionError(f"--recover {recovery} is unknown; choose among {', '.join(COMPARED)}")
        object.__setattr__(self, "recoveries", tuple(dict.fromkeys(("none", *self.recoveries))))
        for seed in self.seeds:
            replace(self.settings, seed=seed)
        if self.tries < 1:
            raise OptionError(f"--tries {self.tries} is impossible; give 1 (the defaults) or more")

    def heads(self, *, layers: int, heads: int) -> dict[str, int]:
        """How many heads each budget is.

        Raises:
            BudgetError: If a budget is impossible, or two are the same.
        """
        found: dict[str, int] = {}
        some = (self.learned_budgets, self.distilled_budgets, self.finetuned_budgets)
        for budget in dict.fromkeys(budget for budgets in (self.budgets, *some) for budget in budgets or ()):
            count = parse_budget(budget, total=layers * heads, layers=layers, min_per_layer=self.settings.min_per_layer)
            if count is None:
                raise BudgetError("a comparison needs the same number of heads for all; give --budgets numbers")
            if count in found.values():
                raise BudgetError(f"two of the budgets are {count} heads; leave one out")
            found[budget] = count
        return found

    @property
    def tries_used(self) -> int:
        """Settings that tuning texts choose among: the same number for every method that has any."""
        numbers = [len(settings) for name in self.methods if len(settings := tries(name)) > 1]
        return min([self.tries, *numbers])

    def cells(self, *, layers: int, heads: int) -> list[Cell]:
        """All that is measured, in its order: seeds turn fastest, so that workers meet different ones."""
        counts = self.heads(layers=layers, heads=heads)
        distilled = self.budgets if self.distilled_budgets is None else self.distilled_budgets
        tuned = self.budgets if self.finetuned_budgets is None else self.finetuned_budgets
        return [
            Cell(
                name,
                counts[budget],
                seed,
                noise(name, seed, draw),
                draw,
                recovered=draw == 0 or draw < self._recovered(name),
                distilled=budget in distilled and self._is_trained(name),
                finetuned=budget in tuned and self._is_trained(name),
            )
            for name in self.methods
            for draw in range(max(self._draws(name, place) for place in range(len(self.seeds))))
            for budget in self._budgets(name)
            for place, seed in enumerate(self.seeds)
            if draw < self._draws(name, place)
        ]

    def recoveries_of(self, cell: Cell) -> Iterator[str]:
        """What a cell is measured after."""
        for recovery in self.recoveries:
            here = {"distill": cell.distilled, "finetune": cell.finetuned}.get(recovery, True)
            measured = cell.recovered and here
            # A refit of the unpruned model returns its own weights, and it has nothing to learn from itself.
            if recovery == "none" or (measured and not (cell.method == FULL and recovery in ("refit", "distill"))):
                yield recovery

    def tried(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The settings of a method that tuning texts choose among; the default alone without tuning."""
        return tries(name)[: self.tries_used]

    def _budgets(self, name: str) -> Sequence[str]:
        return self.budgets if self.learned_budgets is None or not learned(name) else self.learned_budgets

    def _draws(self, name: str, place: int) -> int:
        """Masks that a method draws with the seed at ``place``: its number in all, spread evenly, at least one."""
        if name in self.few_seeds and place:
            return 0
        wanted = draws(name)
        if self.draws is not None:
            wanted = min(wanted, self.draws)
        return max(1, len(range(place, wanted, len(self.seeds))))

    def _recovered(self, name: str) -> int:
        """Masks of each seed that are recovered."""
        wanted = draws(name) if self.recovered_draws is None else self.recovered_draws
        return -(-wanted // len(self.seeds))

    def _is_trained(self, name: str) -> bool:
        return self.trained is None or name in self.trained

    def as_json(self) -> dict[str, Any]:
        """What ``compare.json`` says was asked."""
        unused = ("method", "budget", "recover", "seed", "latency", "representative")
        settings = key_fields(self.settings, without=unused)
        own = {
            name: getattr(self, name)
            for name in (
                *("budgets", "seeds", "recoveries", "draws", "recovered_draws"),
                *("learned_budgets", "distilled_budgets", "finetuned_budgets", "trained", "few_seeds"),
            )
        }
        return {**settings, **own, "tries": {"asked": self.tries, "used": self.tries_used}}


@dataclass(frozen=True)
class Cell:
    """One mask to choose and measure: a method at a budget with a seed, and which of the seed's draws it is.

    ``noise`` is the seed of the method's own randomness, ``recovered`` whether recoveries are measured at all, and
    ``distilled`` and ``finetuned`` whether these are among them.
    """

    method: str
    budget: int
    seed: int
    noise: int
    draw: int = 0
    recovered: bool = True
    distilled: bool = True
    finetuned: bool = True


def noise(name: str, seed: int, draw: int) -> int:
    """The seed of a method's own randomness: the cell's, or one for each draw and method of chance.

    With the same numbers, two controls would keep more heads in common than chance has it.
    """
    if draws(name) == 1:
        return seed
    return int(np.random.SeedSequence([seed, draw, *name.encode()]).generate_state(1)[0])


def tries(name: str) -> Sequence[Mapping[str, Any]]:
    """The settings that may be chosen among, the default first."""
    return methods.facts(name).tries


def draws(name: str) -> int:
    """How many masks are drawn of a method in all: 1 of most, more of those that are pure chance."""
    return methods.facts(name).draws


def learned(name: str) -> bool:
    """Whether a method trains gates."""
    return methods.facts(name).learned


def about(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What a file says of the methods."""
    return {
        name: {
            "about": (type(methods.get(name)).__doc__ or "").strip().split("\n")[0],
            "draws": draws(name),
            "learned": learned(name),
        }
        for name in names
    }


def everyone(*, learned_too: bool = False) -> tuple[str, ...]:
    """All methods, ours first."""
    names = [name for name in methods.names() if learned_too or not learned(name)]
    return tuple(sorted(names, key=lambda name: (name != OURS, name)))


@dataclass(frozen=True)
class Preset:
    """A comparison whose length was measured; every part of it can be given otherwise.

    ``expensive`` says what becomes of methods that take as long as all the others together.
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
    recoveries: tuple[str, ...] = field(default=("none", "refit"))

    @property
    def methods(self) -> tuple[str, ...]:
        """Its methods, as they are registered now."""
        names = everyone(learned_too=self.learned)
        return tuple(name for name in names if self.expensive != "left out" or not methods.facts(name).expensive)

    @property
    def few_seeds(self) -> tuple[str, ...]:
        """Those that are measured with the first seed alone."""
        return tuple(name for name in self.methods if self.expensive == "first seed" and methods.facts(name).expensive)


def _seeds(count: int) -> tuple[int, ...]:
    return tuple(range(FIRST_SEED, FIRST_SEED + count))


#: What is compared where methods are named and nothing else is.
PLAIN = Preset(budgets=("6", "12", "20"), seeds=_seeds(5), limit=2000, eval_limit=1000, recoveries=("none",))
_POSTHOC = Preset(
    budgets=("6", "12", "20", "36", "54"),
    seeds=_seeds(5),
    limit=400,
    eval_limit=300,
    recovered_draws=5,
    expensive="first seed",
)
PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        budgets=("12", "36"),
        seeds=_seeds(2),
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
    # What is left of the choice of heads after each recovery, on as many texts as telling methods apart takes. A mask
    # is trained in minutes, so of these there are ours, chance and the best rival.
    "recovery": replace(
        _POSTHOC,
        expensive="left out",
        trained=(OURS, "random", "facility"),
        limit=1000,
        eval_limit=1101,
        draws=10,
        distilled_budgets=("12", "20"),
        finetuned_budgets=("12",),
        recoveries=("none", "refit", "distill", "finetune"),
    ),
}


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"5"``: five seeds from 42 on; ``"7,11"``, or ``"7,"``: these.

    Raises:
        OptionError: If the text is neither.
    """
    parts = split(text)
    if not parts or not all(part.isascii() and part.isdigit() and len(part) < 11 for part in parts):
        raise OptionError(f"cannot read seeds {text!r}; write how many (5), or which (42,43)")
    if "," in text:
        return tuple(int(part) for part in parts)
    if not 1 <= int(text) <= 1000:
        raise OptionError(f"--seeds {text} is impossible; give 1 to 1000, or seeds themselves with commas (42,43)")
    return _seeds(int(text))


def split(text: str) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
