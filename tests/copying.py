"""A language model of two layers whose heads are set by hand: it copies what was said before."""

from pathlib import Path

import fakes
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cahp.values import head_roles
from cahp.values.head_roles import HeadRoles, RoleScores

#: The roles of its heads, by flat index; the last head attends to all tokens alike.
ROLES = ("previous", "first", "induction", "none")
_TOKENS, _PLACES = len(fakes.SPECIAL) + len(fakes.WORDS), 64
#: Hidden states hold the token, the place, and the token before, each as one of many channels.
_TOKEN, _PLACE, _BEFORE = 0, _TOKENS, _TOKENS + _PLACES
_HIDDEN = 2 * _TOKENS + _PLACES
_SIZE = _HIDDEN // 2


def save_copying_model(folder: Path) -> Path:
    """Save it with the tokenizer of ``fakes``.

    Head 0.0 attends to the token before and writes it down; head 1.0 attends to what stands after this token
    elsewhere, and predicts it: an induction head (Olsson et al. 2022). Head 0.1 attends to the first token.
    """
    config = GPT2Config(
        vocab_size=_TOKENS,
        n_positions=_PLACES,
        n_embd=_HIDDEN,
        n_layer=2,
        n_head=2,
        n_inner=4,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    network = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0)
        base = network.transformer
        base.wte.weight[:, _TOKEN : _TOKEN + _TOKENS] = torch.eye(_TOKENS)
        base.wpe.weight[:, _PLACE : _PLACE + _PLACES] = torch.eye(_PLACES)
        tokens, places = torch.eye(_TOKENS), torch.eye(_PLACES)
        _set_head(base.h[0].attn, 0, query=(_PLACE, places.roll(-1, 1) * 5), key=(_PLACE, places))
        _set_output(base.h[0].attn, 0, read=_TOKEN, write=_BEFORE, scale=0.2)
        one = torch.zeros(_PLACES, 1)
        one[0] = 1
        _set_head(base.h[0].attn, 1, query=(_PLACE, torch.ones(_PLACES, 1) * 5), key=(_PLACE, one))
        _set_output(base.h[0].attn, 1, read=_TOKEN, write=_TOKEN, scale=0.001)
        _set_head(base.h[1].attn, 0, query=(_TOKEN, tokens * 5), key=(_BEFORE, tokens))
        _set_output(base.h[1].attn, 0, read=_TOKEN, write=_TOKEN, scale=1.0)
        _set_output(base.h[1].attn, 1, read=_TOKEN, write=_TOKEN, scale=0.001)
    network.save_pretrained(folder)
    fakes.tokenizer(type_ids=False).save_pretrained(folder)
    return folder


def roles_of(*names: str, heads: int | None = None) -> HeadRoles:
    """The roles of heads, each of which has one role, or "none", in layers of ``heads`` (None: one layer)."""
    every = [name for name in head_roles.ROLES if name in names]
    scores = {
        name: RoleScores(
            tuple(0.9 * (own == name) for own in names),
            tuple(0.8 * (own == name) for own in names),
            tuple(0.95 * (own == name) for own in names),
            (0.1,) * len(names),
            16,
            300,
        )
        for name in every
    }
    heads = heads or len(names)
    return HeadRoles(len(names) // heads, heads, 1, scores, {}, (1.0,) * len(names), (1.0,) * len(names))


def _set_head(attention, head: int, *, query, key) -> None:
    for part, (start, weight) in enumerate((query, key)):
        at = part * _HIDDEN + head * _SIZE
        attention.c_attn.weight[start : start + len(weight), at : at + weight.shape[1]] = weight


def _set_output(attention, head: int, *, read: int, write: int, scale: float) -> None:
    eye, at = torch.eye(_TOKENS), 2 * _HIDDEN + head * _SIZE
    attention.c_attn.weight[read : read + _TOKENS, at : at + _TOKENS] = eye
    attention.c_proj.weight[head * _SIZE : head * _SIZE + _TOKENS, write : write + _TOKENS] = scale * eye
