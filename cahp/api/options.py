"""What can be asked for by keyword: the fields of ``Settings``, as Python's own types."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict

from cahp.run.settings import Salience, Settings, describe
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
    recover_time: str | float | None
    labels: bool
    latency_time: str | float
    precision: Literal["auto", "float32", "bfloat16"]


def settings_of(model: Name, data: Name | None, **options: Any) -> Settings:
    """The settings of these options; names may be paths, and numbers are accepted where ``Settings`` accepts them.

    Raises:
        OptionError: If an option is unknown, or its value invalid.
    """
    known = list(describe())
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
            raise OptionError(f"there is no option {name}; {hint}")
    return Settings(model=model, data=data, **options)  # type: ignore[arg-type]
