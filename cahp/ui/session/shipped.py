"""The model and windows of a bundled run, which are shown without the files of the model.

The windows are known by their digests, and are cut by the worker when a stage first reads them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cahp import data, models
from cahp.api import bundled
from cahp.api.bundled import Bundle, WindowsRecord
from cahp.models.cards import ModelCard
from cahp.run.settings import IN_DIGESTS, Settings
from cahp.run.texts import ALL, cut_split
from cahp.tasks import NEXT_TOKEN
from cahp.tasks.answers import NO_LABEL
from cahp.tasks.texts import Texts
from cahp.values import ModelError

#: The settings on which windows depend.
_OF_WINDOWS = (*(name for name in IN_DIGESTS if name != "data"), "seed")


class ShippedTexts(Texts):
    """The windows of a split, of which the digest and numbers are known; ``cut`` makes them when they are first read.

    ``units`` are what intervals are drawn over (None: the windows must be read to tell).
    Reading them raises what ``cut`` raises, and ``ModelError`` if they are not the windows of the bundled run.
    """

    def __init__(self, record: WindowsRecord, cut: Callable[[], Texts], units: str | None = None) -> None:
        labels = np.full(record.rows, NO_LABEL, dtype=np.int64)
        # The fields but the first, and the digest and the tokens, where ``cached_property`` keeps them.
        vars(self).update(second=None, labels=labels, classes=ALL, sha256=record.sha256, task=NEXT_TOKEN)
        vars(self).update(tokens=float(record.tokens))
        vars(self).update(_record=record, _cut=cut, _lock=threading.Lock())
        if units is not None:
            vars(self).update(units=units)

    def __getattr__(self, name: str) -> Any:
        # The windows themselves, which are not there before they are read.
        if name != "first":
            raise AttributeError(name)
        with vars(self)["_lock"]:
            if "first" not in vars(self):
                texts: Texts = vars(self)["_cut"]()
                if texts.sha256 != self.sha256:
                    raise ModelError(
                        "the model or the texts here are not those of the bundled run; choose another number of tokens "
                        "under “Sample and device” to measure these"
                    )
                vars(self)["first"] = texts.first
        return vars(self)["first"]

    def __len__(self) -> int:
        return int(vars(self)["_record"].rows)

    @property
    def count(self) -> int:
        """Number of windows, without those of repeated random tokens."""
        return int(vars(self)["_record"].count)


def shipped_card(name: str) -> ModelCard | None:
    """Return the card of a bundled model that is known without its files, or None."""
    bundle = bundled.read_run(name)
    if bundle is None or bundle.facts is None:
        return None
    return bundle.facts.card


def shipped_dataset(settings: Settings, card: ModelCard, raw: data.Dataset) -> data.Dataset | None:
    """Return the windows of the bundled run of ``card``, if those of ``settings`` are the same; None otherwise."""
    bundle = _bundle_of(settings, card)
    if bundle is None or bundle.facts is None or raw.splits.keys() != bundle.facts.splits.keys():
        return None
    splits: dict[str, Texts] = {}
    protocol = bundle.document.protocol
    for name, record in bundle.facts.splits.items():
        units = None
        if protocol is not None and name == settings.eval_split:
            units = protocol.units
        splits[name] = ShippedTexts(record, partial(cut_split, raw, name, settings, card), units)
    return replace(raw, splits=splits, classes=ALL, whole_test=raw.test_sha256)


def _bundle_of(settings: Settings, card: ModelCard) -> Bundle | None:
    bundle = bundled.read_run(card.id)
    if bundle is None or bundle.document.model.sha256 != card.identity:
        return None
    if settings.data not in (None, models.BUILTINS[card.id].data):
        return None
    if any(getattr(settings, name) != getattr(bundle.document.settings, name) for name in _OF_WINDOWS):
        return None
    return bundle
