"""The keywords of a call: the fields of ``Settings``, typed for editors and type checkers.

At run time the fields themselves say which keywords there are; a test keeps these types in step with them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict

from cahp.cards import ModelCard
from cahp.exports.masks import check_fits, read_for
from cahp.run.command_line import flags
from cahp.run.settings import Salience, Settings
from cahp.stages.selection import Representative
from cahp.stages.space import Projection
from cahp.values import HeadMask, OptionError

#: The name of a built-in, a hub id, or a path.
Name = str | PathLike[str]


class DataOptions(TypedDict, total=False):
    """Options of the data and of the machine, which most calls take."""

    eval_split: str
    sample: Literal["stratified", "head"]
    min_per_layer: int
    report: str | None
    device: str
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    splits: Mapping[str, str]
    label_map: Mapping[str, str]
    prompt: str | None
    answers: Sequence[str]


class ModelOptions(DataOptions, total=False):
    """Options of a call on a mask that is given."""

    limit: int | None
    eval_limit: int | None
    seed: int
    recover_data: str | None
    recover_time: str | float | None
    labels: bool
    latency: bool
    latency_time: str | float
    precision: Literal["auto", "float32", "bfloat16"]


class Options(ModelOptions, total=False):
    """Options of a run besides its model and data; ``cahp.Settings`` has the defaults."""

    method: str
    budget: str | int
    select_split: str
    pool_size: int
    poly_degree: int
    projection: Projection
    salience: Salience
    representative: Representative
    recover: str


def read_settings(command: str, model: Name | Settings, data: Name | None, options: Mapping[str, Any]) -> Settings:
    """The settings of a call: ``model`` itself, or the options that ``cahp COMMAND`` takes.

    Raises:
        OptionError: If an option is unknown, or its value invalid.
    """
    if isinstance(model, Settings):
        if data is not None or options:
            raise OptionError("Settings and options are both given; give all options to Settings, or none")
        return model
    known = [name for name in flags(command) if name not in ("model", "data")]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
            raise OptionError(f"cahp.{command} has no option {name}; {hint}")
    return Settings(model=model, data=data, **options)  # type: ignore[arg-type]


def read_mask_for(card: ModelCard, mask: HeadMask | Name) -> tuple[HeadMask, Mapping[str, Any]]:
    """A mask for the model of ``card``, given as such or as a file, and the other contents of the file.

    Raises:
        MaskError: If the file cannot be read, or the model has another number of heads.
    """
    if isinstance(mask, HeadMask):
        check_fits(mask, card.layers, card.heads, card.id)
        return mask, {}
    return read_for(card, Path(mask))
