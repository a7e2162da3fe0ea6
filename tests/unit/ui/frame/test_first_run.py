"""A model that a person brings reaches a board from the pages alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from apps import done, explorer_of, explorer_with_run, has_button, open_app, open_dialog, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.api import bundled
from cahp.recoveries import QUICK
from cahp.run import prune
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN
from cahp.values import KneeNotFoundError

pytestmark = pytest.mark.usefixtures("one_thread")

Brought = tuple[Path, Path]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that the dialog opens take a second."""
    quick = replace(bundled.SETTINGS, pool_size=8, projection="pca", latency=False, device="cpu")
    monkeypatch.setattr(bundled, "SETTINGS", quick)


def write_lines(place: Path) -> Path:
    """Texts without labels."""
    place.write_text("\n\n".join(fakes.sentences(200).first), encoding="utf-8")
    return place


def shared_layers(place: Path) -> Brought:
    return fakes.save_model(place / "model", "albert"), fakes.write_data(place / "data")


def two_groups(place: Path) -> Brought:
    model = fakes.save_model(place / "model", "qwen2", num_attention_heads=4, num_key_value_heads=2)
    return model, fakes.write_data(place / "data")


def without_labels(place: Path) -> Brought:
    return fakes.save_model(place / "model"), write_lines(place / "plain.txt")


def language_model(place: Path) -> Brought:
    return fakes.save_language_model(place / "model"), write_lines(place / "plain.txt")


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
    ("make", "title", "checks"),
    [
        (shared_layers, "of 8 heads ", ("they match the 2 classes", "uses each layer in many passes")),
        (two_groups, "of 6 groups ", ("Masks: each group can be switched off", "Refit: possible")),
        (without_labels, "of 12 heads ", ("No labels: ", "Refit: possible")),
        (language_model, "of 12 heads ", ("labels are not read", "Refit: possible")),
    ],
)
def test_an_own_model_is_checked_and_reaches_a_board(
    tmp_path: Path, make: Callable[[Path], Brought], title: str, checks: tuple[str, ...]
) -> None:
    explorer = bring(*make(tmp_path))
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
