from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from cahp.run.bench import Bench
from cahp.ui.parts.inputs import has_words, load_examples, own_examples
from cahp.ui.session.opening import Source


@pytest.fixture
def reviews(tmp_path: Path) -> Bench:
    return Source.open(fakes.quick_task(tmp_path)).bench


def test_every_box_has_an_example_to_begin_with() -> None:
    assert all(example["text"].strip() and example["name"] for example in load_examples("single"))
    assert all(has_words((example["first"], example["second"])) for example in load_examples("pairs"))
    assert min(len(load_examples("single")), len(load_examples("pairs"))) >= 4


def test_examples_are_the_first_texts_of_the_loaded_data(reviews: Bench) -> None:
    examples = own_examples(reviews)
    assert [example["text"] for example in examples] == list(reviews.evaluation.first[:6])
    # The bundled texts fit the built-in data.
    assert own_examples(replace(reviews, dataset=replace(reviews.dataset, id="bbc-news"))) == []
