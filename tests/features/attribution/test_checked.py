from __future__ import annotations

import pytest
from _attribution_check import list_findings, read_bundled_checks

from cahp.api import bundled
from cahp.features.attribution.measuring import find_baseline
from cahp.features.attribution.result import find_check, read_check
from cahp.models import identify
from cahp.ui.session.opening import Source

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_shipped_checks_are_of_fifty_texts_and_beat_random_heads() -> None:
    checks = {check.model: check for check in read_bundled_checks().values()}
    assert set(checks) == {"minilm-bbc", "smollm2"}
    for name, check in checks.items():
        bench = Source.open(bundled.RUNS[name]).bench
        card = bench.card
        assert (check.sha256, check.units, len(check.texts)) == (card.identity, card.layers * card.heads, 50)
        assert check.baseline == str(find_baseline(bench))
        assert check.made is not None
        assert read_check(card.identity) == list(list_findings(check))
        # Without the top heads the answer loses more than without random ones.
        assert all(gap.high < 0 for _, _, gap in map(check.removed, range(3)))


def test_a_check_stands_beside_the_comparison_of_its_model() -> None:
    comparisons, _ = bundled.read_comparisons(bundled.comparisons_folder())
    claims = {one.name: find_check(one.comparison.document) for one in comparisons}
    claim = claims["minilm-bbc"]
    assert claim is not None
    assert [vars(line)["text"] for line in claim.show()] == read_check(identify("minilm-bbc").identity)
    assert claims["minilm-sst5"] is None
