"""The recoveries of a pruned model: one table for options, files, screens and cost estimates.

A new recovery in closed form is one row of ``recoveries.toml`` and its entry in ``CLOSED_FORMS`` of
``cahp.stages.recovery``. Any other is one row there, one stage that computes it, and its calls in ``recover`` and
``read`` of ``Recoveries`` in ``cahp.run.recoveries``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from cahp.files import read_beside
from cahp.values import OptionError

#: The smallest and largest number of texts that a refit works on, and its share of the calibration texts.
REFIT_TEXTS = 512
_MOST_REFIT_TEXTS = 4096
_REFIT_SHARE = 1 / 3
#: The rank of a bypass: where more lowers the KL divergence little.
RANK = 64
#: Forward passes of the full model that a refit costs, per text that it solves on and per text that accepts it.
REFIT_PASSES = 4.1
_ACCEPTANCE_PASSES = 3.0
#: The share of the texts that is held out.
_HELD_OUT = 0.2
#: An epoch of training: a forward and a backward pass per training text, and an evaluation on the held-out texts.
_EPOCH_PASSES = 3 * (1 - _HELD_OUT) + _HELD_OUT
#: Answers of the teacher on all texts, and of the student on the held-out ones.
_TEACHER_PASSES = 1 + _HELD_OUT


def refit_texts(texts: int) -> int:
    """Return how many of ``texts`` calibration texts a refit works on: a third, but 512 to 4,096 of those not held out.

    At 4.1 forward passes per text, and 3 per held-out text, that is 2 passes per calibration text; choosing the heads
    takes 1.5. A refit holds hidden states of each of their tokens in memory. Of a classifier, more texts recover little
    more. Of a language model, four times the tokens lower the KL divergence by a fifth (45 groups of SmolLM2, see
    ``assets/docs/results/mixes.md``), so it reads more windows than choose its heads.
    """
    return min(max(REFIT_TEXTS, int(_REFIT_SHARE * texts)), _MOST_REFIT_TEXTS)


@dataclass(frozen=True)
class Recovery:
    """One recovery: its words, what it needs, and where it is offered.

    ``name`` stands in options and files. ``result`` describes the recovered model ("refitted"), ``noun`` names the
    procedure ("refit"), ``choice`` is the label where a person chooses, ``card`` the clause of a model card.

    ``solves`` tells that output projections are changed in closed form, in the ``solving_stage`` of progress reports,
    which costs ``solving_passes`` forward passes per text; ``solving`` says in a report what was done on the texts.
    ``imitates`` tells that the model is then trained to answer as the full model does, ``needs_labels`` that it is
    trained on labels. A ``timed`` recovery stops when its time is over. ``on_board`` recoveries can be shown for the
    mask on the board. A ``baseline`` is applied even if the KL divergence on held-out texts is no lower with it; one
    that is not even ``checked`` there is not compared at all. A ``layerwise`` one changes a layer by the heads that
    this layer keeps and by the full model alone, so that masks with the same heads in the lower layers share what these
    compute. One that ``adds_biases`` gives output projections a bias where they have none; one that ``adds_bypass``
    gives a ``cahp.models.compact.Bypass`` to layers that lost heads. One that runs every layer anew for each mask names
    the one that is shown ``at_once``, until it is done. Each of the learning ``rates`` is tried for an epoch.
    """

    name: str
    result: str
    noun: str
    choice: str
    card: str
    solves: bool = False
    solving: str = "output projections solved on"
    solving_stage: str = "refit"
    solving_passes: float = REFIT_PASSES
    imitates: bool = False
    needs_labels: bool = False
    timed: bool = False
    on_board: bool = False
    baseline: bool = False
    checked: bool = True
    layerwise: bool = False
    adds_biases: bool = False
    adds_bypass: bool = False
    at_once: str = ""
    rates: tuple[float, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether all weights are trained: that depends on the seed, and takes too long for many budgets."""
        return self.imitates or self.needs_labels

    @property
    def closed_form(self) -> bool:
        """Whether it only solves for output projections, so that a model without a refit cannot be recovered so."""
        return self.solves and not self.trains

    @property
    def on_request(self) -> bool:
        """Whether a board measures single masks after it, and not all budgets."""
        return self.trains or self.adds_bypass

    @property
    def word(self) -> str:
        """Its word on a switch, such as "distil"."""
        if not self.noun:
            return self.result
        return self.choice.split()[0].rstrip(":").lower()

    @property
    def beside(self) -> str:
        """The words of figures after it that stand beside others, such as "after refit" or "as pruned"."""
        return self.after or self.result

    @property
    def after(self) -> str:
        """The clause that figures after it carry, such as "after refit"; empty without a recovery."""
        if not self.noun:
            return ""
        return f"after {self.noun}"

    def stages(self, texts: int, *, growth: float = 1.0, can_refit: bool = True, epochs: int = 3) -> dict[str, float]:
        """Estimate its forward passes of one text on ``texts`` calibration texts by the name of their stage.

        What needs no labels and is ``checked`` reads ``growth`` times as many. A timed recovery is taken to have
        unlimited time.
        """
        passes: dict[str, float] = {}
        read = texts
        if self.checked:
            read = round(growth * texts)
        if self.solves and can_refit:
            solved = min(refit_texts(read), read - read // 5)
            passes[self.solving_stage] = solved * self.solving_passes
            if self.checked:
                passes[self.solving_stage] += _HELD_OUT * read * _ACCEPTANCE_PASSES
        training = "finetune"
        trained = texts
        if self.imitates:
            passes["teacher"] = _TEACHER_PASSES * read
            training = "distill"
            trained = read
        if self.trains:
            passes[training] = (epochs + len(self.rates)) * _EPOCH_PASSES * trained
        return passes

    def passes(self, texts: int, *, growth: float = 1.0, can_refit: bool = True, epochs: int = 3) -> float:
        """Estimate its forward passes of one text; see ``stages``."""
        return sum(self.stages(texts, growth=growth, can_refit=can_refit, epochs=epochs).values())


#: All recoveries by name, the cheapest first.
RECOVERIES: Mapping[str, Recovery] = {
    name: msgspec.convert({"name": name, **row}, Recovery) for name, row in read_beside(__file__).items()
}

#: No recovery, and the one that takes seconds: what runs and boards begin with.
NONE = RECOVERIES["none"]
QUICK = RECOVERIES["refit"]
#: What a board shows of a mask made by hand until that is refitted.
AT_ONCE = RECOVERIES["quick-refit"]

#: Recoveries that can be compared, the cheapest first: the result of a timed one depends on the speed of the machine.
COMPARED = tuple(name for name, row in RECOVERIES.items() if not row.timed)


def get_recovery(name: str, *, choices: Callable[[Recovery], bool] = lambda row: True) -> Recovery:
    """Return the row of a recovery.

    Raises:
        OptionError: If there is no such recovery among the ``choices``.
    """
    row = RECOVERIES.get(name)
    if row is None or not choices(row):
        offered = ", ".join(name for name, row in RECOVERIES.items() if choices(row))
        problem = "is unknown"
        if row is not None:
            problem = "cannot be used here"
        raise OptionError(f"--recover {name} {problem}; choose one of {offered}")
    return row


def name_of_result(name: str) -> str:
    """Return what a recovery makes of a pruned model, such as "refitted"; "recovered" for a name of another version."""
    if name not in RECOVERIES:
        return "recovered"
    return RECOVERIES[name].result


def name_of_state(name: str) -> str:
    """Return the state after a recovery, such as "after refit"; "recovered" for a name of another version."""
    if name not in RECOVERIES:
        return "recovered"
    return RECOVERIES[name].beside


@dataclass(frozen=True)
class RefitReport:
    """Whether a refit or mean ablation was accepted, why, and on how many texts it was calibrated.

    ``kl_before`` and ``kl_after`` are KL divergences (nats) from the full model on held-out texts, before and after the
    last attempt; ``repeats_before`` and ``repeats_after`` are those on what is read twice (None: nothing is). ``ridge``
    is its strength (None: it has none), and ``step`` the share of its change of the weights that was made. ``recovery``
    is its name. A baseline counts as accepted.
    """

    accepted: bool
    reason: str
    examples: int
    ridge: float | None = None
    kl_before: float | None = None
    kl_after: float | None = None
    recovery: str = "refit"
    step: float | None = None
    repeats_before: float | None = None
    repeats_after: float | None = None

    @property
    def row(self) -> Recovery:
        """The row of its recovery."""
        return RECOVERIES.get(self.recovery, QUICK)

    @property
    def verdict(self) -> str:
        """Whether it was accepted, in a word."""
        if self.row.baseline:
            return "applied"
        if self.accepted:
            return "accepted"
        return "rejected"


@dataclass(frozen=True)
class DistillEpoch:
    """One epoch: its mean loss in nats, and the agreement with the full model on held-out texts after it."""

    epoch: int
    loss: float
    agreement: float


@dataclass(frozen=True)
class DistillReport:
    """Whether a distillation was accepted, why, on how many texts it was trained, and its epochs.

    ``labels`` tells whether it was trained on labels too. On the ``held_out`` texts, ``held_out_agreement`` is the
    agreement of the distilled model with the full one, and ``agreement_before`` that of the model it started from
    (None: the time was up before it was measured); ``kl_after`` and ``kl_before`` are their KL divergences in nats,
    and ``repeats_after`` and ``repeats_before`` those on what is read twice (None: nothing is).
    """

    accepted: bool
    reason: str
    examples: int
    labels: bool
    held_out: int
    agreement_before: float | None = None
    held_out_agreement: float | None = None
    epochs: tuple[DistillEpoch, ...] = ()
    kl_before: float | None = None
    kl_after: float | None = None
    repeats_before: float | None = None
    repeats_after: float | None = None


def find_applied(name: str, refit: RefitReport | None, distilled: DistillReport | None) -> str:
    """Return the name of the recovery that made a model's weights, where a step of the recovery ``name`` was rejected.

    ``refit`` and ``distilled`` are its reports (None: it has no such step).
    """
    if distilled is not None:
        if distilled.accepted:
            return name
        # What remains is the refit that it began with.
        name = NONE.name
        if refit is not None:
            name = QUICK.name
    if refit is not None and not refit.accepted and RECOVERIES[name].closed_form:
        return NONE.name
    return name
