"""Signatures of heads, gradients by their gates, and second moments (paper, sections "signatures" and "salience")."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.attention import PooledProbe, Probe
from cahp.models.cards import Site
from cahp.models.devices import check_room, float64_device, move_to
from cahp.models.head_model import Batch, HeadModel
from cahp.models.reading import fisher_score, losses
from cahp.tasks.texts import Texts
from cahp.values import Floats, HeadMask, Ints, Precision, Progress, report_progress, silent
from cahp.values.statistics import Moments, Signatures

STAGE = "signatures"


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

    def watch(self, batch: Batch, labels: Ints) -> PooledProbe:
        """The probe of a forward call on ``batch``, whose examples have the classes ``labels (b,)``."""
        device = batch.real.device
        present, group = np.unique(labels, return_inverse=True)
        members = move_to(nn.functional.one_hot(torch.as_tensor(group), len(present)).T.float(), device)
        counts = members.sum(1, keepdim=True)
        present_rows = move_to(torch.as_tensor(present), self._where)

        self.seen = True

        def take(layer: int, pooled: Tensor) -> None:
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

        return PooledProbe.of(batch.here, self._pool, device, take)

    def result(self) -> Signatures:
        """The statistics of all examples so far."""

        def by_head(values: Tensor) -> Floats:
            split = values.reshape(self._layers, self._classes, self._heads, self._pool**2).transpose(1, 2)
            return split.flatten(0, 1).cpu().numpy().copy()

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


SALIENCE_STAGE = "salience"
#: Batch size of the reference definition; it only groups the gradients, the model runs other batches.
BATCH = 32


def examples_used(texts: Texts) -> int:
    """Number of examples in the reference's quarter of the batches, at least one batch."""
    size = texts.task.batch
    batches = -(-len(texts) // size)
    return min(len(texts), max(1, batches // 4) * size)


def gate_gradients(
    model: HeadModel,
    texts: Texts,
    *,
    watch: Callable[[Batch, Ints], Probe] = lambda batch, labels: PooledProbe(None, lambda layer, maps: None),
    progress: Progress = silent,
) -> Floats:
    """Signed gradients ``(M, L, H)`` of each example's loss at gates of 1, for the first quarter of ``texts``.

    ``watch`` lets a signature collector use the same forward pass. Without one, attention is computed in the same way,
    so that the gradients are equal to the last digit.
    """
    first = texts.take(range(examples_used(texts)))
    return example_gradients(model, first, watch=watch, progress=progress)


def example_gradients(
    model: HeadModel,
    texts: Texts,
    *,
    mask: HeadMask | None = None,
    watch: Callable[[Batch, Ints], Probe] | None = None,
    progress: Progress = silent,
) -> Floats:
    """Signed gradients ``(len(texts), L, H)`` of each example's loss with respect to its gates.

    The gates are at 1, or at 0 for the heads that ``mask`` drops. ``watch`` returns the probe of each forward pass.
    """
    values = np.zeros((len(texts), model.layers, model.heads))
    labels = torch.as_tensor(texts.labels, device=model.device)
    if mask is None:
        mask = model.card.full_mask
    at = model.gates(mask.keep)
    batches = model.batches(model.tokenize(texts.inputs), size=model.backward_tokens)
    gradients = []
    for batch in report_progress(batches, SALIENCE_STAGE, progress):
        gates = at.repeat(len(batch), 1, 1).requires_grad_()
        probe = None
        if watch is not None:
            probe = watch(batch, texts.labels[batch.rows])
        # In the sum, the loss of each example depends only on its own gates.
        rows = move_to(torch.as_tensor(batch.rows), model.device)
        loss = losses(model, batch, labels[rows], gates=gates, probe=probe).sum()
        (gradient,) = torch.autograd.grad(loss, gates)
        gradients.append(gradient)
    # Copied at the end, so that a device does not wait for the processor between batches.
    for batch, gradient in zip(batches, gradients, strict=True):
        values[batch.rows] = gradient.cpu().double().numpy()
    return values


def salience(gradients: Floats, *, how: Literal["batch", "example"] = "batch") -> Floats:
    """Salience of every head ``(L, H)`` from gradients ``(M, L, H)``, scaled to 0..1 (all 1 where it is constant).

    ``batch`` is the reference's: the absolute gradient of each batch's mean loss, averaged over batches of 32 in the
    order of the data. ``example`` takes the absolute value per example, which does not depend on a batch size.
    """
    if how == "batch":
        starts = range(0, len(gradients), BATCH)
        gradients = np.stack([gradients[start : start + BATCH].mean(0) for start in starts])
    scores = np.abs(gradients).mean(0)
    low = scores.min()
    high = scores.max()
    if high <= low:
        return np.ones_like(scores)
    return np.asarray((scores - low) / (high - low))


# Second moments of context vectors and their gradients ---------------------------------------------------------


def collect_moments(model: HeadModel, texts: Texts, *, seed: int = 42, progress: Progress = silent) -> Moments:
    """Second moments of every layer over all tokens of ``texts``, whose labels are not read.

    The ``seed`` draws the signs of ``fisher_score``.

    Raises:
        ModelError: If the device has no room for two matrices of each layer.
    """
    width = model.projection(0).weight.shape[1]
    purpose = f"the Fisher metric of {model.card.id} needs"
    advice = "use another --method, or a machine with more memory"
    check_room(model.device, 8 * model.layers * width**2, purpose, advice)
    contexts, gradients = (torch.zeros(model.layers, width, width, device=model.device) for _ in range(2))
    products = np.zeros((model.layers, model.heads, model.heads))
    batches = model.batches(model.tokenize(texts.inputs), size=model.backward_tokens)
    tokens = sum(batch.tokens for batch in batches)
    for number, batch in enumerate(report_progress(batches, "moments", progress)):
        real = batch.real
        seen: list[tuple[int, Tensor]] = []

        def watch(site: Site, layer: int, entering: Tensor, seen: list[tuple[int, Tensor]] = seen) -> None:
            if site == "output":
                seen.append((layer, entering))

        # Gates, so that context vectors have gradients although all weights are frozen.
        gates = torch.ones(len(batch), model.layers, model.heads, device=model.device, requires_grad=True)
        # Each batch has its own signs.
        generator = torch.Generator().manual_seed((seed << 24) + number)
        score = fisher_score(model, batch, generator, gates=gates, tap=watch)
        wanted = [gates, *(entering for _, entering in seen)]
        of_gates, *of_contexts = torch.autograd.grad(score, wanted, materialize_grads=True)
        # The gradient of a gate is the sum of the products of context vectors and gradients.
        alone = of_gates.double().cpu().numpy()
        products += np.einsum("nlh,nlk->lhk", alone, alone)
        # A layer that is used in many passes is seen in each of them.
        for (layer, entering), gradient in zip(seen, of_contexts, strict=True):
            for total, rows in ((contexts[layer], entering.detach()), (gradients[layer], gradient)):
                chosen = rows.reshape(*real.shape, width)[real].float()
                total.addmm_(chosen.T, chosen)
    first, second = ((total / tokens).cpu().numpy() for total in (contexts, gradients))
    return Moments(first, second, products / max(1, len(texts)), model.heads, tokens)
