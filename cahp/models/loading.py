"""From a model's card to a running network, checked before anyone sees it."""

from __future__ import annotations

import inspect
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from cahp.cards import Language, ModelCard, Prompt
from cahp.models.attention import IMPLEMENTATION
from cahp.models.compact import HEADS, load_pruned
from cahp.models.description import row
from cahp.models.devices import device, free
from cahp.models.families import Family
from cahp.models.head_model import HeadModel
from cahp.models.language import head_of, without_classes
from cahp.models.matching import look
from cahp.models.prompting import PromptReader
from cahp.models.settling import settled
from cahp.models.sketch import check_fit, first_line, lost_weights, quiet
from cahp.models.surgery import mark
from cahp.models.weights import CONFIG, Shape, read_json, shapes, weight_bytes, weight_files
from cahp.values import ModelError
from cahp.words import size_of


def read(card: ModelCard, *, device_name: str = "auto", labels: tuple[str, ...] | None = None) -> HeadModel:
    """Read the weights of ``card``.

    ``labels`` gives a plain encoder a new, untrained classification head (for training only).

    Raises:
        ModelError: If the weights are broken, or no trained head is there and none was asked for.
    """
    fresh = labels is not None
    names = labels if labels is not None else card.labels
    if not names:
        raise ModelError(without_classes(card, card.id))
    where = device(device_name)
    _check_memory(card, where)
    if card.kept is not None:
        if fresh or card.adapter is not None:
            raise ModelError(f"{card.id} was pruned; train the model that it was made from, and prune it again")
        return _pruned(card, where)
    family = _family(card)
    network, missing, reshaped = _network(card, names, family)
    # The head may be new where one is asked for or comes with the adapter; all else must be as it was trained.
    new_head = fresh or card.adapter is not None
    for random, problem in ((missing, "are missing"), (reshaped, "have other shapes than its config.json says")):
        lost = sorted(name for name in random if not new_head or name.split(".")[0] == network.base_model_prefix)
        if lost:
            raise ModelError(lost_weights(card.id, lost, problem))
    if card.adapter is not None and not fresh:
        network = _merged(network, card)
    broken = [name for name, weight in network.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        raise ModelError(
            f"the weights of {card.id} are not all finite numbers ({broken[0]}); save it in float32 from a sound model"
        )
    tokenizer = _tokenizer(card.folder, card.id, asked=card.prompt is not None)
    _fit_inputs(tokenizer, network)
    _check_vocabulary(tokenizer, network.get_input_embeddings().num_embeddings, card)
    _check_end(tokenizer, network, card)
    if network.config.pad_token_id is None and card.prompt is None:
        # Classifiers that look back only read their answer at the last token before the padding.
        network.config.pad_token_id = tokenizer.pad_token_id
    return settled(HeadModel(network.to(where), tokenizer, card, family=family))


def _check_memory(card: ModelCard, where: torch.device) -> None:
    """Refuse a model that does not fit, before a machine swaps or ends the process for it."""
    needed = 4 * ((card.details or {}).get("parameters") or 0)
    # It is read into the processor's memory first, wherever it goes.
    for place in dict.fromkeys((torch.device("cpu"), where)):
        room = free(place)
        if room is not None and needed > room:
            elsewhere = "a machine with more memory" if place.type == "cpu" else "--device cpu, or a larger GPU"
            raise ModelError(
                f"the weights of {card.id} take {size_of(needed)} in float32, and {place.type} has {size_of(room)} "
                f"free, while a model is kept whole on one device here; use {elsewhere}"
            )


def _check_vocabulary(tokenizer: Any, rows: int, card: ModelCard) -> None:
    # Tokenizers of some families add tokens of their own that no text of a smaller model ever meets.
    added = tokenizer.get_added_vocab()
    words = [token for word, token in tokenizer.get_vocab().items() if word not in added]
    known = max([*words, tokenizer.pad_token_id], default=0)
    if known >= rows:
        raise ModelError(
            f"the tokenizer of {card.id} knows token {known} but the model only {rows} tokens: they do not belong "
            "together; save the model and its own tokenizer again"
        )


def _check_end(tokenizer: Any, network: Any, card: ModelCard) -> None:
    """Refuse a tokenizer that does not end a text as the model needs, which reads its answer there."""
    config = network.config
    if not (getattr(config, "is_encoder_decoder", False) and hasattr(network, "classification_head")):
        return
    end = config.eos_token_id
    if tokenizer("a")["input_ids"].count(end) != 1:
        raise ModelError(
            f"{card.id} reads its answer at the token {end} that ends a text, and its tokenizer does not end a text "
            "with it; save the model with its own tokenizer, or set eos_token_id to the token that ends a text"
        )


def _fit_inputs(tokenizer: Any, network: Any) -> None:
    """Let ``tokenizer`` make what ``network`` takes, and nothing besides."""
    accepted = set(inspect.signature(network.forward).parameters)
    kinds = getattr(network.config, "type_vocab_size", 2)
    if type(kinds) is not int or kinds < 2:
        # Kinds of tokens that a model has no place for, or only one, say nothing to it.
        accepted.discard("token_type_ids")
    named = tokenizer.model_input_names
    tokenizer.model_input_names = [name for name in named if isinstance(name, str) and name in accepted]


def _tokenizer(folder: str, name: str, *, asked: bool) -> Any:
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except BaseException as error:  # damaged files provoke anything, a panic in Rust among it, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(
            f"the tokenizer of {name} cannot be read ({first_line(error)}); save it again beside the weights"
        ) from None
    if tokenizer.pad_token is None and asked:
        # A prompt is answered at a token of its own, so what comes after it does not matter; few causal language
        # models have a token for it.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if tokenizer.pad_token is None:
        raise ModelError(f"the tokenizer of {name} has no padding token; set one and save it again")
    # Positions are counted from the left, so padding there would change the answers.
    tokenizer.padding_side = "right"
    return tokenizer


@lru_cache(maxsize=8)
def _reader(folder: str, sha256: str, prompt: Prompt, language: Language, name: str) -> PromptReader:
    return PromptReader(_tokenizer(folder, name, asked=True), prompt, language, name)


def prompt_reader(card: ModelCard) -> PromptReader:
    """How the tokenizer of ``card`` reads its prompt; no weights are read.

    Raises:
        OptionError: If its answers cannot be told apart; ModelError: if the tokenizer cannot be used.
    """
    assert card.prompt is not None
    assert card.language is not None
    return _reader(card.folder, card.sha256, card.prompt, card.language, card.id)


def _network(card: ModelCard, names: tuple[str, ...], family: Family) -> tuple[Any, set[str], set[str]]:
    """The network, the names of weights that its files lack, and of those that have other shapes there."""
    try:
        with quiet():
            _check_room(card, names)
            network, report = HEADS[head_of(card)].from_pretrained(
                card.folder,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=_implementation(family),
                dtype=torch.float32,
                **(_classes(names) if card.prompt is None else {}),
                # What a configuration may ask for and a forward pass here must not do.
                return_dict=True,
                output_attentions=False,
                output_hidden_states=False,
                **({"use_cache": False} if family.caches and card.prompt is None else {}),
                **family.settings,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except ModelError:
        raise
    except Exception as error:  # a damaged configuration provokes anything
        raise ModelError(f"{card.id} cannot be read ({first_line(error)}); save or download the model again") from None
    return network, set(report["missing_keys"]), {str(name) for name, *_ in report["mismatched_keys"]}


def _classes(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "single_label_classification",
    }


def _check_room(card: ModelCard, names: tuple[str, ...] | None) -> None:
    stored: dict[str, Shape] = {}
    for file in weight_files(card.id, Path(card.folder)):
        stored |= shapes(file)
    # The head may be another one where one is asked for or comes with the adapter.
    own_head = names is not None and names == card.labels and card.adapter is None
    check_fit(
        card.id, card.folder, stored, names=names, own_head=own_head, pruned=card.kept is not None, head=head_of(card)
    )


def _family(card: ModelCard) -> Family:
    return row(card.family, read_json(Path(card.folder) / CONFIG)) or (
        look(card.id, card.folder, weight_bytes=weight_bytes(Path(card.folder))).family
    )


def _implementation(family: Family) -> str:
    return IMPLEMENTATION if family.interface else "eager"


def _pruned(card: ModelCard, where: torch.device) -> HeadModel:
    """A model that was pruned before, its heads reachable at the places they had."""
    family = _family(card)
    try:
        with quiet():
            _check_room(card, None)
            network = load_pruned(card.folder, attn_implementation=_implementation(family))
    except ModelError:
        raise
    except Exception as error:  # damaged files provoke anything
        raise ModelError(f"the pruned model {card.id} cannot be read ({first_line(error)}); export it again") from None
    tokenizer = _tokenizer(card.folder, card.id, asked=card.prompt is not None)
    _fit_inputs(tokenizer, network)
    model = HeadModel(network.to(where), tokenizer, card, family=family)
    assert card.kept is not None
    for index, layer in enumerate(model.layer_modules):
        channels = model.projection(index).weight.shape[1]
        mark(layer, model, torch.tensor(card.kept[index], device=where), channels=channels)
    if model.head_counts != tuple(map(len, card.kept)):
        raise ModelError(f"the weights of {card.id} have other heads than its config.json says; export it again")
    return settled(model)


def _merged(network: nn.Module, card: ModelCard) -> nn.Module:
    from peft import PeftModel

    assert card.adapter is not None
    with quiet():
        merged: nn.Module = PeftModel.from_pretrained(network, card.adapter).merge_and_unload()
    return merged
