"""A data name in, labelled texts with deterministic splits out.

``find`` finds the tables of data, to look at before one says which column is what; ``load`` reads (``read_inputs``
texts alone), ``match`` brings the labels into a model's order, ``sample`` draws the rows to work on. Nothing here
imports torch or transformers; pyarrow and datasets are imported only by the sources that need them.
"""

from cahp.data.dataset import Dataset
from cahp.data.labels import match, parse_answers, parse_label_map, parse_splits
from cahp.data.parts import Parts, guess_columns, guess_splits
from cahp.data.rawsplit import Columns, RawSplit
from cahp.data.sampling import sample
from cahp.data.sources import CatalogueEntry, catalogue, find, known, load, read_inputs

__all__ = [
    "CatalogueEntry",
    "Columns",
    "Dataset",
    "Parts",
    "RawSplit",
    "catalogue",
    "find",
    "guess_columns",
    "guess_splits",
    "known",
    "load",
    "match",
    "parse_answers",
    "parse_label_map",
    "parse_splits",
    "read_inputs",
    "sample",
]
