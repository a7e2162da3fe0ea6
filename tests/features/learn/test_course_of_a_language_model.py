"""The six steps about a language model: what is switched off, and what their answers say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cahp.board.head_clusters import HeadClusters
from cahp.features.learn import lessons, switching
from cahp.features.learn.choosing import DRAWS
from cahp.features.learn.course import list_steps, measure
from cahp.features.learn.lessons import Answer, Subject
from cahp.models.costs import CacheShape, KvCache
from cahp.recoveries import RefitReport
from cahp.run.bench import Bench as RealBench
from cahp.run.prune import choose
from cahp.tasks.answers import TokenEvaluation
from cahp.tasks.next_token import NEXT_TOKEN
from cahp.tasks.texts import Texts
from cahp.tasks.windows import Window
from cahp.values import HeadMask, OptionError

LAYERS, HEADS = 2, 4
MASK = HeadMask.of([0, 4, 5], LAYERS, HEADS)
LABELS = np.array([0, 0, 0, 0, 1, 2, 1, 2])
SALIENCE = np.array([[0.9, 0.1, 0.2, 0.3], [1.0, 0.8, 0.4, 0.5]])
CACHE = CacheShape(16, positions=128)
#: Ten windows of ten tokens, each a document, and four sequences of repeated tokens.
WINDOWS = tuple(
    Window("text", np.arange(11), np.full(10, row), np.ones(10, dtype=np.int64), copying=row >= 10) for row in range(14)
)
TEXTS = Texts(WINDOWS, None, np.full(14, -1), ("all texts",), NEXT_TOKEN)


@dataclass
class Bench:
    """Of ten tokens ``wrong`` of a mask differ from the full model's, and two more of every other window.

    ``loss`` is that of repeated tokens, and ``after`` are wrong after a refit.
    """

    wrong: Any = field(default=lambda mask: 0)
    loss: Any = field(default=lambda mask: 1.0)
    after: int = 0
    asked: list[HeadMask | None] = field(default_factory=list)
    card: Any = None
    resources: None = None

    @property
    def measurements(self) -> Bench:
        return self

    @property
    def recoveries(self) -> Any:
        report = RefitReport(True, "held-out windows say so", 8)
        return SimpleNamespace(no_refit=None, refit=lambda mask: SimpleNamespace(report=report))

    def evaluate(self, texts: Texts, *, mask: HeadMask | None = None, recovered: Any = None) -> TokenEvaluation:
        self.asked.append(mask)
        wrong = self.after if recovered else 0 if mask is None else self.wrong(mask)
        scores = np.zeros((14, 10, 3), dtype=np.float32)
        # KL divergence, loss and prediction.
        scores[:, :, 0], scores[:, :, 1] = wrong / 10, 2.0
        scores[10:, :, 1] = 3.0 if recovered else 1.0 if mask is None else self.loss(mask)
        for row in range(14):
            scores[row, : 0 if mask is None else wrong + row % 2 * 2, 2] = 7
        return TokenEvaluation(scores, texts.labels, texts.classes, WINDOWS)


def subject(bench: Bench, cache: CacheShape | None = CACHE) -> Subject:
    bench.card = SimpleNamespace(
        id="tale", group=3, attention_weights=0.2, measure_cache=lambda mask: KvCache.of(cache, mask)
    )
    return Subject(cast(Any, bench), TEXTS, MASK, LABELS, SALIENCE)


def answer(name: str, bench: Bench) -> Answer:
    return measure(name, subject(bench))


def gone(mask: HeadMask | None) -> list[int]:
    assert mask is not None
    return [head for head in range(LAYERS * HEADS) if head not in mask.flat]


@pytest.fixture(autouse=True)
def roles(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, ...]]:
    """Heads 1 and 6 attend to the first token, and head 2 copies."""
    units = {"first": (1, 6), "induction": (2,)}
    monkeypatch.setattr(switching, "find_roles", lambda _: SimpleNamespace(units=lambda role: units[role]))
    return units


def test_there_are_six_steps_and_each_can_be_measured() -> None:
    bench = Bench()
    made = list_steps(subject(bench))
    assert [step.name for step in made] == ["one-head", "first-token", "induction", "random", "refit", "cache"]
    for step in made:
        found = measure(step.name, subject(bench))
        assert 0 <= found.value <= step.highest
        assert found.found
        assert found.meaning
        sentences = re.split(r"[.?:;] ", f"{step.doing} {step.question} {step.counted} ")
        assert max(len(sentence.split()) for sentence in sentences) <= 20
        # Heads are drawn, or known once roles are measured.
        assert (step.mask is None) == (step.role is not None)
        said = f"{step}{found.found}{found.meaning}{list(found.bars)}".lower()
        assert not any(word in said for word in ("accura", "class"))


def test_switching_off_a_head_changes_so_many_tokens_of_a_hundred() -> None:
    bench = Bench(lambda mask: 3)
    found = answer("one-head", bench)
    assert gone(bench.asked[1]) == [4]
    # Half of the documents change in 3 tokens of 10, the others in 5.
    assert (found.value, found.n) == (pytest.approx(40), 10)
    assert found.interval is not None
    assert 30 < found.interval[0] < 40 < found.interval[1] < 50
    assert found.bars["all heads"].value == 1
    assert "40.0 of 100 predicted tokens changed." in found.found


@pytest.mark.parametrize(
    ("own", "others", "meaning"), [(6, 1, "matter more"), (1, 6, "matter less"), (3, 3, "no difference is resolved")]
)
def test_first_token_heads_are_compared_with_as_many_others(own: int, others: int, meaning: str) -> None:
    bench = Bench(lambda mask: own if gone(mask) == [1, 6] else others)
    found = answer("first-token", bench)
    assert gone(bench.asked[1]) == [1, 6]
    assert gone(bench.asked[2]) == [1, 6]
    assert len(bench.asked) == 3 + 5
    assert all(len(gone(mask)) == 2 and not {1, 6} & set(gone(mask)) for mask in bench.asked[3:])
    assert meaning in found.meaning


def test_a_role_of_most_heads_is_compared_in_equal_numbers(roles: dict[str, tuple[int, ...]]) -> None:
    roles["first"] = (0, 1, 2, 3, 4)
    bench = Bench(lambda mask: 5)
    found = answer("first-token", bench)
    assert gone(bench.asked[1]) == [0, 1, 2, 3, 4]
    assert all(len(gone(mask)) == 3 and set(gone(mask)) <= {0, 1, 2, 3, 4} for mask in bench.asked[2:7])
    assert [gone(mask) for mask in bench.asked[7:]] == [[5, 6, 7]]
    assert "Without 3 of them, 60.0 % to 60.0 % of the predictions change" in found.found
    assert "without as many others, 60.0 %." in found.found


@pytest.mark.parametrize(("others", "meaning"), [(1.1, "These heads copy"), (2.5, "spread over more heads")])
def test_the_loss_on_repeated_tokens_rises_without_induction_heads(others: float, meaning: str) -> None:
    found = answer("induction", Bench(loss=lambda mask: 2.5 if gone(mask) == [2] else others))
    assert (found.value, found.n) == (pytest.approx(150), 4)
    assert "from 1.000 to 2.500 nats" in found.found
    assert meaning in found.meaning


def test_without_heads_of_a_role_the_step_says_so(roles: dict[str, tuple[int, ...]]) -> None:
    roles["induction"] = ()
    with pytest.raises(OptionError, match="no head of tale copies; continue with the next step"):
        answer("induction", Bench())


def test_random_selections_that_are_as_close_are_counted() -> None:
    def wrong(mask: HeadMask) -> int:
        return 4 if mask.sha256 == MASK.sha256 else 3 if mask.keep[0, 0] else 6

    bench = Bench(wrong)
    found = answer("random", bench)
    drawn = [mask for mask in bench.asked[2:] if mask is not None]
    assert len(drawn) == DRAWS
    assert found.value == sum(bool(mask.keep[0, 0]) for mask in drawn if mask.sha256 != MASK.sha256) + sum(
        mask.sha256 == MASK.sha256 for mask in drawn
    )
    assert {mask.count for mask in drawn} == {3}


def test_a_refit_that_harms_copying_is_told() -> None:
    found = answer("refit", Bench(lambda mask: 5, after=2))
    assert found.value == pytest.approx(30)
    assert found.interval == pytest.approx((30, 30), abs=1e-4)
    assert "copying, which its texts hardly need, is worse than before" in found.meaning


def test_the_cache_is_counted() -> None:
    found = answer("cache", Bench())
    # 3 of 8 groups stay.
    assert (found.value, found.interval, found.n) == (62.5, None, 0)
    assert "128 bytes per token before, 48 after" in found.found
    assert "attention is 20.0 % of its weights, so they shrink by 12.5 %" in found.meaning
    with pytest.raises(OptionError, match="not known"):
        measure("cache", subject(Bench(), cache=None))


def test_steps_measure_some_windows_and_all_repeated_tokens(window_bench: RealBench) -> None:
    subject = lessons.subject_of(window_bench, HeadClusters.of(window_bench.evidence), choose(window_bench))
    assert [one.copying for one in subject.sample.windows].count(False) == lessons.WINDOWS
    assert subject.sample.windows[-1].copying
    full, pruned = (window_bench.measurements.evaluate(subject.sample, mask=mask) for mask in (None, subject.mask))
    before = (pruned.predictions == full.predictions).mean()
    found = measure("refit", subject)
    assert found.value == pytest.approx(100 * (found.bars["after refit"].value - before))
    assert found.bars["before refit"].value == pytest.approx(before)
    assert "Loss on repeated random tokens" in found.found
