"""The types of the keywords of ``cahp.prune`` and others, for editors. ``assets/guide.py`` writes this file."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from cahp.methods.shared.registry import Method
from cahp.models.cards import Dtype
from cahp.run.settings import Salience
from cahp.stages.clustering import Projection
from cahp.stages.selection import Representative
from cahp.tasks.answers import Beginning


class DataOptions(TypedDict, total=False):
    """Options of what compares methods or trains a classifier."""

    sample: Literal["stratified", "head"]
    eval_split: str
    window: int
    stride: int | None
    bos: Beginning
    tokens: int
    mix: str
    eval_tokens: int
    max_length: int | None
    min_per_layer: int
    min_first_layers: int
    even: bool
    report: str | None
    device: str
    dtype: Dtype
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    splits: Mapping[str, str]
    documents: Literal["paragraph", "line"]
    label_map: Mapping[str, str]
    prompt: str | None
    answers: Sequence[str]


class ModelOptions(DataOptions, total=False):
    """Options of what is done with a model and a mask."""

    limit: int | None
    eval_limit: int | None
    recover_data: str | None
    recover_time: str | float | None
    bypass_rank: int | None
    labels: bool
    seed: int
    precision: Literal["auto", "float32", "bfloat16"]
    latency: bool
    latency_time: str | float
    abilities: bool | None


class Options(ModelOptions, total=False):
    """Options of a run besides its model and data; ``cahp.Settings`` has the defaults."""

    method: str | Method | type[Method]
    select_split: str
    budget: str | int
    goal: str | None
    pool_size: int
    poly_degree: int
    projection: Projection
    salience: Salience
    representative: Representative
    select_time: str | float | None
    recover: str
    neutral_data: str | None
    roles: bool
    measure: Sequence[str]
