"""Devices: their names, precision, batch sizes and memory, and waiting for them."""

import os
import re
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import Tensor

from cahp.values import ModelError, OptionError
from cahp.words import size_of

#: The folder of Linux with the limit and use of a container.
_CONTAINER = Path("/sys/fs/cgroup")
#: A limit of memory, and the bytes of its unit.
_SIZE = re.compile("([0-9]+(?:[.][0-9]+)?) ?([MG])B", re.IGNORECASE)
_UNITS = {"M": 1e6, "G": 1e9}


def find_device(name: str) -> torch.device:
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


def has_bfloat16(where: torch.device) -> bool:
    """Whether a device has instructions for products in bfloat16, which are slower than float32 without."""
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where) >= (8, 0)
    if where.type == "cpu":
        # Other checks are also true where bfloat16 is only emulated.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)
    return False


def tolerance(where: torch.device) -> float:
    """Largest difference between the logits of a masked and a cut model, relative to the largest logit above 1.

    On other devices than a processor the order of sums depends on the sizes of matrices.
    """
    return 1e-5 if where.type == "cpu" else 1e-4


def batch_size(where: torch.device) -> tuple[int, int]:
    """Numbers of padded tokens and of texts in a batch that two processor cores, or a GPU, compute fastest."""
    return (16384, 1024) if where.type == "cuda" else (2048, 256)


def activation_bytes(where: torch.device) -> int:
    """Memory for the activations of one backward pass. No share of the free memory: batches change last digits."""
    return 2 << 30 if where.type == "cuda" else 256 << 20


def float64_device(where: torch.device) -> torch.device:
    """The device for sums in float64: the same one, unless it has no float64."""
    return torch.device("cpu") if where.type == "mps" else where


def move_to(tensor: Tensor, where: torch.device) -> Tensor:
    """Move a tensor from the processor's memory to a device; a GPU copies it while it computes."""
    if where.type == "cuda":
        return tensor.pin_memory().to(where, non_blocking=True)
    return tensor.to(where)


def synchronise(where: torch.device) -> None:
    """Wait until a device has finished its work."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    elif where.type == "mps":
        torch.mps.synchronize()


def free_bytes(where: torch.device) -> int | None:
    """Free bytes of a device's memory, at most ``CAHP_MEMORY`` of the environment, such as ``8GB`` (None: unknown).

    Raises:
        OptionError: If ``CAHP_MEMORY`` is no size.
    """
    free = _free_bytes(where)
    limit = os.environ.get("CAHP_MEMORY")
    if not limit:
        return free
    size = _SIZE.fullmatch(limit.strip())
    if size is None:
        raise OptionError(f"CAHP_MEMORY={limit[:40]} is no size; write a number of MB or GB, such as 8GB")
    most = int(float(size[1]) * _UNITS[size[2].upper()])
    if free is None:
        return most
    return min(most, free)


def check_room(where: torch.device, needed: int, purpose: str, advice: str) -> None:
    """Check that a device has so many free bytes for a ``purpose`` such as "a refit of bert needs".

    Raises:
        ModelError: If it has not, with the ``advice``.
    """
    room = free_bytes(where)
    if room is not None and needed > room:
        raise ModelError(f"{purpose} {size_of(needed)}, and {where.type} has {size_of(room)} free; {advice}")


def _free_bytes(where: torch.device) -> int | None:
    if where.type == "cuda":
        return int(torch.cuda.mem_get_info(where)[0])
    if where.type != "cpu":
        return None
    left = int(psutil.virtual_memory().available)
    # A container may have less than the machine, or "max". Its cached files do not count: they are freed on demand.
    with suppress(OSError, ValueError, KeyError):
        used = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text(encoding="ascii").splitlines())
        left = min(left, int((_CONTAINER / "memory.max").read_text(encoding="ascii")) - int(used["anon"]))
    return max(0, left)


def visible_gpus() -> list[str]:
    """The names that make this machine's GPUs visible to a process, in order; none if there is at most one GPU."""
    if not torch.cuda.is_available() or torch.cuda.device_count() < 2:
        return []
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name.strip() for name in visible.split(",")[:count]]
    return [str(index) for index in range(count)]
