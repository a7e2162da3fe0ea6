import pytest

from cahp.goals import Goal
from cahp.values import BudgetError, Estimate, OptionError


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
    chosen = Goal.parse("agreement=95%").choose(shares, 12)
    assert (chosen.heads, chosen.measured, chosen.budgets, chosen.confirmed) == (6, 3, 12, None)
    ratios = {heads: Estimate(high, (0.0, high), 9, "ratio") for heads, high in ((4, 0.5), (6, 0.7), (8, 0.9))}
    assert Goal.parse("time=-20%").choose(ratios, 12).heads == 6


def test_out_of_reach_is_a_sentence_with_the_nearest() -> None:
    shares = {heads: Estimate(0.9, (low, 0.95), 9, "share") for heads, low in ((4, 0.5), (6, 0.8), (8, 0.7))}
    with pytest.raises(BudgetError, match=r"^No measured budget reaches .*; nearest are 6 heads with 90\.0 %"):
        Goal.parse("agreement=95%").choose(shares, 12)
