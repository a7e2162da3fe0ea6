"""Cut texts into the windows of tokens on which a causal language model is measured."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cahp.models.cards import ModelCard
from cahp.models.identity import locate
from cahp.models.loading import load_tokenizer, usual_ids
from cahp.models.tokenizing import start_id
from cahp.tasks.answers import NO_LABEL, REPEAT_PARTS, SHORTEST_REPEAT, Beginning, Source, Window
from cahp.tasks.texts import COPY_TOKENS, Texts
from cahp.values import DataError, Ints, ModelError

#: What stands between two documents.
_BETWEEN = "\n\n"
#: No tokenizer known makes tokens of more characters on average.
_CHARACTERS_PER_TOKEN = 16
#: Tokens of all texts, at least.
_LEAST = 2
#: Sequences of random tokens for the loss on repeated tokens, and the length of the part that is repeated.
_COPIES = 8
_COPIED = COPY_TOKENS // (2 * _COPIES)


@lru_cache(maxsize=4)
def _load(located: ModelCard) -> Any:
    tokenizer = load_tokenizer(located.folder, located.id, prompted=True)
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer of {located.id} does not tell where its tokens lie; save it as tokenizer.json")
    return tokenizer


def _tokenizer_of(card: ModelCard) -> Any:
    # A model whose package or files are gone is refused, though its tokenizer is in memory.
    return _load(locate(card))


def start_token(card: ModelCard) -> tuple[int, str]:
    """The token before the first of a text: that of the beginning, or another special one where the model has none.

    Raises:
        ModelError: If it has no special token.
    """
    tokenizer = _tokenizer_of(card)
    token = start_id(tokenizer)
    if token is None:
        raise ModelError(f"the tokenizer of {card.id} has no token that begins or ends a text; set its bos_token")
    return token, str(tokenizer.convert_ids_to_tokens(token))


def usual_tokens(card: ModelCard) -> Ints:
    """The tokens of which texts consist, ascending."""
    return usual_ids(_tokenizer_of(card))


def find_beginning(card: ModelCard, bos: Beginning) -> Beginning:
    """Find which windows begin with the ``start_token``: the first alone where the tokenizer has no beginning token.

    Another special token only stands for one where nothing else is before the text: such models were trained without.
    """
    if _tokenizer_of(card).bos_token_id is None:
        return "first"
    return bos


def cut_windows(
    card: ModelCard,
    texts: Texts,
    *,
    window: int,
    stride: int | None = None,
    tokens: int,
    seed: int | None = 42,
    copies: bool = False,
    bos: Beginning = "every",
) -> Texts:
    """Cut texts into windows of ``window`` tokens, about ``tokens`` in all, without labels.

    Documents are drawn with the ``seed`` (None: from the first on) until they have enough tokens, joined by empty lines
    in their order, and cut; each window predicts ``stride`` further tokens (None: ``window``, so that none overlap).
    Each token is predicted once; where there are more tokens than asked for, the last window is whole. With ``copies``
    windows for the loss on repeated random tokens follow.

    The model reads ``window`` tokens of each window (fewer where the text is over) and predicts the token after each.
    With ``bos`` ``every`` the first of them is the model's beginning token, in the place of the one token of context
    that is furthest away. With ``first`` it is so in the first window alone, and others begin with their context: the
    windows of lm-evaluation-harness' ``loglikelihood_rolling``. Both predict the same tokens. See ``find_beginning``
    for models without a beginning token.

    Raises:
        DataError: If there is hardly a token.
        ModelError: If its tokenizer cannot be used.
    """
    tokenizer = _tokenizer_of(card)
    start, _ = start_token(card)
    pairs = texts.second or [""] * len(texts)
    documents = ["\n".join(filter(None, pair)) for pair in zip(texts.plain_texts, pairs, strict=True)]
    chosen = _draw(tokenizer, documents, tokens, seed)
    joined = _BETWEEN.join(chosen)
    encoded = tokenizer(joined, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    if len(ids) < _LEAST:
        raise DataError(f"the texts have {len(ids)} tokens, too few to predict some; add more texts")
    # Tokens that share a character have the same end.
    ends = np.maximum.accumulate(np.array(encoded["offset_mapping"])[:, 1])
    owners = np.searchsorted(np.cumsum([len(document) + len(_BETWEEN) for document in chosen]), ends)
    starts = np.concatenate([[0], ends[:-1]])
    sizes = np.array([len(joined[a:b].encode()) for a, b in zip(starts, ends, strict=True)], dtype=np.int64)
    total = len(ids)
    if total > tokens:
        total = min(total, max(window, tokens // window * window))
    every = find_beginning(card, bos) == "every"
    windows = list[Window]()
    done = 0
    end = min(window, total)
    while done < total:
        # The first token of a window is only context; -1: it stands before the text.
        context = max(-1, end - window - 1)
        read = ids[context:end]
        if every or context < 0:
            context += 1
            read = np.concatenate([[start], ids[context:end]])
        windows.append(Window(joined[starts[context] : ends[end - 1]], read, owners[done:end], sizes[done:end]))
        done = end
        end = min(done + (stride or window), total)
    if copies:
        # Random tokens, read twice, as long as the model reads; none where it hardly reads any.
        size = _COPIED
        if card.longest_context is not None:
            size = min(size, (card.longest_context - 1) // 2)
        if size > 0:
            draws = np.random.default_rng(0).choice(usual_ids(tokenizer), size=(_COPIES, size))
            windows += [read_twice(start, row, number, "random") for number, row in enumerate(draws)]
    return Texts(tuple(windows), None, np.full(len(windows), NO_LABEL, dtype=np.int64), texts.classes, card.task)


def _draw(tokenizer: Any, documents: Sequence[str], tokens: int, seed: int | None) -> list[str]:
    """Draw documents until they have so many tokens; return them in their order, none much longer than needed."""
    order = list(range(len(documents)))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(documents)).tolist()
    order = [row for row in order if documents[row].strip()]
    rows = list[int]()
    count = 0
    longest = tokens * _CHARACTERS_PER_TOKEN
    for row in order:
        if count > tokens:
            break
        rows.append(row)
        count += len(tokenizer(documents[row][:longest], add_special_tokens=False, verbose=False)["input_ids"])
    return [documents[row][:longest] for row in sorted(rows)]


def read_twice(start: int, half: Ints, document: int, source: Source) -> Window:
    """Return the sequence of the beginning token and ``half`` twice, the second time predicted."""
    ids = np.concatenate([[start], half, half])
    return Window("", ids, np.full(len(half), document), np.zeros(len(half), dtype=np.int64), source)


# Sequences that are read twice, for calibration: passages of the calibration text, and random tokens ----------------

#: The longest distance between a token and its repetition.
_LONGEST = 512


def draw_repeats(card: ModelCard, texts: Texts, *, tokens: int, seed: int) -> list[Window]:
    """Draw sequences with about ``tokens`` tokens in all, each of which repeats its first half.

    Passages of the windows of ``texts`` and random tokens alternate. The beginning token is first. Half lengths are 16
    to 512 tokens, uniform in their logarithm, and shorter where the model reads less or ``tokens`` are few. Only the
    second half is measured, and losses whose gradients are taken are those of both halves. Each sequence is a document
    of its own, numbered after those of ``texts``. There are none if the model reads too little, or ``tokens`` are fewer
    than ``REPEATS_TOKENS``.
    """
    stream = texts.stream
    document = 1 + max(int(window.units.max()) for window in texts.windows)
    start, _ = start_token(card)
    usual = usual_tokens(card)
    longest = min(_LONGEST, tokens // (2 * REPEAT_PARTS), len(stream))
    if card.longest_context is not None:
        longest = min(longest, (card.longest_context - 1) // 2)
    if longest < SHORTEST_REPEAT:
        return []
    random = np.random.default_rng([seed, 1])
    drawn: list[Window] = []
    left = tokens
    while left > 2 * SHORTEST_REPEAT:
        most = min(longest, (left - 1) // 2)
        size = round(math.exp(random.uniform(math.log(SHORTEST_REPEAT), math.log(most))))
        source: Source = "random"
        half = random.choice(usual, size)
        if len(drawn) % 2 == 0:
            source = "passage"
            place = int(random.integers(len(stream) - size + 1))
            half = stream[place : place + size]
        drawn.append(read_twice(start, half, document + len(drawn), source))
        left -= len(drawn[-1].ids)
    return drawn
