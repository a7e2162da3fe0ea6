"""How often the test split was opened is counted, whoever else counts, forgets or is killed."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from cahp.data.dataset import RawSplit, assemble
from cahp.models.cards import ModelCard
from cahp.run.bench import open_bench
from cahp.run.resources import TestSplitLog as Log
from cahp.store import Store


def log(folder: Path) -> Log:
    shape = {"layers": 3, "heads": 4, "group": 1, "head_size": 8, "hidden": 32}
    card = ModelCard("tiny", None, "bert", labels=("bad", "good"), origin="a" * 64, folder="", **shape)
    return Log(card, assemble("reviews", {"test": RawSplit(fakes.sentences(10))}), Store(folder))


def open_often(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: log(folder).open("test"), range(20)))


@pytest.mark.nightly
def test_eighty_at_once_count_eighty(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=open_often, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * 4
    assert log(tmp_path).count == 4 * 20


def test_however_its_texts_are_cut_into_windows_it_is_one_test_split(tmp_path: Path) -> None:
    model = fakes.save_language_model(tmp_path / "model")
    settings = fakes.quick(model, fakes.write_data(tmp_path / "data"), window=16, tokens=480, eval_tokens=192)
    store = Store(tmp_path / "store")
    counts = []
    for changes in ({}, {"seed": 7}, {"window": 8}, {"eval_tokens": 96}):
        bench = open_bench(replace(settings, **changes), store=store)
        counts.append(Log(bench.card, bench.dataset, store).open("test"))
    assert counts == [1, 2, 3, 4]


def test_where_nothing_can_be_written_the_opening_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log(tmp_path).open("test")
    # A folder in its place: nobody can write there, root neither.
    name = tmp_path / "test-opened.txt"
    name.rename(tmp_path / "aside")
    name.mkdir()
    assert log(tmp_path).open("test") == 1
    (said,) = [record.getMessage() for record in caplog.records]
    assert "CAHP_CACHE" in said
    assert list(name.iterdir()) == []
