"""Measure the abilities of a causal language model, of the pruned one and of the recovered one, on the same items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.features.abilities.items import ABILITIES, AbilityKind, AskedSequence, Items, ItemSource
from cahp.features.abilities.record import LEAST, REVISION, AbilitiesRecord, ItemValues, decide
from cahp.models import known_tokens, start_id
from cahp.run import Recovered, Resources, cut_model
from cahp.store import key
from cahp.tasks import Texts
from cahp.values import Floats, HeadMask, Precision, Progress, nest_progress, report_progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models import HeadModel

STAGE = "abilities"
#: Of the abilities that every run measures, so many tokens that a model reads at once allow for one item.
_TOKENS_PER_ITEM = 10
#: So many of their longest passages fit into what the model reads at once.
_PASSAGES = 4


def measure_abilities(
    resources: Resources,
    texts: Texts,
    mask: HeadMask | None,
    recovered: Recovered | None = None,
    *,
    complete: bool = False,
    seed: int = 42,
) -> AbilitiesRecord:
    """Measure the abilities of a causal language model, of that under ``mask``, and of the ``recovered`` one.

    ``texts`` are evaluation windows. All abilities are measured if ``complete``, else those of every run. ``seed``
    draws items and intervals. Losses are read from the store where the same model has read the same items.
    """
    kinds = _list_kinds(complete=complete)
    source = make_source(resources.model, texts, seed)
    rows = []
    for place, kind in enumerate(kinds):
        progress = nest_progress(resources.progress, place, len(kinds))
        rows.append(measure_kind(resources, kind, source, mask, recovered, complete=complete, progress=progress))
    return AbilitiesRecord(decide(rows, seed), complete)


def _list_kinds(*, complete: bool) -> list[AbilityKind]:
    """List all abilities, or those of every run."""
    return [kind for kind in ABILITIES if complete or kind.quick is not None]


def make_source(model: HeadModel, texts: Texts, seed: int) -> ItemSource | str:
    """Return what items for a model are made of, or the reason why there are none."""
    from cahp.models import usual_ids

    vocabulary = known_tokens(model)
    start = start_id(model.tokenizer)
    if start is None or start >= vocabulary:
        return "it has no token that begins a text"
    return ItemSource(
        model.tokenizer,
        start=start,
        usual=usual_ids(model.tokenizer),
        longest=model.longest_context,
        vocabulary=vocabulary,
        stream=texts.stream,
        seed=seed,
    )


def draw_items(kind: AbilityKind, source: ItemSource | str, *, complete: bool) -> Items | str:
    """Draw the items of an ability, or return the reason why there are none."""
    if isinstance(source, str):
        return source
    size = kind.size
    if not complete and kind.quick is not None:
        # A model that reads little at once is small or old, and need not wait longer for this than for its evaluation.
        most = max(LEAST, source.longest // _TOKENS_PER_ITEM)
        longest = min(kind.quick.longest, source.longest // _PASSAGES)
        size = replace(kind.quick, items=min(kind.quick.items, most), longest=longest)
    return kind.draw(source, size, source.random(kind.name))


def measure_kind(
    resources: Resources,
    kind: AbilityKind,
    source: ItemSource | str,
    mask: HeadMask | None,
    recovered: Recovered | None,
    *,
    complete: bool,
    progress: Progress = silent,
) -> ItemValues:
    """Measure one ability of each model."""
    items = draw_items(kind, source, complete=complete)
    if isinstance(items, str):
        return ItemValues(kind.name, kind.label, kind.unit, kind.chance, reason=items)
    models: dict[str, tuple[HeadMask | None, Recovered | None]] = {"full": (None, None)}
    if mask is not None:
        models["pruned"] = (mask, None)
        if recovered is not None:
            models["recovered"] = (mask, recovered)
    losses = {}
    for place, (state, (kept, how)) in enumerate(models.items()):
        losses[state] = _read(resources, items, kept, how, nest_progress(progress, place, len(models)))
    return value_items(kind, items, losses)


def value_items(kind: AbilityKind, items: Items, sums: Mapping[str, Floats]) -> ItemValues:
    """Return the values of items, given the summed losses of their parts ``(n, parts)`` by model."""
    values: dict[str, Floats] = {}
    losses: dict[str, Floats] = {}
    for state, total in sums.items():
        means = total / np.maximum(items.sizes, 1)
        parts = total
        if kind.means:
            parts = means
        values[state] = kind.value(parts)
        if kind.loss_part is not None:
            losses[state] = means[:, kind.loss_part]
    return ItemValues(kind.name, kind.label, kind.unit, kind.chance, values, loss_label=kind.loss_label, losses=losses)


def _read(
    resources: Resources, items: Items, mask: HeadMask | None, recovered: Recovered | None, progress: Progress
) -> NDArray[np.float64]:
    """Return the summed losses of a model by item and part, from the store where it has read these items."""
    if mask is not None and mask.is_full and recovered is None:
        mask = None
    precision = resources.precisions.evaluation
    digests = (resources.card.sha256, items.sha256, mask and mask.sha256, recovered and recovered.sha256)
    name = key("abilities", REVISION, *digests, precision)
    sums = resources.load_cached(STAGE, name, lambda entry: entry.arrays["sums"].astype(np.float64))
    if sums is None or sums.shape != (items.count, items.parts):
        from cahp.models import can_cut

        model = resources.model
        gates = None
        with resources.timed(STAGE):
            # Without its heads a model reads faster.
            if mask is not None and can_cut(model, mask):
                model = cut_model(model, mask, recovered)
            elif mask is not None:
                gates = model.gates(mask.keep)
            sums = read_items(model, items, gates=gates, precision=precision, progress=progress)
        resources.keep(name, {"sums": sums})
    return sums


def read_items(
    model: HeadModel,
    items: Items,
    *,
    gates: Tensor | None = None,
    precision: Precision = "float32",
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Return the summed losses ``(n, parts)`` of a model on items, in nats; progress counts sequences.

    Logits are computed only where a prediction counts.
    """
    import torch

    from cahp.models import from_ids, token_losses

    readings = items.readings
    sums = np.zeros((items.count, items.parts))
    batches = model.batches(from_ids(ids for ids, _ in readings))
    for batch in report_progress(batches, STAGE, progress):
        chosen: list[AskedSequence] = []
        places: list[int] = []
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
