"""Positive control of the premise: heads that are divided into two equal halves are redundant by construction.

In each layer some heads, those with the highest salience, take the places of as many others, those with the lowest.
Both halves have the query, key and value weights of the divided head and half of its output weights. They attend
identically, and removing one of them costs half of the head. Clusters and salience must find them, and the test of the
premise should find their interaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from _premise_pairs import removal_divergences
from _premise_test import scale_interactions

from cahp.run.bench import Bench, open_bench
from cahp.run.prune import choose
from cahp.run.texts import data_name
from cahp.values import Floats, HeadMask, Ints, ModelError, OptionError, digest
from cahp.values.statistics import called

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: One head in so many is divided, at least one in a layer.
_ONE_IN = 4
#: The largest difference of two equal logits, relative to the largest logit.
_SAME = 1e-3


@dataclass(frozen=True, eq=False)
class Halves:
    """Which heads are halves of a divided head: ``first`` and ``second (D,)``, as flat indices.

    ``sources (L, H)`` is the head of the original model, in its layer, whose weights each head has.
    """

    first: Ints
    second: Ints
    sources: Ints


def choose_halves(salience: Floats) -> Halves:
    """Choose the heads to divide, those with the highest ``salience (L, H)`` of a layer, and their second places.

    Raises:
        OptionError: If a layer has one head only.
    """
    layers, heads = salience.shape
    if heads < 2:
        raise OptionError("a head cannot be divided where a layer has one head; leave out --control")
    count = max(1, heads // _ONE_IN)
    ascending = np.argsort(salience, axis=1, kind="stable")
    divided = ascending[:, -count:]
    replaced = ascending[:, :count]
    sources = np.tile(np.arange(heads), (layers, 1))
    np.put_along_axis(sources, replaced, divided, axis=1)
    starts = heads * np.arange(layers)[:, None]
    return Halves((starts + divided).ravel(), (starts + replaced).ravel(), sources)


def copy_heads(model: HeadModel, sources: Ints) -> HeadModel:
    """Replace heads by copies: head ``h`` of layer ``l`` becomes a copy of head ``sources[l, h]`` of its layer.

    All copies of a head have its query, key and value weights, and equal shares of its output weights, so that together
    they are that head. All other weights are shared with ``model``.

    Raises:
        ModelError: If heads of this architecture differ by more than these weights.
    """
    import torch

    from cahp.models.surgery import copy_network, list_channels, take_heads

    family = model.family
    if family.no_cut is not None or family.planes is not None or family.selects:
        raise ModelError(f"heads of {model.card.id} cannot be copied: they differ by more than their weights")
    copied = copy_network(model)
    for index, layer in enumerate(copied.layer_modules):
        chosen = torch.tensor(sources[index], dtype=torch.long, device=model.device)
        take_heads(layer, model, chosen)
        output = copied.projection(index)
        columns = list_channels(chosen, output.weight.shape[1], model.heads)
        shares = 1 / torch.bincount(chosen, minlength=model.heads)[chosen]
        output.replace(output.weight[:, columns] * shares.repeat_interleave(len(columns) // model.heads), output.bias)
    return copied


def divide_heads(model: HeadModel, halves: Halves) -> HeadModel:
    """Return the model with the divided heads, and prove on two texts that it is the model without the replaced heads.

    Raises:
        ModelError: If halves of a head do not compute what the head does.
    """
    import torch

    divided = copy_heads(model, halves.sources)
    card = replace(
        model.card,
        id=f"{model.card.id} with {len(halves.first)} divided heads",
        origin=digest(model.card.sha256, "divided heads", halves.sources.tobytes()),
    )
    divided.card = card
    keep = np.ones(halves.sources.size, dtype=np.bool_)
    keep[halves.second] = False
    gates = model.gates(keep.reshape(halves.sources.shape))
    (batch, *_) = model.batches(model.tokenize(model.examples(["A short text.", "Another, which is longer."])))
    with torch.inference_mode():
        expected = model.logits(batch, gates=gates)
        found = divided.logits(batch)
    if float((expected - found).abs().max()) > _SAME * float(expected.abs().max()):
        raise ModelError(f"heads of {model.card.id} cannot be divided: two halves do not compute what the head does")
    return divided


def open_control(bench: Bench) -> tuple[Bench, Halves]:
    """Return a bench of the same model and data with divided heads, and which heads these are.

    Raises:
        CahpError: If heads of this model cannot be divided.
    """
    halves = choose_halves(bench.evidence.salience)
    model = divide_heads(bench.model, halves)
    # A built-in model has data of its own, which the model with other heads is not known to have.
    control = open_bench(
        replace(bench.settings, data=data_name(bench.settings, bench.card)),
        store=bench.resources.store,
        card=model.card,
        load=lambda *_, **__: model,
        progress=bench.resources.progress,
    )
    return control, halves


def label_halves(halves: Halves) -> Ints:
    """Return labels ``(N,)`` that only two halves of a head share."""
    labels = np.arange(halves.sources.size)
    labels[halves.second] = halves.first
    return labels


def measure_control(bench: Bench) -> dict[str, Any]:
    """Divide heads of the model into halves, and tell what clusters, salience and the mask make of them.

    ``interactions`` are those of the halves of each divided head. By chance as many halves share a cluster as other
    heads of a layer do (None: a layer has no others).

    Raises:
        CahpError: If heads of this model cannot be divided.
    """
    bench, halves = open_control(bench)
    every: tuple[int | None, Ints] = (None, np.arange(halves.sources.size))
    low = np.minimum(halves.first, halves.second)
    high = np.maximum(halves.first, halves.second)
    pairs = [(int(one), np.array([other])) for one, other in zip(low, high, strict=True)]
    alone, *joint = removal_divergences(bench, [every, *pairs])
    costs = np.concatenate(joint).mean(axis=1)
    interactions = scale_interactions(alone.mean(axis=1), costs, low, high)
    selection = choose(bench)
    clustering = bench.evidence.clustering
    labels, _ = clustering.at(selection.k or clustering.nearest(selection.mask.count))
    return {"interactions": interactions.tolist(), **find_halves(bench, halves, labels, selection.mask)}


def find_halves(bench: Bench, halves: Halves, labels: Ints, mask: HeadMask) -> dict[str, Any]:
    """Tell whether the clusters ``labels (N,)``, salience and the ``mask`` find the halves; see ``measure_control``."""
    heads = bench.card.heads
    layers = np.arange(len(labels)) // heads
    first, second = np.triu_indices(len(labels), 1)
    near = layers[first] == layers[second]
    # Two halves share a cluster because they are halves.
    apart = label_halves(halves)
    near &= apart[first] != apart[second]
    by_chance = None
    if near.any():
        by_chance = float(len(halves.first) * (labels[first] == labels[second])[near].mean())
    strength = np.abs(bench.evidence.gradients).mean(axis=0).ravel()
    one = strength[halves.first]
    other = strength[halves.second]
    kept = mask.keep.ravel().astype(np.int64)
    both = kept[halves.first] + kept[halves.second]
    pairs = zip(halves.first.tolist(), halves.second.tolist(), strict=True)
    return {
        "divided": len(halves.first),
        "heads": [[called(head, heads) for head in pair] for pair in pairs],
        "in_one_cluster": int((labels[halves.first] == labels[halves.second]).sum()),
        "by_chance": by_chance,
        "salience_difference": float((np.abs(one - other) / np.maximum(np.maximum(one, other), 1e-30)).max()),
        "kept": {"neither": int((both == 0).sum()), "one": int((both == 1).sum()), "both": int((both == 2).sum())},
    }
