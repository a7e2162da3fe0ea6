"""Texts with deterministic splits, by the name of the data.

``find`` opens the tables of a data set for a look, ``load`` reads it, ``load_calibration`` reads only texts of it,
``match`` puts the labels into the order of a model, and ``sample`` draws rows. No function imports torch.
"""

from cahp.data.dataset import (
    Columns as Columns,
    Dataset as Dataset,
    Parts as Parts,
    guess_columns as guess_columns,
    guess_splits as guess_splits,
    match as match,
    sample as sample,
)
from cahp.data.sources import (
    BBC_NEWS as BBC_NEWS,
    MANUAL as MANUAL,
    CatalogueEntry as CatalogueEntry,
    catalogue as catalogue,
    find as find,
    known as known,
    load as load,
    load_calibration as load_calibration,
)
