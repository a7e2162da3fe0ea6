"""What can be asked for by keyword: the fields of ``Settings``, as Python's own types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from os import PathLike
from typing import Any, Literal, TypedDict

from cahp.run.settings import Salience, Settings
from cahp.stages.selection import Representative
from cahp.stages.space import Projection
from cahp.values import OptionError

#: A built-in's name, a hub id, or a path.
Name = str | PathLike[str]


class DataOptions(TypedDict, total=False):
    """How the data are read, and where the model works."""

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


class Options(DataOptions, total=False):
    """All that a run can be asked besides its model, data and budget; ``cahp.Settings`` has the defaults."""

    method: str
    limit: int | None
    select_split: str
    eval_limit: int | None
    pool_size: int
    poly_degree: int
    projection: Projection
    salience: Salience
    representative: Representative
    recover: str
    seed: int
    latency: bool
    recover_data: str | None
    recover_time: str | None
    labels: bool
    latency_time: str
    precision: Literal["auto", "float32", "bfloat16"]


def settings_of(model: Name, data: Name | None, **asked: Any) -> Settings:
    """The settings that are asked for; paths and numbers may be given as such.

    Raises:
        OptionError: If an option is unknown, or its value impossible.
    """
    import msgspec

    known = [field.name for field in fields(Settings)]
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
            raise OptionError(f"there is no option {name}; {hint}")
    given: dict[str, Any] = {
        name: str(value) if isinstance(value, PathLike) else value for name, value in asked.items()
    }
    if "budget" in given:
        given["budget"] = str(given["budget"])
    given |= {"model": str(model), "data": None if data is None else str(data)}
    try:
        # What is impossible is refused by the settings themselves, in the words of the command line.
        with suppress(TypeError):
            Settings(**given)
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        wrong, _, where = str(error).partition(" - at `$.")
        raise OptionError(f"{where.rstrip('`') or 'an option'} cannot be read: {wrong.lower()}") from None


def _plain(value: object) -> object:
    return str(value) if isinstance(value, PathLike) else value
