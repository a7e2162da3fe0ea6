from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import fakes
import numpy as np
import pytest
from clusters import ratio_of
from documents import answers

from cahp.features.learn.choosing import DRAWS, REFITTED_DRAWS
from cahp.features.learn.course import list_steps, measure
from cahp.features.learn.lessons import EXAMPLES, Answer, Subject, subject_of
from cahp.models.costs import Cost, Costs, Timing
from cahp.recoveries import RefitReport
from cahp.run import bench as benches
from cahp.run.recovered import Refitted
from cahp.tasks.answers import Evaluation
from cahp.tasks.texts import Texts
from cahp.values import Cancelled, HeadMask, OptionError, Progress

LAYERS, HEADS = 2, 4
#: One head of each cluster stays: 0, 4 and 5.
MASK = HeadMask.of([0, 4, 5], LAYERS, HEADS)
LABELS = np.array([0, 0, 0, 0, 1, 2, 1, 2])
SALIENCE = np.array([[0.9, 0.1, 0.2, 0.3], [1.0, 0.8, 0.4, 0.5]])


def texts(count: int) -> Texts:
    return Texts(tuple(f"text {row}" for row in range(count)), None, np.zeros(count, dtype=np.int64), ("a", "b"))


@dataclass
class Bench:
    """Answers wrongly to as many texts as ``wrong`` says of the mask; remembers which masks it was asked about."""

    wrong: Any
    asked: list[HeadMask | None] = field(default_factory=list)
    recovered: int = 0
    accepted: bool = True
    keeps_lead: bool = False
    no_refit: str | None = None
    slowest: float = 11.0
    cuts: bool = True
    refitted: list[HeadMask] = field(default_factory=list)

    @property
    def measurements(self) -> Bench:
        return self

    @property
    def recoveries(self) -> Bench:
        return self

    def evaluate(
        self, evaluated: Texts, *, mask: HeadMask | None = None, recovered: Refitted | None = None
    ) -> Evaluation:
        self.asked.append(mask)
        wrong = self.recovered if recovered is not None and recovered.report.accepted else self.wrong(mask)
        if self.keeps_lead and recovered is not None and mask is not MASK:
            wrong += 20
        predictions = (np.arange(len(evaluated)) < wrong).astype(np.int64)
        return answers(predictions, evaluated.labels, classes=evaluated.classes)

    def can_cut(self, mask: HeadMask) -> bool:
        return self.cuts or mask is MASK

    def refit(self, mask: HeadMask) -> Refitted:
        self.refitted.append(mask)
        return Refitted({}, RefitReport(self.accepted, "held-out texts say so", 80))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are those of the bench."""

    def worker(bench: Bench) -> Any:
        def costs(mask: HeadMask, *, fresh: bool, progress: Progress) -> Costs:
            assert fresh
            bench.asked.append(mask)
            timing = Timing(10.0, bench.slowest, 8, 64, 30)
            return Costs(Cost(1, 1, timing), Cost(1, 1, timing), ratio_of(0.85, 0.8, 0.9), 0.4)

        return nullcontext(SimpleNamespace(costs=costs))

    monkeypatch.setattr("cahp.features.learn.saving.LatencyWorker", worker)


def subject(bench: Bench) -> Subject:
    return Subject(cast(Any, bench), texts(100), MASK, LABELS, SALIENCE)


def gone(mask: HeadMask | None) -> list[int]:
    assert mask is not None
    return [head for head in range(LAYERS * HEADS) if head not in mask.flat]


def answer(name: str, bench: Bench) -> Answer:
    return measure(name, subject(bench))


@pytest.mark.usefixtures("timed")
def test_there_are_six_steps_and_each_can_be_measured() -> None:
    bench = Bench(lambda mask: 0)
    made = list_steps(subject(bench))
    assert len(made) == 6
    for step in made:
        found = measure(step.name, subject(bench))
        assert found.value <= step.highest
        assert found.found
        assert found.meaning
        sentences = re.split(r"[.?:;] ", f"{step.doing} {step.question} {step.counted} ")
        assert max(len(sentence.split()) for sentence in sentences) <= 20
    # What each step switches off: one head, a cluster without its representative, CAHP's heads, all others, half.
    pruned = [1, 2, 3, 6, 7]
    assert [gone(step.mask) for step in made] == [[4], [1, 2, 3], [0, 4, 5], pruned, pruned, [2, 3, 6, 7]]


def test_the_texts_are_spread_over_the_whole_sample() -> None:
    evaluated = texts(1000).sample(EXAMPLES)
    assert len(evaluated) == EXAMPLES
    assert evaluated.first[0] == "text 0"
    assert evaluated.first[-1] == "text 999"


def test_the_first_step_switches_off_the_most_salient_head_alone() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 3)
    found = answer("one-head", bench)
    assert gone(bench.asked[1]) == [4]
    assert found.value == 3
    assert found.n == 100
    assert found.interval is not None
    assert found.interval[0] < 3 < found.interval[1]
    assert "3 of 100 answers changed. Accuracy: 100.0 % with all heads, 97.0 % now." in found.found
    assert "hardly change" in found.meaning


def test_a_head_that_is_missed_is_not_called_redundant() -> None:
    assert "many predictions change" in answer("one-head", Bench(lambda mask: 0 if mask is None else 30)).meaning


def test_the_second_step_leaves_the_largest_cluster_its_representative() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 2)
    answer("one-cluster", bench)
    assert gone(bench.asked[1]) == [1, 2, 3]


def test_the_third_step_switches_off_the_kept_heads_and_as_many_others_for_comparison() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 50 if not mask.keep[0, 0] else 1)
    found = answer("representatives", bench)
    assert gone(bench.asked[1]) == [0, 4, 5]
    controls = bench.asked[2:]
    assert len(controls) == 5
    for control in controls:
        assert len(gone(control)) == 3
        assert set(gone(control)) <= {1, 2, 3, 6, 7}
    assert found.value == 50
    assert "more predictions change" in found.meaning


@pytest.mark.parametrize(
    ("others", "words"), [(65, "fewer predictions change:"), (50, "as many predictions change, within the range")]
)
def test_representatives_that_are_not_missed_more_are_not_praised(others: int, words: str) -> None:
    bench = Bench(lambda mask: 0 if mask is None else 50 if not mask.keep[0, 0] else others)
    assert words in answer("representatives", bench).meaning


def test_a_difference_of_a_few_answers_is_stated_and_may_be_chance() -> None:
    # 9 of 100: Wilson's 95 % interval is 4.8 to 16.2, and 7 lies within.
    bench = Bench(lambda mask: 0 if mask is None else 9 if not mask.keep[0, 0] else 7)
    assert "more predictions change than in any draw, but with 100 texts this can be" in (
        answer("representatives", bench).meaning
    )


def test_chance_gets_as_many_heads_and_no_empty_layer() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 10)
    found = answer("random", bench)
    drawn = [mask for mask in bench.asked[2 : 2 + DRAWS] if mask is not None]
    assert len(drawn) == len(next(iter(found.draws.values()))) == DRAWS >= 20
    assert all(mask.count == MASK.count and not mask.empty_layers for mask in drawn)
    assert len({mask.sha256 for mask in drawn}) > 10
    # All are equally right here, so every draw does at least as well.
    assert found.value == DRAWS
    assert "are as accurate" in found.meaning


def test_selections_that_cannot_be_cut_are_compared_without_a_refit() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 10, cuts=False)
    found = answer("random", bench)
    assert not bench.refitted
    assert len(found.draws) == 1


def test_what_is_left_of_the_choice_after_a_refit_is_said_and_drawn() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 5 if mask is MASK else 40)
    found = answer("random", bench)
    # CAHP's own mask and the first five random ones were refitted, and all answer alike then.
    assert bench.refitted == [MASK, *bench.asked[2 : 2 + REFITTED_DRAWS]]
    assert "lead over the median was +35.0 points and is now +0.0 (" in found.meaning
    assert "no measurable lead is left" in found.meaning
    assert [len(accuracies) for accuracies in found.draws.values()] == [DRAWS, REFITTED_DRAWS]
    assert list(found.bars) == ["all heads", "with CAHP's 3 heads", "CAHP's after refit"]


def test_a_choice_that_stays_ahead_after_a_refit_keeps_its_praise() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 5 if mask is MASK else 40, keeps_lead=True)
    assert "a part of the lead is left" in answer("random", bench).meaning


def test_another_selection_on_the_same_texts_is_another_subject() -> None:
    bench = Bench(lambda mask: 0)
    one, same = subject(bench), subject(bench)
    assert one.sha256 == same.sha256
    for change in (
        {"mask": HeadMask.of([1, 4, 5], LAYERS, HEADS)},
        {"texts": texts(99)},
        {"salience": SALIENCE.T.reshape(2, 4)},
    ):
        assert replace(one, **change).sha256 != one.sha256


def test_random_choices_that_never_do_as_well_are_counted_as_none() -> None:
    bench = Bench(lambda mask: 0 if mask is None else 5 if mask is MASK else 40)
    found = answer("random", bench)
    assert found.value == 0
    assert "CAHP 95.0 %; random 60.0 % to 60.0 %" in found.found


def test_refit_is_measured_against_the_pruned_model() -> None:
    found = answer("refit", Bench(lambda mask: 0 if mask is None else 40, recovered=10))
    assert found.value == pytest.approx(30)
    assert "60.0 % before, 90.0 % after (+30.0 points)" in found.found
    assert "recover it" in found.meaning


def test_where_there_is_no_refit_chance_is_measured_without_and_the_refit_s_step_says_why() -> None:
    without = Bench(lambda mask: 0 if mask is None else 40, no_refit="its layers are one")
    assert len(answer("random", without).draws) == 1
    assert without.refitted == []
    with pytest.raises(OptionError, match="its layers are one, so this step cannot be shown"):
        answer("refit", without)


def test_a_rejected_refit_wins_nothing_and_says_why() -> None:
    found = answer("refit", Bench(lambda mask: 0 if mask is None else 40, recovered=10, accepted=False))
    assert found.value == 0
    assert "rejected" in found.meaning
    assert "held-out texts say so" in found.meaning


@pytest.mark.usefixtures("timed")
def test_time_is_taken_of_half_of_the_heads_in_every_layer_and_held_against_amdahl() -> None:
    bench = Bench(lambda mask: 0)
    found = answer("time", bench)
    (mask,) = bench.asked
    assert mask is not None
    assert mask.by_layer == [[0, 1], [0, 1]]
    assert found.value == pytest.approx(15)
    assert found.interval == (pytest.approx(10), pytest.approx(20))
    assert "Attention takes 40 % of the time" in found.meaning
    assert "at most about 20 %" in found.meaning
    assert "busy" not in found.found
    assert "the machine was busy" in answer("time", replace(bench, slowest=20.0)).found


def test_progress_counts_the_variants_and_can_stop_between_them() -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure("random", subject(Bench(lambda mask: 0)), progress=progress)
    assert seen == [("variants", done, DRAWS + 2) for done in range(4)]


def test_a_step_times_for_as_long_as_the_settings_say(
    small_bench: benches.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[fakes.LatencyWorkerHere] = []

    def start(asked: benches.Bench) -> fakes.LatencyWorkerHere:
        started.append(fakes.LatencyWorkerHere(asked))
        return started[-1]

    monkeypatch.setattr("cahp.features.learn.saving.LatencyWorker", start)
    bench = replace(small_bench, settings=replace(small_bench.settings, latency_time="2s"))
    clusters = cast(Any, SimpleNamespace(groups=lambda _: (LABELS,), salience=SALIENCE))
    selection = cast(Any, SimpleNamespace(mask=HeadMask.of([0, 4, 5, 8], 3, 4), k=3))
    measure("time", subject_of(bench, clusters, selection))
    (worker,) = started
    assert [mask.by_layer for mask in worker.asked] == [[[0, 1]] * 3]
    assert worker.seconds == [2.0]
