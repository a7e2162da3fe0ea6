"""The description of a model before its weights are read, and the prompt that makes a language model a classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cahp.models.costs import CacheShape, KvCache, Saving
from cahp.tasks import CLASSIFICATION, NEXT_TOKEN, Task
from cahp.tasks.task import TaskWords
from cahp.values import Estimate, HeadMask, Input, OptionError

#: The kind of a language model: it continues a text (``causal``) or fills a gap in it (``masked``).
Language = Literal["causal", "masked"]

#: How weights are kept in memory: in float32, as their file stores them, or rounded to bfloat16.
Dtype = Literal["float32", "auto", "bfloat16"]

_PLACE = re.compile(r"\{([A-Za-z_]+)\}")
_LONGEST_PROMPT = 20_000
_MOST_ANSWERS = 1_000


@dataclass(frozen=True)
class Prompt:
    """A prompt and its expected answers: the next word of a text, or the word in a gap, is the class.

    ``template`` has the places ``{text}``, or ``{premise}`` and ``{hypothesis}`` for pairs, and ``{mask}`` for the gap
    of a masked model; ``answers`` are the classes, in the order of their scores.

    Raises:
        OptionError: If a place is missing, unknown or repeated, or there are fewer than two different answers.
    """

    template: str
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(answer.strip() for answer in self.answers))
        places = _PLACE.findall(self.template)
        if unknown := [place for place in places if place not in ("text", "premise", "hypothesis", "mask")]:
            raise OptionError(
                f"the prompt has the unknown placeholder {{{unknown[0][:40]}}}; use {{text}}, {{premise}}, "
                "{hypothesis} and {mask}"
            )
        if {"text"} != set(places) - {"mask"} != {"premise", "hypothesis"}:
            raise OptionError(
                "the prompt has no placeholder for the text; write {text} once, or {premise} and {hypothesis} for "
                'pairs, as in "{text} It was"'
            )
        if len(set(places)) < len(places):
            raise OptionError(
                "the prompt repeats a placeholder; write {text}, {premise}, {hypothesis} and {mask} only once"
            )
        if len(self.template) > _LONGEST_PROMPT or len(self.answers) > _MOST_ANSWERS:
            raise OptionError(
                f"the prompt is too long; use at most {_LONGEST_PROMPT:,} characters and {_MOST_ANSWERS:,} answers"
            )
        if len(set(self.answers) - {""}) < max(2, len(self.answers)):
            raise OptionError('too few different answers; name one for each class, as in --answers "terrible,great"')

    @property
    def pairs(self) -> bool:
        """Whether the inputs are pairs of texts."""
        return "{premise}" in self.template

    @property
    def masked(self) -> bool:
        """Whether the answer fills a gap."""
        return "{mask}" in self.template

    def render(self, example: Input, mask: str = "{mask}") -> str:
        """Fill in a text or a pair, with ``mask`` in the gap."""
        if isinstance(example, str):
            example = (example, "")
        first, second = example
        values = {"text": first, "premise": first, "hypothesis": second, "mask": mask}
        # In one pass, so that braces inside a text are no places.
        return _PLACE.sub(lambda place: values[place[1]], self.template)


@dataclass(frozen=True)
class AnswerToken:
    """An answer and its first token, ``shown`` as text; ``whole`` if it has no other token."""

    word: str
    token: int
    shown: str
    whole: bool


@dataclass(frozen=True)
class PromptExample:
    """An input in its prompt, ``prompted``, and the answers that a language model may give.

    The tokenizer puts ``ending`` tokens after a prompt, which are left out before the answer of a causal model.
    """

    prompted: str
    answers: tuple[AnswerToken, ...]
    ending: int = 0

    @property
    def notice(self) -> str | None:
        """What the user should know about answers of several tokens."""
        parts = [f"{answer.word!r} by {answer.shown!r}" for answer in self.answers if not answer.whole]
        if not parts:
            return None
        return f"answers of several tokens are recognised by their first: {', '.join(parts[:20])}"


@dataclass(frozen=True)
class ModelCard:
    """The description of a model before its weights are read.

    ``heads`` is the number of units that can be removed from a layer. Each stands for ``group`` query heads that share
    keys and values, and has ``head_size`` channels of the output projection. ``labels`` are the class names in the
    order of the logits. ``sha256`` is the digest of configuration, tokenizer and weights, which lie in ``folder``; it
    is empty if the weights were not downloaded (``cahp.models.preview``). ``kept`` lists the heads of each layer if the
    model was pruned before. ``no_refit``, ``no_cut`` and ``no_onnx`` are the reasons, if any, why projections cannot be
    refitted, heads can be masked but not cut, and the model cannot be exported as ONNX. ``places`` are the indices of
    the layers with heads, if some have none. A language model (``language``) has no classes of its own: they are the
    answers of its ``prompt``, which is then part of ``sha256``; without one a causal model ``predicts_tokens``.
    ``source`` is the GGUF file that is converted into ``folder``, if any; ``sha256`` is then made from its digest.
    ``cache`` is the size of the keys and values that a causal language model caches (None: another model, or the size
    is not known). ``dtype`` says how weights are kept; where it changes numbers, ``sha256`` includes it. Of a longer
    text ``max_length`` tokens are read (None: what the model reads, at most 512), which ``sha256`` includes, too;
    ``whole_sha256`` is the digest without it (empty: ``sha256``). ``files_sha256`` is the digest of the model's files,
    without a prompt or a rounding, either (empty: that of ``whole_sha256``).
    """

    id: str
    revision: str | None
    family: str
    layers: int
    heads: int
    head_size: int
    hidden: int
    labels: tuple[str, ...]
    sha256: str
    folder: str
    adapter: str | None = None
    details: Mapping[str, Any] | None = None
    group: int = 1
    kept: tuple[tuple[int, ...], ...] | None = None
    no_refit: str | None = None
    notes: tuple[str, ...] = ()
    language: Language | None = None
    prompt: Prompt | None = None
    no_cut: str | None = None
    no_onnx: str | None = None
    places: tuple[int, ...] | None = None
    source: str | None = None
    cache: CacheShape | None = None
    dtype: Dtype = "float32"
    max_length: int | None = None
    whole_sha256: str = ""
    files_sha256: str = ""

    @property
    def origin(self) -> str:
        """The digest of the model's files, whatever prompt it gets, and however it keeps weights or cuts texts."""
        return self.files_sha256 or self.identity

    @property
    def identity(self) -> str:
        """The digest of the model itself, however much of a text it reads; keys of results need ``sha256``."""
        return self.whole_sha256 or self.sha256

    @property
    def attention_weights(self) -> float | None:
        """Share of the weights in the projections of attention: the most that pruning heads can remove."""
        details = self.details or {}
        attention = details.get("attention")
        every = details.get("parameters")
        if not attention or not every or self.kept is not None:
            return None
        return float(attention / every)

    @property
    def predicts_tokens(self) -> bool:
        """Whether it is a language model that is measured on the tokens of texts, without a prompt."""
        return self.task.predicts_often

    @property
    def unit(self) -> str:
        """What is kept or pruned, as sentences call it: a head, or a group of heads that share keys and values."""
        return "head" if self.group == 1 else "group"

    @property
    def task(self) -> Task:
        """What it predicts: without classes, the next tokens of texts if it is a causal language model."""
        if self.language == "causal" and not self.labels:
            return NEXT_TOKEN
        return CLASSIFICATION

    @property
    def words(self) -> TaskWords:
        """The words for what it predicts, and for what it is measured on."""
        return self.task.words

    @property
    def describes_task(self) -> str:
        """What it does, in words."""
        if self.labels:
            return f"{len(self.labels)} classes"
        return f"predicts the {self.words.answer}"

    @property
    def longest_context(self) -> int | None:
        """The most tokens that a causal language model keeps keys and values of (None: no limit, or another model)."""
        if self.cache is None:
            return None
        return self.cache.positions

    @property
    def saves(self) -> Saving:
        """What removing its heads saves first: memory of a language model that caches keys and values, or else time."""
        return "time" if self.cache is None else "cache"

    def count_cached_bytes(self, mask: HeadMask, context: int) -> int:
        """Count the bytes of keys and values that it caches of a context (0: it caches none)."""
        if self.cache is None:
            return 0
        return self.cache.of_context(mask, context)

    def measure_cache(self, mask: HeadMask) -> KvCache | None:
        """Count the cache of keys and values with all heads and under a mask (None: it has none)."""
        return KvCache.of(self.cache, mask)

    def count_cache_ratio(self, mask: HeadMask) -> Estimate | None:
        """Count the bytes of its cache under a mask relative to all heads (None: it has no cache)."""
        if self.cache is None:
            return None
        return self.cache.ratio(mask)

    @property
    def cacheable_weights(self) -> float | None:
        """``attention_weights`` of a causal language model, whose cache they bound (None: another model)."""
        if self.cache is None:
            return None
        return self.attention_weights
