"""Texts as tokens of a model: cut at its longest input, put into a prompt, and counted as a whole."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

import numpy as np

from cahp.models.cards import AnswerToken, Prompt, PromptExample
from cahp.models.identity import EXAMPLE, MAX_LENGTH
from cahp.tasks.answers import Window
from cahp.tasks.texts import Item
from cahp.values import DataError, Input, Ints, ModelError, OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.attention import Tensors
    from cahp.models.head_model import HeadModel

#: The token ids of a text or a pair, by the names of a network's inputs.
Encoded = dict[str, list[int]]
Tokens = list[Encoded]
#: Held while a tokenizer encodes: how it cuts texts is a state that all its calls share.
ENCODING = threading.Lock()


def tokenize(model: HeadModel, inputs: Sequence[Item], *, max_length: int | None = None) -> Tokens:
    """Cut each text or pair at the model's longest input; see ``HeadModel.tokenize``.

    Raises:
        DataError: If a text has no tokens at all, or one that the model does not know.
    """
    windows = [item for item in inputs if isinstance(item, Window)]
    if windows:
        return from_ids(window.inputs for window in windows)
    texts = list_texts(inputs)
    if model.prompt is not None:
        limit = model.max_length
        if max_length is not None:
            limit = min(limit, max_length + model.prompt.length)
        tokens = model.prompt.tokens(texts, limit)
    else:
        limit = min(max_length or model.max_length, model.max_length)
        tokens = _encode(model.tokenizer, texts, truncation=True, max_length=limit)
    for text, ids in zip(texts, (entry["input_ids"] for entry in tokens), strict=True):
        if not ids:
            raise DataError(f"the text {str(text)[:60]!r} has no tokens for {model.card.id}; remove or replace it")
        _check_known(model, str(text), ids)
    return tokens


def _check_known(model: HeadModel, text: str, ids: Sequence[int]) -> None:
    known = known_tokens(model)
    if max(ids) >= known:
        raise DataError(
            f"the tokenizer of {model.card.id} makes token {max(ids)} of the text {text[:60]!r}, but the model "
            f"knows only {known}; save the model with its own tokenizer, or remove the text"
        )


def known_tokens(model: HeadModel) -> int:
    """The number of tokens that the model has embeddings of; its tokenizer may have more."""
    return int(model.network.get_input_embeddings().num_embeddings)


def tokenize_own(model: HeadModel, text: Input, *, max_length: int | None = None) -> tuple[Encoded, int]:
    """Return the token ids by name of one text or pair of a person, and how many tokens it has as a whole.

    A language model reads it as it reads the texts that it is evaluated on: the token before a first one begins it,
    without which many predict badly, a pair is joined by a line break, and no special token ends it, since the model
    shall continue its last word. ``max_length`` limits what is read.

    Raises:
        DataError: If the text has no tokens, or is neither a text nor a pair.
    """
    if not isinstance(text, str) and not (isinstance(text, tuple) and [type(part) for part in text] == [str, str]):
        raise DataError("a text is a str, or a pair of texts a tuple of two; give one at a time")
    empty = DataError("this text has no tokens; type at least one word")
    if not model.card.task.predicts_often:
        (entry,) = tokenize(model, [text], max_length=max_length)
        if len(entry["input_ids"]) <= model.tokenizer.num_special_tokens_to_add(pair=not isinstance(text, str)):
            raise empty
        (whole,) = model.count_tokens([text])
        return entry, whole
    if not isinstance(text, str):
        text = "\n".join(filter(None, text))
    (encoded,) = _encode(model.tokenizer, [text], add_special_tokens=False)
    ids = encoded["input_ids"]
    if not ids:
        raise empty
    _check_known(model, text, ids)
    start = start_id(model.tokenizer)
    if start is not None:
        ids = [start, *ids]
    (entry,) = from_ids([np.array(ids[: min(max_length or model.max_length, model.max_length)])])
    return entry, len(ids)


def start_id(tokenizer: Any) -> int | None:
    """Id of the token before the first of a text: that of the beginning, or another special one (None: none)."""
    ids = (getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "cls", "sep", "pad"))
    return next((token for token in ids if token is not None), None)


def list_special_ids(model: HeadModel) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    if model.card.no_next_token:
        encoded = model.tokenizer("a", return_special_tokens_mask=True)
        special = encoded["special_tokens_mask"]
        first = special.index(0)
        last = len(special) - special[::-1].index(0)
        return encoded["input_ids"][:first], encoded["input_ids"][last:]
    start = start_id(model.tokenizer)
    # A tokenizer may have a token that the model was never given.
    if start is None or start >= known_tokens(model):
        return [], []
    return [start], []


def from_ids(rows: Iterable[Ints]) -> Tokens:
    """Return rows of token ids ``(S,)`` as a model takes them, without padding."""
    return [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in rows]


def count_whole(tokenizer: Any, inputs: Sequence[Item]) -> list[int]:
    """The number of tokens of each text or pair as a whole, with the special ones."""
    return [len(entry["input_ids"]) for entry in _encode(tokenizer, list_texts(inputs), truncation=False)]


def _encode(tokenizer: Any, texts: Sequence[Input], **options: Any) -> Tokens:
    """The token ids of each text or pair, without padding."""
    if not texts:
        return []
    with ENCODING:
        encoded = tokenizer(texts, padding=False, verbose=False, **options)
    return [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]


def list_texts(inputs: Sequence[Item]) -> list[Input]:
    """Return the texts and pairs of ``inputs``, without windows."""
    return [item for item in inputs if not isinstance(item, Window)]


# Prompts -----------------------------------------------------------------------------------------------------------
#
# A language model as a classifier: texts become prompts, and class scores are logits of the answers' first tokens, at
# the last token of a prompt, or at its mask.

#: Characters after which an answer follows without a space.
_OPENING = "\n\t([{<\"'“‘«„"
#: Smallest number of tokens that a prompt must leave for a text.
ROOM = 8


class PromptReader:
    """A prompt with a tokenizer.

    ``answers`` are in the order of the classes; ``length`` is the number of tokens of the prompt without any text.

    Raises:
        OptionError: If two answers begin with the same token, or one has none that the model knows.
        ModelError: If the prompt has a gap and the tokenizer no mask token.
    """

    def __init__(self, tokenizer: Any, prompt: Prompt, name: str) -> None:
        self.prompt = prompt
        self._tokenizer = tokenizer
        self._name = name
        self._mask_id: int | None = None
        self._mask = ""
        if prompt.masked:
            if tokenizer.mask_token is None:
                raise ModelError(f"the tokenizer of {name} has no mask token to answer at; save it again with one")
            self._mask_id = tokenizer.mask_token_id
            self._mask = tokenizer.mask_token
        self.length = len(self._ids(self.render(("", ""))))
        self.answers = tuple(map(self._answer, prompt.answers))
        seen: dict[int, AnswerToken] = {}
        for answer in self.answers:
            other = seen.setdefault(answer.token, answer)
            if other is not answer:
                raise OptionError(
                    f"the answers {other.word!r} and {answer.word!r} begin with the same token ({answer.shown!r}) and "
                    f"cannot be told apart by {name}; use words that begin differently"
                )

    # Reading -------------------------------------------------------------------------------------------------------

    def render(self, text: Input) -> str:
        """The prompt with a text or a pair in it.

        A space at the end of a causal model's prompt belongs to the answers, whose tokens begin with it. A mask token
        inside a text loses its brackets, since a prompt has only one gap.
        """
        if not self._mask:
            return self.prompt.render(text, "").rstrip(" ")
        plain = self._mask.strip("<[|]>") or "mask"
        return self.prompt.render(_change(text, lambda part: part.replace(self._mask, plain)), self._mask)

    def tokens(self, inputs: Sequence[Input], limit: int) -> Tokens:
        """Token ids of the prompt of each text or pair, at most ``limit``: longer texts lose their end."""
        encoded = self._encoded([self.render(text) for text in inputs])
        for row, entry in enumerate(encoded):
            if len(entry["input_ids"]) > limit:
                (encoded[row],) = self._encoded([self.render(self.shorten(inputs[row], limit))])
        return encoded

    def shorten(self, text: Input, limit: int) -> Input:
        """Cut the end of a text, or of the longer text of a pair, until its prompt has at most ``limit`` tokens."""
        lengths = range(len(text) + 1)
        if not isinstance(text, str):
            lengths = range(max(map(len, text)) + 1)

        def cut(length: int) -> Input:
            return _change(text, lambda part: part[:length])

        fitting = bisect_right(lengths, limit, key=lambda length: len(self._ids(self.render(cut(length)))))
        return cut(lengths[max(0, fitting - 1)])

    def count_tokens(self, inputs: Sequence[Input]) -> list[int]:
        """The number of tokens of the prompt of each text or pair, as a whole."""
        encoded = self._encoded([self.render(text) for text in inputs])
        return [len(entry["input_ids"]) for entry in encoded]

    def preview(self, text: Input | None = None, *, max_length: int | None = None) -> PromptExample:
        """The prompt of a text or pair, or of an example, with the tokens of the answers; longer texts are cut."""
        if text is None:
            text = self._make_example(EXAMPLE)
        limit = (max_length or MAX_LENGTH) + self.length
        rendered = self.render(text)
        if len(self._ids(rendered)) > limit:
            rendered = self.render(self.shorten(text, limit))
        return PromptExample(rendered, self.answers)

    # Answering -----------------------------------------------------------------------------------------------------

    def positions(self, tensors: Tensors) -> Tensor:
        """The position at which each text of a batch, padded on the right, is answered ``(b,)``."""
        if self._mask_id is not None:
            return (tensors["input_ids"] == self._mask_id).int().argmax(1)
        return tensors["attention_mask"].sum(1) - 1

    # Tokens --------------------------------------------------------------------------------------------------------

    def _encoded(self, prompts: Sequence[str]) -> Tokens:
        entries = _encode(self._tokenizer, prompts, truncation=False, return_special_tokens_mask=True)
        for entry in entries:
            special = entry.pop("special_tokens_mask")
            # After an end token a causal model would begin another text.
            while self._mask_id is None and special and special[-1]:
                special.pop()
                for ids in entry.values():
                    ids.pop()
        return entries

    def _ids(self, text: str) -> list[int]:
        return self._encoded([text])[0]["input_ids"]

    def _make_example(self, text: str) -> Input:
        """The text, or a pair of it where the prompt takes pairs."""
        if self.prompt.pairs:
            return text, text
        return text

    def _answer(self, word: str) -> AnswerToken:
        """The first token of an answer after the prompt."""
        rendered = self.render(self._make_example("text"))
        open_ = self._ids(rendered)
        if self._mask_id is not None:
            if open_.count(self._mask_id) != 1:
                raise OptionError(
                    f"the tokenizer of {self._name} joins the mask with other text; put spaces around {{mask}}"
                )
            before, after = rendered.split(self._mask)
            answered = f"{before}{word}{after}"
            # Some tokenizers make a token of the space before a mask.
            end = open_.index(self._mask_id)
            least = end - 1
            tail = len(open_) - end - 1
        else:
            last = rendered[-1:]
            answered = f"{rendered} {word}"
            if last in _OPENING or east_asian_width(last) in ("W", "F"):
                answered = f"{rendered}{word}"
            end = len(open_)
            least = end
            tail = 0
        closed = self._ids(answered)
        first = next((place for place, (a, b) in enumerate(zip(open_, closed, strict=False)) if a != b), len(open_))
        first = min(first, end)
        if first < least or first >= len(closed):
            raise OptionError(
                f"the tokenizer of {self._name} joins the answer {word!r} with the prompt; end the prompt before the "
                "answer with a word or a sign such as a colon"
            )
        token = closed[first]
        shown = str(self._tokenizer.decode([token])).strip()
        # A space alone begins many answers.
        if token == self._tokenizer.unk_token_id or not shown:
            raise OptionError(
                f"the tokenizer of {self._name} does not know the answer {word!r}; use a more common word"
            )
        return AnswerToken(word, token, shown, len(closed) - first - tail == 1)


def _change(text: Input, change: Callable[[str], str]) -> Input:
    """Return a text, or both texts of a pair, after ``change``."""
    if isinstance(text, str):
        return change(text)
    first, second = text
    return change(first), change(second)


def split_text(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Return the part of each token in the text of all: joined, they are that text."""
    parts = list[str]()
    before = ""
    for end in range(1, len(ids) + 1):
        text = str(tokenizer.decode(ids[:end]))
        if text.startswith(before):
            parts.append(text[len(before) :])
        else:
            # A token may be a part of a character.
            parts.append(str(tokenizer.decode([ids[end - 1]])))
        before = text
    return tuple(parts)
