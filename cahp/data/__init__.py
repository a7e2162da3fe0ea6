"""A data name in, labelled texts with deterministic splits out.

``load`` reads (``read_inputs`` texts alone), ``match`` brings the labels into a model's order, ``sample`` draws the
rows to work on. Nothing here imports torch or transformers; pyarrow and datasets are imported only by the sources that
need them.
"""

from cahp.data.dataset import Dataset
from cahp.data.labels import match, parse_answers, parse_label_map
from cahp.data.rawsplit import RawSplit
from cahp.data.sampling import sample
from cahp.data.sources import CatalogueEntry, catalogue, known, load, read_inputs

__all__ = [
    "CatalogueEntry",
    "Dataset",
    "RawSplit",
    "catalogue",
    "known",
    "load",
    "match",
    "parse_answers",
    "parse_label_map",
    "read_inputs",
    "sample",
]
