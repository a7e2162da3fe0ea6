"""Texts as tokens of a model: cut at its longest input, and counted as a whole."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp.tasks.texts import Item
from cahp.tasks.window import Window
from cahp.values import DataError, Input, Ints

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

Tokens = list[dict[str, list[int]]]
#: Held while a tokenizer encodes: how it cuts texts is a state that all its calls share.
ENCODING = threading.Lock()


def tokenize(model: HeadModel, inputs: Sequence[Item], *, max_length: int | None = None) -> Tokens:
    """Cut each text or pair at the model's longest input; see ``HeadModel.tokenize``.

    Raises:
        DataError: If a text has no tokens at all, or one that the model does not know.
    """
    if not inputs:
        return []
    windows = [item for item in inputs if isinstance(item, Window)]
    if windows:
        return from_ids(window.inputs for window in windows)
    texts = list_texts(inputs)
    first, pairs = _split_pairs(texts)
    if model.prompt is not None:
        limit = model.max_length
        if max_length is not None:
            limit = min(limit, max_length + model.prompt.length)
        tokens = model.prompt.tokens(texts, limit)
    else:
        limit = min(max_length or model.max_length, model.max_length)
        with ENCODING:
            encoded = model.tokenizer(first, pairs, truncation=True, max_length=limit, padding=False)
        tokens = []
        for row in range(len(first)):
            tokens.append({name: encoded[name][row] for name in encoded})
    for text, ids in zip(first, (entry["input_ids"] for entry in tokens), strict=True):
        if not ids:
            raise DataError(f"the text {text[:60]!r} has no tokens for {model.card.id}; remove or replace it")
        _check_known(model, text, ids)
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


def tokenize_own(model: HeadModel, text: Input, *, max_length: int | None = None) -> tuple[dict[str, list[int]], int]:
    """Return the token ids by name of one text or pair of a person, and how many tokens it has as a whole.

    A language model reads it as it reads the texts that it is evaluated on: the token before a first one begins it,
    without which many predict badly, a pair is joined by a line break, and no special token ends it, since the model
    shall continue its last word. ``max_length`` limits what is read.

    Raises:
        DataError: If the text has no tokens.
    """
    empty = DataError("this text has no tokens; type at least one word")
    if not model.card.task.predicts_often:
        (entry,) = tokenize(model, [text], max_length=max_length)
        if len(entry["input_ids"]) <= model.tokenizer.num_special_tokens_to_add(pair=not isinstance(text, str)):
            raise empty
        (whole,) = model.count_tokens([text])
        return entry, whole
    if not isinstance(text, str):
        text = "\n".join(filter(None, text))
    with ENCODING:
        ids = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
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


def from_ids(rows: Iterable[Ints]) -> Tokens:
    """Return rows of token ids ``(S,)`` as a model takes them, without padding."""
    return [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in rows]


def count_whole(tokenizer: Any, inputs: Sequence[Item]) -> list[int]:
    """The number of tokens of each text or pair as a whole, with the special ones."""
    if not inputs:
        return []
    first, pairs = _split_pairs(list_texts(inputs))
    with ENCODING:
        encoded = tokenizer(first, pairs, truncation=False, padding=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def list_texts(inputs: Sequence[Item]) -> list[Input]:
    """Return the texts and pairs of ``inputs``, which must hold no windows.

    Raises:
        ValueError: If they hold windows, whose tokens are known.
    """
    texts = [item for item in inputs if not isinstance(item, Window)]
    if len(texts) != len(inputs):
        raise ValueError("windows of tokens are mixed with texts, or counted as texts")
    return texts


def _split_pairs(inputs: Sequence[Input]) -> tuple[list[str], list[str] | None]:
    """The texts, and the second text of each pair (None: they are single texts)."""
    first = list[str]()
    second = list[str]()
    for item in inputs:
        if isinstance(item, str):
            first.append(item)
        else:
            first.append(item[0])
            second.append(item[1])
    return first, second or None
