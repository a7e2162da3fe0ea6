"""A model that a person brings reaches a board from the pages alone; and where pages lie."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from apps import done, explorer_of, explorer_with_run, has_button, open_app, open_dialog, rerun, text_of
from streamlit.testing.v1 import AppTest

import cahp
from cahp import access, features
from cahp.access import Access
from cahp.api import bundled
from cahp.cli.explore import view_of
from cahp.exports.masks import mask_from_hex, mask_to_hex
from cahp.features import Feature
from cahp.recoveries import QUICK
from cahp.run import prune
from cahp.ui.budget import page as budget
from cahp.ui.frame import board
from cahp.ui.frame.address import Wish, describe, parse_head, read
from cahp.ui.frame.page import GROUPS, find_pages
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN
from cahp.values import CahpError, HeadMask, KneeNotFoundError, MaskError
from cahp.values.statistics import called

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that the dialog opens take a second."""
    quick = replace(bundled.SETTINGS, pool_size=8, projection="pca", latency=False, device="cpu")
    monkeypatch.setattr(bundled, "SETTINGS", quick)


def write_lines(folder: Path) -> Path:
    """Texts without labels."""
    folder.mkdir()
    (folder / "plain.txt").write_text("\n\n".join(fakes.sentences(200).first), encoding="utf-8")
    return folder / "plain.txt"


TWO_GROUPS = partial(fakes.save_model, family="qwen2", num_attention_heads=4, num_key_value_heads=2)
ONE_FOR_ALL = partial(fakes.save_model, family="albert")


def bring(model: Path, data: Path) -> Explorer:
    """Type both paths in the dialog and press its button."""
    app = open_dialog()
    other = {"Model": "A folder, a GGUF file or a Hugging Face id…", "Data": "A folder, a preset or hub data…"}
    for label, place in (("Model", model), ("Data", data)):
        (box,) = (box for box in app.selectbox if box.label == label)
        box.set_value(other[label])
        rerun(app).text_input(key=f"source-{label.lower()}-name").set_value(str(place))
        rerun(app)
    app.button(key="use-source").click().run()
    return explorer_of(rerun(app))


def run(app: AppTest) -> AppTest:
    """Press the button of the empty page and wait for its run."""
    app.button(key="run-main").click().run()
    done(explorer_of(app).work.job(RUN))
    return rerun(app)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("save", "write", "title", "checks"),
    [
        (ONE_FOR_ALL, fakes.write_data, "of 8 heads ", ("they match the 2 classes", "uses each layer in many passes")),
        (TWO_GROUPS, fakes.write_data, "of 6 groups ", ("Masks: each group can be switched off", "Refit: possible")),
        (fakes.save_model, write_lines, "of 12 heads ", ("No labels: ", "Refit: possible")),
        (fakes.save_language_model, write_lines, "of 12 heads ", ("labels are not read", "Refit: possible")),
    ],
)
def test_own_models_reach_a_board(tmp_path: Path, save: Any, write: Any, title: str, checks: tuple[str, ...]) -> None:
    explorer = bring(save(tmp_path / "model"), write(tmp_path / "data"))
    app = open_app("home", explorer)
    assert all(check in text_of(app, "markdown") for check in checks)
    assert title in text_of(run(app), "title")
    assert not has_button(app, "run-main")
    if explorer.card.family == "albert":
        assert (explorer.settings.recover, explorer.recoveries) == ("none", ["none", "distill"])
        # A page that is opened again sets what it finds in the address.
        explorer.change(min_per_layer=2)
        assert explorer.settings.recover == "none"
        explorer.change(min_per_layer=1)
        app = open_app("budget", explorer)
        assert app.segmented_control(key="board-recover").options == ["as pruned", "distil"]
        assert "A refit is not available: " in text_of(app, "caption")
        assert "uses each layer in many passes" in text_of(app, "caption")
        assert not has_button(app, "run-sidebar")


def test_a_run_that_the_explorer_was_started_with_is_there_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = fakes.save_model(tmp_path / "model"), fakes.write_data(tmp_path / "data")
    asked = replace(fakes.quick(model, data), method="random", budget="5", recover="refit", seed=7, max_length=20)
    run = cahp.prune(asked, progress=False)
    run.save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(access, "current", lambda: Access(start=view_of("run")))
    app = open_app("home")
    explorer = explorer_of(app)
    assert (explorer.mask.sha256, explorer.recovery.name) == (run.mask.sha256, "refit")
    assert explorer.bench.evaluation.sha256 == run.bench.evaluation.sha256
    # A reload of the page needs no consent either, and a link to something else does.
    again = explorer_of(open_app("home", **describe(explorer)))
    assert (again.settings, again.mask.sha256) == (explorer.settings, explorer.mask.sha256)
    assert "This link is for" in text_of(open_app("home", model=str(tmp_path)), "info")


def test_a_model_whose_curve_has_no_knee_opens_at_half_of_its_heads(tmp_path: Path) -> None:
    model = fakes.save_model(tmp_path / "model", num_hidden_layers=1, num_attention_heads=3, hidden_size=24)
    settings = replace(fakes.quick(model, fakes.write_data(tmp_path / "data")), recover=QUICK.name)
    # The command asks for a number, as there is a person to give one.
    with pytest.raises(KneeNotFoundError, match="give --budget a number"):
        prune.choose(Source.open(settings).bench)
    with explorer_with_run("visitor", settings) as explorer:
        assert explorer.mask.count == 2
        assert explorer.outcomes() is not None
        assert explorer.board.origin == "no clear choice"
        assert not explorer.awaits_run
        assert text_of(open_app("home", explorer), "title").startswith("2 of 3 heads ")
        assert not has_button(open_app("budget", explorer), "run-sidebar")
        # It is there again in another session, without a run.
        again = Explorer("another", Source.open(settings))
        assert again.mask.sha256 == explorer.mask.sha256
        again.change(even=True)
        assert again.awaits_run


def test_a_run_of_half_of_the_heads_is_not_shown_where_there_is_a_knee(tmp_path: Path) -> None:
    settings = fakes.quick_task(tmp_path, recover=QUICK.name)
    with explorer_with_run("visitor", replace(settings, budget="6")):
        assert Explorer("another", Source.open(settings)).results.run is None


def test_an_error_stays_until_it_is_dismissed() -> None:
    app = open_app("home", budget="5000")
    for _ in range(2):
        assert "A budget of 5000 heads is impossible" in text_of(rerun(app), "error")
    app.button(key="dismiss-note").click().run()
    assert not app.error


ROOT = Path(__file__).parents[4]
SOURCES = [*ROOT.glob("*.*"), *(path for room in ("cahp", "pages", "tests") for path in (ROOT / room).rglob("*.*"))]


def test_the_sidebar_leads_to_every_page_and_no_other_file_says_where_it_lies() -> None:
    labels = [label for _, group in GROUPS for label in group]
    assert sorted(labels) == sorted(find_pages(ROOT))
    names = [re.escape(Path(path).stem) for label, path in find_pages(ROOT).items() if label != "Home"]
    place = re.compile(rf"\b({'|'.join(names)})\b")
    texts = [path for path in SOURCES if path.suffix in {".py", ".js", ".css", ".toml", ".md"}]
    assert len(texts) > 100
    assert [str(path) for path in texts if place.search(path.read_text(encoding="utf-8"))] == []


def test_the_guide_is_shown_page_by_page_and_nothing_beside_it() -> None:
    app = open_app("guide", page="do/export.md")
    shown = text_of(app, "markdown")
    assert "# Export\n" in shown
    assert "](Guide?page=results/performance.md#logits-in-llamacpp)" in shown
    assert "](../" not in shown
    assert "<!--" not in shown
    app.selectbox[0].set_value("learn/the-lesson.md").run()
    assert "# Teach a lesson" in text_of(app, "markdown")
    assert "<picture>" not in text_of(app, "markdown")
    for outside in ("../../pyproject.toml", "/etc/hostname", "nothing.md"):
        assert "# Guide\n" in text_of(open_app("guide", page=outside), "markdown")


def test_a_part_that_cannot_be_imported_is_named_and_takes_no_page_down(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = ("Board", "Budget", "Similarity", "Card", "Every page")
    missing = ("neutral.missing:TAB",)
    panels = dict.fromkeys(pages, "neutral.missing:TAB")
    broken = Feature("word_order", panels=panels, experiments=missing, colourings=missing, first_texts=missing)
    monkeypatch.setattr(features, "FEATURES", (*features.FEATURES, broken))
    monkeypatch.setattr(board, "list_colourings", board.list_colourings.__wrapped__)
    words = "Word order cannot be shown: ModuleNotFoundError: No module named 'cahp.features.neutral.missing'."
    for page in ("home", "similarity", "budget", "compare", "export"):
        app = open_app(page)
        assert words in text_of(app, "error").replace("\\", "")
    assert "Word order" in [panel.label for panel in budget.list_panels()]


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ({}, {}),
        ({"even": "True"}, {"even": True}),
        ({"even": "False"}, {}),
        ({"limit": "500", "projection": "pca"}, {"limit": 500, "projection": "pca"}),
        ({"unheard_of": "1"}, {}),
    ],
    ids=str,
)
def test_a_link_says_what_differs_from_the_default(query: dict[str, str], changed: dict[str, Any]) -> None:
    assert read(query) == (replace(bundled.SETTINGS, **changed), None)


def test_a_link_to_what_is_built_in_opens_it_and_any_other_waits_for_a_persons_yes() -> None:
    default = bundled.SETTINGS.model
    assert read({"model": default, "data": "bbc-news"}) == (bundled.SETTINGS, None)
    assert read({"model": "org/else"}) == (bundled.SETTINGS, Wish({"model": "org/else"}))
    assert read({"data": "/etc"}) == (bundled.SETTINGS, Wish({"model": default, "data": "/etc"}))


def test_a_link_says_how_its_data_are_read_and_waits_with_its_view() -> None:
    said = {
        "data": "/mine",
        "text_column": "question",
        "label_column": "kind",
        "splits": "a.csv=train,b.csv=validation",
        "label_map": '"yes, really=pos",no=neg',
        "budget": "30",
        "recover": "refit",
    }
    settings, wish = read(said)
    assert settings == bundled.SETTINGS
    assert (wish.settings.text_column, wish.settings.pair_column) == ("question", None)
    assert wish.settings.splits == {"a.csv": "train", "b.csv": "validation"}
    assert wish.settings.label_map == {"yes, really": "pos", "no": "neg"}
    assert wish.board == {"budget": "30", "recover": "refit"}
    _, files = read({"files": "0a1b2c3d", "text_column": "question"})
    assert files == Wish({"model": bundled.SETTINGS.model, "text_column": "question"}, "0a1b2c3d")


@pytest.mark.parametrize(
    "said",
    [{"limit": "many"}, {"limit": "1"}, {"projection": "magic"}, {"poly_degree": "-1"}, {"min_per_layer": "9" * 40}],
    ids=str,
)
def test_what_has_no_sense_in_a_link_is_refused_in_a_sentence(said: dict[str, str]) -> None:
    with pytest.raises(CahpError, match=r"number|range|unknown"):
        read(said)


@pytest.mark.parametrize("shape", [(6, 12), (1, 1), (3, 3), (32, 32)])
def test_a_mask_survives_its_address(shape: tuple[int, int]) -> None:
    keep = np.random.default_rng(0).random(shape) < 0.5
    assert (mask_from_hex(mask_to_hex(HeadMask(keep)), *shape).keep == keep).all()


@pytest.mark.parametrize("text", ["", "zz", "ff", "ff" * 3, "-1", "01ff"])
def test_an_address_of_another_mask_is_refused(text: str) -> None:
    with pytest.raises(MaskError, match="does not fit this model"):
        mask_from_hex(text, 3, 3)


@pytest.mark.parametrize(("text", "head"), [("3.7", 43), ("0.0", 0), ("5.11", 71), ("17", 17)])
def test_a_link_names_a_head_by_layer_and_place_or_by_its_index(text: str, head: int) -> None:
    assert parse_head(text, 6, 12) == head


@pytest.mark.parametrize("text", ["6.0", "0.12", "72", "", ".", "1.2.3", "-1", "1e3", "٣", "1." + "9" * 9])
def test_what_is_no_head_is_none(text: str) -> None:
    assert parse_head(text, 6, 12) is None


def test_every_head_is_found_by_what_it_is_called() -> None:
    assert [parse_head(called(head, 12), 6, 12) for head in range(72)] == list(range(72))
