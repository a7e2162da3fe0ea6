"""Several processes that work on one command together, as ``accelerate launch`` and ``torchrun`` start them.

Every process runs the same code; what is shared out here comes back whole to each of them. With one process all of
this does nothing, and loads nothing.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.values import OptionError

T = TypeVar("T")
Number = TypeVar("Number", np.int64, np.float64)

#: How many calls of ``from_first`` this process is inside of: what it does alone must not wait for others.
_alone = 0


def rank() -> int:
    """The number of this process, 0 for the first.

    Raises:
        OptionError: As ``world``.
    """
    return 0 if _alone else _launched()[0]


def world() -> int:
    """The number of processes that work together.

    Raises:
        OptionError: If the environment variables of a launcher do not fit together.
    """
    return 1 if _alone else _launched()[1]


def _launched() -> tuple[int, int]:
    """Rank and number of processes, as a launcher sets them."""
    size, number = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "")
    if size == "1":
        return 0, 1
    if not (size.isdecimal() and number.isdecimal() and int(number) < int(size)):
        raise OptionError(
            f"WORLD_SIZE is {size[:20]!r} and RANK is {number[:20]!r}, which do not belong together; start several "
            "processes with `accelerate launch` or `torchrun`, or unset WORLD_SIZE for a single one"
        )
    return int(number), int(size)


def first() -> bool:
    """Whether this is the process that prints, writes files and measures time."""
    try:
        return rank() == 0
    except OptionError:
        # Each process reports the error itself.
        return True


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of ``items``: every n-th, so that all parts take about as long."""
    return items[rank() :: world()]


def gather(value: T) -> list[T]:
    """The ``value`` of every process, in the order of their ranks; all must call this."""
    if world() == 1:
        return [value]
    import torch.distributed

    _begin()
    values: list[T | None] = [None] * world()
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def total(part: NDArray[Number]) -> NDArray[Number]:
    """The sum of every process's array of the same shape; exact where all but one of them are 0."""
    if world() == 1:
        return part
    return np.sum(gather(part), axis=0, dtype=part.dtype)  # type: ignore[no-any-return]


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives to the first process, or the error it ends with; the others wait for it and get the same."""
    global _alone
    if world() == 1:
        return make()
    import torch.distributed

    _begin()
    found: list[T | Exception | bool | None] = [None, False]
    if first():
        _alone += 1
        try:
            found = [make(), False]
        except Exception as error:
            # The others must end with it, too: they would wait for ever.
            found = [error, True]
        finally:
            _alone -= 1
    torch.distributed.broadcast_object_list(found, src=0)
    value, failed = found
    if failed:
        assert isinstance(value, Exception)
        raise value
    return value  # type: ignore[return-value]


def wait() -> None:
    """Wait until all processes are here."""
    from_first(lambda: None)


def _begin() -> None:
    """Join the processes; once is enough."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    if not torch.distributed.is_initialized():
        # Its functions name the group that there is when they are read as their default, and would keep it for ever.
        import torch.distributed.nn.functional

        atexit.register(_leave)
    # Without being told, accelerate would leave processes without a GPU each on its own.
    PartialState(cpu=not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"))


def _leave() -> None:
    """Leave the processes, at the end of this one.

    A group whose threads still run when the interpreter has gone ends the process with an abort, now and then; they
    end with the last reference to it, and models that were trained refer to it in circles.
    """
    import torch.distributed

    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
