"""Six guesses about redundancy in a classifier: what is done to it, and a question. ``answers`` has the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cahp.board.head_clusters import HeadClusters
from cahp.run.bench import Bench
from cahp.stages.selection import top
from cahp.tasks.texts import Texts
from cahp.values import Estimate, Floats, HeadMask, Ints, Selection, digest

#: Most texts of a step: quick to evaluate, enough for an interval of a few points, and all those of BBC News.
EXAMPLES = 400
#: Number of windows of a language model, each of which takes as long as dozens of texts.
WINDOWS = 4
#: Random selections that CAHP's is compared with.
DRAWS = 20
#: Random sets of other heads that the representatives are compared with.
CONTROLS = 5
#: Random selections that are also refitted; each costs a refit.
REFITTED_DRAWS = 5


#: The stage that progress names, which counts variants of the model.
STAGE = "variants"


@dataclass(frozen=True)
class Answer:
    """A measured answer: ``value`` in the unit of the guess, its 95 % interval if any, and its meaning.

    ``bars`` are the shares ``outcome`` (of ``OUTCOMES``) of the compared variants by name, the full model first, then
    the subject of the step; ``draws`` those of random selections. ``n`` counts the ``units`` of the step.
    """

    value: float
    interval: tuple[float, float] | None
    found: str
    meaning: str
    n: int
    bars: Mapping[str, Estimate] = field(default_factory=dict)
    draws: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    outcome: str = "accuracy"


@dataclass(frozen=True)
class Step:
    """One step: what is done to the model, the question, and the range and unit of a guess.

    ``counted`` defines the unit; ``terms`` explains the technical terms that appear first here. The answer is an
    estimate over ``units`` (empty: it is counted, and no estimate). ``mask`` keeps the heads that are not switched off
    (None: not known before roles are measured); a language model's step may switch off all heads of a ``role``.
    """

    name: str
    title: str
    doing: str
    question: str
    unit: str
    highest: int
    counted: str
    terms: Mapping[str, str]
    units: str = "texts"
    mask: HeadMask | None = None
    role: str | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished selection of heads and evaluation texts, which all steps measure.

    Of windows only ``sample`` is measured, and nothing is read before: those of a bundled run are cut on first use.
    ``mask`` keeps CAHP's heads, ``labels (N,)`` are their clusters, ``salience (L, H)`` their salience.
    """

    bench: Bench
    texts: Texts
    mask: HeadMask
    labels: Ints
    salience: Floats

    @cached_property
    def sample(self) -> Texts:
        """The texts; of windows some, with all sequences of repeated random tokens."""
        if not self.texts.task.predicts_often:
            return self.texts
        own = set(self.texts.text_rows)
        copies = [row for row in range(len(self.texts)) if row not in own]
        return self.texts.take([*self.texts.sample_rows(WINDOWS), *copies])

    @property
    def measured_on(self) -> str:
        """What the answers are measured on, in words."""
        if not self.texts.task.predicts_often:
            return self.texts.measured
        return self.texts.task.describe_count(min(WINDOWS, self.texts.count))

    @cached_property
    def sha256(self) -> str:
        """Digest of what the answers depend on: the texts, the kept heads and the heads that are switched off."""
        return digest(self.texts.sha256, self.mask.sha256, str(self.strongest), str(self.largest_cluster))

    @cached_property
    def strongest(self) -> tuple[int, int]:
        """Layer and head of the highest salience."""
        layer, head = np.unravel_index(int(np.argmax(self.salience)), self.salience.shape)
        return int(layer), int(head)

    @cached_property
    def largest_cluster(self) -> tuple[list[int], int]:
        """Flat indices of the largest cluster's heads, and of its representative."""
        members = np.flatnonzero(self.labels == np.bincount(self.labels).argmax())
        kept = [head for head in members if self.mask.keep.ravel()[head]]
        candidates = np.array(kept or members)
        representative = candidates[np.argmax(self.salience.ravel()[candidates])]
        return [int(head) for head in members], int(representative)

    def without(self, heads: Iterable[int]) -> HeadMask:
        """Return the mask of all heads but these."""
        return HeadMask(~HeadMask.of(heads, *self.mask.keep.shape).keep)


def subject_of(bench: Bench, clusters: HeadClusters, selection: Selection) -> Subject:
    """Return the subject of a bench and a selection, on some of the evaluation texts."""
    texts = bench.evaluation
    if texts.task.items_are_texts:
        texts = texts.sample(EXAMPLES)
    labels = clusters.groups(selection.k)[0]
    return Subject(bench, texts, selection.mask, labels, clusters.salience)


def rate_choice(as_good: int, *, clear: str, level: str) -> str:
    """Return the verdict on a choice that ``as_good`` of ``DRAWS`` random selections equal, as sentences."""
    if as_good <= DRAWS // 20:
        return clear
    return "The choice helps, but some random selections come close." if as_good < DRAWS // 2 else level


def halved(mask: HeadMask) -> HeadMask:
    """Return the mask that keeps the first half of the heads of each layer: time depends on their number alone."""
    return HeadMask(np.tile(np.arange(mask.heads) < max(1, mask.heads // 2), (mask.layers, 1)))


def random_masks(subject: Subject) -> list[HeadMask]:
    """Return as many random selections as the steps draw, of as many heads as the subject keeps."""
    # They get the same floor as CAHP: no empty layer, unless CAHP's selection has one.
    floor, shape = 0 if subject.mask.empty_layers else 1, subject.mask.keep.shape
    return [
        top(np.random.default_rng(seed).random(shape), budget=subject.mask.count, min_per_layer=floor).mask
        for seed in range(DRAWS)
    ]


def steps(subject: Subject) -> list[Step]:
    """Return the six steps in order, with the numbers of the subject in their texts."""
    layer, head = subject.strongest
    members, representative = subject.largest_cluster
    total, kept, n = subject.mask.keep.size, subject.mask.count, len(subject.texts)
    answer = (
        "An answer is the class that the model predicts for a text. A change is any answer that differs from that with "
        "all heads, right or wrong."
    )
    return [
        Step(
            "one-head",
            "Switch off one head",
            f"The model has {total} attention heads. We switch off the one with the largest gradient: layer {layer}, "
            f"head {head}. The other {total - 1} stay.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {
                "attention head": "a part of a layer that decides which words attend to which",
                "gradient": "how much the model's error would change if the head's output were turned down a little",
            },
            mask=subject.without([layer * subject.mask.heads + head]),
        ),
        Step(
            "one-cluster",
            "Switch off all heads of a cluster but one",
            f"{len(members)} heads separate the classes in a similar way: the largest cluster. We keep one, its "
            f"representative, and switch off the other {len(members) - 1}.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {"cluster": "a group of heads that are more similar to each other than to other heads"},
            mask=subject.without(one for one in members if one != representative),
        ),
        Step(
            "representatives",
            "Switch off the representatives",
            f"Now the reverse: we switch off the {kept} heads that CAHP keeps. The other {total - kept} stay. For "
            f"comparison, we switch off as many of the others, drawn at random, {CONTROLS} times.",
            f"Of {n} answers, how many will change without the representatives?",
            "answers",
            n,
            answer,
            {"representative": "the kept head of a cluster: the one with the largest gradient"},
            mask=subject.without(subject.mask.flat),
        ),
        Step(
            "random",
            "Choose at random instead",
            f"CAHP keeps {kept} of {total} heads. We keep as many random heads, {DRAWS} times, and compare accuracy.",
            f"How many of the {DRAWS} random selections are at least as accurate as CAHP's?",
            "selections",
            DRAWS,
            f"A random selection is {kept} heads drawn from {total}, at least one per layer. It counts if its accuracy "
            f"on {n} texts is at least CAHP's.",
            {"CAHP": "complementary attention head pruning: keep one representative per cluster, prune the others"},
            mask=subject.mask,
        ),
        Step(
            "refit",
            "Recover without training",
            f"With {kept} heads, the rest of the model gets inputs that it was not trained on. A refit solves for new "
            "output weights in one pass, without labels and without training.",
            "How many points of accuracy does the refit regain?",
            "points",
            50,
            "One point is one more correct answer per hundred texts.",
            {
                "output weights": "the weights that mix the outputs of the heads into the output of the layer",
                "label": "the correct class of a text, assigned by people",
            },
            mask=subject.mask,
        ),
        Step(
            "time",
            "Half of the heads, half of the time?",
            "We cut half of the heads out of every layer. The model is now really smaller, and we time both in turn.",
            "How much of the time is saved?",
            "per cent",
            50,
            "Per cent of the time that the full model takes for the same texts.",
            {"to cut": "to remove a head's weights from the model; switching it off only sets its output to zero"},
            units="rounds",
            mask=halved(subject.mask),
        ),
    ]
