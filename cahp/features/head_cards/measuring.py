"""What the card of a head shows: sentences on which it differs from its family, and what its removal changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.board.budget_sweep import evaluate_mask
from cahp.features.head_cards.sentences import SENTENCES
from cahp.outcomes import HEADLINES, Outcomes
from cahp.run.bench import Bench
from cahp.stages.similarity import attend, join_words
from cahp.values import Floats, HeadMask, Ints, Progress, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

STAGE = "sentences"

#: Sentences on a card, and arcs on a sentence.
_SENTENCES = 3
_ARCS = 3
#: The least share of a word's attention, beyond that of the family, that is drawn as an arc.
_LEAST = 0.05
#: The place of a token that belongs to no word.
_NO_WORD = -1


@dataclass(frozen=True)
class Arc:
    """A word that attends to another one: both places in the sentence, and the share ``weight`` of its attention."""

    source: int
    target: int
    weight: float


@dataclass(frozen=True)
class Example:
    """A sentence on which a head differs from the others of its family.

    ``text`` is the place in ``SENTENCES``, ``share`` the part of the head's attention, averaged over the words, that
    goes to other words than the family's. ``arcs`` are the strongest of these differences.
    """

    text: int
    share: float
    arcs: tuple[Arc, ...]


def find_examples(
    model: HeadModel, families: Ints, *, sentences: Sequence[str] = SENTENCES, progress: Progress = silent
) -> tuple[tuple[Example, ...], ...]:
    """Find for each head the sentences on which it attends to other words than the rest of its family.

    ``families (N,)`` are those of the heads. A head that is a family of its own is compared with all other heads.
    Sentences that the tokenizer does not split into their words are left out.
    """
    shares: list[NDArray[np.float64]] = []
    maps: list[tuple[NDArray[np.float64], NDArray[np.float32]]] = []
    places: list[int] = []
    for place, sentence in enumerate(sentences):
        progress(STAGE, place, len(sentences))
        attention = attend(model, sentence)
        words = find_words(sentence, attention.tokens)
        if words is None:
            continue
        own = join_words(attention.by_head, words, int(words.max()) + 1)
        more = exceed_family(own, families)
        if words[0] != _NO_WORD:
            # The first token gets the attention that a head has no use for, whatever the word is.
            more[:, :, 0] = 0
        places.append(place)
        shares.append(more.sum(axis=2).mean(axis=1))
        maps.append((own, more))
    progress(STAGE, len(sentences), len(sentences))
    if not places:
        return ((),) * len(families)
    # The sentences of each head, those with the largest share first.
    order = np.argsort(-np.stack(shares), axis=0, kind="stable")[:_SENTENCES]
    examples = []
    for head, chosen in enumerate(order.T.tolist()):
        rows = []
        for at in chosen:
            own, more = maps[at]
            rows.append(Example(places[at], round(float(shares[at][head]), 4), find_arcs(own[head], more[head])))
        examples.append(tuple(rows))
    return tuple(examples)


def find_words(sentence: str, tokens: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the place of the word of each token ``(S,)``, -1 for those beside the sentence.

    Words stand between spaces. None: no row of tokens makes up the sentence, such as with unknown words.
    """
    letters = [token.removeprefix("##").strip("▁ ").casefold() for token in tokens]
    words = sentence.casefold().split()
    whole = "".join(words)
    ends = np.cumsum([len(word) for word in words])
    for start in range(len(letters)):
        written = 0
        found = np.full(len(tokens), _NO_WORD, dtype=np.int64)
        for place in range(start, len(letters)):
            piece = letters[place]
            if not piece or not whole.startswith(piece, written):
                break
            found[place] = np.searchsorted(ends, written, side="right")
            written += len(piece)
            if written == len(whole):
                return found
    return None


def exceed_family(maps: Floats, families: Ints) -> NDArray[np.float32]:
    """Return how much more attention ``(N, W, W)`` each head gives to another word than the mean of its family.

    The mean is that of the other heads of the family, or of all other heads where there are none.
    """
    member = (families[:, None] == families).astype(np.float32)
    np.fill_diagonal(member, 0)
    alone = ~member.any(axis=1)
    member[alone] = 1
    np.fill_diagonal(member, 0)
    others = np.einsum("nm,mij->nij", member / np.maximum(member.sum(axis=1, keepdims=True), 1), maps)
    more = np.maximum(maps - others, 0)
    at = np.arange(maps.shape[1])
    more[:, at, at] = 0
    return np.asarray(more, dtype=np.float32)


def find_arcs(own: Floats, more: Floats) -> tuple[Arc, ...]:
    """Return the strongest differences of a head from its family, ``own (W, W)`` and what is ``more (W, W)``."""
    strongest = np.argsort(-more, axis=None, kind="stable")[:_ARCS]
    arcs = []
    for source, target in zip(*np.unravel_index(strongest, more.shape), strict=True):
        if more[source, target] >= _LEAST:
            arcs.append(Arc(int(source), int(target), round(float(own[source, target]), 3)))
    return tuple(arcs)


# Removal -----------------------------------------------------------------------------------------------------


def measure_removal(bench: Bench, head: int) -> Outcomes:
    """Evaluate the model without one head on the evaluation texts; the store keeps it."""
    measured = evaluate_mask(bench, HeadMask.without([head], bench.card.layers, bench.card.heads))
    shown = [row.name for row in HEADLINES] + ["accuracy_change"]
    return {name: measured[name] for name in shown if name in measured}


def measure_removals(bench: Bench, progress: Progress = silent) -> tuple[Outcomes, ...]:
    """Evaluate the model without each head alone, in the order of flat indices."""
    card = bench.card
    every = range(card.layers * card.heads)
    removals = []
    masks = [HeadMask.without([head], card.layers, card.heads) for head in every]
    with bench.measurements.sharing(bench.evaluation, masks):
        for head in every:
            progress("removals", head, len(every))
            removals.append(measure_removal(bench, head))
    return tuple(removals)
