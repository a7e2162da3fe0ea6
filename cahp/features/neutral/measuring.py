"""Narrow or broad? A mask that was chosen on one task, evaluated on neutral text.

Heads are chosen a second time, on the neutral text, as many and by the same method. Both masks are then compared on
neutral texts that chose neither: what the task's choice costs more there is the price of choosing on the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cahp import methods
from cahp.features.neutral.texts import load_neutral
from cahp.outcomes import HEADLINES, Outcomes, estimate_mean, finite, measure
from cahp.run.bench import Bench, open_bench
from cahp.run.settings import COLUMNS, Settings
from cahp.values import Estimate, HeadMask, OptionError

#: Texts of a classifier that choose heads, at most.
_CALIBRATION = 400
#: Those that evaluate them, at most.
_EVALUATION = 300
#: A choice is narrow if it surely costs this share more than a choice made on the neutral text.
MUCH = 0.5


@dataclass(frozen=True)
class NeutralRecord:
    """A mask evaluated on neutral text ``data``, of which the evaluated ``texts`` have this digest.

    ``kept`` lists the heads of each layer that are kept if they are chosen on neutral text; ``shared`` of them are in
    the mask, and random masks share ``by_chance``. ``outcomes`` on neutral text are those of the ``full`` model, of the
    mask (``chosen``) and of the mask that was chosen there (``own``). ``excess`` is the KL divergence of the mask
    minus that of the other, in nats, paired over texts or documents. ``narrow`` tells whether it surely exceeds
    ``MUCH`` of the other's.
    """

    data: str
    texts: int
    sha256: str
    kept: Mapping[str, tuple[int, ...]]
    shared: int
    by_chance: float
    outcomes: Mapping[str, Outcomes]
    excess: Estimate
    narrow: bool

    #: The columns of ``rows``.
    COLUMNS: ClassVar = ("outcome", "full model", "these heads", "heads chosen there")

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The headline outcomes on neutral text of the three models, with their intervals."""
        full, chosen, own = (self.outcomes[state] for state in ("full", "chosen", "own"))
        return [
            (row.row_label, full[row.name].text, str(chosen[row.name]), str(own[row.name]))
            for row in HEADLINES
            if row.name in chosen and row.name in own
        ]

    @property
    def finding(self) -> str:
        """What was found, in a sentence with its number."""
        cost = self.outcomes["chosen"]["kl"].text
        span = "no interval"
        if self.excess.ci95:
            span = f"95 % interval {self.excess.span}, n = {self.excess.n:,}"
        if self.narrow or (self.excess.ci95 and self.excess.low > 0):
            breadth = "Narrow" if self.narrow else "Rather broad"
            than = f"{self.excess.text} more than heads chosen there ({span})"
            return f"{breadth}: on neutral text these heads cost {cost} nats, {than}"
        if self.excess.ci95 and self.excess.high < 0:
            return f"Broad: on neutral text these heads cost less than heads chosen there ({self.excess.text}; {span})"
        return f"Broad: on neutral text no difference from heads chosen there is resolved ({self.excess.text}; {span})"

    @property
    def overlap(self) -> str:
        """How many heads both choices keep, in a sentence."""
        count = sum(map(len, self.kept.values()))
        chance = f"{self.by_chance:.1f} by chance"
        return f"{self.shared} of {count} heads are also kept if they are chosen on {self.data}; {chance}"


def open_neutral(bench: Bench, count: int, name: str) -> Bench:
    """Return a bench of the same model on neutral texts, which keeps ``count`` heads.

    Raises:
        OptionError: If the method needs labels, which neutral texts lack.
        CahpError: If there are no such texts, or the model does not fit them.
    """
    settings = bench.settings
    method = settings.method
    if method not in methods.names():
        method = Settings.method
    if methods.need_labels([method]) and bench.card.task.predicts_labels:
        raise OptionError(f"--method {method} needs labels, which neutral text lacks; leave out --neutral-data")
    changes: dict[str, Any] = {name: getattr(Settings(), name) for name in (*COLUMNS, "label_map", "data")}
    changes |= {"select_split": "train", "eval_split": "validation", "neutral_data": None, "report": None}
    changes |= {"method": method, "budget": str(count), "goal": None, "select_time": None}
    changes |= {"roles": False, "latency": False}
    changes |= {"recover": "none", "recover_data": None, "recover_time": None, "labels": False}
    changes["limit"] = min(settings.limit or _CALIBRATION, _CALIBRATION)
    changes["eval_limit"] = min(settings.eval_limit or _EVALUATION, _EVALUATION)
    texts = load_neutral(name, task=bench.dataset.id)
    return open_bench(
        replace(settings, **changes),
        store=bench.resources.store,
        card=bench.card,
        dataset=texts,
        load=lambda *_, **__: bench.model,
        progress=bench.resources.progress,
    )


def evaluate_on_neutral(bench: Bench, mask: HeadMask, name: str, choose: Callable[[Bench], HeadMask]) -> NeutralRecord:
    """Evaluate ``mask``, as pruned, on the neutral texts ``name``; ``choose`` chooses heads on a bench.

    Raises:
        CahpError: See ``open_neutral``.
    """
    neutral = open_neutral(bench, mask.count, name)
    own = choose(neutral)
    texts = neutral.evaluation
    seed = bench.settings.seed
    full = neutral.full
    evaluations = {
        "full": full,
        "chosen": neutral.measurements.evaluate(texts, mask=mask),
        "own": neutral.measurements.evaluate(texts, mask=own),
    }
    divergences = evaluations["chosen"].divergences(full) - evaluations["own"].divergences(full)
    excess = estimate_mean(divergences, seed, units=full.units)
    outcomes = {}
    for state, evaluation in evaluations.items():
        outcomes[state] = finite(measure(evaluation, full=full, seed=seed))
    return NeutralRecord(
        neutral.dataset.id,
        texts.count,
        texts.sha256,
        {layer: tuple(heads) for layer, heads in own.kept.items()},
        int((own.keep & mask.keep).sum()),
        own.count * mask.count / mask.keep.size,
        outcomes,
        excess,
        excess.ci95 is not None and excess.low > MUCH * outcomes["own"]["kl"].value,
    )
