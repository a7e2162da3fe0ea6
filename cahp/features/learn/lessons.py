"""What a guess is about: a finished selection of heads, a step that changes the model, and the measured answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cahp.features.learn.scene import HeadFamily, Scene
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE
from cahp.run import Bench
from cahp.store import key
from cahp.tasks import Evaluation, Texts
from cahp.values import Estimate, HeadMask, Progress, digest

#: Most texts of a step: quick to evaluate, enough for an interval of a few points, and all those of BBC News.
EXAMPLES = 400
#: Most windows of a language model, each of which takes as long as dozens of texts: all those of a run by default, so
#: that Overview and Learn show the same figures.
WINDOWS = 16
#: The stage that progress names, which counts variants of the model.
STAGE = "variants"


@dataclass(frozen=True)
class Answer:
    """A measured answer: ``value`` in the unit of the guess, with an ``interval`` of the kind ``spread`` (None: none).

    ``headline`` says it in one sentence of at most 20 words, ``meaning`` what follows. ``bars`` are the variants of the
    model that are compared, in shares of what ``outcome`` names: the full model, then the subject of the step, then
    others. ``sample`` is what it was measured on (empty: it was counted).
    """

    value: float
    interval: tuple[float, float] | None
    headline: str
    meaning: str
    bars: Mapping[str, Estimate]
    outcome: str
    sample: str = ""
    spread: str = "95 % interval"


@dataclass(frozen=True)
class Step:
    """One step: what is done to the model, the question, and the range and unit of a guess.

    A step without a ``question`` is only shown. ``short`` names it below the line. ``definition`` tells what is
    guessed, and ``terms`` explain the technical terms that appear first here. ``mask`` keeps the heads that are not
    removed, and ``coloured`` are the heads that the step is about (None: all). With ``early`` heads are removed before
    the guess; ``on_sentence`` shows the sentence. ``measure`` finds the answer (None: nothing is asked, or the board's
    own table answers).
    """

    name: str
    short: str
    title: str
    doing: str
    mask: HeadMask
    question: str = ""
    unit: str = ""
    highest: int = 0
    definition: str = ""
    terms: str = ""
    coloured: tuple[int, ...] | None = None
    early: bool = False
    on_sentence: bool = False
    measure: Callable[[Progress], Answer] | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished selection of heads and evaluation texts, which all steps measure.

    Of windows only ``sample`` is measured, and nothing is read before: those of a bundled run are cut on first use.
    ``mask`` keeps CAHP's heads. The first steps are about the head of the ``scene``, and about its ``family``; the last
    one about all budgets with the recovery ``swept``.
    """

    bench: Bench
    texts: Texts
    mask: HeadMask
    family: HeadFamily
    scene: Scene
    swept: str = NONE.name

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
        """Digest of what the answers depend on: the texts, the kept heads and the heads that are removed."""
        parts = [self.texts.sha256, self.mask.sha256, str(self.scene.head), str(self.family.leaving)]
        if self.texts.task.predicts_often:
            parts.append(str(WINDOWS))
        return digest(*parts)

    @property
    def unit(self) -> str:
        """What a head is called."""
        return self.bench.card.unit

    @property
    def total(self) -> int:
        """Number of all heads."""
        return self.mask.keep.size

    @property
    def outcome(self) -> str:
        """The outcome that all steps share."""
        if self.texts.task.predicts_labels:
            return "accuracy"
        return "agreement"

    def estimate(self, evaluation: Evaluation, full: Evaluation) -> Estimate:
        """Estimate this outcome."""
        return OUTCOMES[self.outcome].estimate(evaluation, full, 0)

    def without(self, heads: Iterable[int]) -> HeadMask:
        """Return the mask of all heads but these."""
        return HeadMask.without(heads, *self.mask.keep.shape)

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


def subject_of(bench: Bench, mask: HeadMask, family: HeadFamily, scene: Scene, swept: str = NONE.name) -> Subject:
    """Return the subject of a bench and a selection, on some of the evaluation texts."""
    texts = bench.evaluation
    if texts.task.items_are_texts:
        texts = texts.sample(EXAMPLES)
    return Subject(bench, texts, mask, family, scene, swept)


def name_answer(subject: Subject, step: str) -> str:
    """Return the key of the answer to a step."""
    return key("step of Learn", 1, step, subject.bench.card.sha256, subject.sha256)
