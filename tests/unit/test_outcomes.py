"""The tables of outcomes, goals and recoveries against values that can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from documents import answers

from cahp.goals import Goal
from cahp.outcomes import (
    OUTCOMES,
    accuracy_change,
    compare_signs,
    estimate_change,
    measure,
    to_delta,
    to_metrics,
    wilson,
)
from cahp.recoveries import QUICK, RECOVERIES, get_recovery, name_of_result, name_of_state
from cahp.tasks.answers import TokenEvaluation, Window
from cahp.values import BudgetError, Estimate, OptionError


def test_without_the_full_model_only_outcomes_that_need_no_comparison_are_measured() -> None:
    full, pruned = answers([0, 1], [0, 0]), answers([0, 0], [0, 0])
    rows = {name: row for name, row in OUTCOMES.items() if row.needs != "tokens"}
    assert list(measure(pruned, full=full)) == list(rows)
    assert list(measure(pruned)) == [name for name, row in rows.items() if not row.difference]
    assert set(measure(pruned, full=full)) - set(measure(pruned)) == {"kl", "agreement", "accuracy_change"}


def test_a_language_model_has_outcomes_over_tokens_and_intervals_over_documents() -> None:
    rng = np.random.default_rng(0)
    # Windows of so many tokens, of a document each, and one of repeated random tokens.
    lengths = enumerate((3, 1, 2, 2, 3, 1, 2, 2))
    texts = [Window("", np.arange(n + 1), np.full(n, document), np.full(n, 4)) for document, n in lengths]
    cut = (*texts, Window("", np.arange(5), np.zeros(2), np.zeros(2), source="random"))
    scores = rng.random((9, 3, 3)).astype(np.float32)
    scores[..., 2] = rng.integers(5, size=(9, 3))
    found = TokenEvaluation(scores, np.full(9, -1), ("all texts",), cut)
    full = replace(found, scores=np.where([False, False, True], np.float32(1), scores))
    outcomes, rows = measure(found, full=full), [(row, 3 - one.scored) for row, one in enumerate(cut[:-1])]
    assert list(outcomes) == [row.name for row in OUTCOMES.values() if row.needs in ("", "tokens", "losses")]
    of_tokens = np.concatenate([scores[row, begin:] for row, begin in rows])
    assert len(of_tokens) == 16
    assert outcomes["kl"].value == pytest.approx(of_tokens[:, 0].mean(), rel=1e-6)
    assert outcomes["agreement"].value == pytest.approx((of_tokens[:, 2] == 1).mean())
    assert outcomes["perplexity"].value == pytest.approx(np.exp(of_tokens[:, 1].mean()), rel=1e-6)
    assert outcomes["bits_per_byte"].value == pytest.approx(of_tokens[:, 1].sum() / (16 * 4) / np.log(2), rel=1e-6)
    assert outcomes["copying"].value == pytest.approx(scores[8, 1:, 1].mean(), rel=1e-6)
    assert {one.n for name, one in outcomes.items() if name != "copying"} == {8}
    assert all(one.low <= one.value <= one.high for one in outcomes.values())


def test_outcomes_of_classes_are_those_of_the_textbook() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    # Class a: precision 1, recall 1/2, F1 2/3. Class b: precision 1/2, recall 1, F1 2/3. Class c never occurs.
    outcomes = measure(answers([0, 1, 1], [0, 0, 1], classes="abc"))
    assert outcomes["accuracy"] == Estimate(2 / 3, wilson(2, 3), 3, "share")
    assert outcomes["macro_f1"].value == pytest.approx(2 / 3)
    # Scores log 3, 0, 0 are probabilities 3/5, 1/5, 1/5.
    assert outcomes["nll"].value == pytest.approx(-(2 * np.log(3 / 5) + np.log(1 / 5)) / 3)
    # The confidence is always 3/5, and two of three predictions are correct.
    assert outcomes["ece"] == Estimate(pytest.approx(2 / 3 - 3 / 5, abs=1e-6), None, 3, "share")


def test_the_divergence_is_that_of_the_pruned_model_from_the_full_one() -> None:
    full, pruned = answers([0, 1, 1, 0], [0, 0, 1, 1]), answers([0, 1, 1, 1], [0, 0, 1, 1])
    # One text of four: 3/4 log(3/4 : 1/4) + 1/4 log(1/4 : 3/4).
    kl = measure(pruned, full=full)["kl"]
    assert kl.value == pytest.approx(np.log(3) / 2 / 4)
    assert 0 <= kl.low < kl.value < kl.high
    assert measure(full, full=full)["kl"] == Estimate(0.0, (0.0, 0.0), 4, "nats")
    # A change is in points, and its interval holds it.
    labels = [0] * 100
    full, pruned = answers([0] * 90 + [1] * 10, labels), answers([0] * 70 + [1] * 30, labels)
    change = measure(pruned, full=full)["accuracy_change"]
    assert change.value == pytest.approx(-20)
    assert change.low < -20 < change.high < 0
    assert change.excludes(0)
    assert (change, change.unit) == (accuracy_change(pruned, full), "points")
    assert accuracy_change(pruned, full, seed=7).ci95 != change.ci95
    assert accuracy_change(full, full) == Estimate(0.0, (0.0, 0.0), 100, "points")


def test_metrics_and_delta_of_a_file_lead_back_to_the_outcomes() -> None:
    full, pruned = answers([0, 1, 1, 0], [0, 0, 1, 1]), answers([0, 0, 1, 1], [0, 0, 1, 1])
    outcomes = measure(pruned, full=full)
    metrics, delta = to_metrics(outcomes), to_delta(outcomes)
    assert metrics == {
        "accuracy": 1.0,
        "macro_f1": 1.0,
        "loss": outcomes["nll"].value,
        "agreement": 0.5,
        "n": 4,
        "ci95": outcomes["accuracy"].ci95,
    }
    assert delta["pp"] == 50.0
    assert (to_metrics(measure(full))["agreement"], to_delta(measure(full))) == (None, None)


def test_flips_of_signs_give_the_exact_probability_of_few_changes() -> None:
    # Of 2^5 signs two have as large a sum: all plus, and all minus.
    changes = np.repeat([0.0, -1.0], [20, 5])
    assert compare_signs(changes) == pytest.approx(2 / 32, abs=0.008)
    assert compare_signs(np.zeros(9)) == 1


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [([0] * 5, -28.0, 28.0), ([0] * 311, -0.63, 0.63), ([-1], -100, 51.0), ([1] * 50, 89.7, 100)],
)
def test_changes_that_are_all_equal_leave_others_possible(change: list[int], low: float, high: float) -> None:
    found = estimate_change(np.array(change), 42)
    assert (found.value, found.n) == (100 * change[0], len(change))
    assert found.ci95 == pytest.approx((low, high), abs=0.05)


@pytest.mark.parametrize(
    "text",
    ["agreement=95%", "kl=0.05", "accuracy-loss=1", "time=-20%", "kv-cache=-30%", "agreement=99.5%", "abilities"],
)
def test_a_goal_is_the_text_that_it_is_read_from(text: str) -> None:
    assert str(Goal.parse(text)) == str(Goal.parse(f" {text.replace('%', ' %')}")) == text


@pytest.mark.parametrize(
    "text", ["", "agreement", "agreement=95", "agreement=101%", "kl=-1", "kl=5%", "time=20%", "x=1", "abilities=1"]
)
def test_what_is_no_goal_is_refused_with_all_that_are(text: str) -> None:
    with pytest.raises(OptionError, match=r"write one of agreement=95%, .*, time=-20%, kv-cache=-30%$"):
        Goal.parse(text)


@pytest.mark.parametrize(
    ("text", "reached", "missed"),
    [
        ("agreement=95%", (0.95, 0.99), (0.949, 0.999)),
        ("kl=0.05", (0.0, 0.05), (0.0, 0.051)),
        ("accuracy-loss=1", (-1.0, 1.0), (-1.1, 3.0)),
        ("time=-20%", (0.1, 0.8), (0.1, 0.81)),
        ("abilities", (0.0, 0.0), (1.0, 1.0)),
    ],
)
def test_the_interval_s_limit_decides(text: str, reached: tuple[float, float], missed: tuple[float, float]) -> None:
    goal = Goal.parse(text)
    assert [goal.is_reached_by(Estimate(0.5, ends, 9, "number")) for ends in (reached, missed)] == [True, False]


def test_the_fewest_heads_are_chosen_and_for_time_the_most() -> None:
    shares = {heads: Estimate(0.97, (low, 1.0), 9, "share") for heads, low in ((4, 0.9), (6, 0.96), (8, 0.97))}
    won = Goal.parse("agreement=95%").choose(shares, 12)
    assert won.choice == "the fewest of 3 tried; the lower limit counts"
    assert (won.heads, won.measured, won.budgets, won.confirmed) == (6, 3, 12, None)
    ratios = {heads: Estimate(high, (0.0, high), 9, "ratio") for heads, high in ((4, 0.5), (6, 0.7), (8, 0.9))}
    assert Goal.parse("time=-20%").choose(ratios, 12).heads == 6
    assert Goal.parse("kl=1").choose({6: ratios[6]}, 12).choice == "the only number tried; the upper limit counts"
    # Out of reach is a sentence with the nearest.
    shares = {heads: Estimate(0.9, (low, 0.95), 9, "share") for heads, low in ((4, 0.5), (6, 0.8), (8, 0.7))}
    with pytest.raises(BudgetError, match=r"^No measured budget reaches .*; nearest are 6 heads with 90\.0 %"):
        Goal.parse("agreement=95%").choose(shares, 12)


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("none", {}, 0),
        # 666 of 2,000 texts are solved on, which takes 4.1 passes, and 400 are held out, which takes 3.
        ("refit", {}, 666 * 4.1 + 1200),
        ("mean", {}, 666 + 1200),
        ("refit", {"can_refit": False}, 0),
        # An epoch is 3 passes over four fifths and 1 over the rest; the teacher answers all, the student the held-out.
        ("distill", {"can_refit": False}, 2000 * (1.2 + 3 * 2.6)),
        ("distill", {}, 666 * 4.1 + 1200 + 2000 * (1.2 + 3 * 2.6)),
        ("finetune", {"epochs": 1}, 2000 * 2.6),
        # Windows that choose the heads of a language model; five times as many recover it, or are tuned on as they are.
        ("refit", {"growth": 0.016}, 26 * 4.1 + 19.2),
        ("quick-refit", {"growth": 5}, 666),
        ("refit-finetune", {"growth": 0.016, "epochs": 1}, 26 * 4.1 + 19.2 + 2000 * 2.6 * 4),
        # Each of three rates is tried for an epoch.
        ("refit-finetune", {"can_refit": False, "epochs": 1}, 2000 * 2.6 * 4),
    ],
)
def test_passes_are_counted(name: str, options: dict[str, int], passes: float) -> None:
    assert RECOVERIES[name].passes(2000, **options) == pytest.approx(passes)


def test_an_unknown_recovery_is_refused_with_those_offered() -> None:
    assert get_recovery("refit") is QUICK
    with pytest.raises(OptionError, match=f"choose one of {', '.join(RECOVERIES)}$"):
        get_recovery("pray")
    compared = [name for name in RECOVERIES if name != "auto"]
    with pytest.raises(OptionError, match=f"choose one of {', '.join(compared)}$"):
        get_recovery("auto", choices=lambda row: not row.timed)
    assert name_of_result("pray") == name_of_state("pray") == "recovered"
