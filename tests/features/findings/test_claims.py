"""Results of experiments on screen: claims on Compare, and a sentence on Budget."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _premise_power import conclude_difference, measure_power
from _premise_test import count_compared, permute_labels, scale_interactions, stratify, stratify_pairs, weigh_means
from _premise_words import MEASURES, describe_control, describe_test, show
from comparisons import varied
from scipy.stats import spearmanr

from cahp.features import findings
from cahp.features.findings import premise_folder
from cahp.models import assets
from cahp.show.blocks import Text

PEERS = (assets() / "compare" / "smollm2" / "peers.json").read_text()
SHA256 = json.loads(PEERS)["sha256"]


def test_a_bundled_result_is_of_exactly_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings.models, "assets", lambda: tmp_path)
    assert findings.read_peers("smollm2", "abc") is None
    file = tmp_path / "compare" / "smollm2" / "peers.json"
    file.parent.mkdir(parents=True)
    file.write_text(PEERS.replace(SHA256, "abc"))
    assert findings.read_peers("smollm2", "abc") is not None
    assert findings.read_peers("smollm2", "another") is None
    assert findings.read_peers("../smollm2", "abc") is None


def test_the_finding_is_first_and_the_table_has_every_row() -> None:
    document = varied().document
    model = replace(document.model, id="smollm2", sha256=SHA256)
    found = findings.find_peers(replace(document, protocols={}, model=model))
    finding, *_, table = found.show()
    assert "is nearest to the full model at as few bytes" in finding.text
    assert len(table.rows) > 8
    missing = findings.find_peers(replace(document, protocols={}))
    assert "cahp experiment peers tiny" in next(text.text for text in missing.show() if isinstance(text, Text))
    assert findings.find_peers(document) is None


DOCUMENTS = {
    file.relative_to(premise_folder()).as_posix(): json.loads(file.read_text("utf-8"))
    for file in sorted(premise_folder().rglob("*.json"))
}
MEASURED = {name: document for name, document in DOCUMENTS.items() if "values" in document}


@pytest.mark.parametrize("name", MEASURED)
def test_the_difference_and_its_p_value_follow_from_the_values(name: str) -> None:
    document = MEASURED[name]
    heads, pairs = document["values"]["heads"], document["values"]["pairs"]
    costs, labels, strata = (np.array(heads[key]) for key in ("kl", "cluster", "stratum"))
    first, second = np.array(pairs["first"]), np.array(pairs["second"])
    assert np.array_equal(stratify(costs, document["heads"] // {72: 6, 90: 30}[document["heads"]]), strata)
    values = scale_interactions(costs, np.array(pairs["kl"]), first, second)
    within = labels[first] == labels[second]
    of_pair = stratify_pairs(strata, first, second)
    interaction = document["interaction"]
    interval = interaction["difference"]["ci95"]
    means = weigh_means(values, within, np.ones(len(first)), of_pair)
    for part, value in zip(("within", "between", "difference"), means, strict=True):
        assert value == pytest.approx(interaction[part]["value"], abs=2e-3)
    counts = count_compared(within, of_pair)
    assert {part: interaction[part]["n"] for part in counts} == counts
    p = permute_labels(values, first, second, labels, strata, random=np.random.default_rng(1))
    assert p == pytest.approx(interaction["difference"]["p"], abs=0.02)
    assert document["verdict"] == conclude_difference(interaction["difference"], document["power"])
    # No finding stands beside an interval that contains zero.
    assert document["verdict"] in {"not significant", "cannot tell"} or interval[0] * interval[1] > 0
    per_layer = {72: 12, 90: 3}[document["heads"]]
    halves = np.array((document["control"] or {"interactions": [2.0]})["interactions"])
    options = {"heads": per_layer, "halves": halves, "interval": interval, "seed": 42}
    assert measure_power(values, first, second, labels, strata, **options) == document["power"]


@pytest.mark.parametrize("name", [name for name, document in MEASURED.items() if "refitted" in document])
def test_the_rank_correlations_with_the_cost_after_the_refit_follow_from_the_values(name: str) -> None:
    document = MEASURED[name]
    heads = document["values"]["heads"]
    for predictor in (*MEASURES, "mean"):
        expected = spearmanr(heads[predictor], heads["kl_refitted"]).statistic
        assert document["refitted"][predictor]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name in MEASURED if MEASURED[name]["control"] is not None])
def test_the_bundled_positive_control_is_found(name: str) -> None:
    control = MEASURED[name]["control"]
    assert control["in_one_cluster"] > 2 * control["by_chance"]
    assert len(control["interactions"]) == control["divided"]
    assert np.mean(control["interactions"]) > 1
    assert control["salience_difference"] < 0.01
    assert sum(control["kept"].values()) == control["divided"]


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_shown_follows_from_the_document(name: str) -> None:
    document = MEASURED[name]
    assert document["shown"] == show(document)
    page = " ".join((assets() / "docs/results/premise.md").read_text("utf-8").split())
    assert f"`{document['model']}`: {describe_test(document)}" in page
    assert document["control"] is None or describe_control(document) in page
