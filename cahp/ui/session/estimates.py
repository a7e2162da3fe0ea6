"""How long the work of a page takes on this machine: what is known before it begins, by stage."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from cahp.api.preflight import STEP_TOKENS, estimate_seconds, timed_tokens
from cahp.board.budget_sweep import BudgetTable, count_tokens
from cahp.features import measures
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.measures import list_wanted
from cahp.tasks.texts import Texts
from cahp.ui.session.opening import is_loaded
from cahp.ui.session.time_left import Part, Plan, total_seconds

#: Seconds of importing PyTorch and verifying a model, and bytes of weights that are converted and read in a second.
_FIRST_S = 4.0
_BYTES_PER_S = 3e7
#: Passes over the calibration texts: of salience, with gradients through a part of them, and of attention maps.
_SALIENCE = 0.6
_SIGNATURES = 0.7
#: Seconds of projecting and clustering the heads, and of clustering unstructured data beside them (4 to 7 by machine).
_PROJECTION_S = 1.5
_UNSTRUCTURED_S = 5.5

#: Tokens by texts: every page that offers a run estimates its time again.
_tokens: WeakKeyDictionary[Texts, float] = WeakKeyDictionary()


def _count_tokens(texts: Texts) -> float:
    """Count or estimate the tokens of texts, once."""
    if texts not in _tokens:
        _tokens[texts] = texts.tokens
    return _tokens[texts]


def loading_seconds(bench: Bench) -> float | None:
    """Estimate the seconds until the model of a bench is in memory and verified (None: it is)."""
    if is_loaded(bench.card, device=bench.settings.device):
        return None
    return _FIRST_S + int((bench.card.details or {}).get("bytes", 0)) / _BYTES_PER_S


def pass_seconds(bench: Bench, *, calibration: float = 0, evaluation: float) -> float:
    """Estimate the seconds of so many passes over the calibration texts and the evaluation texts."""
    tokens = calibration * _count_tokens(bench.calibration) + evaluation * _count_tokens(bench.evaluation)
    return estimate_seconds(bench.card, tokens=int(tokens))


def _plan_recovery(bench: Bench, recover: str) -> Plan:
    """Plan the stages of a recovery."""
    recovery = RECOVERIES[recover]
    texts = len(bench.calibration)
    parts: list[Part] = []
    for stage, passes in recovery.stages(texts, can_refit=not bench.card.no_refit).items():
        parts.append(Part(stage, pass_seconds(bench, calibration=passes / texts, evaluation=0)))
    if recovery.timed:
        parts[-1] = Part(parts[-1].stage, min(bench.settings.recover_seconds, parts[-1].seconds))
    return parts


def plan_recovery(bench: Bench, recover: str) -> Plan:
    """Plan loading the model, a recovery, and the evaluation after it."""
    load = Part("load", loading_seconds(bench) or 0.0)
    return [load, *_plan_recovery(bench, recover), Part("evaluation", pass_seconds(bench, evaluation=1))]


def recovery_seconds(bench: Bench, recover: str) -> float:
    """Estimate the seconds of a recovery, with loading the model before it and the evaluation after it."""
    return total_seconds(plan_recovery(bench, recover))


def table_seconds(bench: Bench, table: BudgetTable) -> float:
    """Estimate the seconds of measuring what a table of budgets lacks, with loading the model before it."""
    calibration = _count_tokens(bench.calibration)
    tokens = count_tokens(table, bench, calibration=calibration, evaluation=_count_tokens(bench.evaluation))
    return (loading_seconds(bench) or 0.0) + estimate_seconds(bench.card, tokens=tokens)


def count_models(recover: str) -> int:
    """Return how many models are measured: the full one, the pruned one, and that after a recovery."""
    if recover == NONE.name:
        return 2
    return 3


def plan_run(bench: Bench) -> Plan:
    """Plan a run: choosing, timing, recovery, evaluation, and what stands beside the outcomes."""
    settings = bench.settings
    card = bench.card
    models = count_models(settings.recover)
    choosing = pass_seconds(bench, calibration=1, evaluation=0)
    evaluation = pass_seconds(bench, evaluation=1)
    parts = [
        Part("load", loading_seconds(bench) or 0.0),
        Part("salience", _SALIENCE * choosing),
        Part("signatures", _SIGNATURES * choosing),
        Part("projection", _PROJECTION_S),
    ]
    if settings.latency:
        length = _count_tokens(bench.evaluation) / max(1, len(bench.evaluation))
        parts.append(Part("latency", estimate_seconds(card, tokens=timed_tokens(card, length))))
    parts += _plan_recovery(bench, settings.recover)
    parts += [Part("evaluation", evaluation)] * models
    if settings.budget == "auto" and settings.goal is None:
        parts.append(Part("unstructured", _UNSTRUCTURED_S))
    for one, options in list_wanted(measures(), bench):
        tokens = one.tokens(bench, options) + STEP_TOKENS * one.generated
        parts.append(Part(one.name, models * estimate_seconds(card, tokens=int(tokens))))
    return parts


def run_seconds(bench: Bench) -> float:
    """Estimate the seconds of a run."""
    return total_seconds(plan_run(bench))
