"""What abilities are measured on: sequences of tokens, and which predictions of them count."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.values import Floats, Ints, Unit, digest


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


@dataclass(frozen=True, eq=False)
class Items:
    """The items of one ability: ``count`` of them, each with ``parts`` parts, read in ``probes``."""

    probes: tuple[AskedSequence, ...]
    count: int
    parts: int

    @cached_property
    def sha256(self) -> str:
        """Digest of everything that a model reads and is measured on."""
        contents: list[bytes] = []
        for probe in self.probes:
            arrays = (np.array([probe.item]), probe.ids, probe.asked, probe.targets, probe.parts)
            contents += [np.asarray(array, dtype=np.int64).tobytes() for array in arrays]
        return digest(*contents, f"{self.count} x {self.parts}")

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """How many predictions count for each part of each item ``(count, parts)``."""
        sizes = np.zeros((self.count, self.parts), dtype=np.int64)
        for probe in self.probes:
            sizes[probe.item] += np.bincount(probe.parts, minlength=self.parts)
        return sizes

    @property
    def tokens(self) -> int:
        """Number of tokens that a model reads."""
        return sum(len(ids) for ids, _ in self.readings)

    @cached_property
    def readings(self) -> list[tuple[Ints, list[AskedSequence]]]:
        """The sequences that a model reads, each with the probes that it answers: those that it begins with.

        Options of a question have their prompt in common, and a causal model predicts the same after the same tokens.
        """
        readings: list[tuple[Ints, list[AskedSequence]]] = []
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


class ItemSource:
    """What items are made of: the tokenizer of a model, its limits, and the tokens of evaluation texts.

    ``start`` is the token that begins each sequence, ``usual`` are those of which texts consist, ``longest`` is the
    number of tokens that the model reads at once, and ``stream (T,)`` are the tokens of the evaluation texts in order.
    Random choices follow from ``seed`` and the name of the ability.
    """

    def __init__(
        self, tokenizer: Any, *, start: int, usual: Ints, longest: int, vocabulary: int, stream: Ints, seed: int
    ) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self.start = start
        self.usual = usual[usual < vocabulary]
        self.longest = longest
        self.stream = stream
        self.seed = seed

    def random(self, name: str) -> np.random.Generator:
        """Return a generator of random numbers for the ability ``name``."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def encode(self, text: str) -> list[int] | None:
        """Return the tokens of a text without special ones (None: a word is unknown)."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        unknown = self._tokenizer.unk_token_id
        if not ids or max(ids) >= self._vocabulary or (unknown in ids and unknown != self.start):
            return None
        return ids


#: Draws the items of an ability, or returns the reason why this model has none.
Draw = Callable[[ItemSource, Size, np.random.Generator], "Items | str"]


@dataclass(frozen=True)
class AbilityKind:
    """A row of the table of abilities.

    ``draw`` makes its items. ``value`` computes the values ``(n,)`` from the losses of their parts ``(n, parts)``, in
    nats: the mean of a part where ``means``, else its sum. ``chance`` is the value without the ability, ``size`` how
    many items it has, and ``quick`` how many of which length every run measures (None: it is measured on request). The
    loss of the part ``loss_part`` is shown as well, under the name ``loss_label``.
    """

    name: str
    label: str
    unit: Unit
    draw: Draw
    value: Callable[[Floats], Floats]
    size: Size
    quick: Size | None = None
    chance: float = 0.0
    means: bool = True
    loss_part: int | None = None
    loss_label: str = ""


# Values ----------------------------------------------------------------------------------------------------------


def subtract_second(losses: Floats) -> Floats:
    """Return the gain ``(n,)`` of the second part over the first: loss of the first minus that of the second."""
    return np.asarray(losses[:, 0] - losses[:, 1])


def prefer_first(losses: Floats) -> Floats:
    """Return for each item 1 if its first part is the most probable, else 0."""
    return np.where(losses[:, 0] < losses[:, 1:].min(axis=1), 1.0, 0.0)


# Items of choices ------------------------------------------------------------------------------------------------


def ask_choices(source: ItemSource, questions: Sequence[tuple[str, Sequence[str]]]) -> Items | str:
    """Make an item of each question: a text, and the options to continue it, the right one first.

    Options begin with their space. All questions have the same number of options.
    """
    probes: list[AskedSequence] = []
    for number, (text, options) in enumerate(questions):
        made = _ask(source, number, text, options)
        if isinstance(made, str):
            return made
        probes += made
    return Items(tuple(probes), len(questions), len(questions[0][1]))


def _ask(source: ItemSource, number: int, text: str, options: Sequence[str]) -> list[AskedSequence] | str:
    encoded: list[list[int]] = []
    for option in options:
        ids = source.encode(text + option)
        if ids is None:
            return "its tokenizer does not know the words"
        encoded.append([source.start, *ids])
    longest = max(map(len, encoded))
    if longest > source.longest:
        return f"it reads {source.longest:,} tokens at once, and an item has {longest:,}"
    if len({tuple(ids) for ids in encoded}) < len(encoded):
        return "its tokenizer does not tell the options apart"
    shared = _count_shared(encoded)
    if all(len(ids) == shared + 1 for ids in encoded):
        # Options of a single token are read at once.
        last = np.array([ids[-1] for ids in encoded])
        asked = np.full(len(encoded), shared - 1)
        return [AskedSequence(number, np.array(encoded[0][:-1]), asked, last, np.arange(len(encoded)))]
    probes: list[AskedSequence] = []
    for part, option_ids in enumerate(encoded):
        whole = np.array(option_ids)
        asked = np.arange(shared - 1, len(whole) - 1)
        probes.append(AskedSequence(number, whole[:-1], asked, whole[asked + 1], np.full(len(asked), part)))
    return probes


def _count_shared(encoded: Sequence[Sequence[int]]) -> int:
    """How many tokens all options begin with; of each at least one is left."""
    shared = min(map(len, encoded)) - 1
    for place in range(shared):
        if len({ids[place] for ids in encoded}) > 1:
            return place
    return shared
