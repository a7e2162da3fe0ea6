"""How long the work of a page takes on this machine, in seconds: what is known before it begins."""

from __future__ import annotations

from cahp.api import preflight
from cahp.api.preflight import STEP_TOKENS, count_models
from cahp.board.budget_sweep import BudgetTable, count_tokens
from cahp.features import measures
from cahp.run.bench import Bench
from cahp.run.measures import list_wanted
from cahp.run.pace import estimate_seconds
from cahp.ui.session.opening import is_loaded


def loading_seconds(bench: Bench) -> float:
    """Estimate the seconds until the model of a bench is in memory and verified."""
    if is_loaded(bench.card, device=bench.settings.device):
        return 0.0
    return preflight.loading_seconds(bench.card)


def pass_seconds(bench: Bench, *, calibration: float = 0, evaluation: float) -> float:
    """Estimate the seconds of so many passes over the calibration texts and the evaluation texts."""
    tokens = calibration * bench.calibration.tokens + evaluation * bench.evaluation.tokens
    return estimate_seconds(bench.card, tokens=tokens)


def recovery_seconds(bench: Bench, recover: str) -> float:
    """Estimate the seconds of a recovery, with loading the model before it and the evaluation after it."""
    tokens = bench.calibration.tokens
    texts = len(bench.calibration)
    recovering = preflight.recovery_seconds(bench.card, bench.settings, recover, tokens=tokens, texts=texts)
    return loading_seconds(bench) + recovering + pass_seconds(bench, evaluation=1)


def table_seconds(bench: Bench, table: BudgetTable) -> float:
    """Estimate the seconds of measuring what a table of budgets lacks, with loading the model before it."""
    calibration = bench.calibration.tokens
    tokens = count_tokens(table, bench, calibration=calibration, evaluation=bench.evaluation.tokens)
    return loading_seconds(bench) + estimate_seconds(bench.card, tokens=tokens)


def run_seconds(bench: Bench) -> float:
    """Estimate the seconds of a run, with loading the model before it."""
    evaluation = bench.evaluation.tokens
    seconds = preflight.run_seconds(
        bench.card,
        bench.settings,
        calibration=bench.calibration.tokens,
        evaluation=evaluation,
        texts=len(bench.calibration),
        length=evaluation / max(1, len(bench.evaluation)),
    )
    tokens = 0.0
    for one, options in list_wanted(measures(), bench):
        tokens += one.tokens(bench, options) + STEP_TOKENS * one.generated
    models = count_models(bench.settings.recover)
    return loading_seconds(bench) + seconds + estimate_seconds(bench.card, tokens=models * tokens)
