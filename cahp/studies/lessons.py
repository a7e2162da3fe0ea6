"""Six guesses about redundancy: what is done to a model, and a question. ``answers`` measures the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cahp.run.bench import Bench
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.head_habits import sample_of
from cahp.values import Floats, HeadMask, Ints, Selection, Texts, digest

#: Number of texts of every step: quick to evaluate, and enough for an interval of a few points.
EXAMPLES = 300
#: Random selections that CAHP's is compared with.
DRAWS = 20
#: Random sets of other heads that the representatives are compared with.
CONTROLS = 5
#: Random selections that are also refitted; each costs a refit.
REFITTED_DRAWS = 5


@dataclass(frozen=True)
class Step:
    """One step: what is done to the model, the question, and the range and unit of a guess.

    ``counted`` defines the unit; ``terms`` explains the technical terms that appear first here.
    """

    name: str
    title: str
    doing: str
    question: str
    unit: str
    highest: int
    counted: str
    terms: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished selection of heads and evaluation texts, which all steps measure.

    ``mask`` keeps CAHP's heads, ``labels (N,)`` are their clusters, ``salience (L, H)`` their salience.
    """

    bench: Bench
    texts: Texts
    mask: HeadMask
    labels: Ints
    salience: Floats

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
    texts, labels = sample_of(bench.evaluation, EXAMPLES), clusters.groups(selection.k)[0]
    return Subject(bench, texts, selection.mask, labels, clusters.salience)


def steps(subject: Subject) -> list[Step]:
    """Return the six steps in order, with the numbers of the subject in their texts."""
    layer, head = subject.strongest
    members, _ = subject.largest_cluster
    total, kept, n = subject.mask.keep.size, subject.mask.count, len(subject.texts)
    answer = (
        "An answer is the class that the model predicts for a text. It changes when it differs from that with all "
        "heads, right or wrong."
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
        ),
        Step(
            "one-cluster",
            "Switch off all heads of a cluster but one",
            f"{len(members)} heads separate the classes in a similar way; they form the largest cluster. We keep its "
            f"representative and switch off the other {len(members) - 1}.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {"cluster": "a group of heads that are more similar to each other than to other heads"},
        ),
        Step(
            "representatives",
            "Switch off the representatives",
            f"Now the reverse: we switch off the {kept} heads that CAHP keeps, and the other {total - kept} stay. For "
            f"comparison, we also switch off as many of the others, drawn at random, {CONTROLS} times.",
            f"Of {n} answers, how many will change without the representatives?",
            "answers",
            n,
            answer,
            {"representative": "the kept head of a cluster: the one with the largest gradient"},
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
        ),
        Step(
            "refit",
            "Recover without training",
            f"With {kept} heads, the rest of the model gets inputs that it was not trained on. A refit solves for new "
            "output weights in one pass, without labels and without training. Distillation would continue from "
            "there: the pruned model (the student) is trained to imitate the full model (the teacher).",
            "How many points of accuracy does the refit regain?",
            "points",
            50,
            "One point is one more correct answer per hundred texts.",
            {
                "output weights": "the weights that mix the outputs of the heads into the output of the layer",
                "label": "the correct class of a text, assigned by people",
            },
        ),
        Step(
            "time",
            "Half of the heads, half of the time?",
            "We cut half of the heads out of every layer, so that the model is really smaller, and time both models in "
            "turn.",
            "How much of the time is saved?",
            "per cent",
            50,
            "Per cent of the time that the full model takes for the same texts.",
            {"to cut": "to remove a head's weights from the model; switching it off only sets its output to zero"},
        ),
    ]
