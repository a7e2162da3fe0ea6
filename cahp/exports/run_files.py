"""A run's folder read back: the run, and what of its arrays and its table a board needs.

The folder may come from anybody, so what it claims is bounded before memory is taken.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cahp.files import finish_replacing
from cahp.run.document import RunDocument
from cahp.run.prune import Run
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import TABLE_FILE, table_json
from cahp.values import CahpError

#: Heads of a model whose budgets are all told; every one of them is a mask of its own.
MOST_HEADS = 4096
#: Bytes of a document, and of an array of ``MOST_HEADS`` squared float32.
_LARGEST_JSON = 1 << 24
_LARGEST_ARRAY = 4 * MOST_HEADS**2 + 1024
_AGAIN = "write it again with `cahp prune --out`"


@dataclass(frozen=True, eq=False)
class RunFiles:
    """A run as its folder tells it.

    ``clusters`` are those of every number of heads (None: the folder is of an earlier version, or its model has more
    than ``MOST_HEADS``), ``arrays`` those that a board needs, as far as there are any, and ``table`` is what
    ``table.json`` says.
    """

    document: RunDocument
    clusters: HeadClusters | None = None
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    table: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, run: Run, *, table: BudgetTable | None = None) -> RunFiles:
        """What its folder would tell of a run, and of a ``table`` of its budgets."""
        clusters = HeadClusters.of_arrays(run.arrays, run.document) if "labels_of_k" in run.arrays else None
        return cls(run.document, clusters, run.arrays, None if table is None else table_json(table, run.document))


def read_run(place: Path) -> RunFiles:
    """The run in a folder that ``cahp prune --out`` wrote; ``place`` may also be a file of it.

    Raises:
        CahpError: If there is none, or it is broken.
    """
    folder = place if place.is_dir() else place.parent
    finish_replacing(folder)
    if place.is_file() and place.name not in ("run.json", "head_mask.json", "arrays.npz", TABLE_FILE):
        raise CahpError(f"{place} is no file of a run; name the folder that `cahp prune --out` wrote.")
    said = _json(folder / "run.json")
    if said is None:
        raise CahpError(f"There is no run in {folder}; make one with `cahp prune --out {folder}`.")
    document = RunDocument.from_json(_bounded(said))
    changes = [outcomes for state, outcomes in document.outcomes.items() if state != "full"]
    if "pruned" not in document.outcomes or any("accuracy_change" not in outcomes for outcomes in changes):
        raise CahpError(f"The run in {folder} lacks what was measured of its heads; {_AGAIN}.")
    total = document.model.layers * document.model.heads
    arrays = _arrays(folder / "arrays.npz", total) if total <= MOST_HEADS else {}
    clusters = None
    if "labels_of_k" in arrays:
        try:
            clusters = HeadClusters.of_arrays(arrays, document)
        except (KeyError, ValueError):
            raise CahpError(f"arrays.npz in {folder} lacks what it should hold; {_AGAIN}.") from None
    return RunFiles(document, clusters, arrays, _json(folder / TABLE_FILE))


def _json(file: Path) -> Any:
    """What a file says (None: there is no such file)."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON:
            raise CahpError(f"{file} is too large for a file of a run; {_AGAIN}.")
        return json.loads(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CahpError(f"{file} cannot be read ({error.strerror or error}); name another folder.") from None
    except (ValueError, RecursionError):
        raise CahpError(f"{file} is not JSON; {_AGAIN}.") from None


def _bounded(said: Any) -> Any:
    """A document whose model is of a size that can be true."""
    model = said.get("model") if isinstance(said, Mapping) else None
    sizes = [model.get(name) for name in ("layers", "heads")] if isinstance(model, Mapping) else []
    if any(isinstance(size, int) and not 0 < size <= MOST_HEADS for size in sizes):
        raise CahpError(f"The run names a model of an impossible size; {_AGAIN}.")
    return said


def _arrays(file: Path, heads: int) -> dict[str, NDArray[Any]]:
    """The arrays that a board needs, each of the shape that a model of so many heads has."""
    try:
        with zipfile.ZipFile(file) as archive:
            found: dict[str, NDArray[Any]] = {}

            def take(name: str, *shape: int, whole_below: int | None = None) -> None:
                if f"{name}.npy" in archive.namelist():
                    with archive.open(f"{name}.npy") as member:
                        found[name] = _array(member, shape, whole_below)

            take("labels", heads, whole_below=heads)
            take("ks", -1, whole_below=heads + 1)
            ks = found.get("ks", np.empty(0))
            _check_ascending(ks)
            take("mss", len(ks))
            take("salience", heads)
            take("embedding", heads, 2)
            take("distances", heads, heads)
            take("labels_of_k", len(ks), heads, whole_below=heads)
            take("medoids_of_k", int(ks.sum()), whole_below=heads)
            return found
    except FileNotFoundError:
        return {}
    except Exception as error:
        # NumPy and zipfile promise no type here: a broken file raises a dozen different ones.
        raise CahpError(f"{file} is broken; {_AGAIN}.") from error


def _check_ascending(ks: NDArray[Any]) -> None:
    if len(ks) and (ks[0] < 1 or np.any(np.diff(ks.astype(np.int64)) <= 0)):
        raise ValueError("the numbers of clusters must ascend")


def _array(member: IO[bytes], shape: tuple[int, ...], whole_below: int | None) -> NDArray[Any]:
    """An array of that shape (-1: any length); ``whole_below`` asks for whole numbers from 0 to below it."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    there, fortran, dtype = read[np.lib.format.read_magic(member)](member)
    count = int(np.prod(there, dtype=np.float64))
    fits = len(there) == len(shape) and all(want in (-1, size) for want, size in zip(shape, there, strict=True))
    if not fits or dtype.kind not in ("iu" if whole_below is not None else "iuf"):
        raise ValueError(f"an array of {there} {dtype} where {shape} is due")
    size = count * dtype.itemsize
    if size > _LARGEST_ARRAY:
        raise ValueError(f"{size} bytes are more than any run has")
    # Not more than it says, however much is packed behind it.
    array: NDArray[Any] = np.frombuffer(member.read(size), dtype, count).reshape(there, order="F" if fortran else "C")
    if whole_below is not None and count and not 0 <= array.min() <= array.max() < whole_below:
        raise ValueError("a cluster or head that is not there")
    if not np.isfinite(array).all():
        raise ValueError("a number that is none")
    return array
