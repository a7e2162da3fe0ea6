"""Comparisons that ship with the package; the bundled run is held against its table in ``studies``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from comparisons import varied

from cahp import bundled
from cahp.compare.opening import read
from cahp.values import CahpError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison as ``cahp compare --out`` leaves it."""
    varied().write(tmp_path / "out")
    return tmp_path / "out"


def test_a_bundled_comparison_keeps_no_answers_and_says_machine_and_day(folder: Path, tmp_path: Path) -> None:
    os.utime(folder / "compare.json", (0, 86_400 * 365.25 * 50))
    place = bundled.bundle_comparison(folder, tmp_path / "there" / "one", machine="An abacus")
    assert sorted(path.name for path in place.iterdir()) == ["compare.json", "made.json"]
    (one,), broken = bundled.comparisons(tmp_path / "there")
    assert (one.name, one.made) == ("one", {"machine": "An abacus", "date": "2020-01-01"})
    assert broken == []
    assert one.comparison.reading.means == read(folder).reading.means


def test_what_is_no_comparison_is_not_bundled(tmp_path: Path) -> None:
    with pytest.raises(CahpError, match="cannot be read"):
        bundled.bundle_comparison(tmp_path, tmp_path / "there", machine="An abacus")
    assert not (tmp_path / "there").exists()


def test_a_comparison_that_was_replaced_is_read_again_and_a_broken_one_named(folder: Path, tmp_path: Path) -> None:
    place = bundled.bundle_comparison(folder, tmp_path / "there" / "one", machine="An abacus")
    assert bundled.comparisons(tmp_path / "there")[1] == []
    (place / "compare.json").write_text("{}")
    os.utime(place / "compare.json", (1, 1))
    found, (sentence,) = bundled.comparisons(tmp_path / "there")
    assert found == []
    assert sentence.startswith("The bundled comparison one cannot be shown: ")


def test_every_bundled_comparison_can_be_read_and_says_where_it_was_measured() -> None:
    found, broken = bundled.comparisons(bundled.comparisons_folder())
    assert broken == []
    assert {one.name for one in found} >= {"minilm-sst5", "minilm-mnli"}
    assert all(one.made["machine"] and one.made["date"] for one in found)
    assert all("CAHP" not in one.comparison.reading.methods for one in found)
