"""The abilities of a classifier: classes, lengths, negations, typing errors and texts of another kind.

Where there are labels, an item's value is whether the model predicts the label. Where there are none, it is whether it
predicts the same class as the full model. The full model then has the value 1 by definition, and chance is the share of
such agreement that is left if a model keeps the full model's class frequencies but ignores the texts. The part of that
lead which a model keeps is Cohen's kappa (1960) with these frequencies: ``lost`` is a kappa below 0.5, and ``kept`` is
one surely above 0.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cahp.data import BBC_NEWS, MANUAL, load
from cahp.features.abilities.record import AbilitiesRecord, ItemValues, decide
from cahp.run import Bench, Recovered
from cahp.tasks import NO_LABEL, Evaluation, Texts
from cahp.values import DataError, Floats, HeadMask, Input, Ints, spread

#: One word in so many is mistyped, and at least one of a text.
ONE_IN = 8
#: Words of at least four letters; the first letter stays.
_WORD = re.compile(r"[^\W\d_]{4,}")


def mistype(texts: Texts, seed: int) -> Texts:
    """Return texts with typing errors; those of a text depend on ``seed`` and on the text alone.

    The second texts of pairs get errors as well.
    """
    first = tuple(mistype_text(text, seed) for text in texts.plain_texts)
    second = texts.second
    if second is not None:
        second = tuple(mistype_text(text, seed) for text in second)
    return replace(texts, first=first, second=second)


def mistype_text(text: str, seed: int) -> str:
    """Put a typing error into one of eight words of a text, at least into one; a text of short words stays."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    random = np.random.default_rng([seed, *text.encode()])
    chosen = random.choice(len(words), max(1, round(len(words) / ONE_IN)), replace=False)
    # From the end, so that earlier places stay where they are.
    for place in sorted(chosen.tolist(), reverse=True):
        start, end = words[place].span()
        text = text[:start] + _mistype_word(text[start:end], random) + text[end:]
    return text


def _mistype_word(word: str, random: np.random.Generator) -> str:
    """Swap two neighbouring letters, leave one out, or type one twice; never the first. Of two equal ones, one goes."""
    place = int(random.integers(1, len(word) - 1))
    kind = random.integers(3)
    if kind == 0 and word[place] != word[place + 1]:
        return f"{word[:place]}{word[place + 1]}{word[place]}{word[place + 2 :]}"
    if kind < 2:
        return word[:place] + word[place + 1 :]
    return word[: place + 1] + word[place:]


#: So many of the most frequent classes have a row of their own; the others share one.
CLASSES = 10
#: Evaluation texts into which typing errors are put, and neutral texts with their words, at most.
_MISTYPED = 150
_NEUTRAL = 60
_WORDS = 40
#: Words that negate, in English.
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|nowhere|nor|neither|without|cannot)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers of the models to the same texts: ``full``, ``pruned`` and, if any, ``recovered``."""

    texts: Texts
    by_model: dict[str, Evaluation]

    @property
    def wanted(self) -> Ints:
        """The class of each text that counts as right ``(n,)``: its label, or what the full model predicts."""
        if self.texts.labelled:
            return self.texts.labels
        return self.by_model["full"].predictions

    @property
    def chances(self) -> Floats:
        """For each text ``(n,)``, how often the full model predicts its right class on all of these texts."""
        classes = len(self.texts.classes)
        shares = np.bincount(self.by_model["full"].predictions, minlength=classes) / len(self.texts)
        return np.asarray(shares[self.wanted])

    def make_row(self, name: str, label: str, rows: Ints) -> ItemValues:
        """Return the row of an ability on some of the texts; without any, the row says so."""
        if not len(rows):
            return ItemValues(name, label, reason="no text is of this kind")
        right = {state: (answers.predictions == self.wanted)[rows] for state, answers in self.by_model.items()}
        values = {state: same.astype(np.float64) for state, same in right.items()}
        return ItemValues(name, label, chance=self.chances[rows], values=values, by_definition=not self.texts.labelled)


def measure_classifier(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> AbilitiesRecord:
    """Measure all abilities of a pruned classifier, and of the recovered one, beside the full model's.

    The evaluation texts are read anyway; at most 210 further texts are read by each model.
    """

    def answer(texts: Texts) -> _Answers:
        measurements = bench.measurements
        by_model = {"full": measurements.evaluate(texts), "pruned": measurements.evaluate(texts, mask=mask)}
        if recovered is not None:
            by_model["recovered"] = measurements.evaluate(texts, mask=mask, recovered=recovered)
        return _Answers(texts, by_model)

    answers = answer(bench.evaluation)
    rows = [*_list_classes(answers, bench.class_names), *_list_lengths(answers)]
    rows.append(answers.make_row("negation", "negations", find_negations(bench.evaluation)))
    typed = answer(mistype(bench.evaluation.sample(_MISTYPED), bench.settings.seed))
    rows.append(typed.make_row("typing_errors", "typing errors", np.arange(len(typed.texts))))
    label = "another kind of text"
    try:
        neutral = answer(read_neutral(bench))
    except DataError as error:
        rows.append(ItemValues("neutral", label, reason=str(error)))
    else:
        rows.append(neutral.make_row("neutral", label, np.arange(len(neutral.texts))))
    return AbilitiesRecord(decide(rows, bench.settings.seed), complete=True)


def _list_classes(answers: _Answers, names: Sequence[str]) -> Iterator[ItemValues]:
    """Yield the recall of each class, the most frequent ones first."""
    wanted = answers.wanted
    counts = np.bincount(wanted, minlength=len(names))
    frequent = np.argsort(-counts, kind="stable")[:CLASSES]
    for place in sorted(frequent.tolist()):
        yield answers.make_row(f"recall_{place}", f"class {names[place]}", np.flatnonzero(wanted == place))
    if len(names) > CLASSES:
        others = np.flatnonzero(~np.isin(wanted, frequent))
        yield answers.make_row("recall_others", f"the {len(names) - CLASSES} rarer classes", others)


def _list_lengths(answers: _Answers) -> Iterator[ItemValues]:
    """Yield the quartiles of text length, from short to long; texts of one length stay together."""
    words = count_words(answers.texts)
    ends = np.unique(np.quantile(words, [0.25, 0.5, 0.75, 1.0], method="inverted_cdf")).astype(int).tolist()
    start = int(words.min())
    for place, end in enumerate(ends):
        label = f"{start} to {end} words"
        if start == end:
            label = f"{start} words"
        yield answers.make_row(f"length_{place + 1}", label, np.flatnonzero((words >= start) & (words <= end)))
        start = end + 1


def count_words(texts: Texts) -> Ints:
    """Count the words of each text ``(n,)``, of a pair those of both."""
    return np.array([len(_join(one).split()) for one in texts.plain_inputs], dtype=np.int64)


def find_negations(texts: Texts) -> Ints:
    """Return the rows of texts, or pairs, that hold an English word which negates."""
    return np.flatnonzero([_NEGATION.search(_join(one)) is not None for one in texts.plain_inputs])


def _join(text: Input) -> str:
    if isinstance(text, str):
        return text
    return " ".join(text)


def read_neutral(bench: Bench) -> Texts:
    """Read the first words of paragraphs of the manual of Python (of news, if the task has the manual), without labels.

    A model that reads pairs gets the two halves of a paragraph.

    Raises:
        DataError: If this Python has no manual.
    """
    source = MANUAL
    if bench.dataset.id == MANUAL:
        source = BBC_NEWS
    own = bench.evaluation
    pool = load(source).split("train")
    pool = pool.take(spread(len(pool), _NEUTRAL))
    labels = np.full(len(pool), NO_LABEL, dtype=np.int64)
    words = [text.split()[:_WORDS] for text in pool.plain_texts]
    first = tuple(" ".join(one) for one in words)
    second = None
    if own.second is not None:
        first = tuple(" ".join(one[: len(one) // 2]) for one in words)
        second = tuple(" ".join(one[len(one) // 2 :]) for one in words)
    return replace(own, first=first, second=second, labels=labels)
