"""Models that cannot be refitted, or whose curve has no knee, are run and shown as others are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from apps import done, has_button, open_app, text_of

from cahp.recoveries import QUICK
from cahp.run import prune
from cahp.run.settings import Settings
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import RUN
from cahp.values import KneeNotFoundError

pytestmark = pytest.mark.usefixtures("one_thread")

Open = Callable[[Settings], Explorer]


@pytest.fixture
def explore() -> Iterator[Open]:
    """Opens settings as the pages do, which ask every run for a refit."""
    opened = []

    def explore(settings: Settings) -> Explorer:
        made = Explorer("visitor", Source.open(replace(settings, recover=QUICK.name)))
        opened.append(made)
        return made

    yield explore
    for explorer in opened:
        explorer.close()


def task(place: Path, family: str, **shape: int) -> Settings:
    return fakes.quick(fakes.save_model(place / "model", family, **shape), fakes.write_data(place / "data"))


def run(explorer: Explorer) -> None:
    done(explorer.work.start(RUN, explorer.bench))
    assert explorer.collect() is None
    assert explorer.results.run is not None


# --- no refit


def test_a_model_without_a_refit_is_run_as_pruned_and_the_reason_is_shown(explore: Open, tmp_path: Path) -> None:
    explorer = explore(task(tmp_path, "albert"))
    assert explorer.settings.recover == "none"
    # A page that is opened again sets what it finds in the address.
    explorer.change(min_per_layer=1)
    explorer.change(min_per_layer=2)
    assert explorer.settings.recover == "none"
    explorer.change(min_per_layer=1)
    run(explorer)
    assert explorer.outcomes() is not None
    assert explorer.recoveries == ["none", "distill"]
    assert text_of(open_app("home", explorer), "title").startswith(f"{explorer.mask.count} of 8 heads ")
    app = open_app("budget", explorer)
    assert app.segmented_control(key="board-recover").options == ["as pruned", "distil"]
    assert "A refit is not available: " in text_of(app, "caption")
    assert "uses each layer in many passes" in text_of(app, "caption")
    assert not has_button(app, "run-sidebar")


# --- no knee


def test_a_model_without_a_knee_opens_at_half_of_its_heads(explore: Open, tmp_path: Path) -> None:
    settings = task(tmp_path, "bert", num_hidden_layers=1, num_attention_heads=3, hidden_size=24)
    explorer = explore(settings)
    # The command asks for a number, as there is a person to give one.
    with pytest.raises(KneeNotFoundError, match="give --budget a number"):
        prune.choose(explorer.bench)
    run(explorer)
    assert explorer.mask.count == 2
    assert explorer.outcomes() is not None
    assert explorer.board.origin == "no clear choice"
    assert not explorer.awaits_run
    assert text_of(open_app("home", explorer), "title").startswith("2 of 3 heads ")
    app = open_app("budget", explorer)
    assert not has_button(app, "run-sidebar")
    # It is there again in another session, without a run.
    again = explore(settings)
    assert again.results.run is not None
    assert again.mask.sha256 == explorer.mask.sha256
    again.change(even=True)
    assert again.awaits_run


def test_a_run_of_half_of_the_heads_is_not_shown_where_there_is_a_knee(explore: Open, tmp_path: Path) -> None:
    settings = task(tmp_path, "bert")
    run(explore(replace(settings, budget="6")))
    assert explore(settings).results.run is None
