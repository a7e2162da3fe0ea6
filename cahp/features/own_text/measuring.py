"""One text of a person's own: predictions with fewer heads, and the words that the heads attend to.

Nothing is stored on disk, because the text belongs to its author; answers to the example of the first screen ship.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cahp.board import WordMaps, pack_bytes
from cahp.features.own_text.section import TOKENS
from cahp.run import Bench, cut_model
from cahp.stages import Arc, find_arcs, predict_text, read_tokens, read_words
from cahp.store import Entry, key
from cahp.values import Floats, HeadMask, Input, Progress, digest, report_progress, silent, spread

if TYPE_CHECKING:
    from cahp.models import HeadModel

STAGE = "own text"

#: Tokens of all budgets of one text together: about half a second on two cores for a small model.
_TOKENS = 10_000
#: Number of budgets for a text of any length.
_FEWEST = 9
#: Next tokens whose probabilities are kept, of a language model: the most probable ones.
MOST_WORDS = 8


@dataclass(frozen=True, eq=False)
class TextReading:
    """The prediction of one model on one text.

    ``probabilities (C,)`` of the classes, or of a language model of all next tokens, of which ``words`` has the most
    probable ones as text by their ids (None: the model has classes). ``cut`` tokens at the end were truncated. ``ids``
    are the tokens so far with which a language model continues the text, and ``written`` the parts of the text that
    they make.
    """

    probabilities: Floats
    cut: int
    words: Mapping[int, str] | None = None
    ids: tuple[int, ...] = ()
    written: tuple[str, ...] = ()

    @property
    def answer(self) -> int:
        """The predicted class, or the id of the next token."""
        return int(self.probabilities.argmax())


@dataclass(frozen=True, eq=False)
class AnswersOverBudgets:
    """Class probabilities ``(B, C)`` of one text under the masks of ``budgets (B,)``, fewest heads first.

    Of a language model they are those of the next tokens ``words``, by their ids, in the order of the columns.
    """

    budgets: tuple[int, ...]
    probabilities: Floats
    words: Mapping[int, str] | None = None

    def steady_down_to(self, answer: int) -> int | None:
        """Return the fewest heads from which on every budget predicts ``answer`` (None: the largest does not)."""
        places = list(self.words or range(self.probabilities.shape[1]))
        steady = None
        for budget, row in zip(reversed(self.budgets), self.probabilities[::-1], strict=True):
            if places[row.argmax()] != answer:
                break
            steady = budget
        return steady


def read_text(model: HeadModel, text: Input, mask: HeadMask | None) -> TextReading:
    """Run ``model`` on a text or a pair with the heads of ``mask`` only (None: with those that it has).

    Raises:
        DataError: If the text is empty.
    """
    probabilities, truncated = predict_text(model, text, mask)
    words = None
    if model.card.task.predicts_often:
        words = _show_tokens(model, likeliest([probabilities]))
    return TextReading(probabilities, truncated, words)


def read_recovered(bench: Bench, text: Input, mask: HeadMask, recover: str, *, keep: bool = True) -> Floats:
    """Return the class probabilities ``(C,)`` of a text after a recovery, which is stored if ``keep`` is set.

    Raises:
        CahpError: If the text is empty, or the model cannot be recovered so.
    """
    recovered = None
    if not mask.is_full:
        recovered = bench.recoveries.recover(mask, recover, keep=keep)
    return read_text(cut_model(bench.model, mask, recovered), text, None).probabilities


def continue_text(model: HeadModel, text: Input, mask: HeadMask | None, *, count: int = TOKENS) -> Iterator[int]:
    """Yield the ids of the ``count`` most probable tokens after a text, one after the other, by a language model.

    ``mask`` is that of ``read_text``. Of a text that leaves no room for them, the end is continued; see
    ``continue_greedily``.
    """
    from cahp.models import continue_greedily

    entry, _, _ = read_tokens(model, text)
    yield from continue_greedily(model, entry["input_ids"], count, gates=model.gates_of(mask))


def likeliest(rows: Sequence[Floats]) -> list[int]:
    """Return the places with the highest probability in any of ``rows (C,)``, sorted by the first row."""
    top = np.argsort(-np.max(rows, axis=0), kind="stable")[:MOST_WORDS]
    return sorted(top.tolist(), key=lambda place: -rows[0][place])


def _show_tokens(model: HeadModel, ids: Sequence[int]) -> dict[int, str]:
    """Return tokens as text; spaces and line breaks, which many begin with, are visible."""
    words = {}
    for token in ids:
        text = model.tokenizer.decode([token]).replace(" ", "␣").replace("\n", "⏎")
        words[token] = text or f"token {token}"
    return words


def over_budgets(
    model: HeadModel, text: Input, masks: Sequence[HeadMask], *, progress: Progress = silent
) -> AnswersOverBudgets:
    """Run ``model`` under each of ``masks``, or under some of them, evenly spread, where all would take too long.

    Progress counts masks, and may stop the work between batches.

    Raises:
        DataError: If the text is empty.
    """
    import torch

    entry, _, _ = read_tokens(model, text)
    most = _FEWEST
    # A language model is larger, and each budget has a logit for every word.
    if not model.card.task.predicts_often:
        most = max(_FEWEST, _TOKENS // len(entry["input_ids"]))
    chosen = [masks[place] for place in spread(len(masks), most)]
    gates = torch.stack([model.gates(mask.keep) for mask in chosen])
    rows_of: list[Floats] = [np.zeros(0)] * len(chosen)
    with torch.inference_mode():
        for batch in report_progress(model.batches([entry] * len(chosen)), STAGE, progress):
            rows = torch.as_tensor(batch.rows, device=gates.device)
            scores = model.logits(batch, gates=gates[rows])
            for row, own in zip(batch.rows.tolist(), scores.double().softmax(-1).cpu().numpy(), strict=True):
                rows_of[row] = own
    probabilities = np.stack(rows_of)
    words = None
    if model.card.task.predicts_often:
        predicted = probabilities.argmax(axis=1).tolist()
        kept = list(dict.fromkeys([*likeliest([probabilities[-1], *probabilities]), *predicted]))
        words = _show_tokens(model, kept)
        probabilities = probabilities[:, kept]
    return AnswersOverBudgets(tuple(mask.count for mask in chosen), probabilities, words)


#: Most words of a text that are shown: its first ones.
SHOWN_WORDS = 24
#: Arcs of a head, and the least attention of one.
_ARCS = 2
_LEAST = 0.16


def read_maps(model: HeadModel, text: Input) -> WordMaps:
    """Return what the heads of the unpruned ``model`` attend to, word by word, in a text or a pair of texts.

    Raises:
        DataError: If the text has no tokens.
    """
    words, attention = read_words(model, text, most=SHOWN_WORDS)
    # What goes to no word, such as the start of the text, stands in a column before them.
    pictures = np.pad(attention, ((0, 0), (1, 0), (1, 0)))
    pictures[:, 1:, 0] = 1 - attention.sum(axis=2)
    pictures *= 255 / np.maximum(pictures.max(axis=(1, 2), keepdims=True), _LEAST)
    places = np.arange(attention.shape[1])
    attention[:, places, places] = 0
    looks = np.minimum(attention.max(axis=1, initial=0) * 255, 255).round().astype(np.uint8)
    arcs = tuple(find_arcs(own, most=_ARCS, least=_LEAST) for own in attention)
    packed = pack_bytes(pictures.clip(0, 255).round().astype(np.uint8))
    return WordMaps(tuple(words[:SHOWN_WORDS]), len(words), arcs, looks, packed)


def name_text(model: str, text: Input, masks: Sequence[HeadMask]) -> str:
    """Return the key of an example, given the digest of the model and the masks of all budgets."""
    return key("text on board", 3, model, text, digest(*(mask.sha256 for mask in masks)))


def read_example(entry: Entry) -> tuple[WordMaps, dict[str, AnswersOverBudgets]]:
    """Return what is stored of an example, which ``assets/bundle.py`` measures: its maps, and answers by recovery.

    Texts of a person are not stored.
    """
    meta = entry.meta
    arcs = msgspec.convert(meta["arcs"], tuple[tuple[Arc, ...], ...])
    pictures = pack_bytes(entry.arrays["pictures"])
    maps = WordMaps(tuple(meta["words"]), meta["length"], arcs, entry.arrays["looks"], pictures)
    budgets = meta["budgets"].items()
    return maps, {name: AnswersOverBudgets(tuple(own), entry.arrays[name]) for name, own in budgets}
