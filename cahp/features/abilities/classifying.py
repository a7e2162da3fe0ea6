"""The abilities of a classifier: classes, lengths, negations, typing errors and texts of another kind.

Where there are labels, an item's value is whether the model predicts the label. Where there are none, it is whether it
predicts the same class as the full model. The full model then has the value 1 by definition, and chance is the share of
such agreement that is left if a model keeps the full model's class frequencies but ignores the texts. The part of that
lead which a model keeps is Cohen's kappa (1960) with these frequencies: ``lost`` is a kappa below 0.5, and ``kept`` is
one significantly above 0.9.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cahp.data import BBC_NEWS, MANUAL, load
from cahp.features.abilities.record import ItemValues
from cahp.run import Bench, Recovered
from cahp.tasks import NO_LABEL, Evaluation, Texts
from cahp.values import DataError, HeadMask, Ints, spread

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


class _Rows:
    """The answers of the models to the same texts, ``full``, ``pruned`` and, if any, ``recovered``: rows of a receipt.

    The class of a text that counts as right, ``wanted (n,)``, is its label, or without labels what the full model
    predicts.
    """

    def __init__(self, texts: Texts, by_model: Mapping[str, Evaluation]) -> None:
        self.labelled = texts.labelled
        predicted = by_model["full"].predictions
        self.wanted = texts.labels if texts.labelled else predicted
        # How often the full model predicts the right class of each text, on all of these texts.
        self._chances = (np.bincount(predicted, minlength=len(texts.classes)) / len(texts))[self.wanted]
        self._right = {state: (answers.predictions == self.wanted) * 1.0 for state, answers in by_model.items()}

    def make(self, name: str, label: str, rows: Ints | slice = slice(None)) -> ItemValues:
        """Return the row of an ability on some of the texts; without any, the row says so."""
        chance = self._chances[rows]
        if not len(chance):
            return ItemValues(name, label, reason="no text is of this kind")
        values = {state: right[rows] for state, right in self._right.items()}
        return ItemValues(name, label, chance=chance, values=values, by_definition=not self.labelled)


def classify_items(bench: Bench, mask: HeadMask, recovered: Recovered | None) -> list[ItemValues]:
    """Measure the items of all abilities of a pruned classifier, and of the recovered one, beside the full model's.

    The evaluation texts are read anyway; at most 210 further texts are read by each model.
    """
    evaluate = bench.measurements.evaluate

    def answer(texts: Texts) -> _Rows:
        by_model = {"full": evaluate(texts), "pruned": evaluate(texts, mask=mask)}
        if recovered is not None:
            by_model["recovered"] = evaluate(texts, mask=mask, recovered=recovered)
        return _Rows(texts, by_model)

    texts = bench.evaluation
    answers = answer(texts)
    rows = [*_list_classes(answers, bench.class_names), *_list_lengths(answers, texts)]
    rows.append(answers.make("negation", "negations", find_negations(texts)))
    typed = mistype(texts.sample(_MISTYPED), bench.settings.seed)
    rows.append(answer(typed).make("typing_errors", "typing errors"))
    label = "another kind of text"
    try:
        rows.append(answer(read_neutral(bench)).make("neutral", label))
    except DataError as error:
        rows.append(ItemValues("neutral", label, reason=str(error)))
    return rows


def _list_classes(answers: _Rows, names: Sequence[str]) -> Iterator[ItemValues]:
    """Yield the recall of each class, the most frequent ones first."""
    wanted = answers.wanted
    frequent = np.argsort(-np.bincount(wanted, minlength=len(names)), kind="stable")[:CLASSES]
    for place in sorted(frequent.tolist()):
        yield answers.make(f"recall_{place}", f"class {names[place]}", np.flatnonzero(wanted == place))
    if len(names) > CLASSES:
        others = np.flatnonzero(~np.isin(wanted, frequent))
        yield answers.make("recall_others", f"the {len(names) - CLASSES} rarer classes", others)


def _list_lengths(answers: _Rows, texts: Texts) -> Iterator[ItemValues]:
    """Yield the quartiles of text length, from short to long; texts of one length stay together."""
    words = np.array([len(text.split()) for text in _join(texts)])
    ends = np.unique(np.quantile(words, [0.25, 0.5, 0.75, 1.0], method="inverted_cdf")).astype(int).tolist()
    start = int(words.min())
    for place, end in enumerate(ends):
        label = f"{start} to {end} words"
        if start == end:
            label = f"{start} words"
        yield answers.make(f"length_{place + 1}", label, np.flatnonzero((words >= start) & (words <= end)))
        start = end + 1


def find_negations(texts: Texts) -> Ints:
    """Return the rows of texts, or pairs, that hold an English word which negates."""
    return np.flatnonzero([_NEGATION.search(text) is not None for text in _join(texts)])


def _join(texts: Texts) -> list[str]:
    """Return each text, the two of a pair as one."""
    seconds = texts.second or [""] * len(texts)
    return [f"{first} {second}" for first, second in zip(texts.plain_texts, seconds, strict=True)]


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
