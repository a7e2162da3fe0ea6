"""What all who look at the same thing see the same: made once, and kept as long as the thing is, up to a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

#: Drawings kept of one thing; those that were not asked for longest go first.
KEPT = 160

_made: WeakKeyDictionary[Any, OrderedDict[Hashable, Any]] = WeakKeyDictionary()
_lock = threading.RLock()


def once(of: object, key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` makes of the thing ``of``, under a ``key`` that says all that it depends on besides.

    Whoever asks gets the same object, so nobody may change it. It goes with the thing: what somebody brought is
    forgotten with their session. It must not hold the thing itself, which would keep both.
    """
    with _lock:
        # One at a time: fifty who ask at once wait for one drawing in place of making fifty.
        kept = _made.setdefault(of, OrderedDict())
        if key not in kept:
            kept[key] = make()
            while len(kept) > KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]  # type: ignore[no-any-return]
