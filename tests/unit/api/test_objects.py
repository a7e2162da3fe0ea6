"""Models, tables and texts in memory: what they give is what the same files give."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import cahp
from cahp.data.sources import keep_object, load
from cahp.store import Store
from cahp.values import DataError, ModelError

QUICK: dict[str, Any] = {"pool_size": 8, "projection": "pca", "latency": False, "device": "cpu", "budget": 5}


@pytest.fixture
def frames(data: Path) -> dict[str, pd.DataFrame]:
    return {file.stem: pd.read_json(file, lines=True) for file in data.glob("*.jsonl")}


def test_a_network_and_tables_give_the_run_of_the_same_files(
    model: Path, data: Path, frames: dict[str, pd.DataFrame], store: Store
) -> None:
    expected = cahp.prune(model, data, store=store, **QUICK)
    network = AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    run = cahp.prune(network, frames, tokenizer=tokenizer, store=store, **QUICK)
    assert np.array_equal(run.mask.keep, expected.mask.keep)
    assert run.outcomes == expected.outcomes
    measured = cahp.evaluate(
        run, datasets.DatasetDict({"validation": datasets.Dataset.from_pandas(frames["validation"])})
    )
    assert measured["metrics"]["pruned"] == cahp.evaluate(expected)["metrics"]["pruned"]


def test_one_table_is_divided_and_a_list_has_no_labels(
    model: Path, frames: dict[str, pd.DataFrame], store: Store
) -> None:
    divided = cahp.evaluate(model, frames["train"], store=store, device="cpu")
    assert "the texts were split 70/15/15" in " ".join(divided["notices"])
    unlabelled = cahp.evaluate(model, frames["train"]["text"].tolist(), store=store, device="cpu")
    assert "has no labels" in " ".join(unlabelled["notices"])
    assert unlabelled["data"]["examples"] == divided["data"]["examples"]


def test_names_of_classes_come_with_a_data_set() -> None:
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"] * 20, "label": [0, 1, 1] * 20})
    made = made.cast_column("label", datasets.ClassLabel(names=["bad", "good"]))
    assert load(str(keep_object(made))).classes == ("bad", "good")


def test_what_is_no_model_and_no_text_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="belongs to a model of transformers, not to str"):
        cahp.load(str(model), tokenizer=AutoTokenizer.from_pretrained(model))
    with pytest.raises(DataError, match="a table or a list of texts, not numpy"):
        keep_object(np.zeros(3))
