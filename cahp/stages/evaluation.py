"""Predictions of a model with and without heads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cahp.tasks.answers import Evaluation, PartListener
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, JsonObject, Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel
    from cahp.models.reading import Reader


def evaluate(
    model: HeadModel,
    texts: Texts,
    *,
    mask: HeadMask | None = None,
    progress: Progress = silent,
    on_part: PartListener | None = None,
    reader: Reader | None = None,
) -> Evaluation:
    """Predictions of ``model`` on ``texts``, without the heads that ``mask`` drops.

    A language model is compared with the full model of the ``reader`` (None: it is the full model).

    Progress counts examples; the callback may stop the work between batches. ``on_part`` receives the predictions so
    far.
    """
    from cahp.models.reading import Reader

    gates = model.gates_of(mask)
    reader = reader or Reader(texts)
    size = None
    if on_part is not None and model.device.type == "cpu":
        size = texts.task.first_tokens
    batches = model.batches(model.tokenize(texts.inputs), size=size)
    if on_part is not None:
        # Batches are ordered by length, but every part should have texts of all lengths.
        batches = [batches[number] for number in np.random.default_rng(0).permutation(len(batches))]
        # A part needs items of the data, which repeated tokens are not.
        own = set(texts.text_rows)
        batches.sort(key=lambda batch: own.isdisjoint(batch.rows.tolist()))
    return reader.evaluate(
        batches, lambda _, batch: reader.read(model, batch, gates=gates), progress=progress, on_part=on_part
    )


# Many masks on the same texts --------------------------------------------------------------------------------


#: Memory for the hidden states of lower layers, in bytes.
ROOM = 512 << 20


class SharedLayers:
    """The hidden states that leave lower layers, for ``masks`` that are evaluated on the same texts.

    The output of a layer depends on this and the lower layers only, so a mask continues from the states of an earlier
    mask with the same lower layers. States are kept within ``room`` bytes while another mask needs them. Results are
    those of ``evaluate``, to the last digit. After a recovery, it must be a layerwise one, the same for all masks.
    Where layers need more than hidden states (``HeadModel.has_tails``), nothing is kept.
    """

    def __init__(self, masks: Iterable[HeadMask], *, room: int = ROOM) -> None:
        self._waiting = {mask.sha256: _list_paths(mask) for mask in masks}
        self._states: dict[bytes, list[Tensor]] = {}
        self._room = room

    def evaluate(
        self,
        mask: HeadMask,
        pruned: HeadModel,
        texts: Texts,
        *,
        reader: Reader,
        progress: Progress = silent,
    ) -> Evaluation:
        """Evaluate ``pruned``, the model that was cut to ``mask``, which must have no empty layer."""
        from cahp.models.surgery import tail

        self._waiting.pop(mask.sha256, None)
        wanted = {path for paths in self._waiting.values() for path in paths}
        paths = _list_paths(mask)
        depth = max((layer for layer, path in enumerate(paths, 1) if path in self._states), default=0)
        rest = pruned
        start = []
        if depth:
            start = self._states[paths[depth - 1]]
            rest = tail(pruned, depth) or pruned
        batches = rest.batches(rest.tokenize(texts.inputs))
        left: dict[bytes, list[Tensor]] = {}
        if pruned.has_tails:
            layer_bytes = 4 * pruned.card.hidden * sum(batch.tensors["input_ids"].numel() for batch in batches)
            taken = sum(state.nbytes for states in self._states.values() for state in states)
            useful = [path for path in paths[depth:] if path in wanted]
            # The lowest layers are shared by the most masks.
            left = {path: [] for path in useful[: max(0, self._room - taken) // layer_bytes]}

        def read(number: int, batch: Batch) -> Tensor:
            options: JsonObject = {}
            if start:
                options["start"] = start[number]
            leaving = iter(paths[depth:])

            def keep(hidden: Tensor) -> None:
                path = next(leaving, b"")
                if path in left:
                    left[path].append(hidden)

            if left:
                options["leaving"] = keep
            return reader.read(rest, batch, **options)

        evaluation = reader.evaluate(batches, read, progress=progress)
        self._states = {path: states for path, states in {**self._states, **left}.items() if path in wanted}
        return evaluation


def _list_paths(mask: HeadMask) -> list[bytes]:
    """Return what tells the outputs of each layer but the last apart: the heads of all layers up to it."""
    return [mask.keep[:layer].tobytes() for layer in range(1, mask.layers)]
