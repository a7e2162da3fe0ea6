"""What evidence remembers is computed anew where its code is another."""

from __future__ import annotations

import importlib
from pathlib import Path

import fakes
import pytest

from cahp import models
from cahp.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = fakes.sentences(160, seed=3)


def test_what_changed_code_remembers_is_computed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = models.identify(str(fakes.save_model(tmp_path / "model")))
    file = tmp_path / "theirs_of_one_file.py"
    monkeypatch.syspath_prepend(str(tmp_path))

    def remember(code: str) -> float:
        file.write_text(f"import numpy as np\n\n\ndef make():\n    return np.array([{code}])\n")
        importlib.invalidate_caches()
        module = importlib.import_module("theirs_of_one_file")
        importlib.reload(module)
        evidence = fakes.evidence(card, TEXTS, Store(tmp_path / "store"))
        return float(evidence.cached("scores", module.make)[0])

    assert remember("1.0") == 1
    assert remember("-2.5") == -2.5
