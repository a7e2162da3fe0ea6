"""Evaluate one model under many masks on the same texts, computing common prefixes once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from torch import Tensor

from cahp.models.head_model import Batch, HeadModel
from cahp.models.reading import Reader
from cahp.models.surgery import cut, tail
from cahp.stages.evaluation import evaluate_batches
from cahp.tasks.answers import Evaluation, PartListener
from cahp.tasks.texts import Texts
from cahp.values import HeadMask, Ints, Precision, Progress, silent

#: Memory for hidden states, in bytes.
ROOM = 512 << 20
#: A glimpse is every third batch (of windows every sixth), where there are at least six.
_GLIMPSED, _FEWEST_BATCHES = 3, 6

#: The places of a mask in the tree of all masks, layer by layer: equal for masks that are equal up to that layer.
Path = tuple[int, ...]
#: Hidden states that leave a place, one a batch.
States = dict[int, list[Tensor]]


class SharedPrefixes:
    """Evaluates ``model`` cut to each of ``masks`` on the same ``texts``.

    The output of a layer depends on this and the lower layers only, so a mask continues from the hidden states of an
    earlier mask with the same lower layers. States are kept while a mask still needs them, the most useful ones within
    ``room`` bytes. Batches and operations are those of ``evaluate``, and so are the results, to the last digit.

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
        masks, reader = list(masks), reader or Reader(texts)
        others = model.batches(model.tokenize(texts.inputs))
        step = _GLIMPSED
        if texts.task.predicts_often:
            # Each item takes longer, and says more.
            step *= 2
        some = others[1::step] if len(others) >= _FEWEST_BATCHES else []
        if some:
            del others[1::step]
        self._model, self._texts = model, texts
        self._some, self._others = (
            _Part(texts, part, masks, precision, room * sum(map(len, part)) // len(texts), reader)
            for part in (some, others)
        )
        self._glimpses: dict[str, Evaluation] = {}

    def glimpse(self, mask: HeadMask, *, progress: Progress = silent) -> tuple[Ints, Evaluation] | None:
        """Return the rows of some texts and their evaluation (None: too few texts for a part)."""
        rows = self._some.rows
        if not len(rows):
            return None
        found = self._first(mask, cut(self._model, mask), progress)
        return rows, found.take(rows)

    def evaluate(
        self, mask: HeadMask, *, progress: Progress = silent, on_part: PartListener | None = None
    ) -> Evaluation:
        """Evaluate the model cut to ``mask``, which must have no empty layer; ``on_part`` receives a glimpse."""
        before, total = len(self._some.rows), len(self._texts)
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
        found = self._glimpses.get(mask.sha256)
        if found is None:
            found = self._glimpses[mask.sha256] = self._some.answers(mask, pruned, progress)
        return found


class _Part:
    """Evaluates the texts of some batches; all other texts are 0."""

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
        self._texts, self._batches, self._precision, self._room = texts, batches, precision, room
        self.rows: Ints = np.concatenate([np.zeros(0, dtype=np.int64), *(batch.rows for batch in batches)])
        self._places: dict[tuple[int, bytes], int] = {}
        self._pending = {self._path(mask) for mask in masks}
        self._states: States = {}
        #: Bytes of all kept states, and of those of masks that are being evaluated.
        self._bytes = 0
        self._lock = threading.Lock()

    def answers(self, mask: HeadMask, pruned: HeadModel, progress: Progress) -> Evaluation:
        """Evaluate ``pruned``, the model cut to ``mask``."""
        with self._lock:
            path = self._path(mask)
            self._pending.discard(path)
            depth = max((layer for layer, place in enumerate(path[:-1], 1) if place in self._states), default=0)
            # Removed one by one, so that memory is freed as soon as a batch is done.
            states = deque(self._states[path[depth - 1]] if depth else ())
            # Where layers need more than hidden states, no mask can continue from them.
            ahead = path[depth:-1] if pruned.has_tails else ()
            use = gains(self._pending, self._states.keys() | set(ahead))
            left: States = {place: [] for place in ahead if use.get(place)}
        rest = tail(pruned, depth) if depth else pruned
        assert rest is not None

        def scores(number: int) -> Tensor:
            places = iter(path[depth:])
            return self._read(
                rest,
                self._batches[number],
                start=states.popleft() if states else None,
                leaving=(lambda hidden: self._keep(left, next(places), hidden)) if left else None,
                precision=self._precision,
            )

        try:
            found = evaluate_batches(self._batches, scores, self._texts, progress=progress)
        except BaseException:
            with self._lock:
                self._forget(left, list(left))
            raise
        with self._lock:
            self._forget(self._states, [place for place in left if place in self._states])
            self._states |= left
            use = gains(self._pending, self._states)
            self._forget(self._states, [place for place in self._states if not use.get(place)])
        return found

    def _keep(self, left: States, place: int, hidden: Tensor) -> None:
        """Add the output of a layer to ``left`` if its place is there; drop the least useful place if memory is full.

        ``left`` are the states of the mask that is being evaluated.
        """
        if place not in left:
            return
        with self._lock:
            left[place].append(hidden)
            self._bytes += hidden.nbytes
            while self._bytes > self._room and (left or self._states):
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
        for row in mask.keep:
            step = (path[-1] if path else -1, row.tobytes())
            path.append(self._places.setdefault(step, len(self._places)))
        return tuple(path)


def count_mask_passes(masks: Sequence[HeadMask]) -> float:
    """Forward passes of the texts under all ``masks``, as far as memory holds the states that they share."""
    rows = [[row.tobytes() for row in mask.keep] for mask in masks]
    prefixes = {tuple(own[: layer + 1]) for own in rows for layer in range(len(own))}
    return len(prefixes) / masks[0].layers if masks else 0.0


def gains(pending: Iterable[Path], known: Collection[int]) -> dict[int, int]:
    """Return the layers that each known place saves the pending masks, compared with the next best place."""
    saved: dict[int, int] = {}
    for path in pending:
        depths = [layer for layer, place in enumerate(path[:-1], 1) if place in known]
        if depths:
            place = path[depths[-1] - 1]
            saved[place] = saved.get(place, 0) + depths[-1] - (depths[-2] if len(depths) > 1 else 0)
    return saved
