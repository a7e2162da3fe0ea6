"""How a prompt is read by a tokenizer: what is truncated, which token an answer is, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import cahp
from cahp.features.attribution.measuring import Baseline, TextQuestion
from cahp.models.cards import Prompt
from cahp.models.tokenizing import PromptReader, start_id, tokenize_own
from cahp.stages.similarity import attend
from cahp.values import DataError, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread")

_SAID = [
    "a very good film it was great",
    "it was terrible and very bad",
    "it was okay",
    'they said: "great"',
    "unbelievable",
]


def bytewise(**special: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer like GPT-2's, whose words begin with their blank; ``special`` tokens, and an end token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        _SAID * 9, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["</s>"])
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", model_max_length=64, **special)


def reader(template: str, *answers: str, tokenizer: Any = None) -> PromptReader:
    return PromptReader(tokenizer or bytewise(), Prompt(template, answers), "gpt-tiny")


@pytest.mark.parametrize(
    ("template", "answers", "why"),
    [
        ("It was", ("bad", "good"), "must hold {text} once"),
        ("{premise} It was", ("bad", "good"), "{premise} and {hypothesis} for pairs"),
        ("{text} {text}", ("bad", "good"), "must hold {text} once"),
        ("{text} {mask} {mask}", ("bad", "good"), "{mask} at most once"),
        ("{text} It was", ("good",), "different answers"),
        ("{text} It was", ("good", "good "), "different answers"),
        ("{text} It was", ("good", " "), "different answers"),
        ("{text}" + "x" * 20_001, ("bad", "good"), "20,000 characters"),
        # Half a prompt.
        ("{text} It was", (), "belong together"),
        (None, ("bad", "good"), "belong together"),
        ("{text} It was", "bad,good", "--answers cannot be 'bad,good'"),
    ],
)
def test_a_prompt_without_sense_is_refused(template: str | None, answers: Any, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        cahp.Settings(prompt=template, answers=answers)


@pytest.mark.parametrize("template", ["{text} it was", "{text} it was "])
def test_an_answer_is_the_token_that_goes_on_from_the_prompt(template: str) -> None:
    """With its blank, whether or not somebody wrote that blank at the prompt's end."""
    tokenizer, read = bytewise(), reader(template, "terrible", "great")
    assert tokenizer.convert_ids_to_tokens([one.token for one in read.answers]) == ["Ġterrible", "Ġgreat"]
    assert [one.shown for one in read.answers] == ["terrible", "great"]
    assert read.render("a film") == "a film it was"


def by_blanks() -> PreTrainedTokenizerFast:
    """A tokenizer for which a whole prompt is one word."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="[UNK]")


@pytest.mark.parametrize(
    ("template", "answers", "tokenizer", "why"),
    [
        ("{text} it was", ("very good", "very bad"), bytewise, r"begin with the same token \('very'\)"),
        ("{text} it was", ("great", "xylophonic"), bytewise, "does not know the answer 'xylophonic'"),
        ("{text} it was", ("great", "zebra"), fakes.tokenizer, "does not know the answer 'zebra'"),
        ('{text} "un"', ("great", "bad"), by_blanks, "joins the answer 'great' with the prompt"),
    ],
)
def test_unusable_answers(template: str, answers: tuple[str, ...], tokenizer: Callable[[], Any], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        reader(template, *answers, tokenizer=tokenizer())


def test_the_end_token_that_a_tokenizer_adds_is_not_asked_after() -> None:
    """A causal model would say there how another text begins; a special token in the prompt itself stays."""
    tokenizer = bytewise()
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A </s>", special_tokens=[("</s>", end)]
    )
    (entry,) = reader("{text} it was", "great", "bad", tokenizer=tokenizer).tokens(["okay"], 64)
    assert tokenizer.decode(entry["input_ids"]) == "</s>okay it was"
    assert set(map(len, entry.values())) == {len(entry["input_ids"])}
    (kept,) = reader("{text} it was</s>", "great", "bad", tokenizer=tokenizer).tokens(["okay"], 64)
    assert kept["input_ids"][-1] == end


def test_a_long_text_loses_its_end_and_the_prompt_nothing() -> None:
    read, tokenizer = reader("so: {text} it was", "great", "bad"), bytewise()
    text = "they said it was unbelievable " * 40
    for limit in (read.length, read.length + 1, 30, 64):
        (entry,) = read.tokens([text], limit)
        said = tokenizer.decode(entry["input_ids"])
        assert len(entry["input_ids"]) <= limit
        assert said.startswith("so: ")
        assert said.endswith(" it was")
        assert said.removeprefix("so: ").removesuffix(" it was") in text
    # No token that it could have had is lost.
    assert len(entry["input_ids"]) >= 63
    assert read.tokens(["okay"], 64) == read.tokens(["okay"], 12)
    # Of a pair the longer text gives first.
    read, tokenizer = reader("{premise} / {hypothesis} / it was", "great", "bad"), bytewise()
    (entry,) = read.tokens([("good " * 60, "it was okay")], 40)
    said = tokenizer.decode(entry["input_ids"])
    assert len(entry["input_ids"]) <= 40
    assert " / it was okay / it was" in said
    (both,) = read.tokens([("good " * 60, "bad " * 60)], 40)
    first, second, _ = tokenizer.decode(both["input_ids"]).split(" / ")
    assert abs(first.count("good") - second.count("bad")) <= 3
    assert second.count("bad") > 3


@pytest.mark.parametrize("language", ["causal", "masked"])
def test_the_head_of_a_vocabulary_sees_one_token_of_a_text(language: str, tmp_path: Path) -> None:
    """Scores of a whole vocabulary for every token would take more memory than the model."""
    folder = fakes.save_language_model(tmp_path, language)
    asked = cahp.load(str(folder), device="cpu", prompt=fakes.PROMPTS[language], answers=fakes.ANSWERS)
    seen: list[torch.Size] = []
    head = asked.network.get_output_embeddings()
    head.register_forward_hook(lambda _module, args, _out: seen.append(args[0].shape))
    (batch,) = asked.batches(asked.tokenize(fakes.sentences(12).inputs))
    asked.logits(batch)
    assert seen == [torch.Size([12, 1, asked.card.hidden])]
    assert asked.card.labels == fakes.ANSWERS


def save_masked(folder: Path) -> Path:
    return fakes.save_language_model(folder, "masked")


def save_without_mask(folder: Path) -> Path:
    fakes.tokenizer(type_ids=False).save_pretrained(save_masked(folder))
    return folder


CAUSAL = {"prompt": fakes.PROMPTS["causal"], "answers": fakes.ANSWERS}
MASKED = {"prompt": fakes.PROMPTS["masked"], "answers": fakes.ANSWERS}
LONG = {**CAUSAL, "prompt": "{text} " + "it was " * 30}
#: How a model is saved, what it is asked, and a part of the refusal.
UNASKABLE: dict[str, tuple[Callable[[Path], Path], dict[str, Any], str]] = {
    "no room for a text": (fakes.save_language_model, LONG, "the prompt alone takes 61 of the 64 tokens"),
    "a mask for a causal model": (fakes.save_language_model, MASKED, "is a causal language model"),
    "no mask": (save_masked, CAUSAL, "is a masked language model"),
    "an unknown answer": (save_masked, {**MASKED, "answers": ["great", "zebra"]}, "does not know the answer 'zebra'"),
    "no prompt": (save_masked, {}, r'a masked language model without a classification head; .* --prompt "{text}'),
    "no mask token": (save_without_mask, MASKED, "has no mask token to answer at"),
    "a classifier": (fakes.save_model, CAUSAL, "is no language model"),
    "no head": (fakes.save_encoder, CAUSAL, "is no language model"),
}


@pytest.mark.parametrize(("save", "options", "why"), UNASKABLE.values(), ids=UNASKABLE)
def test_each_refusal_says_why(tmp_path: Path, save: Callable[[Path], Path], options: dict[str, Any], why: str) -> None:
    with pytest.raises((OptionError, ModelError), match=why):
        cahp.load(str(save(tmp_path)), device="cpu", **options)


TEXT = "the film was very good"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_language_model_reads_it_after_the_token_before_a_first_one(family: str, tmp_path: Path) -> None:
    model = cahp.load(str(fakes.save_language_model(tmp_path / "model", "causal", family)), device="cpu")
    ids = model.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    expected = [start_id(model.tokenizer), *ids]
    entry, whole = tokenize_own(model, TEXT)
    assert entry == {"input_ids": expected, "attention_mask": [1] * len(expected)}
    assert whole == len(expected)
    # All that reads a text of a person reads the same tokens.
    nothing = Baseline(np.zeros((model.layers, 1), dtype=np.float16), 1, 1, "nothing")
    assert TextQuestion.read(model, TEXT, nothing).entry == entry
    assert len(attend(model, TEXT).tokens) == len(expected)
    cut, _ = tokenize_own(model, TEXT, max_length=3)
    assert cut["input_ids"] == expected[:3]
    pair, _ = tokenize_own(model, ("the film", "was good"))
    joined, _ = tokenize_own(model, "the film\nwas good")
    assert pair == joined
    with pytest.raises(DataError, match="no tokens"):
        tokenize_own(model, "")


def test_a_classifier_reads_it_as_its_data_and_no_text_without_tokens(tmp_path: Path) -> None:
    model = cahp.load(str(fakes.save_model(tmp_path / "model")), device="cpu")
    entry, whole = tokenize_own(model, TEXT)
    assert [entry] == model.tokenize([TEXT])
    assert [whole] == model.count_tokens([TEXT])
    with pytest.raises(DataError, match="no tokens"):
        tokenize_own(model, "")
