"""Narrow or broad? A mask that was chosen on one task, evaluated on neutral text.

Heads are chosen a second time, on the neutral text, as many and by the same method. Both masks are then compared on
neutral texts that chose neither: what the task's choice costs more there is the price of choosing on the task. Where
the pruned model was recovered on the task, the other mask is recovered alike on neutral text, and both are compared
after that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from cahp import methods
from cahp.data import BBC_NEWS, MANUAL, Dataset, catalogue, load
from cahp.outcomes import HEADLINES, Outcomes, estimate_mean, finite, measure
from cahp.recoveries import RECOVERIES
from cahp.run import COLUMNS, Bench, MaskSubject, Measure, Recovered, Settings, choose, open_bench
from cahp.show import Blocks, Cell, Line, Table, Text
from cahp.tasks import NO_LABEL
from cahp.values import DataError, Estimate, HeadMask, OptionError, digest
from cahp.words import capital, percent, too_close

#: The name that stands for texts of its own: news for other tasks, and for these the manual.
AUTO = "auto"


def load_neutral(name: str, *, task: str) -> Dataset:
    """Read texts that have nothing to do with the data ``task``, without labels.

    ``auto`` are the built-in news or, where these are the task or not installed, the manual of Python, which is
    installed with it. Any other name is that of data.

    Raises:
        DataError: If there are no such data, or they are the task's own.
    """
    if name == AUTO:
        name = MANUAL
        if task != BBC_NEWS and _has_news():
            name = BBC_NEWS
    if name == task:
        raise DataError(f"{name} are the texts of the task itself; name others with --neutral-data, or give auto")
    dataset = load(name)
    texts = {
        split: replace(labelled, labels=np.full(len(labelled), NO_LABEL, dtype=np.int64), classes=())
        for split, labelled in dataset.splits.items()
    }
    return Dataset(dataset.id, texts, (), ())


def _has_news() -> bool:
    return any(entry.available for entry in catalogue() if entry.name == BBC_NEWS)


#: Settings that have their defaults where heads are chosen on neutral text.
_AS_USUAL = (
    *COLUMNS,
    "label_map",
    "data",
    "select_split",
    "eval_split",
    "neutral_data",
    "report",
    "goal",
    "select_time",
    "roles",
    "recover_data",
    "recover_time",
    "labels",
)
#: Texts of a classifier that choose heads, at most.
_CALIBRATION = 400
#: Those that evaluate them, at most.
_EVALUATION = 300
#: Bump to invalidate cached runs.
REVISION = 2
#: A choice is narrow if it costs this share more, significantly, than a choice made on the neutral text.
MUCH = 0.5


@dataclass(frozen=True)
class NeutralRecord:
    """A mask evaluated on neutral text ``data``, of which the evaluated ``texts`` have this digest.

    ``kept`` lists the heads of each layer that are kept if they are chosen on neutral text; ``shared`` of them are in
    the mask, and random masks share ``by_chance``. ``outcomes`` on neutral text are those of the ``full`` model, of the
    mask (``chosen``) and of the mask that was chosen there (``own``). ``excess`` is the KL divergence of the mask
    minus that of the other, in nats, paired over texts or documents. ``narrow`` tells whether it significantly exceeds
    ``MUCH`` of the other's.

    If the mask was recovered by ``recover`` (None: it was not), the other was recovered alike on neutral calibration
    texts: ``outcomes`` also hold ``chosen_recovered`` and ``own_recovered``, ``excess_recovered`` is their difference,
    and ``narrow`` follows from them.
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
    recover: str | None = None
    excess_recovered: Estimate | None = None

    @property
    def finding(self) -> str:
        """What was found, after the recovery if there was one, in a sentence with its number."""
        excess = self.excess_recovered or self.excess
        cost = self.outcomes["chosen"]["kl"].text
        after = ""
        if self.recover is not None:
            cost = self.outcomes["chosen_recovered"]["kl"].text
            after = f" {RECOVERIES[self.recover].after}"
        verdict = capital(too_close(excess.n))
        if self.narrow:
            verdict = "Narrow"
        elif excess.excludes(0) and excess.value < 0:
            verdict = "Costs less there"
        elif excess.excludes(0):
            verdict = f"Somewhat narrow, not significantly by {percent(MUCH, 0)}"
        return (
            f"{verdict}: on neutral text these heads cost {cost} nats{after}; difference from heads chosen there "
            f"{excess}"
        )


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
    if methods.facts(method).labels == "needed" and bench.card.task.predicts_labels:
        raise OptionError(f"--method {method} needs labels, which neutral text lacks; leave out --neutral-data")
    changes = {name: getattr(Settings(), name) for name in _AS_USUAL}
    # A mask made by hand may keep a number that cannot be spread evenly.
    changes |= {"method": method, "budget": str(count), "even": settings.even and count % bench.card.layers == 0}
    changes |= {"recover": "none", "latency": False}
    for limit, most in (("limit", _CALIBRATION), ("eval_limit", _EVALUATION)):
        changes[limit] = min(getattr(settings, limit) or most, most)
    texts = load_neutral(name, task=bench.dataset.id)
    return open_bench(
        replace(settings, **changes),
        store=bench.resources.store,
        card=bench.card,
        dataset=texts,
        load=lambda *_, **__: bench.model,
        progress=bench.resources.progress,
    )


def is_narrow(excess: Estimate, own: Outcomes) -> bool:
    """Return whether an excess is significantly above ``MUCH`` of what a mask chosen on neutral text costs there."""
    return excess.ci95 is not None and excess.low > MUCH * own["kl"].value


@dataclass(frozen=True)
class NeutralOptions:
    """The neutral texts."""

    texts: str = field(
        default=AUTO, metadata={"help": "Neutral texts: auto (news, or the manual of Python), or a name as in --data."}
    )


class Neutral(Measure[NeutralRecord]):
    """A mask that was chosen on one task, evaluated on neutral text."""

    name = "neutral"
    title = "Narrow or broad?"
    help = (
        "Evaluate a mask on neutral text.\n\nHeads are chosen a second time, on neutral text. Both choices are "
        "compared there, as pruned and after the recovery."
    )
    example = "cahp neutral minilm-bbc --mask run/head_mask.json"
    record = NeutralRecord
    options = NeutralOptions
    revision = REVISION

    setting = "neutral_data"

    def wanted(self, bench: Bench) -> NeutralOptions:
        """Return the texts that ``--neutral-data`` names."""
        if bench.settings.neutral_data is not None:
            return NeutralOptions(bench.settings.neutral_data)
        return NeutralOptions()

    def check(self, bench: Bench, options: NeutralOptions) -> None:
        """Refuse texts from which the method cannot choose heads."""
        neutral = open_neutral(bench, bench.card.layers, options.texts)
        if methods.facts(bench.settings.method).labels == "none":
            return
        try:
            _ = neutral.evidence.texts
        except DataError as error:
            raise DataError(f"--neutral-data: {error}, or leave it out") from None

    def inputs(self, bench: Bench, options: NeutralOptions) -> str:
        """Return the digest of the neutral texts."""
        return digest(load_neutral(options.texts, task=bench.dataset.id).sha256)

    def tokens(self, bench: Bench, options: NeutralOptions) -> float:
        """Return about the tokens of a whole run, since heads are chosen again."""
        return float(bench.calibration.tokens + bench.evaluation.tokens)

    def run(self, bench: Bench, mask: HeadMask, recovered: Recovered | None, options: NeutralOptions) -> NeutralRecord:
        """Evaluate the mask on the neutral texts, and one of as many heads that is chosen there.

        Raises:
            CahpError: See ``open_neutral``.
        """
        neutral = open_neutral(bench, mask.count, options.texts)
        own = choose(neutral).mask
        texts = neutral.evaluation
        seed = bench.settings.seed
        recover = bench.settings.recover
        full = neutral.full
        measurements = neutral.measurements
        stages: dict[str, dict[str, Recovered]] = {"": {}}
        # Neutral text lacks labels.
        imitable = not RECOVERIES[recover].needs_labels and not bench.settings.labels
        if recovered is not None and imitable and measurements.can_cut(own):
            alike = neutral.recoveries.recover(own, recover, seconds=bench.settings.recover_seconds)
            if alike is not None:
                stages["_recovered"] = {"chosen": recovered, "own": alike}
        outcomes = {"full": finite(measure(full, full=full, seed=seed))}
        excesses = {}
        for stage, models in stages.items():
            divergences = {}
            for state, heads in (("chosen", mask), ("own", own)):
                evaluation = measurements.evaluate(texts, mask=heads, recovered=models.get(state))
                outcomes[state + stage] = finite(measure(evaluation, full=full, seed=seed))
                divergences[state] = evaluation.divergences(full)
            excesses[stage] = estimate_mean(divergences["chosen"] - divergences["own"], seed, units=full.units)
        *_, last = stages
        return NeutralRecord(
            data=neutral.dataset.id,
            texts=texts.count,
            sha256=texts.sha256,
            kept={layer: tuple(heads) for layer, heads in own.kept.items()},
            shared=int((own.keep & mask.keep).sum()),
            by_chance=own.count * mask.count / mask.keep.size,
            outcomes=outcomes,
            excess=excesses[""],
            narrow=is_narrow(excesses[last], outcomes["own" + last]),
            recover=recover if last else None,
            excess_recovered=excesses.get("_recovered"),
        )

    def show(self, record: NeutralRecord, subject: MaskSubject) -> Blocks:
        """Yield the finding, how many heads both choices share, and the outcomes on neutral text."""
        yield Line(record.finding, flagged=record.narrow)
        count = sum(map(len, record.kept.values()))
        yield Text(
            f"{record.shared} of {count} heads are also kept if they are chosen on {record.data}; "
            f"{record.by_chance:.1f} by chance."
        )
        titles = {"full": "full model", "chosen": "these heads", "own": "heads chosen there"}
        if record.recover is not None:
            after = RECOVERIES[record.recover].after
            titles |= {f"{name}_recovered": f"{titles[name]}, {after}" for name in ("chosen", "own")}
        measured = [record.outcomes[state] for state in titles]
        shown = [row for row in HEADLINES if all(row.name in outcomes for outcomes in measured)]
        rows: list[list[Cell]] = [[row.row_label, *(outcomes[row.name] for outcomes in measured)] for row in shown]
        title = f"On {record.texts:,} neutral texts of {record.data}"
        yield Table(title, ["outcome", *titles.values()], rows, name="neutral", closed=True)

    def as_pruned(self, record: NeutralRecord) -> NeutralRecord:
        """Return the record without the recovery."""
        outcomes = {name: outcomes for name, outcomes in record.outcomes.items() if name in ("full", "chosen", "own")}
        narrow = is_narrow(record.excess, outcomes["own"])
        return replace(record, outcomes=outcomes, narrow=narrow, recover=None, excess_recovered=None)


NEUTRAL_TEXT = Neutral()
