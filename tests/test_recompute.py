"""What ships suffices to compute receipts, roles, the premise and calibration errors again, with NumPy alone."""

import json
from pathlib import Path

import numpy as np
import pytest

ASSETS = Path(__file__).parents[1] / "assets"
#: The two-sided 95 % quantiles of Student's t for five and six sequences.
T = {5: 2.7764, 6: 2.5706}


def read(path: str) -> dict:
    return json.loads((ASSETS / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["minilm-bbc", "smollm2"])
def test_receipts_follow_from_their_items(name: str) -> None:
    items = np.load(ASSETS / "abilities" / f"{name}.npz", allow_pickle=False)
    rows = read(f"runs/{name}/run.json")["abilities"]["rows"]
    measured = [row for row in rows if row["full"] is not None]
    assert len(measured) > 2
    for row in measured:
        full = items[f"{row['name']}/full"]
        assert len(full) == row["n"]
        assert items[f"{row['name']}/chance"].mean() == pytest.approx(row["chance"], abs=1e-6)
        for state in ("full", "pruned", "recovered"):
            values = items[f"{row['name']}/{state}"]
            verdict = row[state]
            if state != "full":
                scale = 1 + 99 * (verdict["difference"]["unit"] == "points")
                assert verdict["difference"]["value"] == pytest.approx(scale * (values - full).mean(), abs=2e-3)
                verdict = verdict["value"]
            assert verdict["value"] == pytest.approx(values.mean(), abs=2e-3)
        for state, loss in row["losses"].items():
            assert loss["value"] == pytest.approx(items[f"{row['name']}/losses/{state}"].mean(), abs=2e-3)


def test_costs_of_roles_follow_from_their_sequences_and_sets() -> None:
    # An entry begins with its checksum and a line of JSON.
    entries = [path.read_bytes()[32:].split(b"\n", 1)[0] for path in (ASSETS / "results").glob("*.entry")]
    records = [json.loads(head)["meta"] for head in entries]
    (roles,) = [meta for meta in records if meta.get("ablations")]
    for row in roles["ablations"]:
        for name, rises in row["sequences"].items():
            half = T[len(rises)] * np.std(rises, ddof=1) / len(rises) ** 0.5
            assert row[name]["value"] == pytest.approx(np.mean(rises), abs=1e-5)
            assert row[name]["ci95"] == pytest.approx([np.mean(rises) - half, np.mean(rises) + half], abs=5e-4)
        if row["p"] is not None:
            assert row["random"]["value"] == pytest.approx(np.mean(row["losses"]), abs=1e-5)
            as_costly = sum(np.array(row["losses"]) >= np.mean(row["sequences"]["without"]) - 1e-5)
            assert row["p"] == pytest.approx((1 + as_costly) / (1 + len(row["losses"])))


@pytest.mark.parametrize("name", ["minilm-bbc", "minilm-sst5", "smollm2"])
def test_the_premise_follows_from_the_values_of_heads_and_pairs(name: str) -> None:
    document = read(f"premise/{name}.json")
    heads, pairs = ({key: np.array(value) for key, value in part.items()} for part in document["values"].values())
    first, second = pairs["first"], pairs["second"]
    assert document["alone"]["value"] == pytest.approx(heads["kl"].mean(), rel=1e-4)
    costs = np.maximum(heads["kl"], 1e-3 * heads["kl"].mean())
    joint = pairs["kl"] - heads["kl"][first] - heads["kl"][second]
    interaction = joint / np.sqrt(costs[first] * costs[second])
    # Pairs of one cluster are compared with others of the same two strata, weighted by the former.
    within = heads["cluster"][first] == heads["cluster"][second]
    strata = np.sort([heads["stratum"][first], heads["stratum"][second]], axis=0)
    sums = np.zeros(3)
    for stratum in np.unique(strata, axis=1).T:
        inside = (stratum == strata.T).all(axis=1)
        if (inside & within).any() and (inside & ~within).any():
            own = interaction[inside & within]
            sums += len(own), own.sum(), len(own) * interaction[inside & ~within].mean()
    means = sums[1:] / sums[0]
    assert document["interaction"]["within"]["n"] == sums[0]
    assert document["interaction"]["within"]["value"] == pytest.approx(means[0], abs=1e-3)
    assert document["interaction"]["between"]["value"] == pytest.approx(means[1], abs=1e-3)
    assert document["interaction"]["difference"]["value"] == pytest.approx(means[0] - means[1], abs=1e-3)


def test_calibration_errors_follow_from_the_confidence_of_predictions() -> None:
    away = []
    for path in sorted((ASSETS / "compare").glob("*/compare.npz")):
        arrays = np.load(path, allow_pickle=False)
        cells = json.loads(path.with_name("compare.json").read_text(encoding="utf-8"))["cells"]
        for part in ("eval", "report"):
            if f"{part}_confidence" not in arrays:
                continue
            right = arrays[f"{part}_predictions"] == arrays[f"{part}_labels"]
            confidence = arrays[f"{part}_confidence"].astype(float)
            for recovered in (one for cell in cells for one in cell["recoveries"].values()):
                own = confidence[recovered["row"]]
                bins = np.minimum((own * 15).astype(int), 14)
                gaps = np.bincount(bins, weights=own - right[recovered["row"]], minlength=15)
                away.append(abs(recovered[part]["ece"] - np.abs(gaps).sum() / len(own)))
    # Confidence ships in 16 bits, so a text at the edge of a bin may be in the next one.
    assert len(away) > 100
    assert max(away) < 1e-2
    assert np.mean(away) < 1e-3
