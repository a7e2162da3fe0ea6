"""Measure the abilities of a causal language model, of the pruned one and of the recovered one, on the same items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cahp.features.abilities.items import ABILITIES, AbilityKind, Items, ItemSource, NotMeasurable
from cahp.features.abilities.record import ItemValues
from cahp.models import known_tokens, start_id
from cahp.run import Bench, Recovered, Resources, cut_model
from cahp.store import Entry, key
from cahp.tasks import Texts
from cahp.values import Floats, HeadMask, Precision, Progress, nest_progress, report_progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models import HeadModel

STAGE = "abilities"
#: Bump to invalidate cached losses of items.
_REVISION = 2


def measure_items(
    bench: Bench, mask: HeadMask, recovered: Recovered | None = None, *, complete: bool
) -> list[ItemValues]:
    """Measure the items of each ability of a causal language model, of that under ``mask``, and of the ``recovered``.

    All abilities are measured if ``complete``, else those of every run. The seed of the bench draws items. Losses are
    read from the store where the same model has read the same items.
    """
    resources = bench.resources
    seed = bench.settings.seed
    sizes = {kind: kind.size for kind in ABILITIES}
    if not complete:
        sizes = {kind: kind.quick for kind in ABILITIES if kind.quick is not None}
    states: dict[str, tuple[HeadMask | None, Recovered | None]] = {"full": (None, None), "pruned": (mask, None)}
    if recovered is not None:
        states["recovered"] = (mask, recovered)
    rows = []
    for place, (kind, size) in enumerate(sizes.items()):
        progress = nest_progress(resources.progress, place, len(sizes))
        try:
            source = make_source(resources.model, bench.evaluation, seed)
            items = kind.draw(source, size, source.random(kind.name))
        except NotMeasurable as reason:
            rows.append(ItemValues(kind.name, kind.label, kind.unit, kind.chance, reason=str(reason)))
            continue
        sums = {}
        for number, (state, (kept, how)) in enumerate(states.items()):
            sums[state] = _read(resources, items, kept, how, nest_progress(progress, number, len(states)))
        rows.append(value_items(kind, items, sums))
    return rows


def make_source(model: HeadModel, texts: Texts, seed: int) -> ItemSource:
    """Return what items for a model are made of.

    Raises:
        NotMeasurable: If the model has no token that begins a text.
    """
    from cahp.models import usual_ids

    vocabulary = known_tokens(model)
    start = start_id(model.tokenizer)
    if start is None or start >= vocabulary:
        raise NotMeasurable("it has no token that begins a text")
    usual = usual_ids(model.tokenizer)
    usual = usual[usual < vocabulary]
    return ItemSource(model.tokenizer, start, usual, model.longest_context, vocabulary, texts.stream, seed)


def value_items(kind: AbilityKind, items: Items, sums: Mapping[str, Floats]) -> ItemValues:
    """Return the values of items, given the summed losses of their parts ``(n, parts)`` by model."""
    values = {}
    losses = {}
    for state, total in sums.items():
        means = total / np.maximum(items.sizes, 1)
        values[state] = means[:, 0] - means[:, 1]
        if kind.unit == "share":
            # The most probable option counts, whatever its number of tokens.
            values[state] = (total[:, 0] < total[:, 1:].min(axis=1)).astype(np.float64)
        if kind.loss_label:
            losses[state] = means[:, 1]
    return ItemValues(kind.name, kind.label, kind.unit, kind.chance, values, loss_label=kind.loss_label, losses=losses)


def _read(
    resources: Resources, items: Items, mask: HeadMask | None, recovered: Recovered | None, progress: Progress
) -> Floats:
    """Return the summed losses of a model by item and part, from the store where it has read these items."""
    if mask is not None and mask.is_full and recovered is None:
        mask = None
    precision = resources.precisions.evaluation
    digests = (resources.card.sha256, items.sha256, mask and mask.sha256, recovered and recovered.sha256)
    name = key("abilities", _REVISION, *digests, precision)

    def compute() -> Entry:
        from cahp.models import can_cut

        model = resources.model
        gates = model.gates_of(mask)
        if mask is not None and can_cut(model, mask):
            # Without its heads it reads faster.
            model = cut_model(model, mask, recovered)
            gates = None
        return Entry({"sums": read_items(model, items, gates=gates, precision=precision, progress=progress)})

    return resources.find(STAGE, name, lambda entry: entry.arrays["sums"].astype(np.float64), compute)


def read_items(
    model: HeadModel,
    items: Items,
    *,
    gates: Tensor | None = None,
    precision: Precision = "float32",
    progress: Progress = silent,
) -> Floats:
    """Return the summed losses ``(n, parts)`` of a model on items, in nats; progress counts sequences.

    Logits are computed only where a prediction counts.
    """
    import torch

    from cahp.models import from_ids, token_losses

    readings = items.readings
    sums = np.zeros((items.count, items.parts))
    batches = model.batches(from_ids(ids for ids, _ in readings))
    for batch in report_progress(batches, STAGE, progress):
        chosen = []
        places = []
        for place, row in enumerate(batch.rows):
            for probe in readings[row][1]:
                chosen.append(probe)
                places += [place] * len(probe.asked)
        rows = torch.tensor(places, device=model.device)
        asked = torch.as_tensor(np.concatenate([probe.asked for probe in chosen]), device=model.device)
        targets = torch.as_tensor(np.concatenate([probe.targets for probe in chosen]), device=model.device)
        with torch.no_grad():
            states = model.logits(batch, states=True, gates=gates, precision=precision)[rows, asked]
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                losses = token_losses(model.network, states, targets).double().cpu().numpy()
        members = np.concatenate([np.full(len(probe.asked), probe.item) for probe in chosen])
        np.add.at(sums, (members, np.concatenate([probe.parts for probe in chosen])), losses)
    return sums
