"""Attribution patching: what each head contributes to one answer of a model on one text, estimated and exact.

The metric is the log-probability of the answer in nats: of a class among the classes, or of the next token among all
tokens. To *remove* a head means to replace its output by a baseline, its mean over calibration texts, at every token.
The estimate of what that changes is the gradient of the metric with respect to the head's output, times the baseline
minus the output, summed over tokens and channels. It needs one forward and one backward pass for all heads together,
and is exact where the metric is linear in the head's output. Source: attribution patching (Nanda 2023; Syed, Rager and
Conmy 2023), with a baseline from other texts instead of a second prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cahp.features.attribution import TOP
from cahp.features.attribution.result import (
    Attribution,
    NeededHeads,
    RemovedHead,
    order_by_support,
)
from cahp.models import Site
from cahp.run import Bench
from cahp.stages import read_tokens, top as keep_best
from cahp.store import key
from cahp.tasks import Item
from cahp.values import (
    Bools,
    DataError,
    Floats,
    HeadMask,
    Input,
    Ints,
    ModelError,
    OptionError,
    Progress,
    report_progress,
    silent,
    spread,
)

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models import HeadModel

_BASELINE = "baseline"
#: Bump to invalidate cached results.
_REVISION = 1
#: Calibration texts, or windows, whose tokens are averaged: evenly spread ones.
_TEXTS = 64


@dataclass(frozen=True, eq=False)
class Baseline:
    """The mean context vectors ``means (L, width)`` of each layer's heads, float16, over ``tokens`` of ``texts``.

    ``width`` is the number of heads times the channels of a head, before the output projection; ``data`` names the
    texts.
    """

    means: NDArray[np.float16]
    texts: int
    tokens: int
    data: str

    def __str__(self) -> str:
        return f"mean over {self.tokens:,} tokens of {self.texts} calibration texts of {self.data}"


def measure_baseline(model: HeadModel, inputs: Sequence[Item], *, data: str, progress: Progress = silent) -> Baseline:
    """Average the output of each head of ``model`` over the tokens of ``inputs``; one forward pass of each."""
    from cahp.models import average_outputs

    means, tokens = average_outputs(model, model.tokenize(inputs), _BASELINE, progress)
    stacked = np.array([mean.cpu().numpy() for mean in means])
    return Baseline(stacked.astype(np.float16), len(inputs), tokens, data)


def find_baseline(bench: Bench) -> Baseline:
    """Return the baseline of a model and its data from the store, or measure and store it."""
    resources = bench.resources
    texts = bench.calibration
    name = key("attribution baseline", _REVISION, bench.card.sha256, texts.sha256, _TEXTS)

    def compute() -> Baseline:
        chosen = [texts.inputs[row] for row in spread(len(texts), _TEXTS)]
        return measure_baseline(bench.model, chosen, data=bench.dataset.id, progress=resources.progress)

    baseline = resources.find_values(_BASELINE, name, partial(Baseline, data=""), compute)
    # The same texts may have another name.
    return replace(baseline, data=bench.dataset.id)


STAGE = "attribution"
#: Sets of as many random heads, which are removed beside the top.
SETS = 10


@dataclass(frozen=True, eq=False)
class TextQuestion:
    """One text, read by a model, and what takes the place of its heads: ``baseline``.

    ``entry`` has the token ids by name.
    """

    model: HeadModel
    entry: dict[str, list[int]]
    baseline: Baseline

    @classmethod
    def read(cls, model: HeadModel, text: Input, baseline: Baseline) -> TextQuestion:
        """Tokenise a text or a pair of texts.

        Raises:
            DataError: If the text is empty, longer than the model reads, or a pair for a language model.
            ModelError: If heads of the model were removed before.
        """
        check_whole(model)
        if not isinstance(text, str) and model.card.task.predicts_often:
            raise DataError(f"{model.card.id} continues one text, not a pair; give one text")
        entry, tokens, cut = read_tokens(model, text)
        if cut > 0:
            raise DataError(
                f"the text has {len(tokens) + cut:,} tokens and {model.card.id} reads {len(tokens):,}; shorten the text"
            )
        return cls(model, entry, baseline)

    def estimate(self, answer: int | None) -> tuple[Floats, Floats]:
        """Estimate what removing each head changes in the log-probability of ``answer`` (None: of the likeliest).

        One forward and one backward pass. Returns the changes ``(L, H)`` in nats and the log-probabilities ``(C,)`` of
        all answers of the full model.
        """
        import torch

        model = self.model
        seen = []

        def watch(site: Site, layer: int, entering: Tensor) -> None:
            if site == "output":
                seen.append((layer, entering))

        # Gates, so that context vectors have gradients although all weights are frozen.
        gates = torch.ones(1, model.layers, model.heads, device=model.device, requires_grad=True)
        logs = model.logits(model.batches([self.entry])[0], gates=gates, tap=watch)[0].double().log_softmax(-1)
        if answer is None:
            answer = int(logs.argmax())
        gradients = torch.autograd.grad(logs[answer], [entering for _, entering in seen], materialize_grads=True)
        changes = np.zeros((model.layers, model.heads))
        means = self._means()
        # A layer that is used in many passes is seen in each of them.
        for (layer, entering), gradient in zip(seen, gradients, strict=True):
            products = gradient * (means[layer] - entering.detach())
            by_head = products.double().reshape(-1, model.heads, products.shape[-1] // model.heads)
            changes[layer] += by_head.sum((0, 2)).cpu().numpy()
        return changes, logs.detach().cpu().numpy()

    def remove(
        self, masks: Sequence[Bools], answer: int, *, fill: bool = True, progress: Progress = silent
    ) -> tuple[Floats, Ints]:
        """Run the model with the heads of each of ``masks (L, H)`` only; the others give their baseline.

        Without ``fill`` they give nothing, as a pruned model's. Returns the log-probability of ``answer (n,)`` in nats
        and the predictions ``(n,)``.
        """
        import torch

        model = self.model
        gates = model.gates(np.stack(masks))
        means = None
        if fill:
            means = self._means()
        logs = np.empty(len(masks))
        predictions = np.empty(len(masks), dtype=np.int64)
        with torch.inference_mode():
            for batch in report_progress(model.batches([self.entry] * len(masks)), STAGE, progress):
                rows = torch.as_tensor(batch.rows, device=gates.device)
                scores = model.logits(batch, gates=gates[rows], fill=means).double().log_softmax(-1)
                logs[batch.rows] = scores[:, answer].cpu().numpy()
                predictions[batch.rows] = scores.argmax(-1).cpu().numpy()
        return logs, predictions

    def _means(self) -> Tensor:
        import torch

        return torch.tensor(self.baseline.means.astype(np.float32), device=self.model.device)


def check_whole(model: HeadModel) -> None:
    """Check that no head of a model was removed before.

    Raises:
        ModelError: If some were.
    """
    if set(model.head_counts) != {model.heads}:
        raise ModelError(f"{model.card.id} is already pruned; attribute the answer of the original model")


def find_answer(model: HeadModel, classes: Sequence[str], name: str) -> int:
    """Return the index of a class, or the id of a token, by its name.

    Raises:
        OptionError: If there is no such class, or the answer of a language model is not one token.
    """
    if not model.card.task.predicts_often:
        if name not in classes:
            raise OptionError(f"the model has no class {name!r}; the classes are {', '.join(classes)}")
        return classes.index(name)
    ids = model.tokenizer(name, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise OptionError(
            f"the answer {name!r} has {len(ids)} tokens; give one token, mostly a word with a space before it"
        )
    return int(ids[0])


def name_answer(model: HeadModel, classes: Sequence[str], answer: int) -> str:
    """Return the name of a class, or a token as text, by its index."""
    if not model.card.task.predicts_often:
        return classes[answer]
    return str(model.tokenizer.decode([answer])) or f"token {answer}"


def draw_sets(units: int, size: int, *, seed: int, sets: int = SETS) -> list[Ints]:
    """Draw random sets of ``size`` of the ``units`` heads, whatever their layers; the same for the same ``seed``."""
    generator = np.random.default_rng(seed)
    return [generator.choice(units, size=size, replace=False) for _ in range(sets)]


def attribute_answer(
    question: TextQuestion,
    classes: Sequence[str],
    answer: str | None = None,
    *,
    top: int = TOP,
    seed: int = 42,
    floor: Ints | int = 0,
    progress: Progress = silent,
) -> Attribution:
    """Attribute an answer (None: the predicted one) to heads; ``classes`` are in the order of the model's scores.

    The ``top`` heads, at most half of all, are removed exactly, each and together, beside random sets of as many heads
    that ``seed`` draws. The needed heads are the fewest by attribution that keep the answer, if the model gives it: in
    the better of two orders, by bisection. Each layer keeps at least ``floor`` heads, a number or ``(L,)``.

    Raises:
        OptionError: If there is no such answer.
    """
    model = question.model
    wanted = None
    if answer is not None:
        wanted = find_answer(model, classes, answer)
    progress(STAGE, 0, 1)
    changes, logs = question.estimate(wanted)
    predicted = int(logs.argmax())
    if wanted is None:
        wanted = predicted
    shape = changes.shape
    chosen = order_by_support(changes)[: max(1, min(top, changes.size // 2))]
    sets: list[Iterable[int]] = [[head] for head in chosen]
    sets += [chosen, *draw_sets(changes.size, len(chosen), seed=seed)]
    masks = [HeadMask.without(heads, *shape).keep for heads in sets]
    removed, _ = question.remove(masks, wanted, progress=progress)
    exact = (removed - logs[wanted]).tolist()
    each = []
    for head, change in zip(chosen, exact, strict=False):
        layer, place = divmod(head, shape[1])
        each.append(RemovedHead(layer, place, float(changes[layer, place]), change))
    needed = None
    if wanted == predicted:
        found = []
        fewest = max(1, int(np.broadcast_to(floor, shape[0]).sum()))
        for scores in (-changes, np.abs(changes)):
            too_few = fewest - 1
            enough = changes.size
            while enough - too_few > 1:
                middle = (enough + too_few) // 2
                mask = keep_best(scores, budget=middle, min_per_layer=floor).mask
                _, predictions = question.remove([mask.keep], wanted, progress=progress)
                if predictions[0] == wanted:
                    enough = middle
                else:
                    too_few = middle
            found.append(keep_best(scores, budget=enough, min_per_layer=floor).mask)
        mask = min(found, key=lambda one: one.count)
        (filled,), _ = question.remove([mask.keep], wanted, progress=progress)
        (cut,), (other,) = question.remove([mask.keep], wanted, fill=False, progress=progress)
        needed = NeededHeads(mask, float(filled), name_answer(model, classes, int(other)), float(cut))
    return Attribution(
        model=model.card.id,
        unit=model.card.unit,
        tokens=len(question.entry["input_ids"]),
        metric=f"log-probability of the {model.card.words.answer}",
        answer=name_answer(model, classes, wanted),
        predicted=name_answer(model, classes, predicted),
        log_probability=float(logs[wanted]),
        changes=changes,
        baseline=str(question.baseline),
        seed=seed,
        removed=tuple(each),
        together=exact[len(chosen)],
        random=tuple(exact[len(chosen) + 1 :]),
        needed=needed,
        model_sha256=model.card.origin,
    )
