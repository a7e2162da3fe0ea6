"""Predictions of a model with and without heads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

import numpy as np

from cahp.tasks.answers import Evaluation, PartListener
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, Ints, Precision, Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import Batch, HeadModel
    from cahp.models.reading import Reader


#: Smallest gain in accuracy by permuted labels that is worth a warning.
_SUSPICIOUS = 0.15
#: Tokens of a batch of windows whose first part is waited for.
_FIRST = 256


def evaluate(
    model: HeadModel,
    texts: Texts,
    *,
    mask: HeadMask | None = None,
    precision: Precision = "float32",
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

    gates = None
    if mask is not None:
        gates = model.gates(mask.keep)
    read = (reader or Reader(texts)).read
    size = None
    if on_part is not None and texts.task.predicts_often and model.device.type == "cpu":
        size = _FIRST
    batches = model.batches(model.tokenize(texts.inputs), size=size)
    if on_part is not None:
        # Batches are ordered by length, but every part should have texts of all lengths.
        batches = [batches[number] for number in np.random.default_rng(0).permutation(len(batches))]
        # A part needs items of the data, which repeated tokens are not.
        own = set(texts.text_rows)
        batches.sort(key=lambda batch: own.isdisjoint(batch.rows.tolist()))
    return evaluate_batches(
        batches,
        lambda number: read(model, batches[number], gates=gates, precision=precision),
        texts,
        progress=progress,
        on_part=on_part,
    )


def evaluate_batches(
    batches: Sequence[Batch],
    read: Callable[[int], Tensor],
    texts: Texts,
    *,
    progress: Progress = silent,
    on_part: PartListener | None = None,
) -> Evaluation:
    """Predictions on ``texts`` from what a ``Reader`` returns for a batch, which ``read`` takes by its number.

    ``on_part`` is called after the first batch and whenever the texts so far have grown by half.
    """
    scores = np.zeros((len(texts), *texts.task.get_answer_shape(texts)), dtype=np.float32)
    total = sum(map(len, batches))
    done = 0
    reported = 0
    answers: list[Tensor] = []
    for number, batch in enumerate(batches):
        progress("evaluation", done, total)
        answers.append(read(number))
        done += len(batch)
        if on_part is not None and 1.5 * reported <= done < total:
            reported = done
            rows = np.concatenate([one.rows for one in batches[: number + 1]])
            part = np.concatenate([answer.cpu().numpy() for answer in answers])
            on_part(rows, texts.take(rows).evaluation_of(part))
    # Copied at the end, so that a device does not wait for the processor between batches.
    for batch, answer in zip(batches, answers, strict=True):
        scores[batch.rows] = answer.cpu().numpy()
    progress("evaluation", done, total)
    return texts.evaluation_of(scores)


def better_labelling(evaluation: Evaluation) -> tuple[float, dict[str, str]] | None:
    """A permutation of the labels under which the model would be far more accurate, if there is one.

    Many checkpoints permute the classes of their data set. Returns that accuracy and, for each class of the data that
    changes, the model's class, as ``--label-map`` takes it.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import confusion_matrix

    classes = evaluation.classes
    confusion = confusion_matrix(evaluation.labels, evaluation.predictions, labels=range(len(classes)))
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    accuracy = float(confusion[rows, columns].sum() / max(1, len(evaluation)))
    if accuracy - float(evaluation.correct.mean()) < _SUSPICIOUS:
        return None
    return accuracy, {classes[row]: classes[column] for row, column in zip(rows, columns, strict=True) if row != column}


# Many masks on the same texts --------------------------------------------------------------------------------


#: Memory for hidden states of all evaluations of a process, in bytes.
ROOM = 512 << 20
#: The evaluations that share it.
_alive: WeakSet[SharedPrefixes] = WeakSet()
#: A glimpse is every third batch (of windows every sixth), where there are at least six.
_GLIMPSED = 3
_FEWEST_BATCHES = 6

#: The places of a mask in the tree of all masks, layer by layer: equal for masks that are equal up to that layer.
Path = tuple[int, ...]
#: Hidden states that leave a place, one a batch.
States: TypeAlias = "dict[int, list[Tensor]]"


class SharedPrefixes:
    """Evaluates ``model`` cut to each of ``masks`` on the same ``texts``.

    The output of a layer depends on this and the lower layers only, so a mask continues from the hidden states of an
    earlier mask with the same lower layers. States are kept while a mask still needs them, the most useful ones within
    ``room`` bytes, which all evaluations of a process share. Batches and operations are those of ``evaluate``, and so
    are the results, to the last digit.

    With a recovery, ``evaluate`` takes the recovered model. It must be a layerwise recovery, the same for all masks.

    Layers in which masks differ must run for each mask. Where layers need more than hidden states
    (``HeadModel.has_tails``), nothing is kept and every mask runs from the first layer.

    A ``glimpse`` evaluates every third batch, with texts of all lengths; its results are reused later.
    """

    def __init__(
        self,
        model: HeadModel,
        texts: Texts,
        masks: Iterable[HeadMask],
        *,
        precision: Precision = "float32",
        room: int = ROOM,
        reader: Reader | None = None,
    ) -> None:
        from cahp.models.reading import Reader

        _alive.add(self)
        masks = list(masks)
        reader = reader or Reader(texts)
        others = model.batches(model.tokenize(texts.inputs))
        step = _GLIMPSED
        if texts.task.predicts_often:
            # Each item takes longer, and says more.
            step *= 2
        some: list[Batch] = []
        if len(others) >= _FEWEST_BATCHES:
            some = others[1::step]
            del others[1::step]
        self._model = model
        self._texts = texts
        self._some = _Part(texts, some, masks, precision, room, reader)
        self._others = _Part(texts, others, masks, precision, room, reader)
        self._glimpses: dict[str, Evaluation] = {}

    def glimpse(self, mask: HeadMask, *, progress: Progress = silent) -> tuple[Ints, Evaluation] | None:
        """Return the rows of some texts and their evaluation (None: too few texts for a part)."""
        from cahp.models.surgery import cut

        rows = self._some.rows
        if not len(rows):
            return None
        return rows, self._first(mask, cut(self._model, mask), progress).take(rows)

    def evaluate(
        self,
        mask: HeadMask,
        *,
        pruned: HeadModel | None = None,
        progress: Progress = silent,
        on_part: PartListener | None = None,
    ) -> Evaluation:
        """Evaluate the model cut to ``mask``, which must have no empty layer; ``on_part`` receives a glimpse.

        ``pruned`` is that model after the recovery (None: there is none).
        """
        from cahp.models.surgery import cut

        before = len(self._some.rows)
        total = len(self._texts)
        if pruned is None:
            pruned = cut(self._model, mask)
        some = self._first(mask, pruned, lambda stage, done, _: progress(stage, done, total))
        if on_part is not None and before:
            on_part(self._some.rows, some.take(self._some.rows))
        others = self._others.answers(mask, pruned, lambda stage, done, _: progress(stage, before + done, total))
        self._glimpses.pop(mask.sha256, None)
        # Each text is evaluated in one part, and is 0 in the other.
        return self._texts.evaluation_of(some.scores + others.scores)

    def forget(self, mask: HeadMask) -> None:
        """Forget a mask that was evaluated elsewhere."""
        self._glimpses.pop(mask.sha256, None)
        for part in (self._some, self._others):
            part.forget(mask)

    def _first(self, mask: HeadMask, pruned: HeadModel, progress: Progress) -> Evaluation:
        answers = self._glimpses.get(mask.sha256)
        if answers is None:
            answers = self._some.answers(mask, pruned, progress)
            self._glimpses[mask.sha256] = answers
        return answers


class _Part:
    """Evaluates the texts of some batches; all other texts are 0. It takes their share of ``room``, in bytes."""

    def __init__(
        self,
        texts: Texts,
        batches: Sequence[Batch],
        masks: Iterable[HeadMask],
        precision: Precision,
        room: int,
        reader: Reader,
    ) -> None:
        self._read = reader.read
        self._texts = texts
        self._batches = batches
        self._precision = precision
        self._share = room * sum(map(len, batches)) // len(texts)
        self.rows: Ints = np.concatenate([np.zeros(0, dtype=np.int64), *(batch.rows for batch in batches)])
        self._places: dict[tuple[int, bytes], int] = {}
        self._pending = {self._path(mask) for mask in masks}
        self._states: States = {}
        #: Bytes of all kept states, and of those of masks that are being evaluated.
        self._bytes = 0
        self._lock = threading.Lock()

    def answers(self, mask: HeadMask, pruned: HeadModel, progress: Progress) -> Evaluation:
        """Evaluate ``pruned``, the model cut to ``mask``."""
        from cahp.models.surgery import tail

        with self._lock:
            path = self._path(mask)
            self._pending.discard(path)
            depth = max((layer for layer, place in enumerate(path[:-1], 1) if place in self._states), default=0)
            # Removed one by one, so that memory is freed as soon as a batch is done.
            states: deque[Tensor] = deque()
            if depth:
                states.extend(self._states[path[depth - 1]])
            # Where layers need more than hidden states, no mask can continue from them.
            ahead: Path = ()
            if pruned.has_tails:
                ahead = path[depth:-1]
            use = gains(self._pending, self._states.keys() | set(ahead))
            left: States = {place: [] for place in ahead if use.get(place)}
        rest: HeadModel | None = pruned
        if depth:
            rest = tail(pruned, depth)
        assert rest is not None

        def scores(number: int) -> Tensor:
            places = iter(path[depth:])
            options: dict[str, Any] = {"precision": self._precision}
            if states:
                options["start"] = states.popleft()
            if left:
                options["leaving"] = lambda hidden: self._keep(left, next(places), hidden)
            return self._read(rest, self._batches[number], **options)

        try:
            answers = evaluate_batches(self._batches, scores, self._texts, progress=progress)
        except BaseException:
            with self._lock:
                self._forget(left, list(left))
            raise
        with self._lock:
            self._forget(self._states, [place for place in left if place in self._states])
            self._states |= left
            use = gains(self._pending, self._states)
            self._forget(self._states, [place for place in self._states if not use.get(place)])
        return answers

    def _keep(self, left: States, place: int, hidden: Tensor) -> None:
        """Add the output of a layer to ``left`` if its place is there; drop the least useful place if memory is full.

        ``left`` are the states of the mask that is being evaluated.
        """
        if place not in left:
            return
        with self._lock:
            left[place].append(hidden)
            self._bytes += hidden.nbytes
            while self._bytes > self._share // len(_alive) and (left or self._states):
                use = gains(self._pending, self._states.keys() | left.keys())
                least = min([*self._states, *left], key=lambda place: use.get(place, 0))
                for states in (self._states, left):
                    self._forget(states, [least])

    def _forget(self, states: States, places: Iterable[int]) -> None:
        self._bytes -= sum(state.nbytes for place in places for state in states.pop(place, ()))

    def forget(self, mask: HeadMask) -> None:
        with self._lock:
            self._pending.discard(self._path(mask))

    def _path(self, mask: HeadMask) -> Path:
        path: list[int] = []
        place = -1
        for row in mask.keep:
            place = self._places.setdefault((place, row.tobytes()), len(self._places))
            path.append(place)
        return tuple(path)


def gains(pending: Iterable[Path], known: Collection[int]) -> dict[int, int]:
    """Return the layers that each known place saves the pending masks, compared with the next best place."""
    saved: dict[int, int] = {}
    for path in pending:
        depths = [0, *(layer for layer, place in enumerate(path[:-1], 1) if place in known)]
        if len(depths) > 1:
            place = path[depths[-1] - 1]
            saved[place] = saved.get(place, 0) + depths[-1] - depths[-2]
    return saved
