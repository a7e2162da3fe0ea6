"""The course of a model: one head at work, then six steps with a question and the measurement that answers it.

Every sentence is built from measurements, also where a model does not behave as textbooks say.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from cahp.board import BudgetTable
from cahp.features.learn.scene import HeadFamily, Scene
from cahp.outcomes import OUTCOMES, accuracy_change, estimate_mean, same_predictions
from cahp.recoveries import NONE
from cahp.run import Bench
from cahp.stages import top
from cahp.store import key
from cahp.tasks import Evaluation, Texts, TokenEvaluation
from cahp.values import Estimate, HeadMask, Interval, JsonObject, Names, OptionError, Progress, digest
from cahp.words import percent

_TEXTS = Path(__file__).with_name("texts")
ENGLISH = "en"
#: Most texts of a step: quick to evaluate, enough for an interval of a few points, and all those of BBC News.
EXAMPLES = 400
#: Most windows of a language model, each of which takes as long as dozens of texts: all those of a run by default, so
#: that Overview and Learn show the same figures.
WINDOWS = 16
#: The stage that progress names, which counts variants of the model.
STAGE = "variants"
#: Random selections that CAHP's is compared with, and those that are also refitted, each of which costs a refit.
DRAWS = 20
REFITTED_DRAWS = 5
#: Random sets of other heads that heads that copy are compared with.
CONTROLS = 5
#: The share of predictions up to which few change.
_FEW = 0.05
#: The last step, and its goals: points of accuracy that may be lost, and the share of next words that must stay.
TURN = "turn"
_POINTS = 1.0
_SHARE = 0.7


@dataclass(frozen=True)
class Answer:
    """A measured answer: ``value`` in the unit of the guess, with an ``interval`` (None: none).

    ``headline`` and ``meaning`` name the texts of the step that say it and what follows, with the values ``words``.
    ``bars`` are the variants of the model that are compared, in shares of what ``outcome`` names: the full model, then
    the subject of the step, then others. It was measured on ``n`` ``units`` (0: it was counted). ``reached`` is the
    outcome of each guess, where it is measured for all.
    """

    value: float
    interval: Interval | None
    headline: str
    meaning: str
    words: Mapping[str, Any]
    bars: tuple[Estimate, ...]
    outcome: str
    n: int = 0
    units: str = ""
    reached: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One step with its texts: what is done to the model, and the question.

    A guess is a number of ``units``, of one ``unit``, up to ``highest``; a step without a ``question`` is only shown.
    ``mask`` keeps the heads that are not removed, and ``coloured`` are the heads that the step is about. ``measure``
    finds the answer (None: nothing is asked, or the board's own table answers).
    """

    name: str
    mask: HeadMask
    coloured: tuple[int, ...] = ()
    highest: int = 0
    measure: Callable[[Progress], Answer] | None = None
    short: str = ""
    title: str = ""
    doing: str = ""
    question: str = ""
    unit: str = ""
    units: str = ""
    terms: str = ""

    def amount(self, value: float) -> str:
        """Write a guess or an answer with its unit."""
        unit = self.units
        if value == 1:
            unit = self.unit
        return f"{value:g} {unit}"


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished selection of heads, which all steps measure on evaluation texts.

    ``mask`` keeps CAHP's heads. The first steps are about the head of the ``scene``, and about its ``family``; the last
    one about all budgets with the recovery ``swept``. Each head is drawn in the colour of its place in ``tints`` and
    with its name, as on the board. ``language`` is that of all texts.
    """

    bench: Bench
    mask: HeadMask
    family: HeadFamily
    scene: Scene
    swept: str = NONE.name
    tints: tuple[int, ...] = ()
    names: Names = ()
    language: str = ENGLISH

    @cached_property
    def texts(self) -> Texts:
        """Some of the evaluation texts; windows are cut on first use, so all of them stay."""
        texts = self.bench.evaluation
        if texts.task.items_are_texts:
            texts = texts.sample(EXAMPLES)
        return texts

    @cached_property
    def sample(self) -> Texts:
        """The texts that are read: of windows some, with all sequences of repeated random tokens."""
        if not self.texts.task.predicts_often:
            return self.texts
        own = set(self.texts.text_rows)
        copies = [row for row in range(len(self.texts)) if row not in own]
        return self.texts.take([*self.texts.sample_rows(WINDOWS), *copies])

    @cached_property
    def sha256(self) -> str:
        """Digest of what the answers depend on: the texts, the kept heads and the heads that are removed."""
        parts = [self.texts.sha256, self.mask.sha256, str(self.scene.head), str(self.family.leaving)]
        if self.texts.task.predicts_often:
            parts.append(str(WINDOWS))
        return digest(*parts)

    @cached_property
    def steps(self) -> list[Step]:
        """The steps in order; see ``list_steps``."""
        return list_steps(self)

    @cached_property
    def words(self) -> dict[str, Any]:
        """The values in the texts that depend on the model and on the heads."""
        card = self.bench.card
        scene = self.scene
        texts = read_texts(self.language)
        words = {
            **texts[f"unit-{card.unit}"],
            "total": self.mask.keep.size,
            "kept": self.mask.count,
            "pruned": self.mask.keep.size - self.mask.count,
            "family": len(self.family.heads),
            "leaving": len(self.family.leaving),
            "renamed": self.family.named_otherwise,
            "aside": "",
            "said_before": scene.before.words,
            "said_after": scene.after.words,
            "classes": ", ".join(self.bench.class_names[:3]),
            "draws": DRAWS,
            "points": _POINTS,
            "share": 100 * _SHARE,
            "asked": 100,
            "outcome": texts["outcome"][self.outcome],
            "swept": texts["swept"][self.swept],
        }
        kind = "tokens"
        if self.texts.task.predicts_labels:
            kind = "labels"
            words["asked"] = len(self.texts)
        words |= {name: text.format(**words) for name, text in texts[kind].items()}
        if self.family.named_otherwise:
            words["aside"] = texts["induction"]["aside"].format(**words)
        effect = "becomes"
        if scene.before.words == scene.after.words:
            effect = "stays"
        words["effect"] = texts["one-head"][effect].format(**words)
        return words

    def say(self, name: str, part: str = "page", **words: object) -> str:
        """Return a text of the page, or of another ``part`` such as a step, with values of the subject and these."""
        text: str = read_texts(self.language)[part][name]
        return text.format(**self.words, **words)

    def tell(self, step: str, name: str, answer: Answer) -> str:
        """Return a text about the answer to a step."""
        return self.say(name, step, **answer.words, value=round(answer.value, 1), ends=answer.interval)

    def name_bars(self, step: str, answer: Answer) -> list[tuple[str, Estimate]]:
        """Return the bars of an answer with their names."""
        names = [name.format(**self.words) for name in read_texts(self.language)[step]["bars"]]
        return list(zip(names, answer.bars, strict=False))

    def answer(
        self,
        meaning: str,
        measured: Estimate,
        bars: Sequence[Estimate],
        words: Mapping[str, object],
        *,
        units: str = "",
        outcome: str = "",
        headline: str = "headline",
    ) -> Answer:
        """Return the answer to a step that was ``measured`` in the unit of its guess.

        ``headline`` and ``meaning`` name two of the step's sentences, and ``bars`` are the full model, the subject and
        others. It was measured on ``units`` (empty: texts, documents or windows). ``words`` are values of the texts.
        """
        return Answer(
            measured.value,
            measured.ci95,
            headline,
            meaning,
            words,
            tuple(bars),
            outcome or self.outcome,
            measured.n,
            units or self.texts.units,
        )

    @property
    def outcome(self) -> str:
        """The outcome that all steps share."""
        if self.texts.task.predicts_labels:
            return "accuracy"
        return "agreement"

    def name_answer(self, step: str) -> str:
        """Return the key of the answer to a step."""
        return key("step of Learn", 2, step, self.bench.card.sha256, self.sha256)

    def describe(self) -> str:
        """Describe the model and the texts."""
        card = self.bench.card
        number = self.texts.count
        if self.texts.task.predicts_often:
            number = min(WINDOWS, number)
        return self.say("about", model=card.id, layers=card.layers, heads=card.heads, number=number)

    def estimate(self, evaluation: Evaluation, full: Evaluation) -> Estimate:
        """Estimate the outcome that all steps share."""
        return OUTCOMES[self.outcome].estimate(evaluation, full, 0)

    def without(self, heads: Iterable[int]) -> HeadMask:
        """Return the mask of all heads but these."""
        return HeadMask.without(heads, *self.mask.keep.shape)

    def evaluate(
        self, masks: Sequence[HeadMask | None], progress: Progress, *, refit: bool = False
    ) -> list[Evaluation]:
        """Evaluate the model under each mask (None: all heads), or after a refit, which must be possible."""
        evaluations = []
        for done, mask in enumerate(masks):
            progress(STAGE, done, len(masks))
            recovered = None
            if refit and mask is not None:
                recovered = self.bench.recoveries.refit(mask)
            evaluations.append(self.bench.measurements.evaluate(self.sample, mask=mask, recovered=recovered))
        return evaluations


@cache
def read_texts(language: str) -> JsonObject:
    """Read the texts in a language; what it lacks is in English."""
    english, texts = (tomllib.loads((_TEXTS / f"{name}.toml").read_text("utf-8")) for name in (ENGLISH, language))
    return {part: {**words, **texts.get(part, {})} for part, words in english.items()}


#: The languages of the page by the names of their files.
LANGUAGES = {file.stem: read_texts(file.stem)["page"]["language"] for file in sorted(_TEXTS.glob("*.toml"))}


def list_steps(subject: Subject) -> list[Step]:
    """Return the steps about a model in order; a language model has a cache, and maybe heads that copy."""
    family = subject.family
    alone = (subject.scene.head,)
    layers, heads = subject.mask.keep.shape
    every = tuple(range(layers * heads))
    full = subject.without([])
    fewer = subject.without(family.leaving)
    half = HeadMask(np.tile(np.arange(heads) < max(1, heads // 2), (layers, 1)))
    rows = {
        "head": (full, alone, None),
        "one-head": (subject.without(alone), alone, _count_changes),
        "one-cluster": (fewer, family.heads, _count_changes),
        "induction": (fewer, family.heads, _measure_copying),
        "random": (draw_masks(subject, 1)[0], every, _measure_random),
        "refit": (subject.mask, every, _measure_refit),
        "time": (half, every, _measure_time),
        "cache": (subject.mask, every, _count_cache),
        TURN: (full, every, None),
    }
    left_out = ["cache"]
    if not subject.texts.task.predicts_labels:
        left_out = ["time"]
    if family.stays is None:
        left_out.append("one-cluster")
    else:
        left_out.append("induction")
    if subject.bench.recoveries.no_refit is not None:
        left_out.append("refit")
    steps = []
    for name, (mask, coloured, measurement) in rows.items():
        if name in left_out:
            continue
        texts = read_texts(subject.language)[name]
        measure = None
        if measurement is not None:
            measure = partial(measurement, subject, mask)
        steps.append(
            Step(
                name,
                mask,
                coloured,
                int(texts.get("highest", "0").format(**subject.words)),
                measure,
                **{part: subject.say(part, name) for part in _PARTS & texts.keys()},
            )
        )
    return steps


#: The texts of a step that do not depend on its answer.
_PARTS = {"short", "title", "doing", "question", "unit", "units", "terms"}
#: Measures the answer to a step about a mask.
Measurement = Callable[[Subject, HeadMask, Progress], Answer]


def _scale(measured: Estimate, factor: float, offset: float = 0.0) -> Estimate:
    """Return ``factor`` times an estimate plus ``offset``."""
    ci95 = None
    if measured.ci95 is not None:
        low, high = sorted(offset + factor * end for end in measured.ci95)
        ci95 = (low, high)
    return Estimate(offset + factor * measured.value, ci95, measured.n, "number")


def _count_changes(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Count how many predictions of a sample, or of a hundred, change under a mask."""
    full, less = subject.evaluate([None, mask], progress)
    same = OUTCOMES["agreement"].estimate(less, full, 0)
    asked = float(subject.words["asked"])
    meaning = "many"
    if 1 - same.value <= _FEW:
        meaning = "few"
    bars = [subject.estimate(full, full), subject.estimate(less, full)]
    return subject.answer(meaning, _scale(same, -asked, asked), bars, {})


def _measure_copying(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Measure the rise of the loss on repeated tokens without the heads that copy, and without as many others."""
    own = subject.family.heads
    others = np.setdiff1d(np.arange(mask.keep.size), own)
    masks = [None, mask]
    for seed in range(CONTROLS):
        size = min(len(own), len(others))
        masks.append(subject.without(np.random.default_rng(seed).choice(others, size=size, replace=False)))
    full, less, *controls = subject.evaluate(masks, progress)
    assert isinstance(full, TokenEvaluation)
    before, units = full.copying
    rises = []
    for evaluation in (less, *controls):
        assert isinstance(evaluation, TokenEvaluation)
        rises.append(estimate_mean(evaluation.copying[0] - before, 0, units=units))
    rise, *drawn = rises
    values = [control.value for control in drawn]
    meaning = "copy"
    if rise.value <= max(values):
        meaning = "spread-out"
    bars = [subject.estimate(full, full), subject.estimate(less, full)]
    factor = 100 / float(before.mean())
    ends = {"nats": rise.value, "low": min(values), "high": max(values)}
    return subject.answer(meaning, _scale(rise, factor), bars, ends, units="sequences")


def draw_masks(subject: Subject, count: int) -> list[HeadMask]:
    """Return random selections of as many heads as the subject keeps."""
    # They get the same floor as CAHP: no empty layer, unless CAHP's selection has one.
    floor = 1
    if subject.mask.empty_layers:
        floor = 0
    masks = []
    for seed in range(count):
        scores = np.random.default_rng(seed).random(subject.mask.keep.shape)
        masks.append(top(scores, budget=subject.mask.count, min_per_layer=floor).mask)
    return masks


def _summarise(subject: Subject, drawn: Sequence[Evaluation], full: Evaluation) -> Estimate:
    """Return the median outcome of random selections, with their range in place of an interval."""
    estimates = [subject.estimate(evaluation, full) for evaluation in drawn]
    values = [estimate.value for estimate in estimates]
    return Estimate(float(np.median(values)), (min(values), max(values)), estimates[0].n, "share")


def _measure_random(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Measure the outcome of random selections, and that of CAHP's."""
    full, chosen, *drawn = subject.evaluate([None, subject.mask, *draw_masks(subject, DRAWS)], progress)
    ours = subject.estimate(chosen, full)
    middle = _summarise(subject, drawn, full)
    as_good = sum(subject.estimate(evaluation, full).value >= ours.value for evaluation in drawn)
    bars = [subject.estimate(full, full), middle, ours]
    return subject.answer("counted", _scale(middle, 100), bars, {"ours": ours.text, "as_good": as_good})


def _measure_refit(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Measure the points of the outcome that a refit regains, and what random selections of a classifier reach."""
    bench = subject.bench
    full, before = subject.evaluate([None, mask], progress)
    recovered = bench.recoveries.refit(mask)
    after = bench.measurements.evaluate(subject.sample, mask=mask, recovered=recovered)
    if subject.texts.task.predicts_labels:
        gain = accuracy_change(after, before)
    else:
        regained = same_predictions(after, full).astype(np.float64) - same_predictions(before, full)
        gain = estimate_mean(100 * regained, 0, "points", units=full.units)
    assert recovered.refit is not None
    meaning = "none"
    if not recovered.refit.accepted:
        meaning = "rejected"
    elif gain.low > 0:
        meaning = "gain"
    bars = [subject.estimate(evaluation, full) for evaluation in (full, after, before)]
    words = {"after": bars[1].text, "before": bars[2].text, "reason": recovered.refit.reason}
    headline = "headline"
    drawn = draw_masks(subject, REFITTED_DRAWS)
    # Of a language model each takes minutes.
    if not subject.texts.task.predicts_often and all(map(bench.measurements.can_cut, drawn)):
        reached = _summarise(subject, subject.evaluate(drawn, progress, refit=True), full)
        bars.append(reached)
        words |= {"lowest": percent(reached.low), "highest": percent(reached.high)}
        headline = "beside"
    return subject.answer(meaning, gain, bars, words, headline=headline)


def _measure_time(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Time the model with half of its heads, in turn with the full model."""
    costs = subject.bench.costs(mask, fresh=True)
    before = costs.full.latency_ms
    after = costs.pruned.latency_ms
    assert before is not None
    assert after is not None
    ratio = replace(costs.ratio, n=before.repeats, unit="share")
    headline = "headline"
    meaning = "quiet"
    if costs.noisy:
        meaning = "noisy"
    if costs.noisy or not ratio.excludes(1) or ratio.value > 1:
        headline = "beside"
    words = {
        "saved": percent(1 - ratio.value, 0),
        "attention": percent(costs.attention_share, 0),
        "ceiling": percent(costs.attention_share * (1 - mask.counts[0] / mask.heads), 0),
        "before": before.median,
        "after": after.median,
        "batch": before.batch,
    }
    bars = [_WHOLE, ratio]
    saved = _scale(ratio, -100, 100)
    return subject.answer(meaning, saved, bars, words, units="rounds", outcome="time", headline=headline)


#: The full model's time, or the bytes of its cache.
_WHOLE = Estimate(1.0, None, 0, "share")


def _count_cache(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Count the bytes of the cache with and without the pruned heads.

    Raises:
        OptionError: If the size of the cache is not known.
    """
    cache = subject.bench.card.measure_cache(mask)
    if cache is None:
        raise OptionError("the size of this model's cache is not known; continue with the next step")
    share = Estimate(cache.share, None, 0, "share")
    words = {"before": cache.full, "after": cache.pruned}
    return subject.answer("counted", _scale(share, -100, 100), [_WHOLE, share], words, outcome="cache")


def answer_turn(subject: Subject, table: BudgetTable | None) -> Answer | None:
    """Return the fewest heads that are enough (None: not all budgets are measured yet, or none is enough)."""
    if table is None or table.full is None:
        return None
    full = table.full[subject.outcome]
    least = _SHARE
    if subject.texts.task.predicts_labels:
        least = full.value - _POINTS / 100
    budget = 0
    reached = None
    guesses = {}
    for row in table.rows():
        if row.outcomes is None:
            return None
        guesses[row.budget] = row.outcomes[subject.outcome].text
        # The same goal as a difference in points, without an error of rounding.
        if round(row.outcomes[subject.outcome].value - least, 9) < 0:
            reached = None
        elif reached is None:
            budget = row.budget
            reached = row.outcomes[subject.outcome]
    if reached is None:
        return None
    enough = Estimate(budget, None, 0, "number")
    words = {"reached": reached.text, "full": full.text}
    return replace(subject.answer("counted", enough, [full, reached], words), reached=guesses)
