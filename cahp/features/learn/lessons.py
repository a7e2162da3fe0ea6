"""What a guess is about: a finished selection of heads, a step that changes the model, and the measured answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cahp.board.head_clusters import HeadClusters
from cahp.run.bench import Bench
from cahp.tasks.answers import Evaluation
from cahp.tasks.texts import Texts
from cahp.values import Estimate, Floats, HeadMask, Ints, Progress, Selection, digest

#: Most texts of a step: quick to evaluate, enough for an interval of a few points, and all those of BBC News.
EXAMPLES = 400
#: Number of windows of a language model, each of which takes as long as dozens of texts.
WINDOWS = 4

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

    @property
    def total(self) -> int:
        """Number of all heads."""
        return self.mask.keep.size

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

    def evaluate(
        self, masks: Sequence[HeadMask | None], progress: Progress, *, refit: bool = False
    ) -> list[Evaluation]:
        """Evaluate the model under each mask (None: all heads), or after a refit, which must be possible."""
        evaluations: list[Evaluation] = []
        for done, mask in enumerate(masks):
            progress(STAGE, done, len(masks))
            recovered = None
            if refit and mask is not None:
                recovered = self.bench.recoveries.refit(mask)
            evaluations.append(self.bench.measurements.evaluate(self.sample, mask=mask, recovered=recovered))
        return evaluations


def subject_of(bench: Bench, clusters: HeadClusters, selection: Selection) -> Subject:
    """Return the subject of a bench and a selection, on some of the evaluation texts."""
    texts = bench.evaluation
    if texts.task.items_are_texts:
        texts = texts.sample(EXAMPLES)
    labels = clusters.groups(selection.k)[0]
    return Subject(bench, texts, selection.mask, labels, clusters.salience)
