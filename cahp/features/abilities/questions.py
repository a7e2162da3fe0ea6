"""Abilities that are asked for in words: look up a fact, follow a pattern, grammar, capitals, sums, other languages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from cahp.features.abilities.items import AskedSequence, Items, ItemSource, Size, ask_choices
from cahp.features.abilities.sentences import (
    CAPITAL_QUESTIONS,
    CAPITALS,
    FACTS,
    FILLER,
    NAMES,
    NOUNS,
    OTHER_LANGUAGES,
    OTHERS,
    PERSONS,
    PLACES,
    THINGS,
)

#: Options of a question, the right one among them.
OPTIONS = 4
#: Sentences between the facts and the question.
_DISTANCES = (0, 4, 12, 24)
#: Tokens of a sentence of filler, at most.
_SENTENCE = 16
#: Tokens of the facts and the question, at most.
_FACTS = 80
#: Pairs that show a pattern.
_SHOWN = 6
#: Largest term and sum of additions.
_LARGEST = 20

#: A text, and the options that may continue it, the right one first.
Question = tuple[str, Sequence[str]]


def look_up(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Hide four facts in filler, and ask for one of them in other words; options are the values in the text."""
    most = max(0, (source.longest - _FACTS) // _SENTENCE)
    questions: list[Question] = []
    for number in range(size.items):
        fact, asked, values = FACTS[number % len(FACTS)]
        distance = min(most, _DISTANCES[number // len(FACTS) % len(_DISTANCES)])
        names = _choose(random, NAMES, OPTIONS)
        chosen = _choose(random, values.split(), OPTIONS)
        lines = [fact.format(name=name, value=value) for name, value in zip(names, chosen, strict=True)]
        filler = [FILLER[place % len(FILLER)] for place in random.integers(len(FILLER), size=distance)]
        place = int(random.integers(OPTIONS))
        text = "\n".join([*lines, " ".join(filler), asked.format(name=names[place])])
        questions.append((text, _put_first(chosen, place)))
    return ask_choices(source, questions)


def follow_pattern(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Show a mapping of words by examples, and ask for the next: capital letters, plurals, or pairs at random."""
    patterns = (_ask_capital, _ask_plural, _ask_pair)
    return ask_choices(source, [patterns[number % len(patterns)](random) for number in range(size.items)])


def _ask_capital(random: np.random.Generator) -> Question:
    words = _choose(random, list(NOUNS), _SHOWN + 1)
    letters = [word[0].upper() for word in words]
    return _show(words[:-1], letters[:-1], words[-1]), _space([letters[-1], *letters[: OPTIONS - 1]])


def _ask_plural(random: np.random.Generator) -> Question:
    words = _choose(random, list(NOUNS), _SHOWN + 1)
    plurals = [NOUNS[word] for word in words]
    return _show(words[:-1], plurals[:-1], words[-1]), _space([plurals[-1], words[-1], *plurals[: OPTIONS - 2]])


def _ask_pair(random: np.random.Generator) -> Question:
    words = _choose(random, list(NOUNS), 2 * _SHOWN)
    values = words[_SHOWN:]
    place = int(random.integers(_SHOWN))
    return _show(words[:_SHOWN], values, words[place]), _put_first(values, place)[:OPTIONS]


def _show(words: Sequence[str], values: Sequence[str], asked: str) -> str:
    lines = [f"{word} -> {value}" for word, value in zip(words, values, strict=True)]
    return "\n".join([*lines, f"{asked} ->"])


def check_grammar(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Compare a grammatical continuation with one that is not: agreement across a distractor, and reflexives."""
    pairs = list(_list_pairs())
    order = random.permutation(len(pairs))
    return ask_choices(source, [pairs[place] for place in order[: size.items]])


def _list_pairs() -> Iterator[Question]:
    for forms in THINGS:
        for distractors in PLACES:
            for number, noun in enumerate(forms):
                # The distractor has the other number, so that the nearest noun misleads.
                text = f"The {noun} near the {distractors[1 - number]}"
                yield text, _put_first(["is", "are"], number)
                yield text, _put_first(["was", "were"], number)
    for person, right, wrong in PERSONS:
        for other in OTHERS:
            yield f"The {person} who met the {other} saw", _space([right, wrong])


def ask_capitals(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Ask for the capital of each country once, in one of several ways; the other options are other capitals."""
    countries = list(CAPITALS)
    questions: list[Question] = []
    for place in random.permutation(len(countries))[: size.items]:
        country = countries[place]
        text = CAPITAL_QUESTIONS[random.integers(len(CAPITAL_QUESTIONS))]
        others = _choose(random, [city for name, city in CAPITALS.items() if name != country], OPTIONS - 1)
        questions.append((text.format(country=country), _space([CAPITALS[country], *others])))
    return ask_choices(source, questions)


def ask_sums(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Ask for sums below 20 after two examples; the other options are near and have as many digits."""
    sums = [(left, right) for left in range(1, _LARGEST) for right in range(1, _LARGEST - left)]
    questions: list[Question] = []
    for place in random.permutation(len(sums))[: size.items]:
        left, right = sums[place]
        total = left + right
        shown = [sums[other] for other in random.choice(len(sums), 2, replace=False) if other != place]
        lines = [f"{one} + {two} = {one + two}" for one, two in shown]
        near = sorted((one for one in range(2, 100) if one != total), key=lambda one: abs(one - total))
        options = islice((one for one in near if len(str(one)) == len(str(total))), OPTIONS - 1)
        questions.append(("\n".join([*lines, f"{left} + {right} ="]), _space([str(total), *map(str, options)])))
    return ask_choices(source, questions)


def read_languages(source: ItemSource, size: Size, random: np.random.Generator) -> Items | str:
    """Compare sentences in French, German and Spanish with the same words in random order.

    The parts of an item are the mixed words and the sentence.
    """
    probes: list[AskedSequence] = []
    sentences = OTHER_LANGUAGES[: size.items]
    for item, sentence in enumerate(sentences):
        words = sentence.split(" ")
        mixed = [words[place] for place in random.permutation(len(words))]
        for part, text in enumerate((" ".join(mixed), sentence)):
            encoded = source.encode(text)
            if encoded is None:
                return "its tokenizer does not know the words"
            if len(encoded) + 1 > source.longest:
                return f"it reads {source.longest:,} tokens at once, fewer than a sentence has"
            ids = np.array([source.start, *encoded])
            asked = np.arange(len(ids) - 1)
            probes.append(AskedSequence(item, ids[:-1], asked, ids[1:], np.full(len(asked), part)))
    return Items(tuple(probes), len(sentences), 2)


def _choose(random: np.random.Generator, words: Sequence[str], count: int) -> list[str]:
    """Choose so many different words."""
    return [words[place] for place in random.permutation(len(words))[:count]]


def _put_first(words: Sequence[str], place: int) -> list[str]:
    """Return the words as options, that at ``place`` first."""
    return _space([words[place], *words[:place], *words[place + 1 :]])


def _space(words: Sequence[str]) -> list[str]:
    return [f" {word}" for word in words]
