"""Signatures of heads: streamed statistics of pooled attention maps per class (paper, section "signatures")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.attention import Probe
from cahp.models.devices import float64_device, move_to
from cahp.models.head_model import Batch, HeadModel
from cahp.tasks.texts import Texts
from cahp.values import Ints, Precision, Progress, report_progress, silent
from cahp.values.statistics import Signatures

STAGE = "signatures"


@lru_cache(maxsize=1024)
def resizing(length: int, pool: int) -> Tensor:
    """The matrix ``R (pool, length)`` that resizes a vector bilinearly, with half-pixel centres and no antialiasing.

    Resizing a map ``A`` is separable, ``R A R'``, and depends on its length alone.
    """
    columns = nn.functional.interpolate(torch.eye(length)[None], size=pool, mode="linear", align_corners=False)
    return columns[0].T.contiguous()


class Collector:
    """Collects statistics while a model runs; memory does not grow with the number of examples.

    Pass ``watch(batch, labels)`` as the probe of each forward call; ``result`` are the statistics so far.
    """

    def __init__(self, model: HeadModel, *, classes: int, pool_size: int = 32) -> None:
        self._layers = model.layers
        self._heads = model.heads
        self._pool = pool_size
        self._classes = classes
        #: Whether a batch was collected.
        self.seen = False
        shape = (model.layers, classes, model.heads * pool_size**2)
        # On the device of the maps: copying them would make the device wait in every layer.
        self._where = float64_device(model.device)
        self._counts, self._mean, self._m2 = (
            torch.zeros(size, dtype=torch.float64, device=self._where) for size in (shape[:2], shape, shape)
        )

    def watch(self, batch: Batch, labels: Ints) -> Probe:
        """The probe of a forward call on ``batch``, whose examples have the classes ``labels (b,)``."""
        device = batch.lengths.device
        real = batch.here
        if real is None:
            real = batch.tensors["attention_mask"].cpu().bool()
        resize = torch.zeros(len(real), self._pool, real.shape[1])
        for row, mask in enumerate(real):
            # Padding becomes a zero column, on whichever side the tokenizer puts it.
            resize[row, :, mask] = resizing(int(mask.sum()), self._pool)
        # Of each head: broadcasting would copy them in every layer.
        left = move_to(resize, device).repeat_interleave(self._heads, dim=0)
        right = left.transpose(1, 2).contiguous()
        present, group = np.unique(labels, return_inverse=True)
        members = move_to(nn.functional.one_hot(torch.as_tensor(group), len(present)).T.float(), device)
        counts = members.sum(1, keepdim=True)
        present_rows = move_to(torch.as_tensor(present), self._where)

        self.seen = True

        def take(layer: int, weights: Tensor) -> None:
            pooled = torch.bmm(torch.bmm(left, weights.float().flatten(0, 1)), right)
            cells = pooled.reshape(len(batch), -1)
            mean = members @ cells / counts
            # Each example minus the mean of its class, in place, since cells take most memory and time.
            m2 = members @ cells.addmm_(members.T, mean, alpha=-1).square_()
            # Chan's update in float64: sums over a batch are short, running sums may be long.
            more, mean, m2 = (part.to(self._where).double() for part in (counts, mean, m2))
            before = self._counts[layer, present_rows][:, None]
            total = before + more
            delta = mean - self._mean[layer, present_rows]
            self._m2[layer, present_rows] += m2 + delta.square() * (before * more / total)
            self._mean[layer, present_rows] += delta * (more / total)
            self._counts[layer, present_rows] = total[:, 0]

        return take

    def result(self) -> Signatures:
        """The statistics of all examples so far."""

        def by_head(values: Tensor) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
            split = values.reshape(self._layers, self._classes, self._heads, self._pool**2).transpose(1, 2)
            flat = split.reshape(self._layers * self._heads, self._classes, self._pool**2)
            return flat.cpu().numpy().copy()

        counts = self._counts[0].cpu().numpy().astype(np.int64)
        return Signatures(counts, by_head(self._mean), by_head(self._m2), self._layers, self._heads)


def collect(
    model: HeadModel,
    texts: Texts,
    *,
    pool_size: int = 32,
    rows: Sequence[int] | Ints | None = None,
    into: Collector | None = None,
    size: int | None = None,
    precision: Precision = "float32",
    progress: Progress = silent,
) -> Signatures:
    """Signatures of every head on ``texts`` (or some ``rows`` of them): one forward pass per text.

    ``into`` continues a collector with earlier examples; ``size`` is the number of padded tokens of a batch (None: the
    default), on which the last digits depend.
    """
    collector = into or Collector(model, classes=len(texts.classes), pool_size=pool_size)
    batches = model.batches(model.tokenize(texts.inputs), rows=rows, size=size)
    for batch in report_progress(batches, STAGE, progress):
        model.logits(batch, probe=collector.watch(batch, texts.labels[batch.rows]), precision=precision)
    return collector.result()
