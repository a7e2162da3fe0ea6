"""Proof, on every load, that each gate closes its head alone and that cutting heads equals masking them.

transformers has silently ignored head masks before, and results of a mask that does nothing would mislead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cahp.models.attention import Arguments
from cahp.models.devices import tolerance
from cahp.models.head_model import Batch, HeadModel, Verified
from cahp.models.probing import SENTENCES
from cahp.models.surgery import cut
from cahp.values import HeadMask, ModelError, SelfTestError

#: Largest difference between equal rows of a batch, relative to their size.
_ROUNDING = 1e-4


def ensure_verified(model: HeadModel) -> HeadModel:
    """Return ``model``, after a self-test if it had none; the result is kept as ``verified``.

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

    Every gate of every layer is tested: all heads of a layer are rows of one batch, and all layers are tested in one
    pass, since each continues from the row whose gates are open.

    Raises:
        SelfTestError: If a gate does not close its head's channels and no others, or does not change its layer's
            output; if all gates at 0 do not change the logits; or if the logits of a masked and of a cut model differ
            by more than the device's tolerance, relative to the largest logit where that is above 1.
    """
    tokens = model.tokenize(model.examples(SENTENCES), max_length=min(32, model.max_length))
    (batch,) = model.batches(tokens)
    generator = np.random.default_rng(seed)
    # A model that was cut before cannot be cut again.
    tried = [] if model.card.kept is not None else [_random_mask(model, generator) for _ in range(masks)]
    # Each text with open gates, with closed gates, and under each mask: one pass instead of many small ones.
    keeps = np.stack([np.ones((model.layers, model.heads)), np.zeros((model.layers, model.heads))])
    gates = torch.cat([model.gates(keeps), *(model.gates(mask.keep)[None] for mask in tried)])
    full, shut, *masked = model.logits(
        _repeated(batch, len(gates)), gates=gates.repeat_interleave(len(batch), dim=0), vocabulary=True
    ).chunk(len(gates))
    if torch.equal(full, shut):
        raise SelfTestError(f"closing all gates of {model.card.id} does not change its logits, so no mask would work")
    idle = _count_idle_heads(model)
    count = sum(model.head_counts) - idle
    if not tried:
        return Verified(count, idle, masks=0, difference=None)
    compared = [
        (found, cut(model, mask).logits(batch, vocabulary=True)) for mask, found in zip(tried, masked, strict=True)
    ]
    return Verified(count, idle, masks, _largest_difference(model, compared))


def _repeated(batch: Batch, times: int) -> Batch:
    """Repeat the texts of a batch, one copy after the other."""
    return Batch(
        np.tile(batch.rows, times),
        batch.lengths.repeat(times),
        {name: tensor.repeat(times, *[1] * (tensor.ndim - 1)) for name, tensor in batch.tensors.items()},
    )


def _count_idle_heads(model: HeadModel) -> int:
    """Test every gate, and count the heads whose output weights are all zero."""
    (batch,) = model.batches(model.tokenize(model.examples(SENTENCES)[:1], max_length=min(12, model.max_length)))
    heads, idle = model.heads, 0
    # One row with every gate open, then one row a head with that head's gate closed, and the open row again.
    many, open_ = _repeated(batch, heads + 2), torch.ones(1, heads, device=model.device)
    rows = torch.cat([open_, 1 - torch.eye(heads, device=model.device), open_])
    for layer, (wrong, moved) in enumerate(_test_gates(model, many, rows)):
        present = _heads_of(model, layer)
        if wrong is not None:
            raise SelfTestError(
                f"the gate of layer {layer}, head {present[wrong]} of {model.card.id} does not close its head and no "
                "others, so no mask would work; name another model"
            )
        # A head whose output weights are all zero was pruned before: it cannot change its layer.
        weight = model.projection(layer).weight
        alive = weight.reshape(len(weight), len(present), -1).abs().amax(dim=(0, 2)) > 0
        idle += len(present) - int(alive.sum())
        without_effect = alive & ~moved
        if bool(without_effect.any()):
            head = present[int(torch.nonzero(without_effect)[0])]
            raise SelfTestError(
                f"the gate of layer {layer}, head {head} of {model.card.id} does not change the output of its layer, "
                "so no mask would work; name another model"
            )
    return idle


def _heads_of(model: HeadModel, layer: int) -> tuple[int, ...]:
    """The heads of a layer, numbered as in the full model."""
    return tuple(range(model.heads)) if model.card.kept is None else model.card.kept[layer]


def _test_gates(model: HeadModel, many: Batch, rows: Tensor) -> list[tuple[int | None, Tensor]]:
    """For each layer, the first head whose gate is wrong (None: no gate is), and which heads change its output.

    ``rows`` are the gates of each row of ``many``, whose first and last are open.
    """
    every = _Trial(model)
    gates = rows[:, None].expand(-1, model.layers, -1)
    calls: list[Arguments] = []
    model.logits(many, gates=gates, taken=every.take, leaving=every.leave, record=calls)
    if all(_same_rows(call, len(many)) for call in calls):
        return every.results()
    # Something besides hidden states passes from layer to layer and would carry the effect of gates: one at a time.
    results: list[tuple[int | None, Tensor]] = []
    for layer in range(model.layers):
        trial, alone = _Trial(model, only=layer), torch.ones_like(gates)
        alone[:, layer] = rows
        model.logits(many, gates=alone, taken=trial.take, leaving=trial.leave)
        results += trial.results()
    return results


class _Trial:
    """Watches a pass whose rows differ by one gate a layer; every layer continues from the open row.

    With ``only`` it watches a single layer, and all rows continue as they are.
    """

    def __init__(self, model: HeadModel, *, only: int | None = None) -> None:
        self._model, self._only = model, only
        self._layers = range(model.layers) if only is None else (only,)
        self._wrong: dict[int, Tensor] = {}
        self._moved: dict[int, Tensor] = {}
        #: The layer whose output projection ran last.
        self._layer: int | None = None

    def take(self, layer: int, context: Tensor) -> None:
        """Check the input of an output projection: one head's channels are 0, all others as in the open row."""
        self._layer = layer
        if layer not in self._layers:
            return
        present = _heads_of(self._model, layer)
        parts = context.reshape(*context.shape[:-1], len(present), -1).transpose(0, -2)
        # (heads whose channels, tokens, rows, channels) -> rows of the heads of this layer, beside the open one.
        shut, open_ = parts[:, :, [1 + head for head in present]], parts[:, :, :1]
        own = torch.eye(len(present), dtype=torch.bool, device=context.device)
        apart = (shut - open_).abs().amax(dim=(1, 3))
        rest = shut.abs().amax(dim=(1, 3))
        # Not `apart > ...`: NaN must count as wrong too. A closed head is exactly 0, whatever the rounding.
        right = torch.where(own, rest == 0, apart <= _ROUNDING * open_.abs().max().clamp_min(1e-30))
        wrong = ~right.all(dim=0)
        self._wrong[layer] = self._wrong[layer] | wrong if layer in self._wrong else wrong

    def leave(self, hidden: Tensor) -> Tensor | None:
        """Compare the rows of a layer's output; all rows continue as the open one."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._layers:
            rows = [1 + head for head in _heads_of(self._model, layer)]
            moved = (hidden - hidden[:1]).abs().amax(dim=(1, 2))
            # By more than two open rows differ: rounding may depend on the place of a row in a matrix.
            moved = moved[rows] > moved[-1]
            # A layer that is used in many passes must change in each.
            self._moved[layer] = self._moved[layer] & moved if layer in self._moved else moved
        return None if self._only is not None else hidden[:1].expand_as(hidden).contiguous()

    def results(self) -> list[tuple[int | None, Tensor]]:
        """For each watched layer, the place of the first head whose gate is wrong, and which heads change the layer."""
        results: list[tuple[int | None, Tensor]] = []
        for layer in self._layers:
            nothing = torch.zeros(len(_heads_of(self._model, layer)), dtype=torch.bool, device=self._model.device)
            # A projection that was not called closes nothing, and a layer that was not called does not change.
            wrong, moved = self._wrong.get(layer, ~nothing), self._moved.get(layer, nothing)
            first = int(torch.nonzero(wrong)[0]) if bool(wrong.any()) else None
            results.append((first, moved))
        return results


def _same_rows(value: object, rows: int) -> bool:
    """Whether all of a layer's arguments are the same in every row of a batch."""
    if isinstance(value, Tensor):
        if value.ndim == 0 or len(value) != rows or not value.is_floating_point():
            return True
        return bool((value - value[:1]).nan_to_num().abs().max() <= _ROUNDING * value.nan_to_num().abs().max())
    if isinstance(value, Mapping):
        return all(_same_rows(part, rows) for part in value.values())
    if isinstance(value, tuple | list):
        return all(_same_rows(part, rows) for part in value)
    return True


def _random_mask(model: HeadModel, generator: np.random.Generator) -> HeadMask:
    keep = generator.random((model.layers, model.heads)) < 0.5
    # Uneven on purpose, but no layer empty.
    keep[np.arange(model.layers), generator.integers(model.heads, size=model.layers)] = True
    return HeadMask(keep)


def compare_masked_and_cut(model: HeadModel, mask: HeadMask, batches: Sequence[Batch]) -> float:
    """Largest difference between the logits of the masked and of the cut model, relative to the largest logit above 1.

    Raises:
        SelfTestError: If it is more than the device's tolerance.
    """
    sliced, gates = cut(model, mask), model.gates(mask.keep)
    return _largest_difference(
        model,
        (
            (model.logits(batch, gates=gates, vocabulary=True), sliced.logits(batch, vocabulary=True))
            for batch in batches
        ),
    )


def _largest_difference(model: HeadModel, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Largest difference of masked and cut logits, relative to the largest logit of each pair where that is above 1."""
    worst, allowed = 0.0, tolerance(model.device)
    for masked, sliced in pairs:
        largest, apart = float(masked.abs().max()), float((masked - sliced).abs().max())
        relative = apart / max(1.0, largest)
        # Not `relative > allowed`: a difference that is not a number must fail too.
        if not relative <= allowed:
            raise SelfTestError(
                f"the heads of {model.card.id} cannot be cut out truly: masked and pruned, its logits (up to "
                f"{largest:.3g}) differ by {apart:.1e}, and rounding explains {allowed * max(1.0, largest):.0e}; "
                "name another model"
            )
        worst = max(worst, relative)
    return worst
