"""The card of a head of a person's own model, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep

import fakes
import pytest
from apps import done, explorer_with_run, open_app, rerun, text_of

from cahp.features.head_cards.panel import EXAMPLES, REMOVAL
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import REPLACEABILITY
from cahp.values import Progress

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    with explorer_with_run("cards", fakes.quick_task(tmp_path_factory.mktemp("cards"), budget="6")) as made:
        yield made


def wait(progress: Progress) -> None:
    while True:
        progress("evaluation", 0, 1)
        sleep(0.01)


def test_a_link_opens_the_card_and_its_removal_is_measured_when_a_person_asks(explorer: Explorer) -> None:
    app = open_app("home", explorer, head="1.2")
    assert explorer.card_head == 6
    assert explorer.work.job(REMOVAL) is None
    done(explorer.work.job(EXAMPLES))
    # My text shows this head, and its address opens no card there.
    (way,) = (one.proto for one in app.get("page_link") if "on my text" in one.proto.label)
    assert "shown=1.2" in way.query_string
    assert "head=" not in way.query_string
    app.button(key="one-head-removal").click().run()
    assert "accuracy_change" in done(explorer.work.job(REMOVAL))
    rerun(app)
    assert "of predictions change" in text_of(app, "markdown")
    kept = bool(explorer.mask.keep.flat[6])
    app.button(key="one-head-toggle").click().run()
    assert bool(explorer.mask.keep.flat[6]) is not kept
    assert app.query_params["head"] == "1.2"
    # The Back button takes the field away, and the card with it.
    app.query_params.pop("head")
    rerun(app)
    assert explorer.card_head is None


def test_what_kept_heads_can_replace_is_followed_on_the_card(explorer: Explorer) -> None:
    app = open_app("budget", explorer, head="1.2")
    hold = jobs.submit("another person", "hold", wait, rank=jobs.Rank.QUICK)
    try:
        app.button(key="replaceability").click()
        rerun(app)
        job = explorer.work.job(REPLACEABILITY)
        assert job is not None
        assert "cancel-replaceability" in {one.key for one in app.button}
    finally:
        hold.cancel()
