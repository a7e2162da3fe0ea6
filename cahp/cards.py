"""What is known of a model before its weights are read, and how a language model is asked for a class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cahp.values import Input, OptionError

#: A language model that goes on where a text stops (``causal``), or fills a gap in it (``masked``).
Language = Literal["causal", "masked"]

_PLACE = re.compile(r"\{([A-Za-z_]+)\}")
_LONGEST_PROMPT = 20_000
_MOST_ANSWERS = 1_000


@dataclass(frozen=True)
class Prompt:
    """How a language model is asked for a text's class: by a text to go on with or a gap to fill, and its answers.

    ``template`` has the places ``{text}``, or ``{premise}`` and ``{hypothesis}`` for pairs, and ``{mask}`` where a
    masked model answers; ``answers`` are the classes, in the order of their scores.

    Raises:
        OptionError: If a place is missing, unknown or there twice, or there are not two different answers.
    """

    template: str
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "answers", tuple(answer.strip() for answer in self.answers))
        places = _PLACE.findall(self.template)
        if unknown := [place for place in places if place not in ("text", "premise", "hypothesis", "mask")]:
            raise OptionError(
                f"the prompt has the place {{{unknown[0][:40]}}}, which means nothing; there are {{text}}, "
                "{premise}, {hypothesis} and {mask}"
            )
        if {"text"} != set(places) - {"mask"} != {"premise", "hypothesis"}:
            raise OptionError(
                "the prompt does not say where the text goes; write {text} once, or {premise} and {hypothesis} for "
                'pairs, as in "{text} It was"'
            )
        if len(set(places)) < len(places):
            raise OptionError("the prompt has one place twice; write {text}, {premise}, {hypothesis} and {mask} once")
        if len(self.template) > _LONGEST_PROMPT or len(self.answers) > _MOST_ANSWERS:
            raise OptionError(
                f"a prompt may have {_LONGEST_PROMPT:,} characters and {_MOST_ANSWERS:,} answers; shorten it"
            )
        if len(set(self.answers) - {""}) < max(2, len(self.answers)):
            raise OptionError(
                'the answers must be two different words or more, one for each class, as in --answers "terrible,great"'
            )

    @property
    def pairs(self) -> bool:
        """Whether it asks about pairs of texts."""
        return "{premise}" in self.template

    @property
    def masked(self) -> bool:
        """Whether the answer fills a gap."""
        return "{mask}" in self.template

    def rendered(self, one: Input, mask: str = "{mask}") -> str:
        """What the model reads of a text or a pair, with ``mask`` in the gap."""
        first, second = (one, "") if isinstance(one, str) else one
        said = {"text": first, "premise": first, "hypothesis": second, "mask": mask}
        # In one pass: what stands in braces inside a text is not a place.
        return _PLACE.sub(lambda found: said[found[1]], self.template)


@dataclass(frozen=True)
class AnswerToken:
    """An answer, and the token that stands for it, ``shown`` as text: its first, or its only one (``whole``)."""

    word: str
    token: int
    shown: str
    whole: bool


@dataclass(frozen=True)
class PromptReading:
    """What a language model reads of one input, ``prompted``, and what it may answer there.

    ``ending`` tokens are put after a prompt by its tokenizer, and are left out where a causal model answers.
    """

    prompted: str
    answers: tuple[AnswerToken, ...]
    ending: int = 0

    @property
    def notice(self) -> str | None:
        """What a person should know of answers that have more than one token."""
        parts = [f"{answer.word!r} by {answer.shown!r}" for answer in self.answers if not answer.whole]
        if not parts:
            return None
        return f"answers of several tokens are told by their first: {', '.join(parts[:20])}"


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model before its weights are read.

    ``heads`` are the units that can be removed from a layer: each stands for ``group`` query heads that share keys
    and values, and has ``head_size`` channels of the output projection. ``labels`` are the class names in the order of
    the logits; ``sha256`` is the digest of configuration, tokenizer and weights, empty where the weights of a model on
    the hub were not fetched (``cahp.models.preview``); ``folder`` is where they lie.
    ``kept`` lists the heads that each layer has left, if the model was pruned before; ``no_refit`` is the reason why
    its projections cannot be refitted, if there is one, ``no_cut`` why its heads can be masked and not cut out, and
    ``no_onnx`` why it cannot be written as ONNX.
    ``places`` are the indices of its layers among all of the model's, where others between them have no heads. A
    language model (``language``) has no classes of its own; those are the answers of its ``prompt``, which is then part
    of ``sha256``.
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
