"""Load a tokenizer, check that it fits its model, and find special tokens and punctuation."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import AutoTokenizer

from cahp.cards import ModelCard
from cahp.models.sketch import quiet
from cahp.values import ModelError
from cahp.words import first_line


def load_tokenizer(folder: str, name: str, *, prompted: bool) -> Any:
    """Load the tokenizer of the model ``name``; ``prompted`` says that it answers a prompt.

    Raises:
        ModelError: If it cannot be read, or has no padding token.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except BaseException as error:  # damaged files raise anything, also a panic in Rust, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(
            f"the tokenizer of {name} cannot be read ({first_line(error)}); save it again beside the weights"
        ) from None
    if tokenizer.pad_token is None and prompted:
        # A prompt is answered at a token before the padding, so any token will do; few causal language models have one.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if tokenizer.pad_token is None:
        raise ModelError(f"the tokenizer of {name} has no padding token; set one and save it again")
    # Positions are counted from the left, so padding there would change the answers.
    tokenizer.padding_side = "right"
    return tokenizer


def fit_inputs(tokenizer: Any, network: Any) -> None:
    """Let ``tokenizer`` make only those inputs that ``network`` takes."""
    accepted = set(inspect.signature(network.forward).parameters)
    kinds = getattr(network.config, "type_vocab_size", 2)
    if type(kinds) is not int or kinds < 2:
        accepted.discard("token_type_ids")
    names = tokenizer.model_input_names
    tokenizer.model_input_names = [name for name in names if isinstance(name, str) and name in accepted]


def check_tokenizer(tokenizer: Any, network: Any, card: ModelCard) -> None:
    """Check that a tokenizer makes tokens that the network knows, and ends texts where the network needs it.

    Raises:
        ModelError: If it does not.
    """
    # Tokenizers of some families add tokens of their own that a smaller model never sees in a text.
    added, rows = tokenizer.get_added_vocab(), network.get_input_embeddings().num_embeddings
    words = [token for word, token in tokenizer.get_vocab().items() if word not in added]
    highest = max([*words, tokenizer.pad_token_id], default=0)
    if highest >= rows:
        raise ModelError(
            f"the tokenizer of {card.id} knows token {highest} but the model only {rows} tokens: they do not belong "
            "together; save the model and its own tokenizer again"
        )
    # These classifiers compute their answer at the token that ends a text.
    reads_end = getattr(network.config, "is_encoder_decoder", False) and hasattr(network, "classification_head")
    if reads_end and tokenizer("a")["input_ids"].count(network.config.eos_token_id) != 1:
        raise ModelError(
            f"{card.id} classifies at the token {network.config.eos_token_id} that ends a text, and its tokenizer does "
            "not end a text with it; save the model with its own tokenizer, or correct eos_token_id in config.json"
        )


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens; the token of unknown words is not one of them, unless it has another role too."""
    roles = ("bos", "eos", "sep", "cls", "pad", "mask")
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)


def punctuation_ids(tokenizer: Any) -> set[int]:
    """Ids of tokens without a letter or digit, except special ones and parts of characters (byte-level tokenizers)."""
    words, punctuation = tokenizer.get_vocab(), set[int]()
    # Most tokens show a letter without being decoded, which is slow.
    others = {token for word, token in words.items() if not any(char.isascii() and char.isalnum() for char in word)}
    for token in others - set(tokenizer.all_special_ids):
        text = tokenizer.decode([token]).strip()
        if text and "\ufffd" not in text and not any(char.isalnum() for char in text):
            punctuation.add(token)
    return punctuation
