"""What all calls take: the fields of ``Settings`` as keywords, a mask, and how progress is shown.

The fields themselves say which keywords there are; ``cahp.run.keywords`` has their types for editors.
"""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cahp import hub
from cahp.data.sources import FIXED, keep_object
from cahp.exports.masks import read_mask, read_mask_bytes, read_mask_record
from cahp.exports.run_folder import MARK, files, read_run
from cahp.files import is_there
from cahp.models import BUILTINS
from cahp.models.cards import ModelCard
from cahp.run.prune import Run
from cahp.run.settings import BOUNDS, OF_DATA, OF_NUMBER, REPEATS, Mix, Settings, describe, flags
from cahp.terminal.progress import Reporter, bars
from cahp.values import CahpError, Fields, HeadMask, JsonObject, MaskError, Notices, OptionError, Progress, name_type

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from cahp.models.head_model import HeadModel

#: The name of a built-in, a hub id, or a path.
Name = str | PathLike[str]
#: A run or a model: its name, or a finished run, or settings that name the model.
AnyModel = Name | Settings | Run
#: A head mask, its array ``(layers, heads)``, the kept heads of each layer, a finished run, or its file.
AnyMask = HeadMask | NDArray[Any] | Mapping[Any, Any] | Run | Name


class Tabular(Protocol):
    """A table in memory, such as a ``pandas.DataFrame`` or a ``datasets.Dataset``."""

    def to_parquet(self, place: Any, /) -> Any:
        """Write it as a Parquet file."""


#: Data: a name or a path, a table, a list of texts, or a mapping of splits to these.
AnyData = Name | Tabular | Sequence[str] | Mapping[str, Any]
#: No keywords.
NOTHING: Fields = {}


def read_settings(
    command: str,
    model: object,
    data: object,
    options: Fields,
    *,
    own: Fields = NOTHING,
    defaults: Fields = NOTHING,
) -> Settings:
    """The settings of a call: ``model`` itself, or the options that ``cahp COMMAND`` takes.

    ``own`` are the call's own keywords that are fields of ``Settings``, too, None where not given; such a keyword
    replaces its field. ``defaults`` replace those of the fields where no settings are given.

    Raises:
        OptionError: If an option is unknown, or its value invalid.
    """
    given = {name: value for name, value in own.items() if value is not None}
    if isinstance(model, Settings):
        if data is not None or options:
            raise OptionError("Settings and options are both given; give all options to Settings, or none")
        return replace(model, **given)
    if not isinstance(model, str | PathLike):
        raise OptionError(
            f"model is a name, a path or Settings, not {name_type(model)}; load one of transformers by "
            "`cahp.load(model, tokenizer=tokenizer)`, or save it with `save_pretrained(folder)` and give the folder"
        )
    if not isinstance(data, str | PathLike | None):
        data = keep_object(data)
    known = flags(command).keys() - {"model", "data"}
    for name in options.keys() - known:
        near = difflib.get_close_matches(name, known, n=1) or sorted(known)
        raise OptionError(f"cahp.{command} has no option {name}; did you mean {' or '.join(near)}?")
    return Settings(model=model, data=data, **{**defaults, **options, **given})


@dataclass(frozen=True)
class GivenRun:
    """A run that a call was given: its settings, and its mask."""

    settings: Settings
    mask: AnyMask

    def tell(self, names: Collection[str], given: Collection[str]) -> Fields:
        """Return the settings by ``names`` that the run changed, but those that are ``given``.

        Where other data are given, nothing that belongs to its data is told, and where a budget or a goal is given,
        neither is. The device is that of this machine.
        """
        without = {"device", *given}
        if "data" in given:
            without |= OF_DATA
        if not OF_NUMBER.isdisjoint(given):
            without |= OF_NUMBER
        told = {}
        for name, setting in describe().items():
            value = getattr(self.settings, name)
            if name in names and name not in without and value != setting.default:
                told[name] = value
        return told


def find_run(place: object) -> GivenRun | None:
    """Return the run that a call was given: its folder, one of its files, or the result of ``cahp.prune``.

    None: it is none of these, such as the name of a model.

    Raises:
        CahpError: If the run is broken.
    """
    if isinstance(place, Run):
        return GivenRun(place.document.settings, place.mask)
    if not isinstance(place, str | PathLike):
        return None
    folder = Path(place)
    if folder.name in files(table=True):
        folder = folder.parent
    if not is_there(folder / MARK.file, Path.is_file):
        return None
    return GivenRun(_find_paths(read_run(folder).document.settings, folder), folder)


def _find_paths(settings: Settings, folder: Path) -> Settings:
    """Return the settings of a run with its relative paths as they are seen from here.

    They are looked for beside the folder of the run, then in the folders above it, then here.
    """

    def find(path: str | None) -> str | None:
        if path is None or path in (*BUILTINS, *FIXED, REPEATS):
            return path
        for place in (folder.parent, *folder.resolve().parents, Path()):
            if is_there(place / path, Path.exists):
                return str(place / path)
        return path

    names = ("model", "data", "recover_data", "neutral_data")
    found: JsonObject = {name: find(getattr(settings, name)) for name in names}
    mix = Mix.parse(settings.mix)
    if mix.sources:
        found["mix"] = ",".join(f"{find(name)}={100 * share:g}%" for name, share in mix.shares.items())
    return replace(settings, **found)


def read_call(
    command: str,
    model: object,
    data: object,
    options: Fields,
    *,
    mask: AnyMask | None = None,
    own: Fields = NOTHING,
    defaults: Fields = NOTHING,
) -> tuple[Settings, AnyMask | None]:
    """Return the settings of a call about a mask, and the mask; what is not given is told by a run or by the mask.

    The arguments are those of ``read_settings``, but the ``model`` may be a run (see ``find_run``).

    Raises:
        CahpError: If the run, the mask or an option cannot be used.
    """
    run = find_run(model)
    if run is None:
        return read_settings(command, model or find_model(mask), data, options, own=own, defaults=defaults), mask
    chosen = [name for name, value in {"data": data, **options, **own}.items() if value is not None]
    told = {"model": Settings.model, "data": data, **run.tell({*flags(command), *own}, chosen)}
    model = told.pop("model")
    data = told.pop("data")
    own = {name: told.pop(name, value) for name, value in own.items()}
    settings = read_settings(command, model, data, {**told, **options}, own=own, defaults=defaults)
    if mask is None:
        mask = run.mask
    return settings, mask


def check_bounds(**numbers: float | None) -> Fields:
    """Check that each number of a call lies within the ``BOUNDS`` of its name; return those that are given, not None.

    Raises:
        OptionError: If one does not.
    """
    given = {name: value for name, value in numbers.items() if value is not None}
    for name, value in given.items():
        low, high = BOUNDS[name]
        if not low <= value <= high:
            raise OptionError(f"{name}={value:g} is out of range; it must be in {low:g}..{high:g}")
    return given


@dataclass(frozen=True)
class GivenMask:
    """A mask that was given for a model, the ``content`` of its file, and ``notices`` about where it comes from."""

    mask: HeadMask
    content: Fields = field(default_factory=dict)
    notices: Notices = ()


def find_model(mask: AnyMask | None) -> str:
    """Return the model that the file of a mask was made for, as its run names it (no mask: that of ``Settings``).

    Raises:
        MaskError: If the mask names none, or cannot be read.
    """
    if mask is None:
        return Settings.model
    # A pipe can be read only once.
    if isinstance(mask, str | PathLike) and not is_there(Path(mask), Path.is_fifo):
        content = read_mask_record(Path(mask))
        with suppress(CahpError):
            # Of a folder, a mask holds the name alone.
            folder = Path(mask).parent
            run = read_run(folder).document
            if run.mask.sha256 == content.get("sha256"):
                return _find_paths(run.settings, folder).model
        if content.get("model"):
            return str(content["model"])
    raise MaskError("the mask does not say which model it is for; name the model, too")


def read_mask_for(card: ModelCard, mask: object, *, force: bool = False) -> GivenMask:
    """Read a mask for the model of ``card``, given as such or as a file.

    ``force`` allows a mask that was made for another model, with a notice. A file without a digest of its model is
    used with a notice where the names differ.

    Raises:
        MaskError: If the file cannot be read, or was made for another model.
    """
    if mask is None:
        raise MaskError("which heads? name the folder of a run, or a mask with --mask")
    contents: Fields = {}
    notices: Notices = ()
    if isinstance(mask, Run):
        mask = mask.mask
    elif isinstance(mask, np.ndarray):
        mask = HeadMask(mask)
    elif isinstance(mask, Mapping):
        keep = np.zeros((card.layers, card.heads))
        try:
            for layer, kept in mask.items():
                keep[int(layer), list(kept)] = 1
        except (IndexError, TypeError, ValueError):
            raise MaskError(f"{card.id} has {keep.shape} heads; list those that stay, such as {{0: [1, 3]}}") from None
        mask = HeadMask(keep)
    elif isinstance(mask, str | PathLike):
        # Read once, because it may be a pipe.
        data = read_mask_bytes(Path(mask))
        mask = read_mask(data, layers=card.layers, heads=card.heads)
        contents = read_mask_record(data)
    if not isinstance(mask, HeadMask):
        kinds = "HeadMask, an array (layers, heads), a dict of kept heads, a run or a file"
        raise MaskError(f"a mask is a {kinds}, not {name_type(mask)}")
    mask.check_fits(card.layers, card.heads, card.id)
    made_for = contents.get("model", card.id)
    digest = contents.get("model_sha256")
    other = made_for != card.id
    if isinstance(digest, str):
        other = digest != card.origin
        if other and not force:
            raise MaskError(
                f"the mask was made for {made_for} (sha256 {digest[:12]}), and {card.id} ({card.origin[:12]}) is "
                "another model; name its own, or use it anyway with --force"
            )
    if other:
        notices = (f"the mask was made for {made_for} and is used on {card.id}",)
    return GivenMask(mask, contents, notices)


def use_mask(card: ModelCard, mask: AnyMask, *, force: bool = False) -> HeadMask:
    """Read a mask as ``read_mask_for`` does; the log warns of one that was made for another model."""
    given = read_mask_for(card, mask, force=force)
    for notice in given.notices:
        logging.getLogger(__name__).warning("%s", notice)
    return given.mask


def is_loaded(model: object) -> TypeIs[HeadModel]:
    """Tell whether it is a model in memory, without importing PyTorch, which such a model has done."""
    module = sys.modules.get("cahp.models.head_model")
    return module is not None and isinstance(model, module.HeadModel)


# Progress ------------------------------------------------------------------------------------------------------------

#: Whether progress is shown (None: where a person is waiting), or the function that is called with it instead.
ShowProgress = bool | Progress | None


class Interrupted(KeyboardInterrupt):
    """A person stopped the call; finished measurements are cached, and the same call resumes from there."""

    def __init__(self) -> None:
        super().__init__("stopped; finished measurements are cached, and the same call resumes from there")

    def _render_traceback_(self) -> list[str]:
        # Jupyter calls this: the line of our code does not interest the person who pressed the button.
        return [str(self)]


@contextmanager
def show_progress(progress: ShowProgress, *, yes: bool = False) -> Iterator[Reporter]:
    """Show the progress of the block; ``yes`` agrees to large downloads from the hub.

    None shows bars in a notebook and in an interactive terminal, True also in a script; False shows nothing. A callable
    is called with ``(stage, done, total)`` instead.

    Raises:
        Interrupted: If a person stops the block while its progress is shown.
    """
    if isinstance(progress, Reporter):
        # The command line has drawn its bars and prepared its questions already.
        yield progress
        return
    with hub.consent_from(lambda *_: yes):
        if callable(progress):
            with hub.progress_to(progress):
                yield Reporter(forward=progress)
            return
        kernel = in_notebook()
        if progress is None:
            typed = hasattr(sys, "ps1") or bool(sys.flags.interactive)
            progress = kernel or (typed and sys.stderr.isatty())
        try:
            with bars(quiet=not progress, draws=kernel or None) as reporter:
                yield reporter
        except KeyboardInterrupt:
            if progress:
                raise Interrupted from None
            raise


def in_notebook() -> bool:
    """Whether this runs in a kernel, whose outputs are pages and not a terminal's lines."""
    shell = sys.modules.get("IPython")
    return shell is not None and getattr(shell.get_ipython(), "kernel", None) is not None
