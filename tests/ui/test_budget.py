import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import pytest
from apps import PATIENCE, done, explorer_of, explorer_with_run, open_app, rerun, text_of
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp.exports.masks import mask_to_hex
from cahp.features.own_text.on_board import OWN_TEXT
from cahp.features.versus import TAB, VERSUS
from cahp.run.recoveries import Recoveries
from cahp.ui.session import work
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import Job
from cahp.values import CahpError, HeadMask


def test_a_goal_sets_the_budget_and_one_out_of_reach_is_a_sentence_until_the_next_action() -> None:
    app = open_app("budget", budget="12", recover="mean", panel="heads")
    explorer = explorer_of(app)
    # A tab that is closed reads nothing.
    assert explorer.work.job(OWN_TEXT) is None
    # A method that is measurably better is named with its interval.
    better = "gradient is better than CAHP in KL divergence by 0.447 nats (0.016 to 0.878, n = 311, 5 seeds)"
    assert better in text_of(app, "caption")

    def apply(goal: str, amount: float) -> None:
        app.radio(key="budget-goal").set_value(goal).run()
        app.number_input(key=f"goal-{goal}").set_value(amount).run()
        app.button(key="goal-apply").click().run()

    apply("time", 90.0)
    for _ in range(3):
        assert "No measured budget" in text_of(app, "error")
        app.run()
    apply("time", 10.0)
    assert "that save at least 10 % of the time: 0" in text_of(app, "info")
    apply("accuracy-loss", 2.0)
    assert "optimistic" in text_of(app, "info")
    app.run()
    assert not app.error
    # The rule's curve is shown with the band of unstructured data.
    del app.query_params["panel"]
    explorer.detail = "Published rule"
    rerun(app)
    null, clusters = explorer.results.null, explorer.clusters
    said = f"{null.describe(clusters.clustering.mss)} The published rule would stop at"
    assert said.replace("\\", "") in text_of(app, "markdown")


@pytest.mark.nightly
def test_a_link_to_a_distilled_mask_offers_to_distil_it_and_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[HeadMask] = []

    def distill(_: Recoveries, mask: HeadMask, **options: Any) -> None:
        trained.append(mask)
        raise CahpError("this was enough")

    monkeypatch.setattr(Recoveries, "distill", distill)
    monkeypatch.setattr(Recoveries, "read", lambda *_: None)
    app = open_app("budget", recover="distill", budget="12")
    explorer = explorer_of(app)
    ended(explorer.job(work.FIGURE))
    rerun(app)
    assert re.fullmatch(r"Distil this mask \(about .+\)", app.button(key="distil").label)
    assert "trained to reproduce the scores of the full model" in text_of(app, "caption")
    assert explorer.work.job(work.TABLE) is None
    assert not trained
    app.button(key="distil").click().run()
    ended(explorer.job(work.DISTIL))
    assert trained == [explorer.mask]
    assert app.query_params["recover"] == "distill"


def ended(job: Job[Any] | None) -> None:
    assert job.wait(PATIENCE)


@pytest.mark.browser
def test_the_board_is_dragged_moved_by_keys_asked_and_changed_by_hand(open_page: Callable[[str], Page]) -> None:
    page = open_page("Budget")
    expect(page.get_by_role("gridcell")).to_have_count(72)
    # Time, of which a few budgets of 67 were timed, no two of them neighbours: one dashed line.
    dashed = page.locator(".cahp-board .plots svg").nth(1).locator("path.dashed")
    line = dashed.get_attribute("d") or ""
    assert (line.count("M"), line.count("L")) == (1, 66)
    slider, figures = page.locator("input.slider"), page.locator(".cahp-board .figure .value")
    before, address = figures.all_inner_texts(), page.url
    kept = page.get_by_role("gridcell", selected=True).count()

    def drag(share: float) -> None:
        """Move the mouse to a place on the slider, once that stands still."""
        box = slider.bounding_box() or {}
        slider.hover(position={"x": 9 + (box["width"] - 18) * share, "y": box["height"] / 2})

    drag((kept - 6) / 66)
    page.mouse.down()
    drag(0.5)
    # Before the release.
    shown = figures.all_inner_texts()
    assert (shown[0], shown[1] != before[1]) == ("39 of 72", True)
    assert page.get_by_role("gridcell", selected=True).count() == 39
    assert page.url == address
    page.mouse.up()
    page.wait_for_url("**budget=39**")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(figures.first).to_have_text("41 of 72")
    page.wait_for_url("**budget=41**")
    page.get_by_role("gridcell", selected=False).first.click(modifiers=["Shift"])
    expect(page.get_by_role("dialog")).to_contain_text("Its replacement is")
    assert "mask=" not in page.url
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("gridcell", selected=True).first.dblclick()
    page.wait_for_url("**mask=**")
    expect(page.locator(".cahp-board .figure").first).to_contain_text("made by hand")


def said(app: AppTest) -> str:
    return text_of(app, "markdown", "caption")


def test_a_pinned_mask_is_held_against_the_board_in_pairs_with_interval_and_n(tmp_path: Path) -> None:
    with explorer_with_run("pinned", fakes.quick_task(tmp_path)) as explorer:
        check_pinned(explorer)


def check_pinned(explorer: Explorer) -> None:
    # Else a refit that ends between two runs of the page would make B differ from A.
    explorer.chosen_recovery = "none"
    explorer.board.set_budget(8)
    app = open_app("budget", explorer)
    app.button(key="board-pin").click().run()
    assert "A and B are the same" in said(app)
    assert explorer.detail == TAB.label
    assert explorer.work.job(VERSUS) is None
    a = explorer.mask
    explorer.board.set_budget(5)
    app.run()
    found = done(explorer.work.job(VERSUS))
    rerun(app)
    assert f"{(a.keep & explorer.mask.keep).sum()} heads are in both" in said(app)
    assert "on the same 40 texts" in said(app)
    assert f"{found.counts[0]} predictions differ: " in said(app)
    assert len(app.dataframe[0].value) == found.counts[0]
    # The address restores both.
    link = dict(app.query_params)
    assert link["pin"] == mask_to_hex(a)
    assert link["budget"] in ("5", "auto")
    app.button(key="pin-forget").click().run()
    assert explorer.pinned is None
    assert "pin" not in app.query_params
