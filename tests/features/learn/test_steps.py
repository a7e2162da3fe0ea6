"""The steps of the course: what is removed, what answers say, and a class that guesses together."""

import re
import tomllib
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from clusters import ratio_of
from documents import answers

from cahp.features.learn import steps as module
from cahp.features.learn.classroom import Classes, Classroom
from cahp.features.learn.scene import HeadFamily, Prediction, Scene
from cahp.features.learn.steps import DRAWS, ENGLISH, LANGUAGES, REFITTED_DRAWS, Subject
from cahp.models.cards import CacheShape, Cost, Costs, ModelCard, Timing
from cahp.recoveries import RefitReport
from cahp.run import bench as benches
from cahp.run.prune import choose
from cahp.run.recoveries import Recovered
from cahp.stages.similarity import Arc
from cahp.tasks.answers import Evaluation, Source, TokenEvaluation, Window
from cahp.tasks.task import NEXT_TOKEN
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, OptionError, silent

TEXTS = Path(module.__file__).with_name("texts")
LAYERS, HEADS = 2, 4
#: One head of each cluster stays: 0, 4 and 5.
MASK = HeadMask.of([0, 4, 5], LAYERS, HEADS)
#: Heads 0 to 3 are the largest cluster, of which head 0 stays; head 2 is shown.
FAMILY = HeadFamily((0, 1, 2, 3), 0)
#: Heads that copy, none of which stays.
COPYING = HeadFamily((2,))
SCENE = Scene(2, ("The", "end"), (Arc(1, 0, 0.5),), Prediction("a", 0.9), Prediction("a", 0.8))
#: Ten windows of ten tokens, each a document, and four sequences of repeated tokens.
SOURCES: list[Source] = ["text"] * 10 + ["random"] * 4
WINDOWS = tuple(
    Window("text", np.arange(11), np.full(10, row), np.ones(10, dtype=np.int64), source)
    for row, source in enumerate(SOURCES)
)
TOKENS = Texts(WINDOWS, None, np.full(14, -1), ("all texts",), NEXT_TOKEN)
CACHE = CacheShape(16, positions=128)


def texts(count: int) -> Texts:
    return Texts(tuple(f"text {row}" for row in range(count)), None, np.zeros(count, dtype=np.int64), ("a", "b"))


@dataclass
class Bench:
    """The full model makes no mistake, a mask ``wrong(mask)``, and ``after`` after a refit; it keeps the masks."""

    wrong: Any = field(default=lambda mask: 0)
    after: int = 0
    accepted: bool = True
    no_refit: str | None = None
    slowest: float = 11.0
    ratio: Any = field(default_factory=lambda: ratio_of(0.85, 0.8, 0.9))
    cuts: bool = True
    card: Any = field(default_factory=lambda: SimpleNamespace(sha256="classifier", unit="head"))
    class_names: tuple[str, ...] = ()
    evaluation: Texts = field(default_factory=lambda: texts(100))
    asked: list[HeadMask | None] = field(default_factory=list)
    refitted: list[HeadMask] = field(default_factory=list)

    @property
    def measurements(self) -> "Bench":
        return self

    @property
    def recoveries(self) -> "Bench":
        return self

    def costs(self, mask: HeadMask, *, fresh: bool) -> Costs:
        assert fresh
        self.asked.append(mask)
        timing = Timing(10.0, self.slowest, 8, 64, 30)
        return Costs(Cost(1, 1, timing), Cost(1, 1, timing), self.ratio, 0.4)

    def count_wrong(self, mask: HeadMask | None, recovered: Recovered | None) -> int:
        self.asked.append(mask)
        wrong = 0 if mask is None else self.wrong(mask)
        if recovered is None:
            return wrong
        if recovered.report.accepted:
            wrong = self.after
        return wrong

    def evaluate(
        self, evaluated: Texts, *, mask: HeadMask | None = None, recovered: Recovered | None = None
    ) -> Evaluation | TokenEvaluation:
        predictions = (np.arange(len(evaluated)) < self.count_wrong(mask, recovered)).astype(np.int64)
        return answers(predictions, evaluated.labels, classes=evaluated.classes)

    def can_cut(self, mask: HeadMask) -> bool:
        return self.cuts or mask is MASK

    def refit(self, mask: HeadMask) -> Recovered:
        self.refitted.append(mask)
        return Recovered({}, RefitReport(self.accepted, "held-out texts say so", 80))


@dataclass
class TokenBench(Bench):
    """Its repeated tokens have a loss of 1 nat under the full model, and ``loss`` of a mask."""

    loss: Any = field(default=lambda mask: 1.0)

    def evaluate(
        self, evaluated: Texts, *, mask: HeadMask | None = None, recovered: Recovered | None = None
    ) -> TokenEvaluation:
        # KL divergence, loss and prediction.
        scores = np.zeros((14, 10, 3), dtype=np.float32)
        scores[10:, :, 1] = 1.0 if mask is None else self.loss(mask)
        return TokenEvaluation(scores, evaluated.labels, evaluated.classes, WINDOWS)


def subject(bench: Bench, cache: CacheShape | None = CACHE) -> Subject:
    bench.evaluation = texts(100)
    family = FAMILY
    if isinstance(bench, TokenBench):
        bench.evaluation = TOKENS
        family = COPYING
        bench.card = SimpleNamespace(
            sha256="tale", unit="group", measure_cache=partial(ModelCard.measure_cache, SimpleNamespace(cache=cache))
        )
    return Subject(cast(Any, bench), MASK, family, SCENE)


def gone(mask: HeadMask | None) -> list[int]:
    return [head for head in range(LAYERS * HEADS) if head not in mask.flat]


def measure(name: str, subject: Subject) -> Any:
    """The answer to a step, with its sentences in English."""
    (found,) = (step.measure for step in subject.steps if step.name == name)
    measured = found(silent)
    said = {part: subject.tell(name, getattr(measured, part), measured) for part in ("headline", "meaning")}
    sample = f"{measured.n} {measured.units}"
    bars = dict(subject.name_bars(name, measured))
    return SimpleNamespace(
        value=measured.value, interval=measured.interval, n=measured.n, sample=sample, bars=bars, **said
    )


def answer(name: str, bench: Bench) -> Any:
    return measure(name, subject(bench))


def test_each_step_removes_what_it_asks_about() -> None:
    steps = {step.name: gone(step.mask) for step in subject(Bench()).steps}
    # The head that is shown, its family but for one, all but CAHP's, half.
    assert len(steps.pop("random")) == 5
    removed = {"one-head": [2], "one-cluster": [1, 2, 3], "refit": [1, 2, 3, 6, 7], "time": [2, 3, 6, 7]}
    assert steps == {"head": [], **removed, "turn": []}
    assert "refit" not in [step.name for step in subject(Bench(no_refit="it has no output weights")).steps]
    steps = {step.name: gone(step.mask) for step in subject(TokenBench()).steps}
    assert list(steps) == ["head", "one-head", "induction", "random", "refit", "cache", "turn"]
    assert steps["induction"] == [2]
    # Without heads that copy, a cluster is its family.
    clustered = replace(subject(TokenBench()), family=FAMILY).steps
    assert [step.name for step in clustered][1:4] == ["one-head", "one-cluster", "random"]


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {ENGLISH}))
def test_a_language_has_all_texts_with_the_same_values(language: str) -> None:
    english, own = (tomllib.loads((TEXTS / f"{name}.toml").read_text("utf-8")) for name in (ENGLISH, language))
    assert own.keys() <= english.keys()
    common = subject(Bench()).words.keys() | own["unit-head"].keys() & own["unit-group"].keys()
    for part, texts in english.items():
        # What is only made of values is the same in all languages.
        needed = {name for name, text in texts.items() if re.sub(r"\{.*?\}|[%\d]", "", str(text)).strip(", []'")}
        missing = needed - own.get(part, {}).keys()
        unknown = own.get(part, {}).keys() - texts.keys()
        assert not missing, f"{language}.toml lacks {sorted(missing)} of [{part}]"
        assert not unknown or part.startswith("unit-"), f"{language}.toml has unknown {sorted(unknown)} in [{part}]"
        for name in needed:
            english_values, values = (set(re.findall(r"\{([a-z_-]+)", str(one[part][name]))) for one in (english, own))
            assert values <= english_values | common, f"[{part}] {name} in {language}.toml: {values - english_values}"


def test_what_a_language_lacks_is_said_in_english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "en.toml").write_bytes((TEXTS / "en.toml").read_bytes())
    (tmp_path / "xx.toml").write_text('[page]\nlanguage = "Xx"\n')
    monkeypatch.setattr(module, "_TEXTS", tmp_path)
    texts = module.read_texts.__wrapped__("xx")
    assert (texts["page"]["language"], texts["page"]["figures"], texts["head"]["short"]) == ("Xx", "Figures", "A {one}")


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_step_is_told_in_each_language(language: str) -> None:
    for bench in (Bench(), TokenBench(loss=lambda mask: 1.5)):
        told = replace(subject(bench), language=language)
        assert all(step.title and step.doing for step in told.steps)
        for step in told.steps:
            if step.measure is not None:
                assert measure(step.name, told).headline


def test_the_head_that_is_shown_is_removed_alone() -> None:
    bench = Bench(lambda mask: 3)
    result = answer("one-head", bench)
    assert gone(bench.asked[1]) == [2]
    assert (result.value, result.sample) == (pytest.approx(3), "100 texts")
    assert result.interval[0] < 3 < result.interval[1]
    assert result.headline == "3 of 100 answers changed. Here it stays “a”."
    assert "hardly change" in result.meaning
    assert "Many predictions change" in answer("one-head", Bench(lambda mask: 30)).meaning
    changed = replace(subject(bench), scene=replace(SCENE, after=Prediction("b", 0.6)))
    assert measure("one-head", changed).headline.endswith("Here “a” becomes “b”.")


def test_the_dip_is_the_median_of_the_random_selections_with_their_range() -> None:
    counts = iter(range(1, DRAWS + 1))
    bench = Bench(lambda mask: 5 if mask is MASK else next(counts))
    result = answer("random", bench)
    drawn = [mask for mask in bench.asked[2:] if mask is not None]
    assert len(drawn) == DRAWS
    assert all(mask.count == MASK.count and not mask.empty_layers for mask in drawn)
    # The accuracies are 80 to 99 %.
    assert (result.value, result.interval) == (pytest.approx(89.5), pytest.approx((80, 99)))
    assert result.headline == "3 random heads: 89.5 % (80.0 % to 99.0 %). CAHP's 3: 95.0 %."
    # 1 to 5 wrong are as accurate as CAHP's 5.
    assert result.meaning.startswith("5 of 20 random selections are at least as good")


def test_random_heads_recover_too_and_the_refit_says_so_unless_they_cannot_be_cut() -> None:
    bench = Bench(lambda mask: 5 if mask is MASK else 40, after=2)
    headline = "The refit brings CAHP's 3 heads from 95.0 % to 98.0 %"
    assert answer("refit", bench).headline == f"{headline}; random selections reach 98.0 % to 98.0 %."
    assert len(bench.refitted) == 1 + REFITTED_DRAWS
    bench = replace(bench, cuts=False, refitted=[])
    assert answer("refit", bench).headline == f"{headline}."
    assert bench.refitted == [MASK]


@pytest.mark.parametrize(
    ("accepted", "after", "value", "meaning"),
    [
        (True, 10, 30, "recovers it"),
        (False, 10, 0, "was rejected, so nothing changed: held-out texts say so"),
        (True, 40, 0, "No measurable gain"),
    ],
)
def test_a_refit_says_what_it_regains(accepted: bool, after: int, value: float, meaning: str) -> None:
    result = answer("refit", Bench(lambda mask: 40, after=after, accepted=accepted))
    assert result.value == pytest.approx(value)
    assert meaning in result.meaning


def test_half_of_the_heads_save_at_most_the_share_of_attention() -> None:
    result = answer("time", Bench())
    assert (result.value, result.interval) == (pytest.approx(15), pytest.approx((10, 20)))
    assert "at most about 20 %" in result.meaning
    assert "busy" not in result.meaning
    assert "the machine was busy" in answer("time", Bench(slowest=20.0)).meaning
    # The cache is counted.
    result = answer("cache", TokenBench())
    # 3 of 8 groups stay.
    assert (result.value, result.interval, result.n) == (62.5, None, 0)
    assert "128 bytes per token before, 48 after" in result.meaning
    with pytest.raises(OptionError, match="not known"):
        measure("cache", subject(TokenBench(), cache=None))


@pytest.mark.parametrize(("others", "meaning"), [(1.1, "These heads copy"), (2.5, "spread over more heads")])
def test_the_loss_on_repeated_tokens_rises_without_induction_heads(others: float, meaning: str) -> None:
    result = answer("induction", TokenBench(loss=lambda mask: 2.5 if gone(mask) == [2] else others))
    assert (result.value, result.sample) == (pytest.approx(150), "4 sequences")
    assert meaning in result.meaning


def test_steps_read_some_windows_and_all_repeats(window_bench: benches.Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOWS", 4)
    subject = Subject(window_bench, choose(window_bench).mask, FAMILY, SCENE)
    assert [one.copying for one in subject.sample.windows].count(False) == 4
    assert subject.sample.windows[-1].copying
    full, pruned = (window_bench.measurements.evaluate(subject.sample, mask=mask) for mask in (None, subject.mask))
    before = (pruned.predictions == full.predictions).mean()
    result = measure("refit", subject)
    assert result.value == pytest.approx(100 * (result.bars["after refit"].value - before))
    assert result.bars["before refit"].value == pytest.approx(before)


ANSWER: Any = object()
#: Two steps, whose guesses are at most 10 and 5.
SUBJECT: Any = SimpleNamespace(steps=[SimpleNamespace(highest=10), SimpleNamespace(highest=5)])


@pytest.fixture
def room() -> Classroom:
    room = Classroom(SUBJECT, "teacher")
    for who in "ab":
        room.people.add(who)
    return room


def test_guesses_are_taken_until_the_answer_is_shown_and_nobody_s_order_is_told(room: Classroom) -> None:
    for who, value in (("b", 7), ("a", 3), ("a", 9)):
        room.guess(who, 0, value)
    assert room.list_guesses(0) == [7, 9]
    room.answers[0] = ANSWER
    room.guess("b", 0, 1)
    assert room.list_guesses(0) == [7, 9]
    assert room.moment == (0, ANSWER)


def test_a_guess_stays_in_the_range_of_its_step_and_at_the_step_of_the_class(room: Classroom) -> None:
    room.guess("a", 0, 10**9)
    room.guess("b", 0, -4)
    assert room.list_guesses(0) == [0, 10]
    room.at = 1
    room.guess("a", 0, 2)
    room.guess("somebody who never came in", 1, 2)
    assert (room.list_guesses(0), room.list_guesses(1)) == ([0, 10], [])


def test_a_class_ends_with_the_session_that_leads_it() -> None:
    awake = {"one", "two"}
    classes = Classes(awake.__contains__)
    first, second = (Classroom(SUBJECT, leader) for leader in ("one", "two"))
    classes.open(first)
    classes.open(second)
    assert classes.find(first.code) is first
    assert classes.led_by("two") is second
    awake.discard("one")
    assert classes.find(first.code) is None
    classes.close("two")
    assert classes.find(second.code) is None
    assert first.code != second.code


def test_who_opens_another_class_ends_the_first() -> None:
    classes = Classes(lambda _: True)
    first = Classroom(SUBJECT, "one")
    classes.open(first)
    classes.open(Classroom(SUBJECT, "one"))
    assert classes.find(first.code) is None
