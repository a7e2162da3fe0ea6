"""One head at work on one sentence: which words look at which, and what the model answers with and without it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cahp.run import Bench
from cahp.stages import Arc, find_arcs, predict_text, read_words
from cahp.store import key
from cahp.values import Floats, HeadMask, HeadRoles, Ints

#: The sentences: the second has a repeat, at which heads that copy can be seen.
_SENTENCE = "The striker scored twice before the bank announced that rates would rise"
_REPEAT = "The striker scored twice before the bank announced that the striker scored"
#: Most arcs of a head, and the weight up to which there is none.
_ARCS = 7
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
    """A ``head`` (flat index) on the ``words`` of a sentence, and its strongest ``arcs``.

    The model answers ``before`` the head is removed and ``after``.
    """

    head: int
    words: tuple[str, ...]
    arcs: tuple[Arc, ...]
    before: Prediction
    after: Prediction


def find_family(labels: Ints, mask: HeadMask, salience: Floats, roles: HeadRoles | None) -> HeadFamily:
    """Return the heads that copy, if ``roles`` name some, or else the largest cluster with its representative."""
    if roles is not None:
        copying = roles.units(COPYING)
        if 0 < len(copying) < mask.keep.size:
            return HeadFamily(copying, named_otherwise=roles.named_otherwise(COPYING))
    members = np.flatnonzero(labels == np.bincount(labels).argmax())
    kept = members[mask.keep.ravel()[members]]
    if not len(kept):
        kept = members
    stays = kept[np.argmax(salience.ravel()[kept])]
    return HeadFamily(tuple(members.tolist()), int(stays))


def find_scene(bench: Bench, family: HeadFamily, make: Callable[[], Scene] | None = None) -> Scene | None:
    """Return the scene of a family from the store, or ``make`` and store it."""
    return bench.resources.find_record(key("scene", 1, bench.card.sha256, family.leaving, family.stays), Scene, make)


def measure_scene(bench: Bench, family: HeadFamily) -> Scene:
    """Show the head of a family that has the strongest arcs on the sentence."""
    causal = bench.card.task.predicts_often
    text = _SENTENCE
    if causal:
        text = _REPEAT
    words, attention = read_words(bench.model, text, most=len(text), last=causal)
    drawn = {}
    for head in family.leaving or family.heads:
        drawn[head] = tuple(sorted(find_arcs(attention[head].round(2), most=_ARCS, least=_LEAST)))
    head = max(drawn, key=lambda head: sum(arc.weight for arc in drawn[head]))
    without = HeadMask.without([head], bench.card.layers, bench.card.heads)
    return Scene(head, tuple(words), drawn[head], _predict(bench, text), _predict(bench, text, without))


def _predict(bench: Bench, text: str, mask: HeadMask | None = None) -> Prediction:
    """Return the answer of the model with the heads of ``mask`` (None: all)."""
    shares, _ = predict_text(bench.model, text, mask)
    best = int(shares.argmax())
    if bench.card.task.predicts_often:
        return Prediction(bench.model.tokenizer.decode([best]).strip(), float(shares[best]))
    return Prediction(bench.class_names[best], float(shares[best]))
