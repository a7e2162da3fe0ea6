"""Proof, on every load, that gates bite and that surgery is the same as masking.

transformers has silently ignored head masks before; a figure from a mask that does nothing would be worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cahp.models.head_model import Batch, HeadModel, Verified
from cahp.models.settling import SENTENCES
from cahp.models.surgery import cut
from cahp.values import HeadMask, ModelError, SelfTestError

#: Largest difference between masked and cut logits.
TOLERANCE = 1e-5


def proven(model: HeadModel) -> HeadModel:
    """``model`` itself, after its first self-test, whose findings it keeps as ``verified``.

    Raises:
        SelfTestError: As ``verify``.
        ModelError: If its heads were cut in this process.
    """
    if model.verified is None:
        if model.card.kept is None and set(model.head_counts) != {model.heads}:
            raise ModelError(f"heads of {model.card.id} were cut out of it before; use the model that it was cut from")
        model.verified = verify(model)
    return model


def verify(model: HeadModel, *, masks: int = 2, seed: int = 0) -> Verified:
    """Check gates and surgery of ``model`` on two short texts.

    Raises:
        SelfTestError: If a gate does not change its layer's output, all gates at 0 leave the logits as they were,
            or a masked and a cut model disagree by more than ``TOLERANCE`` (relative to logits beyond 1).
    """
    tokens = model.tokenize(model.examples(SENTENCES), max_length=min(32, model.max_length))
    (batch,) = model.batches(tokens)
    full = model.logits(batch)
    if torch.equal(full, model.logits(batch, gates=torch.zeros(model.layers, model.heads, device=model.device))):
        raise SelfTestError(f"all heads of {model.card.id} gated off and the answer is the same: no mask would be true")
    idle = _idle_where_each_gate_bites(model)
    gates = sum(model.head_counts) - idle
    if model.card.kept is not None:
        # What was cut before is not cut again.
        return Verified(gates, idle, masks=0, difference=None)
    generator = np.random.default_rng(seed)
    worst = max(difference(model, _random_mask(model, generator), [batch]) for _ in range(masks))
    return Verified(gates, idle, masks, worst)


def _idle_where_each_gate_bites(model: HeadModel) -> int:
    """Number of heads through which nothing can change their layer, if the gates of all others do."""
    idle = 0
    (batch,) = model.batches(model.tokenize(model.examples(SENTENCES)[:1], max_length=min(12, model.max_length)))
    heads = model.heads
    # One row with every gate open, then one row a head with that head's gate shut: a layer at a time costs one pass
    # in all, where gating heads one by one would cost N.
    many = Batch(
        np.repeat(batch.rows, heads + 1),
        batch.lengths.expand(heads + 1),
        {name: tensor.expand(heads + 1, *tensor.shape[1:]) for name, tensor in batch.tensors.items()},
    )
    shut = 1 - torch.eye(heads, device=model.device)
    rows = torch.cat([torch.ones(1, heads, device=model.device), shut])
    for layer, moved in enumerate(_moved(model, many, rows)):
        # A head whose output weights are all zero was pruned before: nothing can change its layer through it.
        weight = model.projection(layer).weight
        there = range(heads) if model.card.kept is None else model.card.kept[layer]
        alive = torch.zeros(heads, dtype=torch.bool, device=model.device)
        alive[list(there)] = weight.reshape(len(weight), len(there), -1).abs().amax(dim=(0, 2)) > 0
        idle += len(there) - int(alive.sum())
        if bool((alive & ~moved).any()):
            head = int(torch.nonzero(alive & ~moved)[0])
            raise SelfTestError(f"the gate of layer {layer}, head {head} of {model.card.id} does not reach its layer")
    return idle


def _moved(model: HeadModel, many: Batch, rows: Tensor) -> Iterator[Tensor]:
    """For each layer, whether shutting each of its heads changes what it says."""
    state = model.enter(many) if model.family.walks else None
    for layer in range(model.layers):
        gates = torch.ones(len(rows), model.layers, model.heads, device=model.device)
        gates[:, layer] = rows
        if state is None:
            left: list[Tensor] = []
            model.logits(many, gates=gates, leaving=left.append)
            hidden = left[layer]
        else:
            state = model.step(state, gates=gates)
            hidden = state.hidden
            # Go on from the open row, so that each layer is tried on its true input.
            state = replace(state, hidden=hidden[:1].expand_as(hidden).contiguous())
        yield (hidden[1:] - hidden[:1]).abs().amax(dim=(1, 2)) > 0


def _random_mask(model: HeadModel, generator: np.random.Generator) -> HeadMask:
    keep = generator.random((model.layers, model.heads)) < 0.5
    # Uneven on purpose, but no layer empty.
    keep[np.arange(model.layers), generator.integers(model.heads, size=model.layers)] = True
    return HeadMask(keep)


def difference(model: HeadModel, mask: HeadMask, batches: Sequence[Batch]) -> float:
    """Largest difference between the logits of the masked and of the cut model, relative to logits beyond 1.

    Raises:
        SelfTestError: If it is more than ``TOLERANCE``.
    """
    sliced, gates, found = cut(model, mask), model.gates(mask.keep), [0.0]
    for batch in batches:
        masked = model.logits(batch, gates=gates)
        scale = max(1.0, float(masked.abs().max()))
        found.append(float((masked - sliced.logits(batch)).abs().max()) / scale)
    worst = float(np.max(found))
    # Not `worst > TOLERANCE`: a difference that is not a number must fail too.
    if not worst <= TOLERANCE:
        raise SelfTestError(
            f"masked and pruned {model.card.id} differ by {worst:.1e} (more than {TOLERANCE:.0e}): "
            "its heads cannot be cut out truly"
        )
    return worst
