"""A person's own text: predictions with all heads and with those on the board.

The worker computes them. Texts and their results live in the browser session only: in no file, address or log. The text
itself also stays in the browser's tab, so that a reload restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from cahp.features.own_text import continued
from cahp.features.own_text import figure as figures
from cahp.features.own_text.continuation import TOKENS, Continuation, Tokens
from cahp.features.own_text.measuring import (
    AnswersOverBudgets,
    TextReading,
    continue_text,
    likeliest,
    over_budgets,
    read_text,
)
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.recovered import Recovered, cut_model
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import offer_again, show_in_row
from cahp.ui.parts import display
from cahp.ui.parts.inputs import has_words, input_box, keep
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import BoardState, Kind
from cahp.values import HeadMask, Input, Progress, digest
from cahp.words import capital, percent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: The name of its boxes.
_BOXES = "own-text"
#: Index of the first example: a topic of the embedded model.
_TOPIC = 3
#: That of a language model: a text without an end.
_UNFINISHED = 10
#: The stage that progress names while a text is continued.
CONTINUE = "continuation"
#: Session key of the results.
_MEMORY = "own-text-memory"
#: Seconds that a page waits for the worker before it shows progress.
_PATIENCE_S = 0.1


@dataclass(eq=False)
class KnownText:
    """Results of a text with the model of this digest: under masks, recovered or not, and over all budgets of a table.

    ``written`` are the tokens so far with which a language model continues it. ``number`` stands for the text in logs.
    """

    model: str
    text: Input
    readings: dict[tuple[object, ...], TextReading | None] = field(default_factory=dict)
    written: dict[tuple[object, ...], Tokens] = field(default_factory=dict)
    curves: dict[str, AnswersOverBudgets] = field(default_factory=dict)
    number: int = field(default_factory=count(1).__next__)


@dataclass(frozen=True, eq=False)
class TextOnBoard:
    """The board, and a text with its results so far."""

    board: BoardState
    known: KnownText

    @property
    def missing(self) -> list[Callable[[Progress], Iterator[None]]]:
        """The missing results, the most wanted first; each lets work of other sessions pass where it yields."""
        mask = self.board.mask
        wanted = [(HeadMask.full(mask.layers, mask.heads), "none"), (mask, "none")]
        if self.recovery is not None:
            wanted.append((mask, self.recovery))
        steps: list[Callable[[Progress], Iterator[None]]] = [
            partial(self._read, which, how) for which, how in wanted if not self._is_read(which, how)
        ]
        if self.table_name not in self.known.curves:
            steps.append(self._over_budgets)
        return steps

    @property
    def recovery(self) -> str | None:
        """The recovery on the board, or else one that is measured for its mask (None: neither)."""
        mask = self.board.mask
        if mask.is_full:
            return None
        if self.board.recover != NONE.name:
            return self.board.recover
        for row in RECOVERIES.values():
            if row.on_board and row is not NONE and self.board.results.outcomes(mask, row.name):
                return row.name
        return None

    @property
    def table_name(self) -> str:
        """Digest of the masks of all budgets."""
        assert self.board.table is not None
        return digest(*(selection.mask.sha256 for selection in self.board.table.selections))

    def reading(self, mask: HeadMask, how: str = "none") -> TextReading | None:
        """Return a result, or None."""
        return self.known.readings.get(self._name(mask, how))

    def written(self, mask: HeadMask, how: str = "none") -> Tokens | None:
        """Return the tokens so far that continue the text, or None."""
        return self.known.written.get(self._name(mask, how))

    def _is_read(self, mask: HeadMask, how: str) -> bool:
        name = self._name(mask, how)
        if self.known.readings.get(name) is None or not self.board.bench.card.task.predicts_often:
            return name in self.known.readings
        return len(self.known.written.get(name, Tokens()).ids) == TOKENS

    def _name(self, mask: HeadMask, how: str) -> tuple[object, ...]:
        if how == "none":
            return mask.sha256, how
        # A missing recovered model may exist once it is wanted on the board or measured.
        measured = self.board.results.outcomes(mask, how) is not None
        return mask.sha256, how, self._recovered_on, self.board.recover == how, measured

    @cached_property
    def _recovered_on(self) -> str:
        """Digest of the texts of recoveries; cached, because it takes a while."""
        return self.board.bench.recoveries.inputs_sha256

    def _read(self, mask: HeadMask, how: str, progress: Progress) -> Iterator[None]:
        """Run the text, with a recovered model if there is one: it is never trained here."""
        model = self._get_model(mask, how)
        name = self._name(mask, how)
        text = self.known.text
        masked = how == "none"
        if model is None:
            self.known.readings[name] = None
            yield
            return
        self.known.readings[name] = read_text(model, text, mask, masked=masked)
        yield
        if not self.board.bench.card.task.predicts_often:
            return
        ids = list[int]()
        for token in continue_text(model, text, mask, masked=masked):
            ids.append(token)
            self.known.written[name] = Tokens.of(model.tokenizer, ids)
            progress(CONTINUE, len(ids), TOKENS)
            yield

    def _get_model(self, mask: HeadMask, how: str) -> HeadModel | None:
        """Return the full model, or the recovered one, if there is one."""
        bench = self.board.bench
        if how == "none":
            return bench.model
        if RECOVERIES[how].trains:
            recovered: Recovered | None = bench.recoveries.read_distilled(mask)
        elif self.board.recover == how:
            # Only a refit that the board shows is computed.
            recovered = bench.recoveries.refit(mask, how)
        else:
            recovered = bench.recoveries.read_refit(mask, how)
        if recovered is None:
            return None
        return cut_model(bench.model, mask, recovered)

    def _over_budgets(self, progress: Progress) -> Iterator[None]:
        table = self.board.table
        assert table is not None
        masks = [selection.mask for selection in table.selections]
        curve = over_budgets(self.board.bench.model, self.known.text, masks, progress=progress)
        self.known.curves = {self.table_name: curve}
        yield


def _run_text(text: TextOnBoard, progress: Progress) -> Generator[None, None, bool]:
    for step in text.missing:
        yield from step(progress)
        progress("own text", 0, 1)
    return True


#: Run one text. A job whose mask has left the board is dropped.
OWN_TEXT: Kind[TextOnBoard, bool] = Kind(
    _run_text, lambda text: f"own_text-{text.known.number}-{text.board}-{text.table_name[:12]}", newest=True
)


def draw(explorer: Explorer) -> None:
    """Draw the tab below the board."""
    example = _TOPIC
    if explorer.card.task.predicts_often:
        example = _UNFINISHED
    keep(_BOXES, {f"{_BOXES}-{part}-{example}": str for part in ("text", "first", "second")})
    left, right = st.columns([2, 3], gap="medium")
    with left:
        kind: Literal["single", "pairs"] = "pairs"
        if explorer.bench.calibration.second is None:
            kind = "single"
        typed = input_box(_BOXES, kind, explorer.bench, label="Your text", place=example)
    if not has_words(typed):
        right.info("Type a text, or insert an example.")
        return
    known: KnownText | None = st.session_state.get(_MEMORY)
    if known is None or (known.model, known.text) != (explorer.card.sha256, typed):
        # Only the results of the last text are kept.
        st.session_state[_MEMORY] = known = KnownText(explorer.card.sha256, typed)
    text = TextOnBoard(explorer.board_state(), known)
    with left:
        _draw_work(explorer, text)
    _draw_results(explorer, text, left, right)


def _draw_work(explorer: Explorer, text: TextOnBoard) -> None:
    """Run what is missing, with progress and a way to cancel."""
    if not text.missing:
        return
    job = explorer.work.job(OWN_TEXT, text)
    if job is None:
        job = explorer.work.start(OWN_TEXT, text)
        job.wait(_PATIENCE_S)
    if not job.ended:
        show_in_row(job, key="cancel-own-text")
    elif text.missing:
        offer_again(job, lambda: explorer.work.start(OWN_TEXT, text), key="own-text-again", label="Continue")


def _draw_results(explorer: Explorer, text: TextOnBoard, left: Any, right: Any) -> None:
    mask = explorer.mask
    heads = explorer.card.layers * explorer.card.heads
    full = text.reading(HeadMask.full(mask.layers, mask.heads))
    pruned = text.reading(mask)
    if full is None:
        return
    models = {f"all {heads} {explorer.card.unit}s": full}
    if pruned is not None and mask.count < heads:
        models[f"{mask.count} as pruned"] = pruned
    recovered = None
    if text.recovery is not None:
        recovered = text.reading(mask, text.recovery)
        if recovered is not None:
            models[f"{mask.count} {RECOVERIES[text.recovery].beside}"] = recovered
    with left:
        if full.cut:
            st.warning(f"The model takes {len(full.tokens):,} tokens; {full.cut:,} more were truncated.")
        if text.recovery is not None and recovered is None and not text.missing:
            st.caption("This mask has no recovered model yet: choose a recovery on the board.")
        st.caption(
            f"One text is an example and has no interval. The board shows outcomes on "
            f"{explorer.bench.evaluation.measured}."
        )
    with right:
        if explorer.card.task.predicts_often:
            with st.container(key="own-text-continuation"):
                _draw_continuation(text, mask, dict(zip(("full", "pruned", "recovered"), models, strict=False)))
        _draw_probabilities(explorer, models, full)
    if pruned is None:
        return
    first, second = st.columns(2, gap="medium")
    with first:
        _draw_attention(full, pruned, f"{mask.count} kept {explorer.card.unit}s")
    curve = text.known.curves.get(text.table_name)
    if curve is not None:
        with second:
            _draw_curve(explorer, curve, full)


def _draw_continuation(text: TextOnBoard, mask: HeadMask, labels: Mapping[str, str]) -> None:
    """Draw how the models, which have ``labels``, continue the text so far."""
    full = text.written(HeadMask.full(mask.layers, mask.heads))
    recovered = None
    if "recovered" in labels and text.recovery is not None:
        recovered = text.written(mask, text.recovery) or Tokens()
    pruned = text.written(mask) or Tokens()
    if full is not None:
        continued.draw(Continuation.of("", full, pruned, recovered), labels, of=TOKENS)


def _draw_probabilities(explorer: Explorer, models: dict[str, TextReading], full: TextReading) -> None:
    names = _list_names(explorer, models)
    shown = list(names)
    marked = ""
    if full.words is not None:
        shown = likeliest([reading.probabilities for reading in models.values()])
        marked = " The most probable tokens are drawn; ␣ is a space, ⏎ a line break."
    rows = {name: reading.probabilities[shown] for name, reading in models.items()}
    classes = [names[place] for place in shown]
    of = explorer.card.words.answer
    columns = {name: reading.round(5).tolist() for name, reading in rows.items()}
    display.show(
        figures.probabilities_figure(rows, classes, of=of, dark=display.is_dark()),
        title=_describe_predictions(models, full, names),
        help=f"Each mark is the probability of a {of} for this text: the circle with all heads, the square for the "
        "pruned model on the board, the diamond for the recovered one, if any. If the marks overlap, pruning does not "
        f"change this prediction.{marked}",
        formula=r"p_c=\frac{e^{z_c}}{\sum_i e^{z_i}}",
        name="own-text-probabilities",
        data={of: classes, **columns},
        alt="; ".join(
            f"{name}: {names[reading.answer]}, {percent(float(reading.probabilities.max()))}"
            for name, reading in models.items()
        ),
    )


def _list_names(explorer: Explorer, models: dict[str, TextReading]) -> dict[int, str]:
    """Return the names of classes, or of the most probable next tokens, by their places in the probabilities."""
    names: dict[int, str] = {}
    for reading in models.values():
        names |= reading.words or {}
    return names or dict(enumerate(explorer.bench.class_names))


def _describe_predictions(models: dict[str, TextReading], full: TextReading, names: Mapping[int, str]) -> str:
    others = {name: reading for name, reading in models.items() if reading is not full}
    answer = f"“{names[full.answer]}”"
    prediction = "prediction"
    if full.words is not None:
        prediction = "next token"
    if not others:
        share = percent(float(full.probabilities.max()), 0)
        return f"{capital(prediction)} with all heads: {answer} ({share})"
    changed = [
        f"“{names[reading.answer]}” with {name}" for name, reading in others.items() if reading.answer != full.answer
    ]
    if changed:
        return f"{answer} with all heads becomes {' and '.join(changed)}"
    shares = ", ".join(
        f"{percent(float(reading.probabilities[full.answer]), 0)} with {name}" for name, reading in models.items()
    )
    return f"The {prediction} stays {answer}: {shares}"


def _draw_attention(full: TextReading, kept: TextReading, kept_units: str) -> None:
    shown = figures.words_to_show(full, kept)
    words = len(kept.tokens) - int(kept.special.sum())
    if not shown:
        return
    best = max(shown, key=lambda place: float(kept.attention[place]))
    title = f"The {kept_units} attend most to “{kept.tokens[best][:24]}” ({percent(float(kept.attention[best]))})"
    if kept.special.any():
        special = float(kept.attention[kept.special].sum())
        title += f"; {percent(special, 0)} goes to special tokens"
    some = ""
    if len(shown) < words:
        some = f" The {len(shown)} of {words} words with most attention are drawn."
    display.show(
        figures.looked_at_figure(full, kept, dark=display.is_dark()),
        title=title,
        help="The share of attention on each word, averaged over heads and query tokens. Bars: the kept heads in the "
        "pruned model. Circles: all heads in the full model. Special tokens such as [CLS] and [SEP] get the rest; the "
        f"table lists all tokens.{some}",
        formula=r"a_j=\frac{1}{|K|\,S}\sum_{h\in K}\sum_{i=1}^{S}A^{(h)}_{ij}",
        name="own-text-attention",
        data={
            "token": list(kept.tokens),
            "is a word": (~kept.special).tolist(),
            "all heads": full.attention.round(5).tolist(),
            "kept heads": kept.attention.round(5).tolist(),
        },
    )


def _draw_curve(explorer: Explorer, curve: AnswersOverBudgets, full: TextReading) -> None:
    total = explorer.card.layers * explorer.card.heads
    classes = explorer.bench.class_names
    if curve.words is not None:
        classes = tuple(curve.words.values())
    names = {**(full.words or {}), **(curve.words or {})} or dict(enumerate(classes))
    answer = f"“{names[full.answer]}”"
    steady = curve.steady_down_to(full.answer)
    if steady == curve.budgets[0]:
        title = f"The prediction is {answer} at every budget"
    elif steady is None:
        title = f"The prediction is {answer} only with all heads"
    else:
        title = f"The prediction stays {answer} down to {steady} of {total} {explorer.card.unit}s, as pruned"
    display.show(
        figures.over_budgets_figure(curve, classes, explorer.mask.count, dark=display.is_dark()),
        title=title,
        help=f"The probability of each {explorer.card.words.answer} for this text at "
        f"{len(curve.budgets)} measured budgets, as pruned. The "
        "dashed line is the budget on the board.",
        name="own-text-budgets",
        data={
            "heads kept": list(curve.budgets),
            **{name: curve.probabilities[:, place].round(5).tolist() for place, name in enumerate(classes)},
        },
    )


TAB = Panel("Budget", "Your own text", draw, place=10, name="text")
