"""What a device is: by which name it is found, which numbers it computes fast, how much it holds, when it is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from cahp.values import OptionError, Precision

#: Largest difference between the logits of a masked and a cut model, relative to logits beyond 1. Elsewhere than on a
#: processor products are summed in an order that depends on their sizes, which differ between the two.
_TOLERANCE, _ELSEWHERE = 1e-5, 1e-4
#: Padded tokens a batch, and texts in it: what two processor cores run best, and what keeps a GPU busy.
_BATCH, _LARGE_BATCH = (2048, 256), (16384, 1024)

#: What the activations of one backward pass may take. Not a share of what is free: batches decide on the last digits.
_ACTIVATION_BYTES, _LARGE_ACTIVATION_BYTES = 256 << 20, 2 << 30

#: Where Linux says what is free, and what a container may use and does.
_MEMORY, _GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.stat", "anon"),
    ("memory/memory.limit_in_bytes", "memory/memory.stat", "rss"),
)
_UNLIMITED = 1 << 60


def device(name: str) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        OptionError: If this machine has no such device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if name not in available:
        raise OptionError(f"no device named {name!r}; use auto, cpu, cuda or mps")
    if not available[name]:
        raise OptionError(f"this machine has no {name} device; use --device auto")
    return torch.device(name)


def native(where: torch.device) -> bool:
    """Whether a device has instructions for products in bfloat16; without, they are slower than in float32."""
    if where.type == "cuda":
        return bool(torch.cuda.get_device_capability(where) >= (8, 0))
    if where.type == "cpu":
        # Libraries also call it supported where it is only imitated.
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in asked)
    return False


@contextmanager
def computing(where: torch.device, precision: Precision) -> Iterator[None]:
    """Let forward passes inside the block compute their products so.

    Weights stay in float32 always. In bfloat16 products of matrices are computed on numbers with 8 binary digits in
    place of 24; normalisations, sums over texts and losses stay in float32, and so does the softmax of attention where
    a family does not write it out itself (DeBERTa and ESM do).
    """
    if precision == "float32":
        yield
        return
    with torch.autocast(where.type, dtype=torch.bfloat16):
        yield


def in_float32(watch: Callable[[int, Tensor], None], where: torch.device) -> Callable[[int, Tensor], None]:
    """``watch``, a layer's observer, with its own products in float32 whatever the layer computes in."""

    def watching(layer: int, seen: Tensor) -> None:
        with torch.autocast(where.type, enabled=False):
            watch(layer, seen)

    return watching


def tolerance(where: torch.device) -> float:
    """By how much the logits of a masked and a cut model may differ on a device, relative to logits beyond 1."""
    return _TOLERANCE if where.type == "cpu" else _ELSEWHERE


def batch_size(where: torch.device) -> tuple[int, int]:
    """How many padded tokens, and how many texts, a batch has at most."""
    return _LARGE_BATCH if where.type == "cuda" else _BATCH


def activation_bytes(where: torch.device) -> int:
    """What the activations of one backward pass may take of a device's memory."""
    return _LARGE_ACTIVATION_BYTES if where.type == "cuda" else _ACTIVATION_BYTES


def sums_on(where: torch.device) -> torch.device:
    """Where sums in float64 over what a device computes are kept: there, unless it has no such numbers."""
    return torch.device("cpu") if where.type == "mps" else where


def sent(tensor: Tensor, where: torch.device) -> Tensor:
    """A tensor of the processor's memory on a device; a GPU fetches it while it computes other things."""
    if where.type == "cuda":
        return tensor.pin_memory().to(where, non_blocking=True)
    return tensor.to(where)


def synchronise(where: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    elif where.type == "mps":
        torch.mps.synchronize()


def forget_peak(where: torch.device) -> None:
    """Let ``peak`` count from here, where that can be done."""
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)


def peak(where: torch.device) -> int | None:
    """The most bytes that were in use at once: of a GPU's memory since ``forget_peak``, else by this whole process.

    None where it is not known.
    """
    if where.type == "cuda":
        return int(torch.cuda.max_memory_allocated(where))
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most << 10)


def free(where: torch.device) -> int | None:
    """Bytes that can still be taken of a device's memory (None: not known)."""
    if where.type == "cuda":
        return int(torch.cuda.mem_get_info(where)[0])
    if where.type != "cpu":
        return None
    left = _entries(_MEMORY, "MemAvailable:", unit=1 << 10)
    for limit, statistics, entry in _LIMITS:
        # A container may be given less than the machine has. What it caches of files is given back when asked for.
        most, used = _number(_GROUP / limit), _entries(_GROUP / statistics, entry, unit=1)
        if most is not None and most < _UNLIMITED:
            left.append(most - sum(used))
    return max(0, min(left)) if left else None


def _entries(file: Path, name: str, *, unit: int) -> list[int]:
    try:
        lines = [line.split() for line in file.read_text(encoding="ascii").splitlines()]
        return [int(line[1]) * unit for line in lines if line[:1] == [name]]
    except (OSError, ValueError, IndexError):
        return []


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def visible_gpus() -> list[str]:
    """The names by which this machine's GPUs are made visible to a process, in order; none if there is one at most."""
    if not torch.cuda.is_available() or torch.cuda.device_count() < 2:
        return []
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = said.split(",") if said else map(str, range(torch.cuda.device_count()))
    return [name.strip() for name in names][: torch.cuda.device_count()]
