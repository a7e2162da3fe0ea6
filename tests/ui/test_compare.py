import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fakes
import pytest
from apps import PATIENCE, explorer_of, has_button, open_app, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp import data
from cahp.api import bundled
from cahp.comparison import Comparison, Plan, plan as planning
from cahp.comparison.claims import assess_compression, assess_critical_heads
from cahp.comparison.plan import PRESETS
from cahp.comparison.running import compare
from cahp.comparison.sentences import headline
from cahp.features import findings
from cahp.features.stability import measuring
from cahp.features.stability.measuring import STABILITY, Stability, StabilityOptions
from cahp.run.bench import Bench
from cahp.store import Store
from cahp.ui.compare import own as compare_own
from cahp.ui.frame.panels import kind_of
from cahp.values import Cancelled, HeadMask, Progress, SpaceError

METHODS = ("complementary", "magnitude", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison as ``cahp compare --out`` leaves it, of a tiny model."""
    place = tmp_path_factory.mktemp("compare")
    settings = fakes.quick_task(place, limit=60, eval_limit=30, latency=True)
    plan = Plan(settings, METHODS, ("4", "6"), (42, 43), ("refit",), draws=4)
    compare(plan, store=Store(place / "store"), command="cahp compare --seeds 2").write(place / "out")
    return place / "out"


@pytest.fixture
def shipped(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one bundled comparison, from which the page reads."""
    place = tmp_path / "shipped"
    shutil.copytree(folder, place / "tiny")
    (place / "tiny" / "made.json").write_text('{"machine": "An abacus", "date": "2026-01-31"}')
    monkeypatch.setattr(bundled, "comparisons_folder", lambda: place)
    return place


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is bundled."""
    monkeypatch.setattr(bundled, "comparisons_folder", lambda: tmp_path / "none")


page = partial(open_app, "compare")


def chart(app: AppTest, key: str) -> dict[str, Any]:
    return next(json.loads(one.proto.spec) for one in app.get("plotly_chart") if one.proto.id.endswith(f"-chart-{key}"))


def said(app: AppTest) -> str:
    return "\n".join((text_of(app, "markdown", "caption", "subheader"), *(one.label for one in app.expander)))


def test_a_bundled_comparison_opens_at_once_marked_with_machine_and_day(shipped: Path) -> None:
    app = page()
    assert not app.error
    found = Comparison.read(shipped / "tiny").results
    assert app.subheader[0].value == headline(found)
    assert f"Primary test: {found.primary.words}" in said(app)
    assert "All other tests are descriptive" in said(app)
    assert "measured on An abacus, 20" in said(app)
    assert len(app.get("plotly_chart")) == 2
    assert "bundled" in app.selectbox(key="compare-which").options[0]
    # The rest is drawn once its tab is open.
    for tab, words in (("Differences", "All"), ("Costs", "Costs, mean over"), ("How it is tested", "Holm")):
        app.session_state["compare-tab"] = tab
        rerun(app)
        assert words in said(app), tab
    assert "Holm" in said(app)


def test_filters_come_from_the_address_and_go_back_into_it(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = page(recovery="refit", at="6", methods="random,complementary", outcome="agreement")
    curve = chart(app, "compare-curves")
    assert curve["layout"]["yaxis"]["title"]["text"] == "agreement on validation (%)"
    lines = {trace["name"]: trace for trace in curve["data"]}
    assert lines.keys() == {"CAHP", "random"}
    assert "6 heads, after refit" in lines["random"]["hovertext"][1]
    assert len(chart(app, "compare-ranking")["layout"]["yaxis"]["ticktext"]) == 2
    app.multiselect(key="compare-methods").set_value([]).run()
    assert "methods" not in app.query_params
    assert app.query_params["recovery"] == "refit"
    assert app.query_params["at"] == "6"
    assert len(chart(app, "compare-curves")["data"]) == 3
    # Back from another page brings the values that were set here last.
    with monkeypatch.context() as patch:
        patch.setattr("cahp.ui.frame.address.is_history_navigation", lambda: True)
        rerun(app)
    assert {name: app.query_params[name] for name in ("outcome", "at")} == {"outcome": "agreement", "at": "6"}
    app.segmented_control(key="compare-outcome").set_value("kl").run()
    assert app.query_params["outcome"] == "kl"
    assert chart(app, "compare-curves")["layout"]["yaxis"]["title"]["text"].startswith("KL divergence")


def test_claims_are_assessed_at_what_is_chosen(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "premise_folder", lambda: tmp_path)
    app = page(recovery="refit", at="4")
    assert not [one for one in app.get("plotly_chart") if "claim" in one.proto.id]
    for claim in ("compression", "criticality", "number", "premise"):
        app.session_state[f"claim-{claim}"] = True
    rerun(app)
    comparison = Comparison.read(shipped / "tiny")
    first, second = assess_compression(comparison.results, "refit"), assess_critical_heads(comparison.results, 4)
    for claim, assessed in (("Better at high compression", first), ("Keeps critical intermediate heads", second)):
        assert f"{claim}: **{assessed.status}**" in said(app)
        assert assessed.words in said(app)
    shares = next(one.value for one in app.table if "share kept" in one.value)
    assert {*shares["method"]} == {"CAHP", "magnitude", "random"}
    tests = next(one.value for one in app.table if "p after Holm" in one.value and len(one.value) == 2)
    assert {*tests["method"]} == {"magnitude", "random"}
    model = comparison.document.model.id
    assert "The Stability page compares the published rule with unstructured data" in said(app)
    assert f"this command measures it: cahp experiment premise --model {model}" in said(app)
    # What the experiment measured is shown once it is bundled, and a panel stays open when its verdict changes.
    table = {"title": "", "columns": ["measured", "n"], "rows": [["cost", "12 pairs"]], "name": "premise"}
    shown = {"status": "supported", "lines": ["Heads replace each other"], "texts": [], "tables": [table]}
    premise = {"model": model, "data": "reviews", "shown": shown}
    (tmp_path / "tiny.json").write_text(json.dumps(premise))
    app.run()
    assert "heads of one cluster are redundant: **not measured**" in said(app)
    (tmp_path / "tiny.json").write_text(json.dumps(premise | {"data": comparison.document.data.id}))
    app.run()
    assert "heads of one cluster are redundant: **supported**" in said(app)
    (drawn,) = (one.value for one in app.table if "measured" in one.value)
    assert list(drawn["n"]) == ["12 pairs"]


def test_without_a_bundled_comparison_one_s_own_is_shown_or_refused(bare: None, folder: Path) -> None:
    app = page()
    assert "or with `cahp compare --out DIR`" in app.info[0].value
    assert not app.get("plotly_chart")
    assert has_button(app, "compare-own-start")
    app.file_uploader(key="compare-file").upload("mine.json", b"{}").run()
    assert not app.exception
    assert "The file mine.json is broken" in text_of(app, "error")
    app.file_uploader(key="compare-file").upload("mine.json", (folder / "compare.json").read_bytes()).run()
    assert not app.exception
    assert not app.error
    assert "From your file" in said(app)
    assert len(app.get("plotly_chart")) == 2


def settle(app: AppTest, is_there: Callable[[], bool]) -> None:
    """Run the page until something is there."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        app.run()
        if is_there():
            return
        time.sleep(0.3)
    raise AssertionError(said(app))


@pytest.mark.nightly
def test_one_s_own_comparison_costs_first_then_holds_no_text(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = replace(PRESETS["quick"], limit=24, eval_limit=12)
    monkeypatch.setattr(planning, "PRESETS", {"quick": quick})
    app = page()
    app.multiselect(key="compare-own-methods-quick").set_value(["magnitude", "magnitude-raw"])
    app.multiselect(key="compare-own-recover").set_value([])
    app.text_input(key="compare-own-budgets-72").set_value("12")
    app.number_input(key="compare-own-seeds-quick").set_value(1)
    app.run()
    assert not app.get("plotly_chart")
    command = app.code[0].value
    assert "--methods magnitude,magnitude-raw --budgets 12 --seeds 1 --recover none" in command
    app.button(key="compare-own-start").click().run()
    settle(app, lambda: bool(app.get("plotly_chart")))
    assert not app.exception
    assert "Measured on this machine" in said(app)
    (mine,) = app.session_state["cahp_compare_mine"].values()
    texts = explorer_of(app).source.raw.splits
    everything = b"".join(mine.comparison.files.values()).decode(errors="replace")
    assert not any(text[:40] in everything for split in texts.values() for text in split.first)


def test_texts_that_only_this_session_has_are_compared_without_being_read_again(folder: Path, tmp_path: Path) -> None:
    brought = replace(data.load(str(folder.parent / "data")), id="mine.csv")
    settings = fakes.quick(folder.parent / "model", "mine.csv", limit=60, eval_limit=30)
    plan = Plan(settings, ("magnitude",), ("4",), (42,))
    found = compare(plan, store=Store(tmp_path), dataset=brought)
    assert found.document.data.id == "mine.csv"
    theirs = Comparison.read(folder).results.means["none", "magnitude", 4]
    # One of the two seeds of the other comparison; weights do not depend on the seed.
    assert found.results.means["none", "magnitude", 4].outcomes["accuracy"].value == pytest.approx(
        theirs.outcomes["accuracy"].value
    )


def test_a_comparison_can_be_cancelled_and_resumed(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(plan: Plan, **options: Any) -> Comparison:
        progress: Progress = options["progress"]
        for done in range(10_000):
            progress("compare", done, 10_000)
            time.sleep(0.01)
        raise Cancelled

    monkeypatch.setattr(compare_own, "compare", endless)
    app = page()
    app.multiselect(key="compare-own-methods-quick").set_value(["random", "magnitude"]).run()
    assert any("--methods random,magnitude" in block.value for block in app.code)
    assert "Run the comparison (about " in app.button(key="compare-own-start").label
    app.button(key="compare-own-start").click().run()
    cancel = next(button for button in app.button if str(button.key).startswith("cancel-compare-"))
    cancel.click().run()
    settle(app, lambda: has_button(app, "compare-own-again"))
    assert "Results so far are kept" in app.info[1].value
    app.button(key="compare-own-again").click().run()
    assert has_button(app, "compare-own-start")


def measured(app: AppTest, button: str) -> AppTest:
    """Press a button and wait for what it measures: the worker may be busy with what tests before asked of it."""
    app.button(key=button).click().run()
    explorer = explorer_of(app)
    board = replace(explorer.board_state("none"), mask=HeadMask.full(explorer.card.layers, explorer.card.heads))
    job = explorer.work.job(kind_of(STABILITY, StabilityOptions("seed")), board)
    assert job is not None
    assert job.wait(PATIENCE)
    return rerun(app)


def test_the_page_of_stability_measures_seeds_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(bench: Bench, options: StabilityOptions) -> Stability:
        return Stability(options.vary, bench.card.layers, bench.card.heads, (42, 43), (4, 4), ((0, 1, 2, 3),) * 2)

    app = open_app("stability")
    app.selectbox(key="stability-option-vary").set_value("seed").run()
    refused = SpaceError("12 texts are too few to draw samples; use at least 20")
    monkeypatch.setattr(measuring, "measure_stability", Mock(side_effect=refused))
    measured(app, "stability-tab")
    assert "too few to draw samples" in text_of(app, "error")
    monkeypatch.setattr(measuring, "measure_stability", quick)
    measured(app, "stability-tab-again")
    assert "Stable, another seed keeps nearly the same heads: two choices overlap by 1.00" in text_of(app, "markdown")
    assert "4 of 72 heads are in every choice" in text_of(app, "caption")
