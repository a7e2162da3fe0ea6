"""A run as a folder, written and read: ``run.json``, ``head_mask.json``, ``arrays.npz``, and ``table.json`` of a sweep.

Folders are untrusted input: the sizes in their headers are checked before memory is allocated.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cahp.board.budget_sweep import TABLE_FILE, BudgetTable, table_json
from cahp.board.head_clusters import HeadClusters
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.files import Content, is_there, json_text, read_array, read_bounded_json, scratch
from cahp.output import AnyFolder, Mark, Output
from cahp.run.document import RunDocument, outcome_records
from cahp.run.prune import Run
from cahp.values import Arrays, CahpError, Fields, Ints, Names

#: The name of the folder in an archive.
RUN_FOLDER = "cahp-run"
#: Shows that files belong to a run.
MARK = Mark("run.json", "cahp.run")
#: Of models with more heads, a report shows one budget: every other one is a mask of its own.
MOST_HEADS = 4096
#: Bytes of a document, and of an array of ``MOST_HEADS`` squared float32.
_LARGEST_JSON = 1 << 24
_LARGEST_ARRAY = 4 * MOST_HEADS**2 + 1024
_AGAIN = "write it again with `cahp prune --out`"


def files(*, table: bool = False) -> Names:
    """Return the names of the files that ``write_run`` writes, with or without a table."""
    names = ("run.json", "head_mask.json", "arrays.npz", TABLE_FILE)
    return names[: 3 + table]


def write_run(folder: AnyFolder, run: Run, *, table: BudgetTable | None = None) -> None:
    """Write ``run.json``, ``head_mask.json`` and ``arrays.npz`` into ``folder``: all of them or none.

    With a ``table`` of its budgets it also writes ``table.json``. Files of another run are replaced, others are kept.

    Raises:
        OptionError: If files of these names exist that no run wrote.
        UnwrittenError: If the folder cannot be written to.
        ValueError: If the run's document names other heads as kept than its mask, or an array holds Python objects.
    """
    document = run.document
    if document.mask.sha256 != run.mask.sha256:
        raise ValueError(f"the run says {document.mask.by_layer} were kept, the mask {run.mask.by_layer}")
    metrics = outcome_records(document.outcomes)["metrics"]
    model = document.model
    origin = MaskOrigin(model.id, document.settings.method, document.budget, metrics, model_sha256=model.files_sha256)
    contents: dict[str, Content] = {
        "run.json": json_text(document.to_json()).encode(),
        "head_mask.json": mask_json(run.mask, origin),
        "arrays.npz": lambda file: np.savez(file, allow_pickle=False, **run.arrays),
    }
    if table is not None:
        contents[TABLE_FILE] = json_text(table_json(table, document)).encode()
    output = Output.of(folder)
    output.check_files(contents, MARK)
    output.write(contents)


def run_archive(run: Run, *, table: BudgetTable | None = None) -> bytes:
    """Return the run's folder as a ZIP file, with the ``table`` of its budgets."""
    with scratch() as place:
        folder = place / RUN_FOLDER
        write_run(folder, run, table=table)
        return zipped(folder)


def zipped(folder: Path) -> bytes:
    """Return a folder as a ZIP file, without compression, because weights and arrays hardly shrink."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path(folder.name) / path.relative_to(folder))
    return content.getvalue()


@dataclass(frozen=True, eq=False)
class RunFiles:
    """The content of a run's folder.

    ``clusters`` contains every number of clusters (None: the model has more than ``MOST_HEADS`` heads), ``labels (N,)``
    those of the run's mask, and ``table`` is ``table.json``.
    """

    document: RunDocument
    arrays: Arrays = field(default_factory=dict)
    table: Fields | None = None

    @property
    def clusters(self) -> HeadClusters | None:
        """Every number of clusters (None: the folder has none)."""
        if "labels_of_k" not in self.arrays:
            return None
        try:
            return HeadClusters.of_arrays(self.arrays, self.document)
        except (KeyError, ValueError):
            raise CahpError(f"arrays.npz is incomplete; {_AGAIN}.") from None

    @property
    def labels(self) -> Ints | None:
        """The cluster of each head ``(N,)`` (None: the folder has none)."""
        if "labels" not in self.arrays:
            return None
        return self.arrays["labels"].astype(np.int64)


def read_run(place: Path) -> RunFiles:
    """Read a folder that ``cahp prune --out`` wrote; ``place`` may also be one of its files.

    Raises:
        CahpError: If there is none, or it is broken.
    """
    folder = place
    if is_there(place, Path.is_file):
        if place.name not in files(table=True):
            raise CahpError(f"{place} is no file of a run; name the folder that `cahp prune --out` wrote.")
        folder = place.parent
    content = _read_json(folder / "run.json")
    if content is None and is_there(folder / "compare.json", Path.is_file):
        raise CahpError(f"{folder} holds a comparison, and a report shows a run; name a folder of `cahp prune --out`.")
    if content is None:
        raise CahpError(f"There is no run in {folder}; make one with `cahp prune --out {folder}`.")
    model = {}
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        model = content["model"]
    for name in ("layers", "heads"):
        size = model.get(name)
        if isinstance(size, int) and not 0 < size <= MOST_HEADS:
            raise CahpError(f"The run names a model of an impossible size; {_AGAIN}.")
    document = RunDocument.from_json(content)
    needed = "kl"
    if document.data.labelled:
        needed = "accuracy_change"
    changes = [outcomes for state, outcomes in document.outcomes.items() if state != "full"]
    if "pruned" not in document.outcomes or any(needed not in outcomes for outcomes in changes):
        raise CahpError(f"The run in {folder} lacks the results of its heads; {_AGAIN}.")
    total = document.model.layers * document.model.heads
    arrays: Arrays = {}
    if total <= MOST_HEADS:
        arrays = _read_arrays(folder / "arrays.npz", total)
    return RunFiles(document, arrays, _read_json(folder / TABLE_FILE))


def _read_json(file: Path) -> Any:
    """Return the content of a file (None: it does not exist)."""
    if not is_there(file, Path.is_file):
        return None
    try:
        return read_bounded_json(file, _LARGEST_JSON)
    except OSError as error:
        raise CahpError(f"{file} cannot be read ({error.strerror or error}); name another folder.") from None
    except ValueError:
        raise CahpError(f"{file} is not JSON of at most {_LARGEST_JSON:,} bytes; {_AGAIN}.") from None


def _read_arrays(file: Path, heads: int) -> Arrays:
    """Read the arrays that a board needs and check that their shapes fit a model of so many heads."""
    if not is_there(file, Path.is_file):
        return {}
    # -1: one for each number of clusters.
    shapes = {
        "labels": (heads,),
        "ks": (-1,),
        "mss": (-1,),
        "salience": (heads,),
        "embedding": (heads, 2),
        "distances": (heads, heads),
        "labels_of_k": (-1, heads),
        "medoids_of_k": None,
    }
    # Numbers of clusters are 1..``heads``, and the others indices below it.
    largest = {"labels": heads - 1, "ks": heads, "labels_of_k": heads - 1, "medoids_of_k": heads - 1}
    arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if name in shapes and entry.file_size <= _LARGEST_ARRAY:
                    arrays[name] = read_array(io.BytesIO(archive.read(entry)), entry.file_size)
        ks = arrays.get("ks", np.zeros(0, dtype=np.int64))
        for name, array in arrays.items():
            shape = shapes[name] or array.shape
            valid = np.isfinite(array).all() and array.shape == tuple(len(ks) if size < 0 else size for size in shape)
            if name in largest:
                valid &= array.dtype.kind in "iu"
                valid &= array.min(initial=0) >= 0 and array.max(initial=0) <= largest[name]
            if not valid:
                raise ValueError(f"{name} is not of a run")  # noqa: TRY301
        medoids = len(arrays.get("medoids_of_k", range(int(ks.sum()))))
        if (np.diff(ks.astype(np.int64), prepend=0) <= 0).any() or medoids != ks.sum():
            raise ValueError("its numbers of clusters do not fit")  # noqa: TRY301
    except Exception as error:
        # NumPy and zipfile promise no type here: a broken file raises a dozen different ones.
        raise CahpError(f"{file} is broken; {_AGAIN}.") from error
    return arrays
