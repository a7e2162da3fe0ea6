"""What kinds of tokens there are."""

from __future__ import annotations

from typing import Any


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens; that of unknown words is none, unless it has another role too."""
    roles = ("bos", "eos", "sep", "cls", "pad", "mask")
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)
