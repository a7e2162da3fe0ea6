"""The file ``table.json`` beside a run: the measurements of all budgets, schema ``cahp.table/2``.

Each measurement names the digest of its mask, so that the table of another run is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cahp.board.budget_sweep import BudgetTable, Speed
from cahp.board.head_clusters import HeadClusters
from cahp.outcomes import Outcomes, main_outcome
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import RunDocument
from cahp.values import CahpError, Estimate, digest

TABLE_SCHEMA = "cahp.table/2"
TABLE_FILE = "table.json"


def table_json(table: BudgetTable, run: RunDocument) -> dict[str, Any]:
    """Return the content of ``table.json``."""
    rows = table.as_json()
    measured = sorted({int(budget) for kind in ("outcomes", "speed") for budget in rows[kind]})
    return {
        "schema": TABLE_SCHEMA,
        "of": _of(run),
        "masks": {str(budget): table.selection(budget).mask.sha256 for budget in measured},
        "rows": rows,
    }


def table_of(
    run: RunDocument,
    clusters: HeadClusters,
    content: Mapping[str, Any] | None = None,
    *,
    quicker: BudgetTable | None = None,
) -> BudgetTable:
    """Build the table of a run's budgets from the ``content`` of ``table.json`` and the run's own measurements.

    Estimates rest on the table after a ``quicker`` recovery, if there is one.

    Raises:
        CahpError: If ``content`` is no such table.
    """
    recover = run.settings.recover if "recovered" in run.outcomes else NONE.name
    with _reading():
        if content is not None and content["of"] != _of(run):
            content = None
        if content is not None:
            recover = content["rows"]["recover"]
    # Other models take too long to be swept.
    if recover not in RECOVERIES or not RECOVERIES[recover].swept:
        recover = NONE.name
    table = BudgetTable(clusters.selections(run.settings), recover=recover, timed=run.saves == "time", quicker=quicker)
    if not table.budgets:
        most = max(run.settings.min_per_layer, run.settings.min_first_layers)
        raise CahpError(
            f"The run keeps at least {most} heads in a layer, but its model has fewer. Prune the model again."
        )
    if content is not None:
        with _reading():
            ours = {str(selection.mask.count): selection.mask.sha256 for selection in table.selections}
            if content["masks"].items() <= ours.items():
                table.fill_from(content["rows"])
    enter_full(table, run)
    if table.has(run.mask):
        table.add(run.mask.count, outcomes=own_outcomes(run, table.recover), speed=own_speed(run))
    return table


def enter_full(table: BudgetTable, run: RunDocument) -> None:
    """Enter the full model's outcomes, which agrees with itself on every text."""
    full = run.outcomes["full"]
    n = main_outcome(full)[1].n
    same = {"agreement": Estimate(1.0, (1.0, 1.0), n, "share")}
    if "accuracy" in full:
        same["accuracy_change"] = Estimate(0.0, (0.0, 0.0), n, "points")
    if "kl" in run.outcomes.get("pruned", {}):
        same["kl"] = Estimate(0.0, (0.0, 0.0), n, "nats")
    table.add(table.budgets[-1], outcomes={**full, **same})


def own_outcomes(run: RunDocument, recover: str) -> Outcomes | None:
    """Return the outcomes of the run's own mask after a recovery (None: not measured)."""
    if recover == NONE.name:
        return run.outcomes.get("pruned")
    if recover == run.settings.recover:
        return run.outcomes.get("recovered")
    return None


def own_speed(run: RunDocument) -> Speed | None:
    """Return the latency of the run's own mask (None: not measured)."""
    ratio = run.latency_ratio
    if ratio is None:
        return None
    return Speed.of(ratio, run.cost.full, run.cost.pruned)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CahpError(f"{TABLE_FILE} is broken; write it again with `cahp prune --sweep --out`.") from None


def _of(run: RunDocument) -> dict[str, str]:
    """What the figures of a run's budgets depend on, besides their masks."""
    settings = run.settings
    recovery = (run.data.select.sha256, settings.recover_data, settings.recover_time, settings.labels, settings.seed)
    return {"model": run.model.sha256, "eval": run.data.eval.sha256, "recovery": digest(*map(str, recovery))}
