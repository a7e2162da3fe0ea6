from __future__ import annotations

from documents import answers

from cahp.stages.evaluation import better_labelling


def test_a_permuted_labelling_is_noticed_and_says_what_to_map() -> None:
    labels = [0, 1, 2] * 20
    permuted = answers([[2, 0, 1][label] for label in labels], labels, classes="abc")
    found = better_labelling(permuted)
    assert found is not None
    assert found[0] == 1.0
    assert found[1] == {"a": "c", "b": "a", "c": "b"}
