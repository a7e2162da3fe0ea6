"""Several processes that run one command together, as ``accelerate launch`` and ``torchrun`` start them.

Every process runs the same code; work is shared here, and each gets the whole result. One process imports nothing.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.values import OptionError

T = TypeVar("T")
Number = TypeVar("Number", np.int64, np.float32, np.float64)

#: Depth of calls of ``from_first`` in this process, whose work must not wait for other processes.
_alone = 0


def rank() -> int:
    """The number of this process, 0 for the first.

    Raises:
        OptionError: As ``world``.
    """
    if _alone:
        return 0
    return _launched()[0]


def world() -> int:
    """The number of processes that work together.

    Raises:
        OptionError: If the environment variables of a launcher do not fit together.
    """
    if _alone:
        return 1
    return _launched()[1]


def _launched() -> tuple[int, int]:
    """Rank and number of processes, as a launcher sets them."""
    size = os.environ.get("WORLD_SIZE", "1")
    number = os.environ.get("RANK", "")
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
    from accelerate.utils import gather_object

    _begin()
    values: list[T] = gather_object([value])
    return values


def total(part: NDArray[Number]) -> NDArray[Number]:
    """The sum of every process's array of the same shape; exact where all but one of them are 0."""
    if world() == 1:
        return part
    return np.sum(gather(part), axis=0, dtype=part.dtype)  # type: ignore[no-any-return]


def from_first(make: Callable[[], T]) -> T:
    """Call ``make`` in the first process; all processes get its result, or raise its error."""
    global _alone
    if world() == 1:
        return make()
    value: T | None = None
    failure: Exception | None = None
    if first():
        _alone += 1
        try:
            value = make()
        except Exception as error:
            # The others must raise it too, or they would wait for ever.
            failure = error
        finally:
            _alone -= 1
    value, failure = gather((value, failure))[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def _begin() -> None:
    """Join the group of processes, once."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    if not torch.distributed.is_initialized():
        # Imported before the group exists, since its functions would keep the group as a default argument.
        import torch.distributed.nn.functional

        atexit.register(_leave)
    # By default accelerate would not join processes without a GPU.
    PartialState(cpu=not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU"))


def _leave() -> None:
    """Leave the group at the end of the process.

    Threads of the group that outlive the interpreter sometimes abort the process; they end with the last reference to
    the group, which trained models hold in cycles.
    """
    import torch.distributed

    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()


def one_openblas_thread() -> Any:
    """Return a context in which OpenBLAS computes with one thread.

    Its threads wait for work in loops, which slows those of torch, and on a busy machine each other.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(internal_api="openblas").limit(limits=1)
