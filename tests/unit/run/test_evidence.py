"""The keys of stored evidence: every setting but those without effect, and the code of what is remembered."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import fakes
import numpy as np
import pytest

from cahp import models
from cahp.run.evidence import HeadEvidence
from cahp.run.options import option
from cahp.run.settings import Settings, describe
from cahp.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = fakes.sentences(160, seed=3)


@dataclass(frozen=True)
class More(Settings):
    """The settings with an option that no key knows."""

    dropout: int = option(0, "Dropout in per cent.", high=90)


@pytest.fixture
def more_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("cahp.run.settings.Settings", More)
    describe.cache_clear()
    yield
    describe.cache_clear()


@pytest.mark.usefixtures("more_settings")
def test_with_another_value_of_a_new_option_all_evidence_is_gathered_anew(tmp_path: Path) -> None:
    card = models.identify(str(fakes.save_model(tmp_path / "model")))
    unlabelled = replace(TEXTS, labels=np.full(len(TEXTS), -1, dtype=np.int64))

    def count_entries(dropout: int) -> int:
        settings = More(pool_size=8, projection="pca", dropout=dropout)
        store = Store(tmp_path / "store")
        evidence = HeadEvidence(fakes.resources(card, store), unlabelled, settings)
        assert evidence.null_curves is not None
        assert evidence.clustering.knee >= 0
        assert evidence.salience.shape == (3, 4)
        assert evidence.moments.tokens
        assert evidence.remembered("zeros", lambda: np.zeros(1)).tolist() == [0]
        return len(list(store.folder.glob("*.entry")))

    # Classes, signatures, gradients, moments, space, clusters, null curves, and what a method remembers.
    assert count_entries(1) == 8
    assert count_entries(1) == 8
    assert count_entries(2) == 16


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
        return float(evidence.remembered("scores", module.make)[0])

    assert remember("1.0") == 1
    assert remember("-2.5") == -2.5
