"""What the card of a head shows: its family, its nearest heads, sentences, and what its removal changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cahp.board import HeadClusters, evaluate_mask
from cahp.figures import head_name
from cahp.outcomes import HEADLINES, Outcomes
from cahp.run import Bench
from cahp.stages import Arc, SharedLayers, find_arcs, read_words
from cahp.store import key
from cahp.values import Floats, HeadMask, Ints, Progress, called, digest, silent
from cahp.words import percent, span

if TYPE_CHECKING:
    from cahp.models import HeadModel

#: Of many kinds: names, numbers, questions, negation, lists, quotes, repeated words, and what words refer to.
SENTENCES = (
    "The club's owner sold its shares after the final was lost on penalties.",
    "The striker scored twice before the bank announced that rates would rise.",
    "When the minister met the farmers, she promised that they would be paid.",
    "The keys that the driver left in the car were not found until Monday.",
    "Prices fell by nine per cent in March, and by four per cent in April.",
    "Why did the museum close its doors to visitors so early?",
    "The film was not bad at all; in fact, nobody I know disliked it.",
    "The dog chased the cat, and then the cat chased the dog.",
    "She bought bread, milk, three lemons, and a small jar of honey.",
    "The trophy does not fit into the suitcase because it is too large.",
    "Critics praised the band's new album, which was recorded in a barn.",
    "If it rains tomorrow, the match will be played on Sunday instead.",
    "Anna lent Maria a book, but Maria never gave the book back.",
    "The new phone has a better camera than the old phone.",
    "He said that he had seen the letter, although he could not read it.",
    "Neither the pilot nor the passengers noticed that the engine had stopped.",
    "In 1969 two people walked on the moon for the first time.",
    "The government will cut taxes, but it will also cut spending on schools.",
    "Her brother's wife is a doctor in a hospital near the river.",
    "The red ball rolled under the blue chair and stayed there.",
    "Nobody told the actors that the play had been cancelled.",
    "The software update fixes a bug that deleted files without a warning.",
    "First wash the rice, then boil it, and finally let it rest.",
    "The lawyer asked the witness whether she knew the man beside her.",
)


def describe_family(families: Ints, mask: HeadMask, head: int) -> str:
    """Describe whether a head is kept, and which heads of its family are; ``families (N,)`` are those of the heads."""
    state = "Pruned"
    if mask.keep.flat[head]:
        state = "Kept"
    members = np.flatnonzero(families == families[head])
    kept = [called(int(other), mask.heads) for other in members if mask.keep.flat[other]]
    return f"{state}; its family of {len(members)} keeps {', '.join(kept) or 'none'}"


def describe_replacement(clusters: HeadClusters, labels: Ints, mask: HeadMask, head: int, unit: str) -> str:
    """Describe the kept head that is nearest, in its cluster if there is one; ``labels (N,)`` are the clusters."""
    cover, distance, same = clusters.nearest_kept(mask, head, labels)
    if cover == head:
        return f"No other {unit} is kept, so none replaces it"
    cluster = "another cluster"
    if same:
        cluster = "its cluster"
    name = head_name(cover, mask.heads, unit)
    return f"Its replacement is {name}, the nearest kept {unit}, of {cluster}: distance {distance:.1f}"


def describe_removal(outcomes: Outcomes, units: str) -> tuple[str, str]:
    """Describe what the removal of one head changes: the finding, and further figures with intervals over ``units``."""
    agreement = outcomes["agreement"]
    finding = f"{percent(1 - agreement.value)} of predictions change"
    further = [f"{span(100 * (1 - agreement.high), 100 * (1 - agreement.low))} %, n = {agreement.n:,} {units}"]
    for name, label in (("accuracy_change", "accuracy"), ("kl", "KL divergence in nats")):
        if name in outcomes:
            further.append(f"{label} {outcomes[name].text} ({outcomes[name].span})")
    return finding, "; ".join(further)


STAGE = "sentences"

#: Sentences on a card, and arcs on a sentence.
_SENTENCES = 3
_ARCS = 3
#: The least share of a word's attention, beyond that of the family, that is drawn as an arc.
_LEAST = 0.05


@dataclass(frozen=True)
class Example:
    """A sentence on which a head differs from the others of its family.

    ``text`` is the place in ``SENTENCES``, ``share`` the part of the head's attention, averaged over the words, that
    goes to other words than the family's. ``arcs`` are the strongest of these differences.
    """

    text: int
    share: float
    arcs: tuple[Arc, ...]


#: Those of each head.
Examples = tuple[tuple[Example, ...], ...]


def find_examples(
    model: HeadModel, families: Ints, *, sentences: Sequence[str] = SENTENCES, progress: Progress = silent
) -> Examples:
    """Find for each head the sentences on which it attends to other words than the rest of its family.

    ``families (N,)`` are those of the heads. A head that is a family of its own is compared with all other heads.
    Sentences that are not read as their words are left out.
    """
    read = []
    for place, sentence in enumerate(sentences):
        progress(STAGE, place, len(sentences))
        words, own = read_words(model, sentence, most=len(sentence))
        if len(words) == len(sentence.split()):
            read.append((place, own, exceed_family(own, families)))
    progress(STAGE, len(sentences), len(sentences))
    examples = []
    for head in range(len(families)):
        rows = []
        for place, maps, more in read:
            share = float(more[head].sum(axis=1).mean())
            stronger = find_arcs(more[head], most=_ARCS, least=_LEAST)
            arcs = tuple(arc._replace(weight=round(float(maps[head][arc[:2]]), 3)) for arc in stronger)
            rows.append((share, Example(place, round(share, 4), arcs)))
        # Those with the largest share first.
        rows.sort(key=lambda row: -row[0])
        examples.append(tuple(example for _, example in rows[:_SENTENCES]))
    return tuple(examples)


def stored_examples(bench: Bench, families: Ints, *, measure: bool = False) -> Examples | None:
    """Return the examples of each head from the store (None: not there), or ``measure`` and store them."""

    def make() -> Examples:
        return find_examples(bench.model, families, progress=bench.resources.progress)

    name = key("sentences of heads", 1, bench.card.sha256, digest(families.tobytes()), digest(*SENTENCES))
    if measure:
        return bench.resources.find_record(name, Examples, make)
    return bench.resources.find_record(name, Examples)


def exceed_family(maps: Floats, families: Ints) -> Floats:
    """Return how much more attention ``(N, W, W)`` each head gives to another word than the mean of its family.

    The mean is that of the other heads of the family, or of all other heads where there are none.
    """
    member = families[:, None] == families
    member[member.sum(axis=1) == 1] = True
    np.fill_diagonal(member, val=False)
    weights = member / np.maximum(member.sum(axis=1, keepdims=True), 1)
    more: Floats = np.maximum(maps - np.einsum("nm,mij->nij", weights, maps), 0)
    words = np.arange(maps.shape[1])
    more[:, words, words] = 0
    return more


# Removal -----------------------------------------------------------------------------------------------------


def stored_removals(bench: Bench) -> dict[int, Outcomes]:
    """Return the stored outcomes without one head on the evaluation texts, by flat index."""
    return bench.resources.find_record(_name_removals(bench), dict[int, Outcomes]) or {}


def measure_removal(bench: Bench, head: int, *, shared: SharedLayers | None = None) -> Outcomes:
    """Evaluate the model without one head on the evaluation texts, and store that with the others."""
    mask = HeadMask.without([head], bench.card.layers, bench.card.heads)
    measured = evaluate_mask(bench, mask, shared=shared)
    shown = [row.name for row in HEADLINES] + ["accuracy_change"]
    outcomes = {name: measured[name] for name in shown if name in measured}
    removals = {**stored_removals(bench), head: outcomes}
    bench.resources.keep_record(_name_removals(bench), {str(other): removal for other, removal in removals.items()})
    return outcomes


def _name_removals(bench: Bench) -> str:
    return key("removals", 1, bench.card.sha256, bench.evaluation.sha256, bench.settings.seed)
