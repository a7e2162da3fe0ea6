import re
from collections.abc import Iterator
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from apps import done, explorer_with_run

from cahp import models
from cahp.features.own_text import measuring as own_text
from cahp.features.own_text.measuring import AnswersOverBudgets, continue_text, over_budgets, read_maps, read_text
from cahp.features.own_text.on_board import CURVE, KnownText, TextOnBoard, measure
from cahp.features.own_text.overview import continuation_html
from cahp.features.own_text.section import CONTINUATION
from cahp.models.caching import continue_greedily
from cahp.models.head_model import HeadModel
from cahp.models.tokenizing import start_id
from cahp.run.bench import open_bench
from cahp.run.measures import NoOptions
from cahp.stages.similarity import Arc, attend, find_arcs, find_words
from cahp.store import Store
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import REFIT, RUN
from cahp.values import HeadMask, silent

pytestmark = pytest.mark.usefixtures("one_thread")


TEXT = "the film was great and very long"
FULL, MASK = HeadMask.full(3, 4), HeadMask.of([0, 3, 4, 9], 3, 4)


def test_a_text_is_answered_as_the_model_itself_answers_it(model: HeadModel) -> None:
    found = read_text(model, TEXT, FULL)
    with torch.no_grad():
        logits = model.network(**model.tokenizer(TEXT, return_tensors="pt")).logits[0]
    assert found.probabilities == pytest.approx(logits.double().softmax(-1).numpy(), abs=1e-6)
    assert found.answer == int(logits.argmax())
    # Every budget is answered as its mask alone is.
    masks = [HeadMask.of(range(count), 3, 4) for count in range(1, 13)]
    found = over_budgets(model, TEXT, masks)
    assert found.budgets == tuple(range(1, 13))
    for mask, row in zip(masks, found.probabilities, strict=True):
        assert row == pytest.approx(read_text(model, TEXT, mask).probabilities, abs=1e-5)


def test_of_a_long_text_some_budgets_and_both_ends_are_tried(model: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_text, "_TOKENS", 0)
    monkeypatch.setattr(own_text, "_FEWEST", 4)
    masks = [HeadMask.of(range(count), 3, 4) for count in range(1, 13)]
    assert over_budgets(model, TEXT, masks).budgets == (1, 5, 8, 12)


@pytest.mark.parametrize(("answers", "steady"), [([1, 0, 1, 1], 3), ([1, 1, 1, 1], 1), ([1, 1, 1, 0], None)])
def test_an_answer_is_steady_down_to_the_first_budget_that_changes_it(answers: list[int], steady: int | None) -> None:
    assert AnswersOverBudgets((1, 2, 3, 4), np.eye(2)[answers]).steady_down_to(1) == steady
    words = {70: "no", 7: "yes"}
    assert AnswersOverBudgets((1, 2, 3, 4), np.eye(2)[answers], words).steady_down_to(7) == steady


def test_sub_words_are_joined_and_punctuation_belongs_to_no_word() -> None:
    # [CLS] | un | believ | able | , | it | 's | [SEP], the last of two words cut off.
    spans = [(0, 0), (0, 2), (2, 8), (8, 12), (12, 13), (14, 16), (16, 18), (0, 0)]
    words, groups = find_words("Unbelievable, it's gone", spans)
    assert words == ["Unbelievable", "it's"]
    assert groups.tolist() == [-1, 0, 0, 0, -1, 1, 1, -1]
    # A script without spaces is read character by character.
    for text in ("नमस्ते दुनिया", "e\u0301te\u0301 a", "שָׁלוֹם עולם"):
        spans = [word.span() for word in re.finditer(r"\S+", text)]
        assert find_words(text, spans)[0] == text.split()
    words, groups = find_words("東京。", [(0, 1), (1, 2), (2, 3)])
    assert words == ["東", "京"]
    assert groups.tolist() == [0, 1, -1]


def test_words_of_a_model_have_the_attention_of_its_tokens(model: HeadModel) -> None:
    # A text without words has no maps.
    maps = read_maps(model, "!!!")
    assert (maps.words, maps.looks.shape, set(maps.arcs)) == ((), (12, 0), {()})
    maps = read_maps(model, "The film was, great")
    assert maps.words == ("The", "film", "was", "great")
    tokens = attend(model, "The film was, great").by_head
    # [CLS] the film was , great [SEP]: each word is one token.
    own = np.delete(np.delete(tokens, [0, 4, 6], axis=1), [0, 4, 6], axis=2)
    assert maps.arcs == tuple(find_arcs(head, most=2, least=0.16) for head in own)
    assert maps.length == 4
    own[:, range(4), range(4)] = 0
    assert maps.looks[0].tolist() == (255 * own[0].max(axis=0)).round().astype(int).tolist()


def test_a_head_has_at_most_two_arcs_between_different_words_and_none_where_it_is_weak() -> None:
    first = [[0.9, 0.1, 0.0], [0.2, 0.1, 0.7], [0.5, 0.5, 0.0]]
    second = [[0.9, 0.16, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]]
    assert find_arcs(np.array(first), most=2, least=0.16) == (Arc(1, 2, 0.7), Arc(2, 0, 0.5))
    assert find_arcs(np.array(second), most=2, least=0.16) == ()


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    """An explorer that has made a run, with a mask made by hand on its board."""
    with explorer_with_run("reader", fakes.quick_task(tmp_path)) as made:
        made.board.set_mask(HeadMask.of([0, 2, 4, 8], made.card.layers, made.card.heads))
        yield made


def run(explorer: Explorer) -> None:
    done(explorer.work.start(RUN, explorer.bench))
    explorer.collect()


def asked(explorer: Explorer, memory: KnownText) -> TextOnBoard:
    return TextOnBoard(explorer.board_state(), memory)


def read(explorer: Explorer, memory: KnownText) -> TextOnBoard:
    made = asked(explorer, memory)
    list(measure(made, made.missing, silent))
    assert not made.missing
    if made.lacks_recovered:
        done(explorer.work.start(REFIT, made.board))
        list(measure(made, made.missing, silent))
        assert not made.lacks_recovered
    return made


def test_a_refitted_model_is_the_one_of_the_texts_on_screen(explorer: Explorer) -> None:
    explorer.chosen_recovery, memory = "refit", KnownText(explorer.card.sha256, TEXT)
    first = read(explorer, memory).read("recovered")
    explorer.change(limit=20)
    run(explorer)
    then = read(explorer, memory).read("recovered")
    anew = read(explorer, KnownText(explorer.card.sha256, TEXT)).read("recovered")
    assert not np.array_equal(first.probabilities, anew.probabilities)
    np.testing.assert_array_equal(then.probabilities, anew.probabilities)


def test_the_answers_over_all_budgets_follow_the_recovery_of_the_board(explorer: Explorer) -> None:
    explorer.chosen_recovery = "refit"
    explorer.board.set_budget(6)
    text = read(explorer, KnownText(explorer.card.sha256, TEXT))
    done(explorer.work.start(CURVE, text))
    curve = text.find_curve("quick")
    assert curve.budgets == tuple(mask.count for mask in text.masks if not mask.empty_layers)
    quick = own_text.read_recovered(explorer.bench, TEXT, explorer.mask, "quick-refit")
    np.testing.assert_allclose(curve.probabilities[curve.budgets.index(6)], quick, atol=1e-6)
    # As pruned, they are others.
    assert not np.allclose(quick, text.find_probabilities("pruned"), atol=1e-6)


@pytest.mark.parametrize("recover", ["refit", "distill"])
def test_only_what_depends_on_the_texts_that_changed_is_read_again(explorer: Explorer, recover: str) -> None:
    explorer.chosen_recovery, memory = recover, KnownText(explorer.card.sha256, TEXT)
    table = read(explorer, memory).table_name
    explorer.change(eval_limit=20)
    run(explorer)
    assert asked(explorer, memory).table_name == table
    assert not asked(explorer, memory).missing
    explorer.change(limit=20)
    run(explorer)
    again = asked(explorer, memory)
    assert again.read("full") is not None
    assert again.read("pruned") is not None
    # The recovered model and a quick one, and the budgets of another table.
    assert len(again.missing) == len(again.kept) + (again.table_name != table)


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
