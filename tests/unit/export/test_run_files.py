import io
import json
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import documents
import fakes
import numpy as np
import pytest

from cahp.api.evaluate import evaluate
from cahp.board.budget_sweep import fill, table_of
from cahp.board.head_clusters import HeadClusters
from cahp.exports.live import live_of
from cahp.exports.report import recipe, run_report
from cahp.exports.run_folder import read_run, run_archive, write_run
from cahp.files import plain_json
from cahp.models.cards import Costs
from cahp.outcomes import to_metrics
from cahp.run.bench import Bench
from cahp.run.document import BY_HAND, RunDocument
from cahp.run.prune import Run, measure_mask, measure_run
from cahp.store import Store
from cahp.values import CahpError, Estimate, HeadMask

DOCUMENT = RunDocument.from_json(documents.run_json())
#: A run that nothing measured.
RUN = Run(DOCUMENT, DOCUMENT.mask, {"salience": np.arange(6.0), "labels": np.array([0, 0, 1, 1, 2, 2])})


@pytest.fixture(scope="session")
def run(bench: Bench) -> Run:
    return measure_run(replace(bench, settings=replace(bench.settings, latency=False)), "cahp prune")


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    write_run(tmp_path / "out", run)
    return tmp_path / "out"


def test_a_folder_tells_what_every_budget_keeps_and_what_the_run_measured(folder: Path, run: Run, bench: Bench) -> None:
    files = read_run(folder)
    assert files.document.mask.sha256 == run.mask.sha256
    live = live_of(files)
    there = HeadClusters.of(bench.evidence)
    for budget in live.table.budgets:
        theirs = table_of(run.document, there).selection(budget)
        assert live.table.selection(budget).mask.sha256 == theirs.mask.sha256
    assert live.table.full == {
        **run.document.outcomes["full"],
        "kl": Estimate(0.0, (0.0, 0.0), 30, "nats"),
        "agreement": Estimate(1.0, (1.0, 1.0), 30, "share"),
        "accuracy_change": Estimate(0.0, (0.0, 0.0), 30, "points"),
    }
    assert live.table.measured()[0] <= 2
    assert read_run(folder / "run.json").document == files.document


def test_a_swept_folder_tells_all_budgets_and_a_stale_table_nothing(run: Run, bench: Bench, tmp_path: Path) -> None:
    table = table_of(run.document, HeadClusters.of(bench.evidence))
    quick = replace(bench, settings=replace(bench.settings, latency=False))
    budget = table.budgets[-3]
    table.current_budget = budget
    steps = fill(table, quick)
    next(steps)
    steps.close()
    write_run(tmp_path, run, table=table)
    live = live_of(read_run(tmp_path))
    assert live.table.row(budget).outcomes == table.row(budget).outcomes is not None
    assert "of 67" not in run_report(read_run(tmp_path), day=date(2026, 1, 1))
    said = json.loads((tmp_path / "table.json").read_text())
    said["masks"][str(budget)] = "0" * 64
    (tmp_path / "table.json").write_text(json.dumps(said))
    stale = live_of(read_run(tmp_path))
    assert stale.table.row(budget).outcomes is None
    said["rows"] = 7
    (tmp_path / "table.json").write_text(json.dumps(said))
    with pytest.raises(CahpError, match=r"table\.json is broken"):
        live_of(read_run(tmp_path))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("labels", np.full(6, 10**15)),
        ("labels", np.zeros(6)),
        ("ks", np.array([3, 2])),
        ("distances", np.zeros((7, 7), np.float32)),
        ("salience", np.full(6, np.nan)),
        ("labels_of_k", np.array([[{}]], dtype=object)),
    ],
)
def test_arrays_that_no_run_has_are_refused(folder: Path, name: str, array: np.ndarray) -> None:
    with np.load(folder / "arrays.npz") as arrays:
        there = dict(arrays)
    if name in ("labels", "salience"):
        array = np.resize(array, there[name].shape)
    np.savez(folder / "arrays.npz", **{**there, name: array})
    with pytest.raises(CahpError, match=r"arrays\.npz is broken"):
        read_run(folder)


def test_an_array_that_says_it_is_huge_takes_no_memory(folder: Path, tmp_path: Path) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, np.float32)) | {"shape": (10**6, 10**6)}
    with zipfile.ZipFile(folder / "arrays.npz", "w") as archive, archive.open("distances.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(CahpError, match="broken"):
        read_run(folder)
    # A missing run gives the command that makes one.
    with pytest.raises(CahpError, match="make one with `cahp prune --out"):
        read_run(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CahpError, match="no file of a run"):
        read_run(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "not a run of the schema"),
        ('{"schema": "cahp.run/1", "model": {"layers": 1000000000, "heads": 12}}', "impossible size"),
    ],
)
def test_a_run_json_that_is_none_is_refused_in_a_sentence(folder: Path, content: str, words: str) -> None:
    (folder / "run.json").write_text(content)
    with pytest.raises(CahpError, match=words):
        read_run(folder)


@pytest.mark.parametrize(
    "broken",
    [
        replace(RUN, arrays={"objects": np.array([object()])}),
        replace(RUN, document=replace(DOCUMENT, kept={"0": (0, 1), "1": (1,)})),
    ],
    ids=["objects", "other heads"],
)
def test_a_run_that_is_not_of_one_piece_is_refused_and_the_last_one_stays(tmp_path: Path, broken: Run) -> None:
    write_run(tmp_path, RUN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"were kept|Object arrays"):
        write_run(tmp_path, broken)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_mask_made_by_hand_gets_the_figures_that_evaluate_gives_it(bench: Bench, tmp_path: Path) -> None:
    def costs(_: object) -> Costs:
        return bench.measurements.costs(mask, length=8, **fakes.QUICK_COSTS)

    mask = HeadMask.of([0, 2, 5, 8, 9, 10, 11], 3, 4)
    run = measure_mask(bench, mask, command=recipe, costs=costs)
    archive = zipfile.ZipFile(io.BytesIO(run_archive(Run(run, mask, {"labels": np.zeros(12)}))))
    assert archive.testzip() is None
    assert set(archive.namelist()) == {f"cahp-run/{name}" for name in ("run.json", "head_mask.json", "arrays.npz")}
    archive.extractall(tmp_path)
    path = tmp_path / "cahp-run" / "head_mask.json"
    said = json.loads(path.read_text())
    assert said["method"] == BY_HAND
    found = evaluate(bench.settings, mask=path, store=Store(tmp_path / "another"))
    assert found["outcomes"]["pruned"] == run.outcomes["pruned"]
    assert said["metrics"]["pruned"] == plain_json(to_metrics(run.outcomes["pruned"]))
    assert recipe(run.settings).startswith("cahp evaluate --mask head_mask.json ")
    assert run.verified.mask_equals_surgery
