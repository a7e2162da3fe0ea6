"""What tasks say of their items, and a second task of tokens, written here in the places that contributing.md names."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM

import cahp
from cahp.data import Dataset
from cahp.models.cards import ModelCard
from cahp.run import texts as making
from cahp.run.settings import Settings
from cahp.tasks import CLASSIFICATION, NEXT_TOKEN, TASKS, Task
from cahp.tasks.answers import NO_LABEL, Source, Window
from cahp.tasks.task import NextToken
from cahp.tasks.texts import Texts

#: So many tokens of a window have one mask.
EVERY = 7
CUT_WINDOWS = making._cut_windows


@dataclass(frozen=True, eq=False)
class MaskedWindow(Window):
    """A window some of whose tokens are read as ``mask``, and predicted at their own places."""

    mask: int = 0

    @property
    def places(self) -> NDArray[np.int64]:
        return np.arange(len(self.ids) - self.scored, len(self.ids))

    @property
    def inputs(self) -> NDArray[np.int64]:
        ids = self.ids.copy()
        ids[self.places[::EVERY]] = self.mask
        return ids


class MaskedToken(NextToken):
    name = "masked token"
    words = replace(NextToken.words, answer="masked token", answers="masked words")
    head = "masked"
    ahead = 0


MASKED_TOKEN = MaskedToken()


def choose_task(card: ModelCard) -> Task:
    if card.language == "masked" and not card.labels:
        return MASKED_TOKEN
    return CLASSIFICATION


def mask_windows(raw: Dataset, settings: Settings, card: ModelCard) -> Dataset:
    cut = CUT_WINDOWS(raw, settings, card)
    mask = fakes.AutoTokenizer.from_pretrained(card.folder).mask_token_id
    splits = {}
    for name, texts in cut.splits.items():
        windows = [window for window in texts.windows if not window.copying]
        masked = tuple(MaskedWindow(one.text, one.ids, one.units, one.sizes, mask=mask) for one in windows)
        splits[name] = Texts(masked, None, np.full(len(masked), -1, dtype=np.int64), making.ALL, MASKED_TOKEN)
    return replace(cut, splits=splits)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(TASKS, MASKED_TOKEN.name, MASKED_TOKEN)
    monkeypatch.setattr(ModelCard, "task", property(choose_task))
    monkeypatch.setattr(making, "_cut_windows", mask_windows)
    fakes.save_language_model(tmp_path / "model", "masked")
    for split, seed in (("train", 3), ("validation", 4)):
        lines = [str(text).replace(",", "") for text in fakes.sentences(120, seed=seed).first]
        (tmp_path / f"{split}.csv").write_text("\n".join(["text", *lines]))
    return tmp_path


def test_a_task_written_for_this_test_chooses_refits_and_measures(folder: Path) -> None:
    options: dict[str, Any] = {"tokens": 512, "eval_tokens": 256, "window": 32, "mix": "0", "latency": False}
    run = cahp.prune(model=str(folder / "model"), data=str(folder), budget="4", recover="refit", **options)
    assert run.mask.count == 4
    outcomes = run.document.outcomes
    assert outcomes["full"]["kl"].value == pytest.approx(0, abs=1e-6)
    assert outcomes["pruned"]["kl"].value > 0.01
    assert outcomes["recovered"]["kl"].value < outcomes["pruned"]["kl"].value
    assert outcomes["full"]["nll"].value == pytest.approx(read_alone(folder / "model", run.bench.evaluation), abs=1e-5)


def read_alone(model: Path, texts: Texts) -> float:
    """The mean loss of the scored tokens of windows, in transformers alone."""
    network = AutoModelForMaskedLM.from_pretrained(model)
    losses = []
    for window in texts.windows:
        assert isinstance(window, MaskedWindow)
        with torch.no_grad():
            logits = network(input_ids=torch.tensor(window.inputs)[None]).logits[0]
        scored = window.places
        losses.append(-logits.log_softmax(-1)[scored, window.ids[scored]].double())
    return float(torch.cat(losses).mean())


def window(tokens: int, document: int = 0, *, source: Source = "text") -> Window:
    """A window of so many tokens of a document, of which all but the first are scored."""
    scored = tokens - 1
    return Window("some words", np.arange(tokens), np.full(scored, document), np.ones(scored), source)


def windows(*items: Window) -> Texts:
    return Texts(items, None, np.full(len(items), NO_LABEL, dtype=np.int64), ("all texts",), NEXT_TOKEN)


def test_items_halves_and_labels_are_those_of_the_task() -> None:
    texts = windows(window(5), window(5, 1), window(9, source="random"))
    assert texts.text_rows == [0, 1]
    assert (texts.count, texts.measured) == (2, "2 windows of tokens")
    # Halves have no document in common, and the same share of classes.
    first, last = NEXT_TOKEN.halve(windows(window(3), window(3, 1), window(3, 2), window(3, 3)))
    assert (first.tolist(), last.tolist()) == ([0, 1], [2, 3])
    labelled = Texts(("a", "b", "c", "d"), None, np.array([0, 0, 1, 1]), ("bad", "good"))
    assert [half.tolist() for half in CLASSIFICATION.halve(labelled)] == [[0, 2], [1, 3]]
    # Labels that are missing are predicted, or all the same.
    predicted = np.array([1, 0])
    assert CLASSIFICATION.label(fakes.sentences(2), lambda: predicted) is predicted
    assert NEXT_TOKEN.label(windows(window(3), window(3)), lambda: pytest.fail("predicted")).tolist() == [0, 0]
    # Intervals are over windows where documents are few.
    few = windows(*(window(3, number % 7) for number in range(12)), window(3, 7, source="random"))
    many = windows(*(window(3, number % 8) for number in range(12)))
    scores = np.zeros((13, 2, 3), dtype=np.float32)
    counted = [len(np.unique(texts.task.read_answers(scores[: len(texts)], texts).units)) for texts in (few, many)]
    assert [(few.units, counted[0]), (many.units, counted[1])] == [("windows", 12), ("documents", 8)]
