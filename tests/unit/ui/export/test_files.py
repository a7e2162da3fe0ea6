from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from cahp.exports.masks import MaskOrigin, mask_csv
from cahp.ui.export.page import list_measures
from cahp.values import HeadMask


def test_the_csv_file_has_the_measures_that_are_known() -> None:
    known: Any = SimpleNamespace(
        clusters=SimpleNamespace(salience=np.array([[0.5, 0.25]])),
        replaceable_shares=np.array([[0.75, np.nan]]),
        roles=SimpleNamespace(columns={"role": ["induction", "none"]}),
    )
    file = mask_csv(HeadMask.of([0], 1, 2), MaskOrigin("tiny", "hand", {}, columns=list_measures(known)))
    assert file.decode().split() == [
        "layer,head,kept,salience,replaceability,role",
        "0,0,1,0.5,0.75,induction",
        "0,1,0,0.25,,none",
    ]
    nothing: Any = SimpleNamespace(clusters=None, replaceable_shares=None, roles=None)
    assert list_measures(nothing) == {}
