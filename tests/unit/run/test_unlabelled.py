"""Text without labels: the full model's predictions serve as classes, and no outcome needs a label."""

import json
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from cahp import methods
from cahp.files import json_text
from cahp.outcomes import OUTCOMES
from cahp.run.bench import open_bench
from cahp.run.document import RunDocument
from cahp.run.prune import choose, measure_run
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError

NEEDS_MORE = {name for name, row in OUTCOMES.items() if row.needs}
TEXTS = fakes.sentences(160, seed=3)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A run on a text file of one document per line."""
    place = tmp_path_factory.mktemp("tiny")
    (place / "notes.txt").write_text("\n".join(TEXTS.first), encoding="utf-8")
    return fakes.quick(fakes.save_model(place / "model"), place / "notes.txt", documents="line", budget="5")


def test_a_run_measures_what_needs_no_label_and_says_so(settings: Settings, store: Store) -> None:
    run = measure_run(open_bench(replace(settings, recover="refit"), store=store))
    for outcomes in run.document.outcomes.values():
        assert outcomes.keys() == OUTCOMES.keys() - NEEDS_MORE
    written = json.loads(json_text(run.document.to_json()))
    assert written["data"]["labelled"] is False
    assert written["data"]["select"]["class_counts"] is None
    assert [written["metrics"]["pruned"][name] for name in ("accuracy", "macro_f1", "loss", "ci95")] == [None] * 4
    assert written["metrics"]["pruned"]["n"] == written["data"]["eval"]["examples"] > 0
    assert written["delta"] == {"pruned": None, "recovered": None}
    assert written["refit"]["kl_after"] < written["refit"]["kl_before"]
    assert RunDocument.from_json(written) == run.document
    assert any("no labels" in notice for notice in run.document.notices)


@pytest.mark.parametrize(
    ("name", "recover"), [("magnitude", "refit"), ("confidence", "mean"), ("random-even", "refit")]
)
def test_poisoned_labels_change_nothing(settings: Settings, tmp_path: Path, name: str, recover: str) -> None:
    """The texts are more than ``--limit``, so that the sample could depend on labels too."""
    path, rows = tmp_path / "poisoned.jsonl", []
    # All of one class come first, as in a file sorted by label.
    for number, text in enumerate(TEXTS.first):
        rows.append(json.dumps({"text": text, "label": "good" if number < 130 else "bad"}))
    path.write_text("\n".join(rows), encoding="utf-8")
    ours = replace(settings, data=str(path), method=name, recover=recover, limit=60)
    found = []
    for number, label_column in enumerate(("(none)", None)):
        bench = open_bench(replace(ours, label_column=label_column), store=Store(tmp_path / str(number)))
        assert bench.dataset.labelled == (label_column is None)
        found.append((choose(bench).mask, bench.recoveries.refit(choose(bench).mask, recover)))
    (mask, repaired), (poisoned_mask, poisoned) = found
    assert mask.sha256 == poisoned_mask.sha256
    assert repaired.report == poisoned.report
    assert repaired.sha256 == poisoned.sha256


def test_methods_and_recoveries_that_need_labels_are_refused_by_name(settings: Settings, store: Store) -> None:
    assert methods.facts("fisher").labels != "needed"
    asked = {
        "dsp": {"method": "dsp"},
        "ablation": {"method": "ablation"},
        "finetune": {"recover": "finetune"},
        "--labels": {"recover": "distill", "labels": True},
    }
    for word, changes in asked.items():
        with pytest.raises(OptionError, match=f"{word} needs labels"):
            open_bench(replace(settings, **changes), store=store)
    with pytest.raises(OptionError, match="--label-map"):
        open_bench(replace(settings, label_map={"a": "good"}), store=store)
