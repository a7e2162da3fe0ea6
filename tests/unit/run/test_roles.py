"""Roles and their ablations are measured once, and an interrupted ablation goes on."""

from pathlib import Path

import copying
import fakes
import pytest

from cahp import models
from cahp.run.evidence import find_roles, stored_roles
from cahp.store import Store
from cahp.values import Cancelled


def test_an_interrupted_ablation_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cahp.stages import roles as stage

    card = models.identify(str(copying.save_copying_model(tmp_path / "model")))
    store = Store(tmp_path / "store")
    measured: list[int] = []
    compute = stage._losses

    def stop_at_the_second_call(*given: object) -> object:
        measured.append(len(given[2]))
        if len(measured) == 2:
            raise Cancelled
        return compute(*given)

    monkeypatch.setattr(stage, "_losses", stop_at_the_second_call)
    monkeypatch.setattr(stage, "_KEPT_TOGETHER", 3)
    with pytest.raises(Cancelled):
        find_roles(fakes.resources(card, store), ablate=True)
    # The full model, and the two sets of each role, in two parts.
    assert measured == [2, 1]
    roles = find_roles(fakes.resources(card, store), ablate=True)
    # The sets of the third role are those of the second: they are in the same layer.
    assert measured == [2, 1, 1, 2, 1]
    assert [one.role for one in roles.ablations or ()] == ["induction", "previous", "first"]
    assert all(one.corrected is not None for one in roles.ablations or ())
    assert stored_roles(fakes.resources(card, store), ablate=True) == roles
