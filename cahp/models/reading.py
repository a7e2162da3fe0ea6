"""Read the answers of models: class scores, or at each token of a window what a language model predicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cahp.models.cards import Site
from cahp.models.devices import float64_device, has_bfloat16, move_to
from cahp.models.head_model import Batch, HeadModel
from cahp.models.tokenizing import Tokens
from cahp.models.vocabulary import (
    Reference,
    has_linear_logits,
    hidden_states,
    linearise,
    pull_back,
    read_tokens,
    same_head,
    token_losses,
)
from cahp.tasks.answers import DIVERGENCE, LOSS, PREDICTION, Evaluation, PartListener, Window
from cahp.tasks.texts import Item, Texts, find_source
from cahp.values import Floats, Ints, Precision, Progress, report_progress, silent, spread
from cahp.words import nats


class Reader:
    """Reads what an ``Evaluation`` of ``texts`` holds: class scores ``(b, C)``, or of windows ``(b, tokens, 3)``.

    Models are compared with the ``full`` model (None: with none), which runs when a window is read for the first time.
    All compute in ``precision``.
    """

    def __init__(self, texts: Texts, *, full: HeadModel | None = None, precision: Precision = "float32") -> None:
        self._texts = texts
        self._windows = texts.windows
        self._full = full
        self._precision = precision
        self._longest = max((window.scored for window in self._windows), default=0)
        #: Of the scored tokens of each window the full model's states, and what ``linearise`` returned for them.
        self._states: dict[int, Tensor] = {}
        self._slopes: dict[int, tuple[Tensor, Tensor]] = {}
        self._linear: bool | None = None

    @torch.no_grad()
    def read(self, model: HeadModel, batch: Batch, **call: Any) -> Tensor:
        """The answers of ``model`` to a batch; ``call`` holds options of ``HeadModel.logits``."""
        if not self._windows:
            return model.logits(batch, precision=self._precision, **call).float()
        if model is self._full and call.get("gates") is None:
            # It is compared with nothing, and its states serve other models. Known ones are read again: the time of an
            # evaluation contains its pass.
            return self._answers(model, batch, self._read_states(batch), None)
        states = model.logits(batch, states=True, precision=self._precision, **call)
        chosen = self._scored(batch)
        reference = None
        if self._full is not None:
            reference = self._reference(batch, model)
        return self._answers(model, batch, states[chosen], reference)

    @torch.no_grad()
    def prepare(self, *, progress: Progress = silent) -> None:
        """Compute what is otherwise computed when a window is first compared with the full model."""
        if self._full is not None and self._windows:
            batches = self._full.batches(self._full.tokenize(self._texts.inputs))
            for batch in report_progress(batches, "evaluation", progress):
                self._reference(batch, self._full)

    def evaluate(
        self,
        batches: Sequence[Batch],
        read: Callable[[int, Batch], Tensor],
        *,
        progress: Progress = silent,
        on_part: PartListener | None = None,
    ) -> Evaluation:
        """Make the evaluation of what ``read`` returns for each batch of the texts, given its number.

        ``on_part`` is called after the first batch and whenever the texts so far have grown by half.
        """
        total = sum(map(len, batches))
        done = 0
        reported = 0
        answers = []
        for number, batch in enumerate(batches):
            progress("evaluation", done, total)
            answers.append(read(number, batch))
            done += len(batch)
            if on_part is not None and 1.5 * reported <= done < total:
                reported = done
                rows = np.concatenate([one.rows for one in batches[: number + 1]])
                part = np.concatenate([answer.cpu().numpy() for answer in answers])
                on_part(rows, self._texts.take(rows).evaluation_of(part))
        scores = np.zeros((len(self._texts), *self._texts.task.get_answer_shape(self._texts)), dtype=np.float32)
        # Copied at the end, so that a device does not wait for the processor between batches.
        for batch, answer in zip(batches, answers, strict=True):
            scores[batch.rows] = answer.cpu().numpy()
        progress("evaluation", done, total)
        return self._texts.evaluation_of(scores)

    def _scored(self, batch: Batch) -> Tensor:
        """At which tokens of a batch predictions are scored ``(b, tokens)``."""
        return batch.mark_last([self._windows[row].scored for row in batch.rows])

    def _read_states(self, batch: Batch) -> Tensor:
        """Read the full model's states ``(n, hidden)`` at the scored tokens of a batch."""
        assert self._full is not None
        states = self._full.logits(batch, states=True, precision=self._precision).float()
        chosen = states[self._scored(batch)]
        parts = torch.split(chosen, [self._windows[row].scored for row in batch.rows])
        self._states |= dict(zip(batch.rows.tolist(), parts, strict=True))
        return chosen

    def _reference(self, batch: Batch, model: HeadModel) -> Reference:
        assert self._full is not None
        rows = batch.rows.tolist()
        if any(row not in self._states for row in rows):
            self._read_states(batch)
        states = torch.cat([self._states[row] for row in rows])
        network = self._full.network
        if self._linear is None:
            self._linear = has_linear_logits(network, states)
        # Rounded logits are not linear, and are compared with logits that are rounded in the same way.
        if not self._linear or self._precision != "float32" or not same_head(model.network, network):
            return Reference(network, states)
        for row in rows:
            if row not in self._slopes:
                self._slopes[row] = linearise(network, self._states[row])
        slopes = torch.cat([self._slopes[row][0] for row in rows])
        shifts = torch.cat([self._slopes[row][1] for row in rows])
        return Reference(network, states, slopes, shifts)

    def _answers(self, model: HeadModel, batch: Batch, states: Tensor, reference: Reference | None) -> Tensor:
        windows = [self._windows[row] for row in batch.rows]
        device = states.device
        targets = torch.as_tensor(np.concatenate([window.targets for window in windows]), device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._precision == "bfloat16"):
            read = read_tokens(model.network, states, targets, reference=reference)
        # At the end of each row, whatever the window's length.
        answers = torch.zeros(len(windows), self._longest, read.shape[1], device=device)
        scored = torch.tensor([window.scored for window in windows], device=device)[:, None]
        answers[torch.arange(self._longest, device=device)[None] >= self._longest - scored] = read
        return answers


def losses(model: HeadModel, batch: Batch, labels: Tensor, **call: Any) -> Tensor:
    """The loss ``(b,)`` of each text of a batch, which can be differentiated.

    The cross-entropy with its class ``labels (b,)``, or of a model that predicts tokens the mean loss over the tokens
    of a window, whose classes do not count. Of what is read twice both readings count: groups that CAHP
    chose by the second alone were no better. ``call`` holds options of ``HeadModel.logits``.
    """
    outputs = model.logits(batch, states=model.predicts_tokens, **call)
    if not model.predicts_tokens:
        return nn.functional.cross_entropy(outputs, labels, reduction="none")
    ids = batch.tensors["input_ids"]
    # Every token that is read, but the first where it is the next one, is predicted.
    ahead = model.card.task.ahead
    predicted = batch.real[:, ahead:]
    lost = token_losses(model.network, outputs[:, : ids.shape[1] - ahead][predicted], ids[:, ahead:][predicted])
    rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(predicted)[predicted]
    return torch.zeros(len(ids), device=ids.device).index_add(0, rows, lost) / predicted.sum(1)


def right_probabilities(model: HeadModel, batch: Batch, labels: Tensor, **call: Any) -> Tensor:
    """The probability ``(b,)`` of what is right for each item of a batch, which can be differentiated.

    That of its class ``labels (b,)``, or of a window the geometric mean over its tokens. ``call`` holds options of
    ``HeadModel.logits``.
    """
    if model.predicts_tokens:
        return (-losses(model, batch, labels, **call)).exp()
    return model.logits(batch, **call).softmax(dim=-1).gather(1, labels[:, None])[:, 0]


def next_token_sums(model: HeadModel, batch: Batch) -> Floats:
    """The sum of a language model's losses on the tokens of a batch, how many it predicts, and how many there are."""
    predicted = batch.real[:, 1:]
    targets = batch.tensors["input_ids"][:, 1:][predicted]
    answers = read_tokens(model.network, model.logits(batch, states=True)[:, :-1][predicted], targets)
    right = int((answers[:, PREDICTION] == targets).sum())
    return np.array([float(answers[:, LOSS].double().sum()), right, len(targets)])


def fisher_score(model: HeadModel, batch: Batch, generator: torch.Generator, **call: Any) -> Tensor:
    """A random number whose gradients have the Fisher information of a batch's predictions as their mean square.

    It is the sum of ``v . logits`` over all texts, or over all tokens of windows, with ``v`` of ``draw_curvature``. No
    label is read, and one backward pass is enough for any number of classes. ``call`` holds options of
    ``HeadModel.logits``.
    """
    if not model.predicts_tokens:
        logits = model.logits(batch, **call).float()
        return (draw_curvature(logits.detach(), generator) * logits).sum()
    states = model.logits(batch, states=True, **call)[batch.real]
    slopes = pull_back(model.network, states.detach(), lambda logits: draw_curvature(logits, generator))
    return (slopes * states).sum()


def draw_curvature(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Random vectors ``v (n, C)`` with ``E v v' = diag(p) - p p'`` for the predictions ``p`` of ``logits (n, C)``.

    ``v = sqrt(p) s - p (sqrt(p) . s)`` with random signs ``s`` (Hutchinson 1990). A class drawn from ``p`` would serve
    too, but where predictions are certain, almost all of the information is in classes that are hardly ever drawn.
    """
    shares = logits.softmax(-1)
    signs = torch.randint(0, 2, shares.shape, generator=generator, dtype=torch.int8).mul_(2).sub_(1)
    drawn = shares.sqrt() * move_to(signs, shares.device)
    return drawn - shares * drawn.sum(-1, keepdim=True)


#: What softens the class scores that are learned (Hinton, Vinyals and Dean 2015). The next tokens of a language model
#: are learned as they are compared.
TEMPERATURE = 2.0


class Teacher:
    """The full model's answers to ``items``, with which those of pruned models are compared, and which they learn.

    Of what is read twice the answers in the second reading count.
    """

    def __init__(
        self, model: HeadModel, items: Sequence[Item], *, stage: str = "evaluation", progress: Progress = silent
    ) -> None:
        self._model = model
        self._tokens = model.tokenize(items)
        self._repeated = np.array([find_source(item) != "text" for item in items], dtype=np.bool_)
        if not model.predicts_tokens:
            self._logits = logits_of(model, self._tokens, stage=stage, progress=progress)
            return
        #: How many of the last tokens of each item are compared.
        self._compared = np.array([len(entry["input_ids"]) for entry in self._tokens])
        for row, item in enumerate(items):
            if isinstance(item, Window) and item.copying:
                self._compared[row] = item.scored
        #: Their hidden states before the head.
        self._states: dict[int, Tensor] = {}
        for batch in report_progress(model.batches(self._tokens), stage, progress):
            compared = self._compared[batch.rows]
            with torch.no_grad():
                hidden = model.logits(batch, states=True)[batch.mark_last(compared)].float().cpu()
            self._states |= dict(zip(batch.rows.tolist(), torch.split(hidden, compared.tolist()), strict=True))

    def compare(self, model: HeadModel, rows: Ints, *, progress: Progress = silent) -> Divergences:
        """Compare ``model`` with the teacher on some of the items."""
        repeated = self._repeated[rows]
        count = int((~repeated).sum())
        text, same, tokens = self._compare(model, rows[~repeated], progress)
        if not repeated.any():
            return Divergences(text, None, same, count)
        repeats, same_repeats, more = self._compare(model, rows[repeated], progress)
        return Divergences(text, repeats, (same * tokens + same_repeats * more) / (tokens + more), count)

    def _compare(self, model: HeadModel, rows: Ints, progress: Progress) -> tuple[float, float, int]:
        """The mean KL divergence (nats) over items or their tokens, the share of same answers, and their number."""
        tokens = [self._tokens[row] for row in rows]
        if not self._model.predicts_tokens:
            return *compare_answers(logits_of(model, tokens, progress=progress), self._logits[rows]), len(rows)
        sums = np.zeros(3)
        for batch in report_progress(model.batches(tokens), "evaluation", progress):
            real = batch.mark_last(self._compared[rows[batch.rows]])
            with torch.no_grad():
                states = hidden_states(model.network, batch.tensors)[real]
                wanted = self._wanted(rows[batch.rows])
                # The next tokens are not asked for here.
                none = torch.zeros(len(states), dtype=torch.long, device=states.device)
                mine = read_tokens(model.network, states, none, reference=Reference(self._model.network, wanted))
                theirs = read_tokens(self._model.network, wanted, none)
            same = (mine[:, PREDICTION] == theirs[:, PREDICTION]).sum()
            sums += float(mine[:, DIVERGENCE].double().sum()), float(same), len(states)
        divergence, same_total, count = sums
        return float(divergence / count), float(same_total / count), int(count)

    def loss(self, model: HeadModel, batch: Batch, rows: Ints, *, labels: Tensor | None = None) -> Tensor:
        """The mean of ``T^2 KL(teacher, student)`` over a batch of the items ``rows``, of scores softened by ``T``.

        Of a language model it is the mean KL divergence over tokens, with ``T = 1``. The cross-entropy with any
        ``labels (b,)`` is added to it. Products of a language model, and of the pass back, are computed in bfloat16
        where that is fast: rounding is far below the noise of a batch.
        """
        if not self._model.predicts_tokens:
            logits = model.scores(batch.tensors)
            mine = (logits / TEMPERATURE).log_softmax(-1)
            softened = (self._logits[rows] / TEMPERATURE).log_softmax(-1)
            total = TEMPERATURE**2 * nn.functional.kl_div(mine, softened, reduction="batchmean", log_target=True)
            if labels is not None:
                total = total + nn.functional.cross_entropy(logits, labels)
            return total
        real = batch.mark_last(self._compared[rows])
        wanted = self._wanted(rows)
        full = self._model.network
        with torch.autocast(real.device.type, dtype=torch.bfloat16, enabled=has_bfloat16(real.device)):
            states = hidden_states(model.network, batch.tensors)[real]
            return token_losses(model.network, states, full=full, wanted=wanted).mean()

    def _wanted(self, rows: Ints) -> Tensor:
        """The full model's states at the compared tokens of some items."""
        return move_to(torch.cat([self._states[row] for row in rows.tolist()]), self._model.device)


def compare_answers(logits: Tensor, teacher: Tensor) -> tuple[float, float]:
    """Return the mean KL divergence (nats) of ``logits (n, C)`` from the teacher's, and the share of same answers."""
    mine = logits.float().log_softmax(-1)
    wanted = teacher.float().log_softmax(-1)
    divergence = nn.functional.kl_div(mine, wanted, reduction="batchmean", log_target=True)
    return float(divergence), float((logits.argmax(-1) == teacher.argmax(-1)).float().mean())


def logits_of(
    model: HeadModel,
    tokens: Tokens,
    *,
    stage: str = "evaluation",
    progress: Progress = silent,
) -> Tensor:
    """Class scores ``(n, C)`` of each text, in the order of ``tokens``."""
    batches = model.batches(tokens)
    scores = torch.zeros(len(tokens), len(model.card.labels))
    for batch in report_progress(batches, stage, progress):
        with torch.no_grad():
            logits = model.scores(batch.tensors)
        scores[batch.rows] = logits.float().cpu()
    return scores.to(model.device)


# Whether a recovery is accepted ------------------------------------------------------------------------------------
#
# Pruned models are compared with the full one on texts that no recovery learned from.

#: Two windows hold the same passage if they share so many tokens in a row.
_SHARED = 8
#: The most windows of text that are held out: each has many tokens, and all others are learned.
HELD_OUT_WINDOWS = 8


@dataclass(frozen=True)
class Divergences:
    """Mean KL divergences of a model from the full one on held-out items, in nats, and the share of same answers.

    ``text`` is that of ``count`` texts, and ``repeats`` that of what is read twice (None: there are no such items).
    """

    text: float
    repeats: float | None
    agreement: float
    count: int

    def is_better_than(self, before: Divergences) -> bool:
        """Tell whether the divergence on text is lower, and that on repeats no higher."""
        if self.repeats is not None and before.repeats is not None and self.repeats > before.repeats:
            return False
        return self.text < before.text

    def describe_change(self, before: Divergences, recovery: str, items: str) -> str:
        """Return the change by a recovery on held-out items in a sentence."""
        sentence = (
            f"KL divergence {nats(self.text)} nats on {self.count} held-out {items} after {recovery}, "
            f"{nats(before.text)} before"
        )
        if self.repeats is None or before.repeats is None:
            return sentence
        return f"{sentence}; on repeated tokens {nats(self.repeats)} after, {nats(before.repeats)} before"


def hold_out(items: Sequence[Item], seed: int = 42) -> tuple[Ints, Ints]:
    """Return the rows of ``items`` for training and those held out, both ascending.

    A fifth is held out, drawn at random, of texts and of each kind of sequence that is read twice; of two such
    sequences one. A held-out text that stands in the data again is in neither there. A held-out window is in neither if
    a passage for training was taken from it. If no other window is held out, those passages are in neither instead.
    Of more than ``HELD_OUT_WINDOWS`` other windows so many are held out, evenly spread, and the rest is for training.
    """
    kinds = np.array([find_source(item) for item in items])
    held_out: list[Ints] = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 5])
        if not len(chosen) and kind != "text" and len(rows) > 1:
            chosen = np.array([int(np.random.default_rng(seed).integers(len(rows)))])
        held_out.append(rows[chosen])
    tried = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *held_out]))
    rest = np.setdiff1d(np.arange(len(items)), tried)
    known = {items[row] for row in tried if not isinstance(items[row], Window)}
    others = [row for row in rest if isinstance(items[row], Window) or items[row] not in known]
    learned = rest
    if others:
        learned = np.array(others, dtype=np.int64)
    passages = learned[kinds[learned] == "passage"]
    windows = tried[kinds[tried] == "text"]
    read = _find_overlapping(items, windows, passages)
    apart = np.setdiff1d(windows, read)
    if len(apart) > HELD_OUT_WINDOWS and isinstance(items[apart[0]], Window):
        spared = np.setdiff1d(windows, apart[spread(len(apart), HELD_OUT_WINDOWS)])
        return np.union1d(learned, spared), np.setdiff1d(tried, spared)
    if len(read) < len(windows) or not len(windows):
        return learned, np.setdiff1d(tried, read)
    return np.setdiff1d(learned, _find_overlapping(items, passages, windows)), tried


def _find_overlapping(items: Sequence[Item], rows: Ints, others: Ints) -> Ints:
    """Return those of the ``rows`` of windows that share a run of tokens with any of the ``others``."""
    known = set[bytes]()
    for row in others:
        known |= _list_runs(items[row])
    return np.array([row for row in rows if not known.isdisjoint(_list_runs(items[row]))], dtype=np.int64)


def _list_runs(item: Item) -> set[bytes]:
    """Return all runs of ``_SHARED`` tokens of a window."""
    if not isinstance(item, Window) or len(item.ids) < _SHARED:
        return set()
    return {run.tobytes() for run in np.lib.stride_tricks.sliding_window_view(item.ids, _SHARED)}


def average_outputs(model: HeadModel, tokens: Tokens, stage: str, progress: Progress) -> tuple[list[Tensor], int]:
    """Average what the output projection of each layer of the full model reads, float64 ``(width,)``.

    Also return the number of tokens.
    """
    sums: list[Any] = [0] * model.layers
    counts = [0] * model.layers

    def add(layer: int, rows: Tensor) -> None:
        # A layer that is used in many passes is seen in each of them.
        sums[layer] = sums[layer] + rows.sum(0)
        counts[layer] += len(rows)

    read_outputs(model, tokens, add, stage, progress)
    return [total / count for total, count in zip(sums, counts, strict=True)], counts[0]


def read_outputs(
    model: HeadModel, tokens: Tokens, add: Callable[[int, Tensor], None], stage: str, progress: Progress
) -> int:
    """Run the full model once, and return its number of tokens.

    ``add`` gets what each layer's output projection reads of a batch, in float64 ``(tokens, width)``.
    """
    where = float64_device(model.device)
    total = 0
    for batch in report_progress(model.batches(tokens), stage, progress):
        real = batch.real
        total += batch.tokens

        def watch(site: Site, layer: int, entering: Tensor, real: Tensor = real) -> None:
            if site == "output":
                add(layer, entering.reshape(*real.shape, -1)[real].to(where).double())

        model.logits(batch, tap=watch)
    return total
