"""One head at work on one sentence: which words look at which, and what the model answers with and without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.run import Bench
from cahp.stages import attend, read_tokens
from cahp.values import Floats, HeadMask, Ints
from cahp.values.head_roles import HeadRoles

#: The sentences: the second has a repeat, at which heads that copy can be seen.
_SENTENCE = "The striker scored twice before the bank announced that rates would rise"
_REPEAT = "The striker scored twice before the bank announced that the striker scored"
#: Weights up to this one draw no arc.
_LEAST = 0.16
#: The role whose heads are shown of a language model.
COPYING = "induction"


@dataclass(frozen=True)
class HeadFamily:
    """Heads that do the same, as flat indices: a cluster of which one ``stays``, or all heads that copy (None).

    ``named_otherwise`` of those that copy have a more telling role, by which the board names them.
    """

    heads: tuple[int, ...]
    stays: int | None = None
    named_otherwise: int = 0

    @property
    def leaving(self) -> tuple[int, ...]:
        """The heads that are removed one by one."""
        return tuple(head for head in self.heads if head != self.stays)


@dataclass(frozen=True)
class Prediction:
    """What a model answers to the sentence, a class or the next token, and with which probability."""

    words: str
    share: float


@dataclass(frozen=True)
class Scene:
    """A ``head`` (flat index) on the ``words`` of a sentence.

    ``arcs`` are words that look at others: places of both, and the weight. The model answers ``before`` the head is
    removed and ``after``.
    """

    head: int
    words: tuple[str, ...]
    arcs: tuple[tuple[int, int, float], ...]
    before: Prediction
    after: Prediction


def find_family(labels: Ints, mask: HeadMask, salience: Floats, roles: HeadRoles | None) -> HeadFamily:
    """Return the heads that copy, if ``roles`` name some, or else the largest cluster with its representative."""
    if roles is not None:
        copying = roles.units(COPYING)
        if 0 < len(copying) < mask.keep.size:
            return HeadFamily(copying, named_otherwise=roles.named_otherwise(COPYING))
    members = np.flatnonzero(labels == np.bincount(labels).argmax())
    kept = [head for head in members if mask.keep.ravel()[head]]
    candidates = np.array(kept or members)
    stays = candidates[np.argmax(salience.ravel()[candidates])]
    return HeadFamily(tuple(int(head) for head in members), int(stays))


def measure_scene(bench: Bench, family: HeadFamily) -> Scene:
    """Show the head of a family that has the strongest arcs on the sentence."""
    model = bench.model
    causal = bench.card.task.predicts_often
    text = _SENTENCE
    if causal:
        text = _REPEAT
    words = tuple(text.split())
    attention = attend(model, text)
    places = place_tokens(words, attention.tokens)
    drawn: Mapping[int, tuple[tuple[int, int, float], ...]] = {
        head: find_arcs(attention.by_head[head], places, causal=causal) for head in family.leaving or family.heads
    }
    head = max(drawn, key=lambda head: sum(weight for *_, weight in drawn[head]))
    without = HeadMask.without([head], *attention.weights.shape[:2])
    return Scene(head, words, drawn[head], _predict(bench, text), _predict(bench, text, without))


def place_tokens(words: Sequence[str], tokens: Sequence[str]) -> list[int]:
    """Return the place of the word that each token is a part of (-1: of none, such as a special token)."""
    places = []
    at = 0
    rest = words[0].lower()
    for token in tokens:
        piece = token.lower().removeprefix("##")
        if not piece or not rest.startswith(piece):
            places.append(-1)
            continue
        places.append(at)
        rest = rest[len(piece) :]
        if not rest and at + 1 < len(words):
            at += 1
            rest = words[at].lower()
    return places


def find_arcs(weights: Floats, places: Sequence[int], *, causal: bool = False) -> tuple[tuple[int, int, float], ...]:
    """Return the strongest arc of each word to another one, above ``_LEAST``.

    ``weights (S, S)`` are those of one head, whose tokens are parts of the words at ``places (S,)``: an arc's weight is
    the mean over the tokens of the looking word and the sum over those of the other. Of two words that look at each
    other, the stronger arc is drawn. In a ``causal`` model, the last token of a word looks for the word, and arcs to
    the first word, on which heads rest, are left out.
    """
    of_token = np.array(places)
    count = max(places, default=-1) + 1
    arcs: dict[frozenset[int], tuple[int, int, float]] = {}
    for word in range(count):
        rows = weights[of_token == word]
        row = rows.mean(axis=0)
        if causal:
            row = rows[-1]
        looked = np.array([row[of_token == other].sum() for other in range(count)])
        looked[word] = 0
        looked[: int(causal)] = 0
        other = int(looked.argmax())
        weight = round(float(looked[other]), 2)
        pair = frozenset((word, other))
        if weight > max(_LEAST, arcs.get(pair, (0, 0, 0.0))[2]):
            arcs[pair] = (word, other, weight)
    return tuple(sorted(arcs.values()))


def _predict(bench: Bench, text: str, mask: HeadMask | None = None) -> Prediction:
    """Return the answer of the model with the heads of ``mask`` (None: all)."""
    import torch

    model = bench.model
    entry, _, _ = read_tokens(model, text)
    gates = None
    if mask is not None:
        gates = model.gates(mask.keep)
    with torch.inference_mode():
        shares = model.logits(model.batches([entry])[0], gates=gates)[0].double().softmax(-1)
    best = int(shares.argmax())
    share = float(shares[best])
    if model.card.task.predicts_often:
        return Prediction(model.tokenizer.decode([best]).strip(), share)
    return Prediction(bench.class_names[best], share)
