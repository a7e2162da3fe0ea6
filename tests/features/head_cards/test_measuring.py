"""The sentences of a card, and the removal of one head."""

from collections.abc import Iterator

import fakes
import numpy as np
import pytest
from apps import done, explorer_with_run, open_app, rerun, text_of

from cahp.features.head_cards.measuring import exceed_family, find_examples, measure_removal, stored_removals
from cahp.features.head_cards.panel import EXAMPLES, REMOVAL, list_facts
from cahp.run.bench import Bench
from cahp.ui.session.explorer import Explorer

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_head_is_compared_with_the_rest_of_its_family_or_else_with_all_others() -> None:
    to_second = np.array([[0.0, 1.0], [1.0, 0.0]])
    to_itself = np.eye(2)
    maps = np.stack([to_second, to_itself, to_itself])
    more = exceed_family(maps, np.array([0, 0, 1]))
    np.testing.assert_allclose(more[0], to_second)
    # What a word gives to itself is no difference.
    np.testing.assert_allclose(more[1], 0)
    np.testing.assert_allclose(exceed_family(maps, np.array([0, 1, 2]))[0], to_second)


def test_sentences_of_a_head_begin_with_large_shares_and_leave_other_words_out(small_bench: Bench) -> None:
    sentences = ("good film the plot", "good - film", "bad cast the song", "fine story the end", "dull scene a dark")
    examples = find_examples(small_bench.model, np.zeros(12, dtype=np.int64), sentences=sentences)
    assert len(examples) == 12
    for rows in examples:
        shares = [row.share for row in rows]
        assert len(rows) == 3
        assert shares == sorted(shares, reverse=True)
        assert 1 not in {row.text for row in rows}
    assert find_examples(small_bench.model, np.zeros(12, dtype=np.int64), sentences=("good - film",)) == ((),) * 12
    # Removals are stored with those of other heads.
    removals = {head: measure_removal(small_bench, head) for head in (5, 7)}
    assert stored_removals(small_bench) == removals


@pytest.fixture
def explorer(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    with explorer_with_run("cards", fakes.quick_task(tmp_path_factory.mktemp("cards"), budget="6")) as made:
        yield made


def test_a_link_opens_the_card_and_its_removal_is_measured_when_a_person_asks(explorer: Explorer) -> None:
    app = open_app("home", explorer, head="1.2")
    assert explorer.card_head == 6
    assert explorer.work.job(REMOVAL) is None
    # The same model may have been read by another test.
    if (reading := explorer.work.job(EXAMPLES)) is not None:
        done(reading)
    # My text shows this head, and its address opens no card there.
    (way,) = (one.proto for one in app.get("page_link") if "on my text" in one.proto.label)
    assert "shown=1.2" in way.query_string
    assert "head=" not in way.query_string
    app.button(key="one-head-removal").click().run()
    assert "accuracy_change" in done(explorer.work.job(REMOVAL))
    rerun(app)
    assert "of predictions change" in text_of(app, "markdown")
    assert list_facts(explorer)["removals"] == {"6": stored_removals(explorer.bench)[6]["agreement"]}
    kept = bool(explorer.mask.keep.flat[6])
    app.button(key="one-head-toggle").click().run()
    assert bool(explorer.mask.keep.flat[6]) is not kept
    assert app.query_params["head"] == "1.2"
    # The Back button takes the field away, and the card with it.
    app.query_params.pop("head")
    rerun(app)
    assert explorer.card_head is None
