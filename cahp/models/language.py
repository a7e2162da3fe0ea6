"""Which configurations are language models, and what a prompt makes of one's card: no torch, no transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from cahp.cards import Language, ModelCard, Prompt
from cahp.values import ModelError, OptionError, digest

#: What a prompt is shown with where there is no text yet.
EXAMPLE = "A warm and funny film."
#: What a network ends in.
Head = Literal["classification", "causal", "masked"]
#: How the classes end that write on from a text, and those that fill its gaps.
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MASKED = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")


def language_of(config: Mapping[str, Any]) -> Language | None:
    """What kind of language model a configuration was saved with; None for classifiers, plain encoders and others."""
    written = config.get("architectures")
    heads = [str(entry) for entry in (written if isinstance(written, list) else [written])]
    # XLM's "WithLMHeadModel" ends like GPT-2's.
    if any(entry.endswith(_MASKED) for entry in heads):
        return "masked"
    return "causal" if any(entry.endswith(_CAUSAL) for entry in heads) else None


def add_prompt(card: ModelCard, prompt: Prompt | None) -> ModelCard:
    """The card of a model that is asked by ``prompt``: its classes are the answers, and its digest knows of both.

    Raises:
        OptionError: If it is a classifier, or the prompt has no gap to fill, or one too many.
        ModelError: If it has no language-model head.
    """
    if prompt is None:
        return card
    if card.labels:
        raise OptionError(
            f"{card.id} is a classifier ({', '.join(card.labels)[:100]}) and needs no prompt; leave --prompt and "
            "--answers out"
        )
    if card.language is None:
        raise ModelError(
            f"{card.id} has no language-model head to answer a prompt with (config.json names neither a causal nor a "
            "masked language model under architectures); name a model that has one, or leave --prompt and --answers out"
        )
    if card.language == "masked" and not prompt.masked:
        raise OptionError(
            f"{card.id} is a masked language model and answers in a gap; put {{mask}} into the prompt, as in "
            '"{text} It was {mask}."'
        )
    if card.language == "causal" and prompt.masked:
        raise OptionError(f"{card.id} is a causal language model and answers after the prompt; leave {{mask}} out")
    # A card without a digest is only looked at.
    sha256 = digest(card.sha256, "prompt", prompt.template, *prompt.answers) if card.sha256 else ""
    return replace(card, prompt=prompt, labels=prompt.answers, sha256=sha256)


def output_head(card: ModelCard) -> Head:
    """What the network of a card ends in, when it is read."""
    return "classification" if card.prompt is None or card.language is None else card.language


def explain_missing_classes(card: ModelCard, name: str) -> str:
    """What to do with a model, called ``name``, that has no classes: one sentence."""
    trained = f"train one with `cahp fit --model {name} --data DATA --out DIR`"
    if card.language is None:
        return f"{card.id} has no trained classification head; {trained}"
    prompt = "{text} It was {mask}." if card.language == "masked" else "{text} It was"
    return (
        f"{card.id} is a {card.language} language model without a classification head; let it answer by words with "
        f'--prompt "{prompt}" --answers "terrible,great", or {trained}'
    )
