"""Recognise language models by their configuration, and add a prompt to their card; without torch or transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from cahp.cards import Language, ModelCard, Prompt
from cahp.values import ModelError, OptionError, digest

#: The text of an example prompt.
EXAMPLE = "A warm and funny film."
#: The head of a network.
Head = Literal["classification", "causal", "masked"]
#: Endings of the class names of causal and of masked language models.
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MASKED = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")


def language_of(config: Mapping[str, Any]) -> Language | None:
    """The kind of language model that a configuration names; None for classifiers, plain encoders and others."""
    written = config.get("architectures")
    heads = [str(entry) for entry in (written if isinstance(written, list) else [written])]
    # XLM's "WithLMHeadModel" ends like GPT-2's.
    if any(entry.endswith(_MASKED) for entry in heads):
        return "masked"
    return "causal" if any(entry.endswith(_CAUSAL) for entry in heads) else None


def add_prompt(card: ModelCard, prompt: Prompt | None) -> ModelCard:
    """The card of a language model with a prompt: its classes are the answers, and its digest includes the prompt.

    Raises:
        OptionError: If the model is a classifier, or the prompt does not fit its kind.
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
            f"{card.id} has no language-model head to answer a prompt (architectures in config.json names neither a "
            "causal nor a masked language model); name a model that has one, or leave --prompt and --answers out"
        )
    if card.language == "masked" and not prompt.masked:
        raise OptionError(
            f"{card.id} is a masked language model and answers in a gap; put {{mask}} into the prompt, as in "
            '"{text} It was {mask}."'
        )
    if card.language == "causal" and prompt.masked:
        raise OptionError(f"{card.id} is a causal language model and answers after the prompt; leave {{mask}} out")
    # The card of a preview has no digest.
    sha256 = digest(card.sha256, "prompt", prompt.template, *prompt.answers) if card.sha256 else ""
    return replace(card, prompt=prompt, labels=prompt.answers, sha256=sha256)


def output_head(card: ModelCard) -> Head:
    """The head of a card's network."""
    return "classification" if card.prompt is None or card.language is None else card.language


def explain_missing_classes(card: ModelCard, name: str) -> str:
    """Explain how a model without classes, named ``name`` on the command line, can classify."""
    trained = f"train one with `cahp fit --model {name} --data DATA --out DIR`"
    if card.language is None:
        return f"{card.id} has no trained classification head; {trained}"
    prompt = "{text} It was {mask}." if card.language == "masked" else "{text} It was"
    return (
        f"{card.id} is a {card.language} language model without a classification head; let it answer a prompt with "
        f'--prompt "{prompt}" --answers "terrible,great", or {trained}'
    )
