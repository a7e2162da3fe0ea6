"""What a card says of a head: its family, its nearest heads, its replacement, and what its removal changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.board.head_clusters import HeadClusters
from cahp.figures.head_grid import head_name
from cahp.outcomes import Outcomes
from cahp.stages.replacement import Replaceability
from cahp.stages.similarity import nearest_heads
from cahp.values import HeadMask
from cahp.values.statistics import called
from cahp.words import capital, percent, span

#: Nearest heads on a card.
NEAREST = 3
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A head among the others: the ``clusters`` with the cluster of each head in ``labels (N,)``, and the ``mask``.

    Sentences call a head a ``unit``.
    """

    clusters: HeadClusters
    labels: NDArray[np.int64]
    mask: HeadMask
    head: int
    unit: str

    @property
    def family(self) -> list[int]:
        """The heads of the family, the head itself included, in order."""
        families = self.clusters.families
        return [int(head) for head in np.flatnonzero(families == families[self.head])]

    @property
    def kept(self) -> bool:
        """Whether the head is kept."""
        return bool(self.mask.keep.flat[self.head])

    @property
    def median(self) -> float:
        """The median distance of two heads."""
        distances = self.clusters.distances
        if len(distances) < 2:
            return 0.0
        return float(np.median(distances[np.triu_indices(len(distances), 1)]))

    def describe_family(self) -> str:
        """Describe how many heads the family has, and how many of them are kept."""
        family = self.family
        state = "Pruned"
        if self.kept:
            state = "Kept"
        if len(family) == 1:
            return f"{state}; no other {self.unit} is in its family"
        kept = [head for head in family if self.mask.keep.flat[head]]
        size = count_in_words(len(family))
        if kept == [self.head]:
            return f"The one kept of a family of {size}"
        if not kept:
            return f"Pruned, as are all of its family of {size}"
        named = ", ".join(called(head, self.mask.heads) for head in kept if head != self.head)
        if self.kept:
            return f"Kept, of its family of {size} also {named}"
        return f"Pruned; its family of {size} keeps {named}"

    def find_nearest(self) -> list[tuple[int, float]]:
        """Return the nearest heads with their distances."""
        distances = self.clusters.distances
        near = nearest_heads(distances, self.head, count=NEAREST)
        return [(other, float(distances[self.head, other])) for other in near]

    def describe_replacement(self) -> str:
        """Describe the kept head that is nearest, in its cluster if there is one."""
        cover, distance, same = self.clusters.nearest_kept(self.mask, self.head, self.labels)
        if cover == self.head:
            return f"No other {self.unit} is kept, so none replaces it"
        name = head_name(cover, self.mask.heads, self.unit)
        where = f"the nearest kept {self.unit} of its cluster"
        if not same:
            where = f"of another cluster, as no other {self.unit} of its own is kept"
        return f"Its replacement is {name}, {where}: distance {distance:.1f}, median of all pairs {self.median:.1f}"


def count_in_words(count: int) -> str:
    """Write a small number as a word."""
    if count < len(_NUMBERS):
        return _NUMBERS[count]
    return str(count)


def describe_replaceability(replaceability: Replaceability, mask: HeadMask, head: int, unit: str) -> str:
    """Tell what the other kept heads of its layer can reproduce of a head, and which of them reproduce most.

    ``unit`` says what is kept as a whole: a head, or a group of them.
    """
    share = float(replaceability.shares(mask).flat[head])
    layer, place = divmod(head, mask.heads)
    others = int(mask.keep[layer].sum()) - int(mask.keep[layer, place])
    if np.isnan(share):
        return f"The {unit} has no effect on the predictions, so nothing has to replace it."
    if not others:
        return f"No other {unit} of its layer is kept, so none can reproduce what it contributes."
    chosen, reached = replaceability.replacing(mask, head)
    named = f"{unit}{'s' * (len(chosen) > 1)} {' and '.join(map(str, chosen))}"
    if others == len(chosen):
        return f"**{capital(named)} of this layer can reproduce {percent(share, 0)} of what it contributes.**"
    return (
        f"**{capital(named)} of this layer can reproduce {percent(reached, 0)} of what it contributes;** all {others} "
        f"other kept {unit}s of the layer {percent(share, 0)}."
    )


def describe_removal(outcomes: Outcomes, *, answers: bool, units: str = "texts") -> tuple[str, str]:
    """Describe what the removal of one head changes: the finding, and further figures with their intervals.

    ``answers``: each prediction is the answer to a text; otherwise they are next words, and intervals are over
    ``units``.
    """
    agreement = outcomes["agreement"]
    if answers:
        changed = round((1 - agreement.value) * agreement.n)
        finding = f"{changed:,} of {agreement.n:,} answers change"
        further = []
    else:
        finding = f"{percent(1 - agreement.value)} of next words change"
        further = [f"{span(100 * (1 - agreement.high), 100 * (1 - agreement.low))}, n = {agreement.n:,} {units}"]
    change = outcomes.get("accuracy_change")
    if change is not None:
        further.append(f"accuracy {change.text} ({change.span})")
    kl = outcomes["kl"]
    further.append(f"KL divergence {kl.text} nats ({kl.span})")
    return finding, "; ".join(further)
