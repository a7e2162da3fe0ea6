from __future__ import annotations

from dataclasses import replace

import numpy as np
from comparisons import made, varied

from cahp.ui.compare import claims, results


def test_seconds_stand_beside_the_number_of_seeds_and_masks_that_they_are_the_mean_of() -> None:
    right = np.ones(8, dtype=np.bool_)
    # Chance does not touch one of them: a second seed would keep the same.
    found = made({"complementary": [right, right], "gradient": [right]}).results
    assert results.cost_table(found, ["complementary", "gradient"], "none")["n (seeds)"] == [2, 1]
    twice = results.cost_table(varied().results, ["gradient"], "refit")
    # Two budgets and two seeds.
    assert (twice["Refit (s)"], twice["n (refit)"]) == ([1.5], [4])


def test_a_method_that_was_not_measured_at_every_budget_says_so_where_others_have_their_mean() -> None:
    found = varied().results_on("eval", "accuracy")
    found = replace(found, areas={key: area for key, area in found.areas.items() if "gradient" not in key})
    said = results.cost_table(found, ["gradient", "random"], "none")["Accuracy"]
    assert said[0] == "some budgets only"
    assert said[1].endswith(")")


def test_what_a_claim_draws_is_one_other_or_several() -> None:
    found = varied().results
    drawn = [claims._describe_drawn(found, (found.against, "random", *others)) for others in (("a",), ("a", "b"))]
    assert ["the best other and" in drawn[0], "the 2 best others and" in drawn[1]] == [True, True]


def test_where_all_keep_the_same_layers_nobody_is_nearest_to_an_end() -> None:
    assert results._depth_title({"complementary": 1.0, "random": 1.0}, even=0.5) == (
        "All keep heads of mean layer 1.0; an even spread has 0.5"
    )
    assert "gradient nearest the input (0.5)" in results._depth_title({"complementary": 1.0, "gradient": 0.5}, even=0.5)
