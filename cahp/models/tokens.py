"""What kinds of tokens there are."""

from __future__ import annotations

from typing import Any


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens; that of unknown words is none, unless it has another role too."""
    roles = ("bos", "eos", "sep", "cls", "pad", "mask")
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)


def punctuation_ids(tokenizer: Any) -> set[int]:
    """Ids of tokens without a letter or digit, special ones aside; parts of a character (byte-level) are not told."""
    words, found = tokenizer.get_vocab(), set[int]()
    # Most have a letter as they are spelled; only the others need be decoded, which takes its time.
    others = {ours for word, ours in words.items() if not any(char.isascii() and char.isalnum() for char in word)}
    for number in others - set(tokenizer.all_special_ids):
        text = tokenizer.decode([number]).strip()
        if text and "\ufffd" not in text and not any(char.isalnum() for char in text):
            found.add(number)
    return found
