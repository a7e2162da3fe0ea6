"""What a receipt of abilities holds: for each ability the values of the models, and one word for each pruned one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cahp.files import plain_json
from cahp.values import Estimate

#: Bump to invalidate cached results, and the cached runs that hold them.
REVISION = 2
#: What became of an ability. The words ``weaker`` and ``lost`` are flags.
Word = Literal["kept", "weaker", "lost", "not significant", "not measurable"]
#: The words of abilities that are surely worse, beyond the margin.
FLAGS: tuple[Word, ...] = ("lost", "weaker")
#: The models whose abilities are compared with the full model's.
COMPARED = ("pruned", "recovered")
#: What each word means, in a sentence for tables and help.
MEANINGS: Mapping[Word, str] = {
    "kept": "surely worse by less than a tenth of the full model's lead over chance, or better",
    "weaker": "surely worse than the full model",
    "lost": "surely worse, and more than half of the lead over chance is gone",
    "not significant": "neither a difference nor its absence is certain",
    "not measurable": "the full model itself is not surely above chance, or cannot be asked",
}


@dataclass(frozen=True)
class AbilityVerdict:
    """An ability of one pruned or recovered model beside the full model's.

    ``value`` is its own, and ``difference`` that minus the full model's, paired over items: in ``points`` where values
    are shares. Their intervals are not corrected for the number of abilities. ``p`` is: it is that of no difference,
    two-sided, by flips of signs, corrected over the abilities of this model (Holm 1979).
    """

    value: Estimate
    difference: Estimate
    p: float
    word: Word

    @property
    def flagged(self) -> bool:
        """Whether the ability is surely worse than the full model's, beyond the margin."""
        return self.word in FLAGS


@dataclass(frozen=True)
class Ability:
    """One row of a receipt: an ability, measured on ``n`` items; higher values are better.

    A model without the ability has the value ``chance``, in the unit of the values. ``full`` is the value of the full
    model. A row that is not measurable has a ``reason``, and no values where none could be computed. ``pruned`` and
    ``recovered`` are None where there is no such model. ``losses`` holds further means in nats per token by model, such
    as the loss of a second reading (``loss_label`` names them).
    """

    name: str
    label: str
    n: int
    chance: float
    full: Estimate | None = None
    pruned: AbilityVerdict | None = None
    recovered: AbilityVerdict | None = None
    reason: str = ""
    loss_label: str = ""
    losses: Mapping[str, Estimate] = field(default_factory=dict)

    def get(self, state: str) -> AbilityVerdict | None:
        """Return the verdict of the ``pruned`` or the ``recovered`` model (None: not compared)."""
        if state == "recovered":
            return self.recovered
        return self.pruned

    def word_of(self, state: str) -> Word | None:
        """Return the word of the ``pruned`` or the ``recovered`` model (None: there is no such model)."""
        verdict = self.get(state)
        if verdict is not None:
            return verdict.word
        if self.reason and state == "pruned":
            return "not measurable"
        return None


@dataclass(frozen=True)
class AbilitiesRecord:
    """A receipt: the abilities of a pruned model, and of the recovered one if there is one, beside the full model's.

    ``complete`` tells whether all abilities were measured, or those alone that every run measures.
    """

    rows: tuple[Ability, ...]
    complete: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        """The models that are compared with the full one."""
        return tuple(state for state in COMPARED if self._has(state))

    def _has(self, state: str) -> bool:
        return any(row.get(state) is not None for row in self.rows)

    def flagged(self, state: str) -> tuple[Ability, ...]:
        """Return the abilities that are weaker or lost in the ``pruned`` or the ``recovered`` model."""
        return tuple(row for row in self.rows if row.word_of(state) in FLAGS)

    def count_words(self, state: str) -> dict[Word, int]:
        """Count how many abilities have each word in a model; words that none has are left out."""
        words = [row.word_of(state) for row in self.rows]
        return {word: words.count(word) for word in MEANINGS if word in words}

    def summarise(self, state: str) -> str:
        """Say in one line what became of the abilities of a model, such as ``1 of 2 lost: repeats text``."""
        measured = sum(row.word_of(state) not in (None, "not measurable") for row in self.rows)
        parts = list(self._name_flagged(state))
        if parts:
            return f"of {measured} measurable abilities: {'; '.join(parts)}"
        if not measured:
            return "no ability is measurable"
        kept = self.count_words(state).get("kept", 0)
        return f"no ability is surely worse; {kept} of {measured} measurable ones are surely kept"

    def _name_flagged(self, state: str) -> Iterator[str]:
        for word in FLAGS:
            labels = [row.label for row in self.rows if row.word_of(state) == word]
            if labels:
                yield f"{word} {', '.join(labels)}"

    def of_full_model(self) -> AbilitiesRecord:
        """Return the receipt of the full model alone."""
        rows: list[Ability] = []
        for row in self.rows:
            losses = {state: loss for state, loss in row.losses.items() if state == "full"}
            rows.append(replace(row, pruned=None, recovered=None, losses=losses))
        return replace(self, rows=tuple(rows))

    def to_json(self) -> dict[str, Any]:
        """Return it as files hold it."""
        content: dict[str, Any] = plain_json(self)
        return content

    def as_pruned(self) -> AbilitiesRecord:
        """Return the receipt without the recovered model."""
        rows: list[Ability] = []
        for row in self.rows:
            losses = {state: loss for state, loss in row.losses.items() if state != "recovered"}
            rows.append(replace(row, recovered=None, losses=losses))
        return replace(self, rows=tuple(rows))
