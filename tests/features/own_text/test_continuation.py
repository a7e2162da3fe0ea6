"""Continuations: where models first differ, and passes that leave nothing behind between two tokens."""

from pathlib import Path

import fakes
import torch

from cahp import models
from cahp.features.own_text.measuring import continue_text, read_text
from cahp.features.own_text.overview import continuation_html
from cahp.features.own_text.section import CONTINUATION
from cahp.models.caching import continue_greedily
from cahp.models.head_model import HeadModel
from cahp.models.tokenizing import start_id
from cahp.run.bench import open_bench
from cahp.run.measures import NoOptions
from cahp.store import Store
from cahp.values import HeadMask


def slow(model: HeadModel, ids: list[int], count: int, gates: torch.Tensor | None) -> list[int]:
    """Every token from a pass over the whole text, without a cache."""
    written = list[int]()
    for _ in range(count):
        written += continue_greedily(model, [*ids, *written], 1, gates=gates)
    return written


def begun(model: HeadModel, text: str) -> list[int]:
    """The tokens of a text after the token before a first one, as its windows are read."""
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    start = start_id(model.tokenizer)
    assert start is not None
    return [start, *ids]


def test_a_text_is_continued_as_a_run_continues_its_prompt(tmp_path: Path) -> None:
    model = fakes.save_language_model(tmp_path / "model", "causal", "gpt2")
    settings = fakes.quick(model, fakes.write_data(tmp_path / "data"), window=16, tokens=480, eval_tokens=96)
    bench = open_bench(settings, store=Store(tmp_path / "store"))
    text = "the film was very good"
    full = HeadMask.full(bench.card.layers, bench.card.heads)
    assert list(continue_text(bench.model, text, full, count=6)) == bench.measurements.continue_text(text, 6)
    assert read_text(bench.model, text, full).answer == bench.measurements.continue_text(text, 1)[0]


def test_two_continuations_at_once_keep_their_own_heads(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", "causal", "llama")), device="cpu")
    full, few = HeadMask.full(model.layers, model.heads), HeadMask.of([0, 5, 9], model.layers, model.heads)
    text = "the film was very good"
    both = zip(continue_text(model, text, full, count=6), continue_text(model, text, few, count=6), strict=True)
    made = [list(one) for one in zip(*both, strict=True)]
    assert made == [slow(model, begun(model, text), 6, gates) for gates in (None, model.gates(few.keep))]
    assert made[0] != made[1]


def test_of_a_text_as_long_as_the_model_takes_the_end_is_continued(tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", "causal", "gpt2")), device="cpu")
    full = HeadMask.full(model.layers, model.heads)
    text = "the " + "good film " * model.max_length
    ids = begun(model, text)[: model.max_length]
    room = model.longest_context - 20
    assert len(ids) > room
    # The first token stays, and leaves room for what is written.
    read = [ids[0], *ids[1 - room :]]
    assert len(read) == room
    assert list(continue_text(model, text, full)) == slow(model, read, 20, None)


def test_a_run_of_a_model_that_reads_little_continues_the_end_of_the_prompt(tmp_path: Path) -> None:
    model = fakes.save_language_model(tmp_path / "model", "causal", "gpt2", max_position_embeddings=36)
    settings = fakes.quick(model, fakes.write_data(tmp_path / "data"), window=16, tokens=480, eval_tokens=96)
    bench = open_bench(settings, store=Store(tmp_path / "store"))
    found = CONTINUATION.run(bench, HeadMask.full(bench.card.layers, bench.card.heads), None, NoOptions())
    assert bench.card.longest_context == 36
    assert len(found.full) == 20
    # The copied tokens are read, too.
    assert bench.full.copying[0].size > 0


def test_a_continuation_underlines_what_differs_and_is_never_markup() -> None:
    html = continuation_html("Say <b>: rates would", (" rise", " by", " <i>half", " now"), (" rise", " by", " now"))
    assert "… : rates would" not in html
    assert "&lt;b&gt;: rates would</span> <span" in html
    assert '<u class="written" style="--at: 2">&lt;i&gt;half</u>' in html
    assert html.count("<u") == 1
    # One word is left out.
    assert "<u" not in continuation_html("Rates", (" rise", " now"), (" rise", " by", " now"))
    # A comma stands at the end of the prompt.
    assert ("</span><span" in continuation_html("One morning", (",", " a"), (",", " a"))) is True
