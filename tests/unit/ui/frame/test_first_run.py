"""A model that a person brings reaches a board from the pages alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from apps import done, explorer_of, has_button, open_app, open_dialog, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.api import bundled
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import RUN

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


def classifier(place: Path, family: str, **shape: int) -> Brought:
    return fakes.save_model(place / "model", family, **shape), fakes.write_data(place / "data")


def shared_layers(place: Path) -> Brought:
    return classifier(place, "albert")


def two_groups(place: Path) -> Brought:
    return classifier(place, "qwen2", num_attention_heads=4, num_key_value_heads=2)


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
    app = open_app("home", bring(*make(tmp_path)))
    assert all(check in text_of(app, "markdown") for check in checks)
    assert title in text_of(run(app), "title")
    assert not has_button(app, "run-main")


def test_an_error_stays_until_it_is_dismissed() -> None:
    app = open_app("home", budget="5000")
    for _ in range(2):
        assert "A budget of 5000 heads is impossible" in text_of(rerun(app), "error")
    app.button(key="dismiss-note").click().run()
    assert not app.error
