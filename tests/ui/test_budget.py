from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import documents
import pytest
from apps import done, explorer_of, has_button, open_app, rerun, text_of
from clusters import outcomes
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp.api import bundled
from cahp.recoveries import DistillReport
from cahp.run.recoveries import Recoveries
from cahp.ui.budget import measuring
from cahp.ui.session import work
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.values import Estimate, HeadMask


@pytest.fixture
def explorer() -> Iterator[Explorer]:
    made = Explorer("somebody", Source.open(bundled.SETTINGS))
    yield made
    made.close()


@pytest.fixture
def app() -> AppTest:
    return open_app("budget")


def press(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


# --- the board's state


def test_a_bundled_budget_is_known_at_once_with_its_interval(explorer: Explorer) -> None:
    explorer.board.set_budget(30)
    found = explorer.outcomes()
    assert found is not None
    accuracy = found["accuracy"]
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.n == 311


def test_figures_of_a_mask_made_by_hand_are_not_those_of_its_budget(explorer: Explorer) -> None:
    explorer.board.set_budget(30)
    pruned = next(head for head in range(72) if not explorer.mask.keep.flat[head])
    explorer.board.toggle(pruned)
    explorer.board.toggle(explorer.mask.flat[0] if explorer.mask.flat[0] != pruned else explorer.mask.flat[1])
    assert explorer.mask.count == 30
    assert explorer.outcomes() is None


def test_another_degree_moves_the_knee_and_keeps_what_is_measured(explorer: Explorer) -> None:
    before = explorer.board.budget
    explorer.change(poly_degree=2)
    assert explorer.results.bundled
    assert explorer.board.budget > before
    explorer.board.set_budget(30)
    assert explorer.outcomes() is not None


# --- the page


def test_a_share_of_the_heads_rounds_half_up(app: AppTest) -> None:
    app.number_input(key="goal-share").set_value(44.0).run()
    press(app, "goal-apply")
    # 44 % of 72 is 31.68.
    assert explorer_of(app).board.budget == 32


def test_a_goal_finds_the_fewest_heads_and_says_that_this_is_optimistic(app: AppTest) -> None:
    app.radio(key="budget-goal").set_value("accuracy-loss").run()
    app.number_input(key="goal-accuracy-loss").set_value(2.0).run()
    press(app, "goal-apply")
    explorer = explorer_of(app)
    # The board begins with the refit.
    rows = explorer.table("refit").rows()  # type: ignore[union-attr]
    reached = [row.budget for row in rows if row.outcomes is not None and row.outcomes["accuracy_change"].low >= -2]
    assert explorer.board.budget == min(reached)
    assert "optimistic" in text_of(app, "info")


def test_a_saving_of_time_is_a_timed_one(app: AppTest) -> None:
    app.radio(key="budget-goal").set_value("time").run()
    app.number_input(key="goal-time").set_value(10.0).run()
    press(app, "goal-apply")
    explorer = explorer_of(app)
    timed = explorer.results.speed(explorer.mask)
    assert timed is not None
    assert timed.ratio.high <= 0.9
    assert "the most that reach time=-10%" in text_of(app, "info")


def test_a_goal_out_of_reach_is_a_sentence_that_stays_until_the_next_action(app: AppTest) -> None:
    app.radio(key="budget-goal").set_value("time").run()
    app.number_input(key="goal-time").set_value(90.0).run()
    press(app, "goal-apply")
    for _ in range(3):
        assert "No measured budget" in text_of(app, "error")
        app.run()
    app.radio(key="budget-goal").set_value("share").run()
    app.number_input(key="goal-share").set_value(44.0).run()
    press(app, "goal-apply")
    assert not app.error


def test_a_share_too_small_for_every_layer_is_a_sentence(app: AppTest) -> None:
    app.number_input(key="goal-share").set_value(3.0).run()
    press(app, "goal-apply")
    assert "outside 6 to 72" in text_of(app, "error")


def test_the_way_back_to_the_knee_is_one_button(app: AppTest) -> None:
    explorer_of(app).board.set_budget(40)
    app.run()
    press(app, "board-auto")
    assert explorer_of(app).board.auto


def test_a_method_that_is_measurably_better_is_named_with_its_interval_and_taken_with_one_click(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = HeadMask.of(range(0, 72, 6), 6, 12)
    monkeypatch.setattr(work, "_choose_by", lambda _, method, budget: (method, kept))
    app = open_app("budget", budget="12", recover="none")
    (offer,) = (text.value.replace("\\", "") for text in app.caption if "is better than CAHP" in text.value)
    assert "gradient is better than CAHP in KL divergence by 0.196 nats (0.105 to 0.288, n = 311, 5 seeds)" in offer
    press(app, "choose-better")
    job = explorer_of(app).work.job(work.CHOICE)
    assert job is None or job.wait(60)
    app.run()
    assert explorer_of(app).mask.flat == kept.flat
    # What is on the board now was not chosen by CAHP.
    assert not has_button(app, "choose-better")


def test_few_texts_do_not_make_no_change() -> None:
    app = open_app("budget", recover="none")
    explorer = explorer_of(app)
    known = explorer.outcomes()
    assert known is not None
    few = Estimate(-11.0, (-33.0, 11.0), 18, "points")
    explorer.results.add(explorer.mask, "none", {**known, "accuracy_change": few})
    app.run()
    said = "no measurable change in accuracy (with 18 texts, within −33 to 11 points)"
    assert said in text_of(app, "subheader")


# --- in a browser


def test_a_link_to_a_distilled_mask_offers_to_distil_it_and_trains_nothing_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = DistillReport(
        True, "90 of 100 held-out texts answered as by the full model", 400, False, 100, 0.8, 0.9, ()
    )
    known: list[Any] = []
    trained: list[HeadMask] = []

    def distil(self: Recoveries, mask: HeadMask, **_: Any) -> Any:
        trained.append(mask)
        known.append(SimpleNamespace(report=report))
        return known[0]

    monkeypatch.setattr(Recoveries, "distill", distil)
    monkeypatch.setattr(Recoveries, "read_distilled", lambda self, mask: next(iter(known), None))
    monkeypatch.setattr(work, "measure_recovered", lambda bench, mask, made: outcomes(0.6, 500))
    monkeypatch.setattr(work, "measure_steps", lambda *_, **__: documents.recovery_steps())
    app = open_app("budget", recover="distill", budget="12")
    explorer = explorer_of(app)
    assert explorer.recover == "distill"
    job = explorer.job(work.FIGURE)
    assert job is not None
    assert job.wait(120)
    rerun(app)
    assert re.fullmatch(r"Distil this mask \(about .+\)", app.button(key="distil").label)
    assert "trained to reproduce the scores of the full model" in text_of(app, "caption")
    assert explorer.work.job(work.TABLE) is None
    assert not trained
    press(app, "distil")
    done(explorer.job(work.DISTIL))
    rerun(app)
    assert trained == [explorer.mask]
    assert explorer.outcomes("distill") == outcomes(0.6, 500)
    assert measuring.describe_distillation(explorer) == f"distillation accepted: {report.reason}"
    said = [markdown.value for markdown in app.markdown]
    assert "**Accuracy after each step** (500 evaluation texts, 95 % intervals)" in said
    assert any("- refitted: 33.1 %" in text and "\n- distilled: 45.2 %" in text for text in said)
    assert not has_button(app, "distil")
    table = explorer.table("distill")
    assert table is not None
    # That of 13 heads is bundled.
    assert [row.budget for row in table.rows() if row.outcomes is not None] == [12, 13, 72]
    assert app.query_params["recover"] == "distill"
    explorer.chosen_recovery = None
    app.run()
    assert "recover" not in app.query_params


def figures(page: Page) -> list[str]:
    return page.locator(".cahp-board .figure .value").all_inner_texts()


def drag(page: Page, share: float) -> None:
    """Move the mouse to a place on the slider, once that stands still."""
    slider = page.locator("input.slider")
    box = slider.bounding_box()
    assert box is not None
    slider.hover(position={"x": 9 + (box["width"] - 18) * share, "y": box["height"] / 2})


@pytest.mark.browser
def test_the_board_is_dragged_moved_by_keys_asked_and_changed_by_hand(
    open_page: Callable[[str], Page],
) -> None:
    page = open_page("Budget")
    expect(page.get_by_role("gridcell")).to_have_count(72)
    # Time, of which a few budgets of 67 were timed, no two of them neighbours: one dashed line.
    dashed = page.locator(".cahp-board .plots svg").nth(1).locator("path.dashed")
    line = dashed.get_attribute("d") or ""
    assert (line.count("M"), line.count("L")) == (1, 66)
    before, address = figures(page), page.url
    kept = page.get_by_role("gridcell", selected=True).count()
    drag(page, (kept - 6) / 66)
    page.mouse.down()
    drag(page, 0.5)
    # Before the release.
    assert figures(page)[0] == "39 of 72"
    assert figures(page)[1] != before[1]
    assert page.get_by_role("gridcell", selected=True).count() == 39
    assert page.url == address
    page.mouse.up()
    page.wait_for_url("**budget=39**")
    page.locator("input.slider").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".cahp-board .figure .value").first).to_have_text("41 of 72")
    page.wait_for_url("**budget=41**")
    page.get_by_role("gridcell", selected=False).first.click(modifiers=["Shift"])
    expect(page.locator(".st-key-board-details")).to_contain_text("nearest kept head")
    assert "mask=" not in page.url
    page.get_by_role("gridcell", selected=True).first.click()
    page.wait_for_url("**mask=**")
    expect(page.locator(".cahp-board .figure").first).to_contain_text("made by hand")


def test_the_rule_s_curve_is_shown_with_the_band_of_unstructured_data(app: AppTest) -> None:
    explorer_of(app).detail = "Published rule"
    rerun(app)
    null, clusters = explorer_of(app).results.null, explorer_of(app).clusters
    assert null is not None
    assert clusters is not None
    sentence = null.describe(clusters.clustering.mss)
    assert any(one.value.startswith(f"{sentence} The published rule would stop at") for one in app.markdown)
