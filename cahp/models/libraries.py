"""What libraries change for the whole process while they work, and how threads share it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock, RLock

from transformers.utils import logging as transformers_logging

#: To be held while transformers or PEFT loads a network: they replace functions of PyTorch and of the classes of models
#: for that time, and put back what they found.
LOADING = RLock()
#: All threads have the same loggers and filters: the first block silences them, and the last one restores them.
_changing = Lock()
_blocks = 0
_restoring = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars, reports and deprecations inside the block, in all threads."""
    global _blocks
    with _changing:
        if _blocks == 0:
            _restoring.enter_context(_silence())
        _blocks += 1
    try:
        yield
    finally:
        with _changing:
            _blocks -= 1
            if _blocks == 0:
                _restoring.close()


@contextmanager
def _silence() -> Iterator[None]:
    verbosity = transformers_logging.get_verbosity()
    drawn = transformers_logging.is_progress_bar_enabled()
    # It warns of weights that stay on the disk.
    placing = logging.getLogger("accelerate.big_modeling")
    level = placing.level
    placing.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        placing.setLevel(level)
        if drawn:
            transformers_logging.enable_progress_bar()
