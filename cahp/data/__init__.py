"""Texts with deterministic splits, by the name of the data.

``find`` opens the tables of a data set for a look, ``load`` reads it, ``load_calibration`` reads only texts of it,
``match`` puts the labels into the order of a model, and ``sample`` draws rows. No function imports torch.
"""

from cahp.data.dataset import Columns, Dataset, Parts, guess_columns, guess_splits, match, sample
from cahp.data.sources import (
    BBC_NEWS,
    MANUAL,
    CatalogueEntry,
    catalogue,
    find,
    known,
    load,
    load_calibration,
)

__all__ = [
    "BBC_NEWS",
    "MANUAL",
    "CatalogueEntry",
    "Columns",
    "Dataset",
    "Parts",
    "catalogue",
    "find",
    "guess_columns",
    "guess_splits",
    "known",
    "load",
    "load_calibration",
    "match",
    "sample",
]
