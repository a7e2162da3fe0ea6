"""A comparison as a person asks for it: a preset, and what is given otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cahp.comparison.plan import PLAIN, PRESETS, Plan, parse_seeds, split
from cahp.run.settings import Settings
from cahp.values import OptionError

#: A list of methods, budgets or recoveries: parts with commas between them as a command line has them, or themselves.
Listed = str | Iterable[str | int] | None


def asked(
    settings: Settings,
    *,
    preset: str | None = None,
    methods: Listed = None,
    budgets: Listed = None,
    seeds: str | int | Iterable[int] | None = None,
    recover: Listed = None,
    limit: int | None = None,
    eval_limit: int | None = None,
    tries: int = 1,
) -> Plan:
    """What is asked for: a preset (``quick`` unless methods are named), and what is given otherwise.

    Raises:
        OptionError: If the preset is unknown, or a list cannot be read.
    """
    name = preset or ("quick" if methods is None else None)
    if name is not None and name not in PRESETS:
        raise OptionError(f"--preset {name} is unknown; choose one of {', '.join(PRESETS)}")
    start = PLAIN if name is None else PRESETS[name]
    return Plan(
        replace(
            settings,
            limit=start.limit if limit is None else limit,
            eval_limit=start.eval_limit if eval_limit is None else eval_limit,
        ),
        methods=start.methods if methods is None else _parts(methods),
        budgets=start.budgets if budgets is None else _parts(budgets),
        seeds=start.seeds if seeds is None else _seeds(seeds),
        recoveries=start.recoveries if recover is None else _parts(recover),
        tries=tries,
        draws=start.draws,
        recovered_draws=start.recovered_draws,
        learned_budgets=start.learned_budgets if budgets is None else None,
        distilled_budgets=start.distilled_budgets if budgets is None and recover is None else None,
        finetuned_budgets=start.finetuned_budgets if budgets is None and recover is None else None,
        trained=start.trained if methods is None and recover is None else None,
        few_seeds=start.few_seeds if seeds is None else (),
    )


def _parts(listed: str | Iterable[str | int]) -> tuple[str, ...]:
    return split(listed) if isinstance(listed, str) else tuple(map(str, listed))


def _seeds(said: str | int | Iterable[int]) -> tuple[int, ...]:
    return parse_seeds(str(said)) if isinstance(said, str | int) else tuple(said)
