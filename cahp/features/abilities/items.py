"""What abilities are measured on: sequences of tokens, and which predictions of them count."""

import tomllib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from cahp.values import Ints, Unit, digest

#: The words and sentences of items that are our own.
TEXTS = tomllib.loads(Path(__file__).with_name("sentences.toml").read_text(encoding="utf-8"))
#: A text, and the options that may continue it, the right one first.
Question = tuple[str, Sequence[str]]


class NotMeasurable(Exception):
    """Says why a model has no items of an ability."""


@dataclass(frozen=True, eq=False)
class AskedSequence:
    """Tokens ``ids (S,)`` that a model reads for the item ``item``.

    The tokens ``targets (Q,)`` are measured as those after the positions ``asked (Q,)``, and their losses count for the
    parts ``parts (Q,)`` of the item.
    """

    item: int
    ids: Ints
    asked: Ints
    targets: Ints
    parts: Ints


#: A sequence that a model reads, and the probes that it answers.
Reading = tuple[Ints, list[AskedSequence]]


@dataclass(frozen=True, eq=False)
class Items:
    """The items of one ability: ``count`` of them, each with ``parts`` parts, read in ``probes``."""

    probes: Sequence[AskedSequence]
    count: int
    parts: int

    @property
    def sha256(self) -> str:
        """Digest of everything that a model reads and is measured on."""
        contents = []
        for probe in self.probes:
            arrays = (np.array([probe.item]), probe.ids, probe.asked, probe.targets, probe.parts)
            contents += [np.asarray(array, dtype=np.int64).tobytes() for array in arrays]
        return digest(*contents, f"{self.count} x {self.parts}")

    @property
    def sizes(self) -> Ints:
        """How many predictions count for each part of each item ``(count, parts)``."""
        sizes = np.zeros((self.count, self.parts), dtype=np.int64)
        for probe in self.probes:
            sizes[probe.item] += np.bincount(probe.parts, minlength=self.parts)
        return sizes

    @property
    def readings(self) -> list[Reading]:
        """The sequences that a model reads, each with the probes that it answers: those that it begins with.

        Options of a question have their prompt in common, and a causal model predicts the same after the same tokens.
        """
        readings: list[Reading] = []
        # What begins another sequence stands before it, with nothing in between that it does not begin.
        for probe in sorted(self.probes, key=lambda probe: probe.ids.tolist(), reverse=True):
            if readings and np.array_equal(readings[-1][0][: len(probe.ids)], probe.ids):
                readings[-1][1].append(probe)
            else:
                readings.append((probe.ids, [probe]))
        return readings


@dataclass(frozen=True)
class Size:
    """How many items an ability has, and the ``shortest`` and ``longest`` text of one in tokens, where they vary."""

    items: int
    shortest: int = 0
    longest: int = 0


@dataclass
class ItemSource:
    """What items are made of: the tokenizer of a model, its limits, and the tokens of evaluation texts.

    ``start`` is the token that begins each sequence, ``usual`` are those of which texts consist, ``longest`` is the
    number of tokens that the model reads at once, and ``stream (T,)`` are the tokens of the evaluation texts in order.
    Random choices follow from ``seed`` and the name of the ability.
    """

    tokenizer: Any
    start: int
    usual: Ints
    longest: int
    vocabulary: int
    stream: Ints
    seed: int

    def random(self, name: str) -> Generator:
        """Return a generator of random numbers for the ability ``name``."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text after the beginning one.

        Raises:
            NotMeasurable: If a word is unknown, or the model reads fewer tokens.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        if not ids or max(ids) >= self.vocabulary or (unknown in ids and unknown != self.start):
            raise NotMeasurable("its tokenizer does not know the words")
        if len(ids) + 1 > self.longest:
            raise NotMeasurable(f"it reads {self.longest:,} tokens at once, and an item has {len(ids) + 1:,}")
        return [self.start, *ids]


#: Draws the items of an ability.
Draw = Callable[[ItemSource, Size, Generator], Items]


@dataclass(frozen=True)
class AbilityKind:
    """A row of the table of abilities.

    ``draw`` makes its items, or raises ``NotMeasurable``. A ``share`` of them is right: their first part, the right
    option, is the most probable one. In ``nats`` the value of an item is the mean loss of its first part minus that of
    the second. ``chance`` is the value without the ability, ``size`` how many items it has, and ``quick`` how many of
    which length every run measures (None: it is measured on request). The loss of the second part is shown as well if
    there is a ``loss_label``.
    """

    name: str
    label: str
    unit: Unit
    draw: Draw
    size: Size
    quick: Size | None = None
    chance: float = 0.0
    loss_label: str = ""


def ask_choices(source: ItemSource, questions: Sequence[Question]) -> Items:
    """Make an item of each question: a text, and the options to continue it, the right one first.

    Options begin with their space. All questions have the same number of options.
    """
    probes = []
    for number, (text, options) in enumerate(questions):
        encoded = [source.encode(text + option) for option in options]
        if len({tuple(ids) for ids in encoded}) < len(encoded):
            raise NotMeasurable("its tokenizer does not tell the options apart")
        # The tokens that all options begin with; of each at least one is left.
        shared = 0
        while shared < min(map(len, encoded)) - 1 and len({ids[shared] for ids in encoded}) == 1:
            shared += 1
        for part, option_ids in enumerate(encoded):
            probes.append(_ask_rest(number, np.array(option_ids), shared, part))
    return Items(probes, len(questions), len(questions[0][1]))


def _ask_rest(item: int, ids: Ints, start: int, part: int) -> AskedSequence:
    """Measure the tokens of a sequence from ``start`` on as one part of an item."""
    asked = np.arange(start - 1, len(ids) - 1)
    return AskedSequence(item, ids[:-1], asked, ids[asked + 1], np.full(len(asked), part))


#: Fewer tokens are no passage.
_FEWEST = 4
_FEW = "the evaluation texts have too few tokens"
#: Each token of the evaluation texts is in at most so many passages.
_LAPS = 2
#: Tokens of a segment whose loss is compared with and without the text before it.
_SEGMENT = 32


def repeat_text(source: ItemSource, size: Size, random: Generator) -> Items:
    """Draw passages of the evaluation texts, each read twice; none overlaps, unless there are too few tokens.

    The parts of an item are the first and the second reading, each without its first token.
    """
    lengths = _draw_lengths(source, size, random, len(source.stream))
    passages = []
    begin = int(random.integers(lengths[0]))
    laps = 1
    for length in lengths:
        if begin + length > len(source.stream):
            laps += 1
            begin = int(random.integers(lengths[0]))
        if laps > _LAPS or begin + length > len(source.stream):
            break
        passages.append(source.stream[begin : begin + length])
        begin += length
    return _read_twice(source, passages)


def repeat_random(source: ItemSource, size: Size, random: Generator) -> Items:
    """Draw sequences of different random tokens, each read twice; parts as in ``repeat_text``."""
    lengths = _draw_lengths(source, size, random, len(source.usual))
    return _read_twice(source, [random.choice(source.usual, length, replace=False) for length in lengths])


def _draw_lengths(source: ItemSource, size: Size, random: Generator, most: int) -> list[int]:
    """Draw the lengths of passages, log-uniformly, so that two of each fit the model, and ``most`` tokens do."""
    longest = min(size.longest, (source.longest - 1) // 2, most)
    if longest < _FEWEST:
        raise NotMeasurable(
            f"it reads {source.longest:,} tokens at once and there are {most:,}, too few for a passage read twice"
        )
    shortest = min(size.shortest, max(_FEWEST, longest // 2))
    drawn = np.exp(random.uniform(np.log(shortest), np.log(longest + 1), size.items))
    return [int(length) for length in np.minimum(drawn, longest)]


def _read_twice(source: ItemSource, passages: Sequence[Ints]) -> Items:
    if not passages:
        raise NotMeasurable(_FEW)
    probes = []
    for item, passage in enumerate(passages):
        ids = np.concatenate([[source.start], passage, passage])
        length = len(passage)
        asked = np.concatenate([np.arange(1, length), np.arange(length + 1, 2 * length)])
        probes.append(AskedSequence(item, ids[:-1], asked, ids[asked + 1], np.repeat([0, 1], length - 1)))
    return Items(probes, len(probes), 2)


def use_context(source: ItemSource, size: Size, random: Generator) -> Items:
    """Draw segments of the evaluation texts, read alone and after the text before them.

    Both readings have the same tokens, so that the gain does not depend on which tokens come late in a document. The
    parts of an item are the segment alone and with its context, without the first token.
    """
    longest = min(size.longest, source.longest - 1 - _SEGMENT, len(source.stream) // 2)
    if longest < size.shortest:
        raise NotMeasurable(f"its context or the evaluation texts are too short for {size.shortest + _SEGMENT} tokens")
    places = np.arange(longest, len(source.stream) - _SEGMENT, _SEGMENT)
    probes = []
    chosen = np.sort(random.permutation(places)[: size.items])
    lengths = np.exp(random.uniform(np.log(size.shortest), np.log(longest), len(chosen))).astype(np.int64)
    for item, (begin, length) in enumerate(zip(chosen.tolist(), lengths.tolist(), strict=True)):
        for part, context in enumerate((0, length)):
            ids = np.concatenate([[source.start], source.stream[begin - context : begin + _SEGMENT]])
            probes.append(_ask_rest(item, ids, len(ids) - _SEGMENT + 1, part))
    if not len(chosen):
        raise NotMeasurable(_FEW)
    return Items(probes, len(chosen), 2)


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


def look_up(source: ItemSource, size: Size, random: Generator) -> Items:
    """Hide four facts in filler, and ask for one of them in other words; options are the values in the text."""
    most = max(0, (source.longest - _FACTS) // _SENTENCE)
    facts = TEXTS["facts"]
    questions = []
    for number in range(size.items):
        fact, asked, values = facts[number % len(facts)]
        distance = min(most, _DISTANCES[number // len(facts) % len(_DISTANCES)])
        names = _choose(random, TEXTS["names"], OPTIONS)
        chosen = _choose(random, values.split(), OPTIONS)
        lines = [fact.format(name=name, value=value) for name, value in zip(names, chosen, strict=True)]
        filler = random.choice(TEXTS["filler"], distance)
        place = int(random.integers(OPTIONS))
        text = "\n".join([*lines, " ".join(filler), asked.format(name=names[place])])
        questions.append((text, _put_first(chosen, place)))
    return ask_choices(source, questions)


def follow_pattern(source: ItemSource, size: Size, random: Generator) -> Items:
    """Show a mapping of words by examples, and ask for the next: capital letters, plurals, or pairs at random."""
    patterns = (_ask_capital, _ask_plural, _ask_pair)
    return ask_choices(source, [patterns[number % len(patterns)](random) for number in range(size.items)])


def _ask_capital(random: Generator) -> Question:
    words = _choose(random, list(TEXTS["nouns"]), _SHOWN + 1)
    letters = [word[0].upper() for word in words]
    return _show(words[:-1], letters[:-1], words[-1]), _space([letters[-1], *letters[: OPTIONS - 1]])


def _ask_plural(random: Generator) -> Question:
    words = _choose(random, list(TEXTS["nouns"]), _SHOWN + 1)
    plurals = [TEXTS["nouns"][word] for word in words]
    return _show(words[:-1], plurals[:-1], words[-1]), _space([plurals[-1], words[-1], *plurals[: OPTIONS - 2]])


def _ask_pair(random: Generator) -> Question:
    words = _choose(random, list(TEXTS["nouns"]), 2 * _SHOWN)
    values = words[_SHOWN:]
    place = int(random.integers(_SHOWN))
    return _show(words[:_SHOWN], values, words[place]), _put_first(values, place)[:OPTIONS]


def _show(words: Sequence[str], values: Sequence[str], asked: str) -> str:
    lines = [f"{word} -> {value}" for word, value in zip(words, values, strict=True)]
    return "\n".join([*lines, f"{asked} ->"])


def check_grammar(source: ItemSource, size: Size, random: Generator) -> Items:
    """Compare a grammatical continuation with one that is not: agreement across a distractor, and reflexives."""
    pairs = list(_list_pairs())
    order = random.permutation(len(pairs))
    return ask_choices(source, [pairs[place] for place in order[: size.items]])


def _list_pairs() -> Iterator[Question]:
    for forms in TEXTS["things"]:
        for distractors in TEXTS["places"]:
            for number, noun in enumerate(forms):
                # The distractor has the other number, so that the nearest noun misleads.
                text = f"The {noun} near the {distractors[1 - number]}"
                yield text, _put_first(["is", "are"], number)
                yield text, _put_first(["was", "were"], number)
    for person, right, wrong in TEXTS["persons"]:
        for other in TEXTS["others"]:
            yield f"The {person} who met the {other} saw", _space([right, wrong])


def ask_capitals(source: ItemSource, size: Size, random: Generator) -> Items:
    """Ask for the capital of each country once, in one of several ways; the other options are other capitals."""
    capitals = TEXTS["capitals"]
    questions = []
    for country in _choose(random, list(capitals), size.items):
        text = random.choice(TEXTS["capital_questions"])
        others = _choose(random, [city for name, city in capitals.items() if name != country], OPTIONS - 1)
        questions.append((text.format(country=country), _space([capitals[country], *others])))
    return ask_choices(source, questions)


def ask_sums(source: ItemSource, size: Size, random: Generator) -> Items:
    """Ask for sums below 20 after two examples; the other options are near and have as many digits."""
    sums = [(left, right) for left in range(1, _LARGEST) for right in range(1, _LARGEST - left)]
    questions = []
    for place in random.permutation(len(sums))[: size.items]:
        left, right = sums[place]
        total = left + right
        shown = [sums[other] for other in random.choice(len(sums), 2, replace=False) if other != place]
        lines = [f"{one} + {two} = {one + two}" for one, two in shown]
        as_long = [str(one) for one in range(2, 100) if len(str(one)) == len(str(total))]
        # The right one is the nearest.
        options = sorted(as_long, key=lambda one: abs(int(one) - total))[:OPTIONS]
        questions.append(("\n".join([*lines, f"{left} + {right} ="]), _space(options)))
    return ask_choices(source, questions)


def read_languages(source: ItemSource, size: Size, random: Generator) -> Items:
    """Compare sentences in French, German and Spanish with the same words in random order.

    The parts of an item are the mixed words and the sentence.
    """
    probes = []
    sentences = TEXTS["other_languages"][: size.items]
    for item, sentence in enumerate(sentences):
        mixed = " ".join(random.permutation(sentence.split(" ")))
        for part, text in enumerate((mixed, sentence)):
            probes.append(_ask_rest(item, np.array(source.encode(text)), 1, part))
    return Items(probes, len(sentences), 2)


def _choose(random: Generator, words: Sequence[str], count: int) -> list[str]:
    """Choose so many different words."""
    chosen: list[str] = random.permutation(words)[:count].tolist()
    return chosen


def _put_first(words: Sequence[str], place: int) -> list[str]:
    """Return the words as options, that at ``place`` first."""
    return _space([words[place], *words[:place], *words[place + 1 :]])


def _space(words: Sequence[str]) -> list[str]:
    return [f" {word}" for word in words]


def _list_questions(name: str, label: str, draw: Draw, items: int, *, options: int = OPTIONS) -> AbilityKind:
    """A row of questions with options."""
    return AbilityKind(name, label, "share", draw, Size(items), chance=1 / options)


def _list_repeated(name: str, label: str, draw: Draw) -> AbilityKind:
    """A row of sequences that are read twice; every run measures it."""
    sizes = (Size(64, 16, 256), Size(32, 16, 64))
    return AbilityKind(name, label, "nats", draw, *sizes, loss_label="loss of the second reading")


#: All abilities, in the order of a receipt.
ABILITIES = (
    _list_repeated("repeats_text", "repeats text", repeat_text),
    _list_repeated("repeats_random", "repeats random tokens", repeat_random),
    _list_questions("looks_up", "looks up", look_up, 32),
    _list_questions("follows_pattern", "follows a pattern", follow_pattern, 96),
    AbilityKind("uses_context", "uses context", "nats", use_context, Size(24, 64, 384)),
    _list_questions("grammar", "grammar", check_grammar, 96, options=2),
    _list_questions("facts", "facts", ask_capitals, 64),
    _list_questions("arithmetic", "arithmetic", ask_sums, 96),
    AbilityKind("languages", "other languages", "nats", read_languages, Size(36)),
)
