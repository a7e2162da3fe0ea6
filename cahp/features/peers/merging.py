"""Key-value heads merged: all query heads of a layer stay, and share one key-value head.

**Keys.** Rotary positions turn two channels of a head as one complex number, at a frequency that all heads share. So a
complex factor commutes with the rotation: if group ``g`` has the keys ``k_g = a_g c`` at a frequency, ``c`` alone is
cached, and the queries of group ``g`` are multiplied by the conjugate of ``a_g``. The nearest ``a_g`` and ``c`` are the
best complex approximation of rank 1 of the keys of all groups over tokens, each weighted by the mean square of the
queries that read it.

**Values.** One head of ``d`` channels holds the ``d`` leading directions of the values of all groups, in the Fisher
metric of the predictions; the output projection absorbs how each group's values follow from them.

Both are linear in what the projections return, with their biases. Whether a model rotates and reads its keys so is
proven on the model: copies of one head, turned and mixed at random, must merge without any change of its logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cahp.features.peers.projections import AttentionParts, Change, find_parts, get_projection
from cahp.models.cards import Site
from cahp.models.compact import set_size
from cahp.models.devices import float64_device
from cahp.models.head_model import HeadModel, LayerState, Projection
from cahp.models.surgery import copy_network
from cahp.stages.one_shot import RIDGE
from cahp.tasks.texts import Item
from cahp.values import Floats, Ints, ModelError, Progress, report_progress, silent
from cahp.values.statistics import Moments

STAGE = "merging"
#: Added to each metric, relative to its mean: directions without effect must stay invertible.
_FLOOR = 1e-3
#: Logits of the proof may differ by so much, relative to the largest.
_TOLERANCE = 1e-4
#: The attribute of attention modules with the number of query heads of a key-value head.
_SHARING = "num_key_value_groups"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which channels of a key-value head rotate together: ``real (p,)`` and ``imaginary (p,)``, all channels once."""

    real: Ints
    imaginary: Ints

    def join(self, rows: Tensor) -> Tensor:
        """Complex rows ``(heads, p, ...)`` of the real rows ``(heads * 2 p, ...)`` of a projection."""
        by_head = rows.reshape(-1, 2 * len(self.real), *rows.shape[1:])
        return torch.complex(by_head[:, self.real], by_head[:, self.imaginary])

    def split(self, rows: Tensor) -> Tensor:
        """Real rows ``(heads * 2 p, ...)`` of complex ones ``(heads, p, ...)``."""
        heads, count, *rest = rows.shape
        made = rows.real.new_empty(heads, 2 * count, *rest)
        made[:, self.real] = rows.real
        made[:, self.imaginary] = rows.imag
        return made.reshape(-1, *rest)


@dataclass(frozen=True, eq=False)
class Merge:
    """How the key-value heads of a layer become one.

    The merged key is ``sum_g encode_keys[g] k_g`` at each frequency, from which that of group ``g`` follows by the
    factor ``decode_keys[g]``, both complex ``(groups, p)``. The merged value is ``encode_values (d, groups * d)`` times
    the values of all groups, from which those of group ``g`` follow by ``decode_values[g] (groups, d, d)``.
    """

    encode_keys: NDArray[np.complex128]
    decode_keys: NDArray[np.complex128]
    encode_values: NDArray[np.float64]
    decode_values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CacheMoments:
    """Second moments over tokens of what each layer caches.

    ``keys`` and ``values (L, channels, channels)`` of all groups side by side, and the mean squares
    ``queries (L, heads, d)``.
    """

    keys: NDArray[np.float64]
    values: NDArray[np.float64]
    queries: NDArray[np.float64]


# What to merge -----------------------------------------------------------------------------------------------------


def collect_cache_moments(model: HeadModel, inputs: Sequence[Item], *, progress: Progress = silent) -> CacheMoments:
    """Run a model over ``inputs``, one at a time, and sum up what its projections of keys and values return."""
    parts = find_parts(model)
    sums: dict[tuple[int, str], Tensor] = {}
    tokens = 0
    copied = copy_network(model)

    def watch(layer: int, path: str) -> None:
        def add(module: object, args: object, output: Tensor) -> None:
            rows = output.flatten(0, -2).double()
            total = rows.square().sum(0)
            if path != parts.query:
                total = rows.T @ rows
            sums[layer, path] = sums.get((layer, path), 0) + total

        get_projection(copied, layer, path).module.register_forward_hook(add)

    for layer in range(model.layers):
        for path in (parts.query, parts.key, parts.value):
            watch(layer, path)
    for batch in report_progress(copied.batches(copied.tokenize(inputs), size=1), STAGE, progress):
        tokens += int(batch.lengths.sum())
        with torch.no_grad():
            copied.logits(batch, states=True)

    def stack(path: str) -> NDArray[np.float64]:
        return np.stack([(sums[layer, path] / max(1, tokens)).cpu().numpy() for layer in range(model.layers)])

    queries = stack(parts.query).reshape(model.layers, parts.queries, -1)
    return CacheMoments(stack(parts.key), stack(parts.value), queries)


def find_merges(moments: CacheMoments, predictions: Moments, parts: AttentionParts, pairs: Pairs) -> list[Merge]:
    """Find the merge of each layer that loses least; see the module."""
    return [
        Merge(
            *merge_keys(moments.keys[layer], moments.queries[layer], parts, pairs),
            *merge_values(moments.values[layer], predictions.gradients[layer], parts),
        )
        for layer in range(len(moments.keys))
    ]


def merge_keys(
    keys: Floats, queries: Floats, parts: AttentionParts, pairs: Pairs
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Best encoding and decoding of keys, each complex ``(groups, p)``.

    ``keys (channels, channels)`` are second moments, ``queries (heads, d)`` mean squares of those that read them.
    """
    groups = parts.groups
    size = len(keys) // groups
    real, imaginary = (np.add.outer(size * np.arange(groups), half) for half in (pairs.real, pairs.imaginary))
    energy = queries.reshape(groups, parts.group, size).sum(axis=1)
    weights = np.sqrt(energy[:, pairs.real] + energy[:, pairs.imaginary])
    weights += _FLOOR * (weights.mean() or 1.0)
    encode = np.empty((groups, len(pairs.real)), dtype=np.complex128)
    decode = np.empty_like(encode)
    for pair, weight in enumerate(weights.T):
        re, im = real[:, pair], imaginary[:, pair]
        # E[k k*] of the complex keys of all groups.
        shared = keys[np.ix_(re, re)] + keys[np.ix_(im, im)]
        turned = keys[np.ix_(im, re)] - keys[np.ix_(re, im)]
        _, vectors = np.linalg.eigh(weight[:, None] * (shared + 1j * turned) * weight)
        leading = vectors[:, -1]
        encode[:, pair] = leading.conj() * weight
        decode[:, pair] = leading / weight
    return encode, decode


def merge_values(
    values: Floats, gradients: Floats, parts: AttentionParts
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Best encoding ``(d, groups * d)`` and decoding ``(groups, d, d)`` of values.

    ``values (channels, channels)`` are second moments, ``gradients`` those of the gradients of all context vectors.
    """
    size = len(values) // parts.groups
    blocks = gradients.reshape(parts.queries, size, parts.queries, size)
    own = blocks[np.arange(parts.queries), :, np.arange(parts.queries)].astype(np.float64)
    metric = own.reshape(parts.groups, parts.group, size, size).sum(axis=1)
    scale = np.trace(metric, axis1=1, axis2=2).mean() / size or 1.0
    power, axes = np.linalg.eigh(metric + _FLOOR * scale * np.eye(size))
    root = np.einsum("gij,gj,gkj->gik", axes, np.sqrt(power), axes)
    inverse = np.einsum("gij,gj,gkj->gik", axes, 1 / np.sqrt(power), axes)
    whole = np.zeros_like(values, dtype=np.float64)
    for group in range(parts.groups):
        place = slice(group * size, (group + 1) * size)
        whole[place, place] = root[group]
    _, vectors = np.linalg.eigh(whole @ values @ whole)
    leading = vectors[:, -size:]
    return leading.T @ whole, inverse @ leading.reshape(parts.groups, size, size)


@dataclass(frozen=True, eq=False)
class MergedMoments:
    """Second moments over tokens of the context vectors of merged layers, each alone in the full model.

    ``merged (L, C, C)`` of the merged context vectors, ``whole (L, C, C)`` of the full model's, and ``across`` of both,
    ``(L, C, C)``, the merged ones first.
    """

    merged: NDArray[np.float64]
    whole: NDArray[np.float64]
    across: NDArray[np.float64]


def collect_merged_moments(
    model: HeadModel, merges: Sequence[Merge], pairs: Pairs, inputs: Sequence[Item], *, progress: Progress = silent
) -> MergedMoments:
    """Run the full model over ``inputs`` layer by layer, and each merged layer on what enters it in the full model."""
    every = merge_layers(model, dict(enumerate(merges)), pairs)
    width = model.projection(0).weight.shape[1]
    sums = torch.zeros(3, model.layers, width, width, device=model.device)
    tokens = 0
    for batch in report_progress(model.batches(model.tokenize(inputs)), STAGE, progress):
        real = batch.tensors["attention_mask"].bool()
        tokens += int(real.sum())
        with torch.no_grad():
            state = model.enter(batch)
            for layer in range(model.layers):
                merged, _ = _step(every, state)
                whole, state = _step(model, state)
                rows = merged[real].float(), whole[real].float()
                sums[0, layer].addmm_(rows[0].T, rows[0])
                sums[1, layer].addmm_(rows[1].T, rows[1])
                sums[2, layer].addmm_(rows[0].T, rows[1])
    return MergedMoments(*(sums / max(1, tokens)).cpu().numpy().astype(np.float64))


def _step(model: HeadModel, state: LayerState) -> tuple[Tensor, LayerState]:
    """Run a layer; return the context vectors of its heads as well."""
    seen: list[Tensor] = []

    def watch(site: Site, layer: int, entering: Tensor) -> None:
        if site == "output":
            seen.append(entering)

    state = model.step(state, tap=watch)
    return seen[0], state


def order_layers(merges: Sequence[Merge], moments: MergedMoments, predictions: Moments) -> list[int]:
    """Order the layers by what their merge alone changes in the predictions, the cheapest first.

    It is ``tr(G E[d d'])``, with ``d`` the change of the context vectors in the full model, and ``G`` the second moment
    of their gradients: twice the KL divergence in nats per token, to second order.
    """
    costs: list[float] = []
    for layer, merge in enumerate(merges):
        rebuilt = _decode_all(merge, len(moments.whole[layer]))
        across = rebuilt @ moments.across[layer]
        changed = rebuilt @ moments.merged[layer] @ rebuilt.T - across - across.T + moments.whole[layer]
        costs.append(float(np.vdot(predictions.gradients[layer].astype(np.float64), changed)))
    return [int(layer) for layer in np.argsort(costs, kind="stable")]


def _decode_all(merge: Merge, width: int) -> NDArray[np.float64]:
    """What rebuilds the context vectors of all query heads from merged ones, ``(C, C)``."""
    groups, size, _ = merge.decode_values.shape
    heads = width // size
    rebuilt = np.zeros((width, width))
    for head in range(heads):
        place = slice(head * size, (head + 1) * size)
        rebuilt[place, place] = merge.decode_values[head // (heads // groups)]
    return rebuilt


# How to merge ------------------------------------------------------------------------------------------------------


def merge_layers(model: HeadModel, merges: Mapping[int, Merge], pairs: Pairs) -> HeadModel:
    """Copy a model in which the layers of ``merges`` have one key-value head.

    Its logits are those of a model whose cached keys and values are merged. All other weights are shared with
    ``model``.
    """
    parts = find_parts(model)
    merged = copy_network(model)
    for layer, merge in merges.items():
        query, key, value = (get_projection(merged, layer, path) for path in (parts.query, parts.key, parts.value))
        encode, decode = (_tensor(one, key.weight) for one in (merge.encode_keys, merge.decode_keys))
        turns = decode.conj().repeat_interleave(parts.group, dim=0)
        _map_rows(query, partial(_turn, pairs, turns))
        _map_rows(key, partial(_combine, pairs, encode))
        lead, follow = (_tensor(one, value.weight) for one in (merge.encode_values, merge.decode_values))
        _map_rows(value, partial(torch.matmul, lead))
        output = merged.projection(layer)
        columns = output.weight.reshape(len(output.weight), parts.groups, parts.group, -1)
        output.replace(torch.einsum("oghi,gij->oghj", columns, follow).flatten(1), output.bias)
        attention = merged.layer_modules[layer].get_submodule(model.family.attention)
        for name, what in model.family.sizes.items():
            if what == "units":
                set_size(attention, name, 1)
        if hasattr(attention, _SHARING):
            set_size(attention, _SHARING, parts.queries)
    return merged


def refit_outputs(model: HeadModel, merged: HeadModel, layers: Sequence[int], moments: MergedMoments) -> HeadModel:
    """Solve the output projections of the merged ``layers`` at once, as the quick refit of a mask does; nothing is run.

    ``merged`` is changed and returned. See ``cahp.stages.one_shot``: ``x`` are now merged context vectors.
    """
    where = float64_device(model.device)
    for layer in layers:
        output = merged.projection(layer)
        gram = torch.from_numpy(moments.merged[layer]).to(where)
        wanted = torch.from_numpy(moments.across[layer]).to(where) @ model.projection(layer).weight.to(where).double().T
        before = output.weight.to(where).double().T
        penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=where)
        change = torch.linalg.solve(gram + penalty, wanted - gram @ before)
        output.replace((before + change).T.float().contiguous().to(output.weight.device), output.bias)
    return merged


def _map_rows(projection: Projection, change: Change) -> None:
    """Apply a linear map to the output channels of a projection, its weights and its bias."""
    bias = projection.bias
    if bias is not None:
        bias = change(bias)
    projection.replace(change(projection.weight), bias)


def _turn(pairs: Pairs, factors: Tensor, rows: Tensor, *, heads: int | None = None) -> Tensor:
    """Multiply the rows of heads (the first ``heads``; None: all) by complex ``factors (heads, p)``."""
    return pairs.split(_scale(factors, pairs.join(rows)[:heads]))


def _combine(pairs: Pairs, factors: Tensor, rows: Tensor) -> Tensor:
    """Sum up the rows of all heads, multiplied by complex ``factors (heads, p)``."""
    return pairs.split(_scale(factors, pairs.join(rows)).sum(0, keepdim=True))


def _mix_first(mixing: Tensor, rows: Tensor) -> Tensor:
    """Mix the rows of the first head."""
    return mixing @ rows[: mixing.shape[1]]


def _scale(factors: Tensor, rows: Tensor) -> Tensor:
    """Multiply complex rows ``(heads, p, ...)`` by ``factors (heads, p)``."""
    return factors.reshape(*factors.shape, *[1] * (rows.ndim - 2)) * rows


def _tensor(array: NDArray[np.generic], like: Tensor) -> Tensor:
    """An array in the precision of a tensor, complex or real, on its device."""
    made = torch.from_numpy(np.ascontiguousarray(array))
    if made.is_complex():
        return made.to(like.device, torch.complex64)
    return made.to(like.device, torch.float32)


# Which models ------------------------------------------------------------------------------------------------------


def find_pairs(model: HeadModel) -> Pairs:
    """Find which channels of a model's keys rotate together, and prove it.

    Raises:
        ModelError: If its key-value heads cannot be merged, with the reason.
    """
    if model.card.group == 1:
        raise ModelError(
            f"key-value heads of {model.card.id} cannot be merged: it has no grouped queries, or one key-value head "
            "already; leave that peer out"
        )
    parts = find_parts(model)
    attention = model.layer_modules[0].get_submodule(model.family.attention)
    if any("k_norm" in name or "key_norm" in name for name, _ in attention.named_modules()):
        raise ModelError(
            f"key-value heads of {model.card.id} cannot be merged: its keys are normalised head by head before their "
            "rotation, which does not commute with factors; leave that peer out"
        )
    for pairs in _list_layouts(model, parts):
        if _is_proven(model, parts, pairs):
            return pairs
    raise ModelError(
        f"key-value heads of {model.card.id} cannot be merged: copies of one key-value head, turned and mixed, do not "
        "merge into it; leave that peer out"
    )


def _list_layouts(model: HeadModel, parts: AttentionParts) -> list[Pairs]:
    """Halves of the rotated channels that belong together, then neighbours; channels without rotation fit any pair."""
    size = model.projection(0).weight.shape[1] // parts.queries
    config = model.network.config
    share = getattr(config, "partial_rotary_factor", None)
    if share is None:
        share = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    rotated = int(size * share) // 2
    still = np.arange(2 * rotated, size)
    half = len(still) // 2
    every = np.arange(size)
    layouts = [Pairs(every[::2], every[1::2])]
    if size % 2 == 0:
        first = np.concatenate([np.arange(rotated), still[:half]])
        second = np.concatenate([np.arange(rotated, 2 * rotated), still[half:]])
        layouts.insert(0, Pairs(first, second))
    return layouts


def _is_proven(model: HeadModel, parts: AttentionParts, pairs: Pairs) -> bool:
    """Whether copies of the first key-value head of each layer, turned and mixed at random, merge without a change."""
    random = np.random.default_rng(0)
    size = 2 * len(pairs.real)
    twin = copy_network(model)
    merges: dict[int, Merge] = {}
    for layer in range(model.layers):
        turns = random.normal(size=(parts.groups, len(pairs.real))) + 1j * random.normal(
            size=(parts.groups, len(pairs.real))
        )
        mixes = random.normal(size=(parts.groups, size, size)) / size**0.5
        first = np.zeros_like(turns)
        first[0] = 1 / turns[0]
        key = get_projection(twin, layer, parts.key)
        value = get_projection(twin, layer, parts.value)
        factors = _tensor(turns, key.weight)
        mixing = _tensor(mixes, value.weight)
        _map_rows(key, partial(_turn, pairs, factors, heads=1))
        _map_rows(value, partial(_mix_first, mixing.flatten(0, 1)))
        encode = np.zeros((size, parts.groups * size))
        encode[:, :size] = np.linalg.inv(mixes[0])
        merges[layer] = Merge(first, turns, encode, mixes)
    (batch, *_) = twin.batches(twin.tokenize(twin.examples(["A short text, and then another one."])), size=1)
    with torch.no_grad():
        expected = twin.logits(batch)
        try:
            merged = merge_layers(twin, merges, pairs).logits(batch)
        except (RuntimeError, ValueError, IndexError, AttributeError):
            # A module that counts its heads in another way.
            return False
    reach = max(1.0, float(expected.abs().max()))
    return float((merged - expected).abs().max()) <= _TOLERANCE * reach
