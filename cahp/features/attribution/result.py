"""The result of ``cahp.attribute``, its figures and words, and the bundled checks of attribution."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cahp import models
from cahp.show import Blocks, Claim, Line, Table, Text
from cahp.values import Floats, HeadMask, JsonObject
from cahp.words import percent, printable, signed

if TYPE_CHECKING:
    from cahp.comparison import ComparisonDocument


@dataclass(frozen=True)
class RemovedHead:
    """A head, or key-value group, that was removed alone: the ``estimated`` and the ``exact`` change in nats."""

    layer: int
    head: int
    estimated: float
    exact: float


@dataclass(frozen=True, eq=False)
class NeededHeads:
    """The fewest heads by attribution with which the answer stays, as ``mask``.

    Heads of most support come first, or heads of the largest change either way: whichever needs fewer.
    ``log_probability`` is that of the answer if the other heads give their baseline, as after ``--recover mean``. If
    they give nothing, as pruned, the answer is ``as_pruned``, and that of the text has ``log_probability_as_pruned``.
    """

    mask: HeadMask
    log_probability: float
    as_pruned: str
    log_probability_as_pruned: float


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Attribution:
    """What each head contributes to one answer of a model on one text, as ``cahp.attribute`` returns it.

    All changes are in nats, of the answer's log-probability, when heads are replaced by their ``baseline``: a negative
    change means that the head supports the answer.

    Attributes:
        model: The model's name.
        unit: What a head is: ``head``, or ``group`` of query heads that share keys and values.
        tokens: The number of tokens of the text.
        metric: What changes: the log-probability of the class, or of the next token.
        answer: The answer that is explained.
        predicted: The full model's answer.
        log_probability: The answer's log-probability by the full model.
        changes: ``(layers, heads)`` the estimated change if this head alone is removed (attribution patching).
        baseline: What takes the place of a removed head's output, in words.
        seed: The seed of the random sets.
        removed: The heads that support the answer most, with the exact changes.
        together: The exact change if all of ``removed`` are removed at once.
        random: The exact changes if as many random heads are removed, by set.
        needed: The fewest heads that keep the answer (None: the model gives another answer).
        model_sha256: The digest of the model's files.
    """

    model: str
    unit: str
    tokens: int
    metric: str
    answer: str
    predicted: str
    log_probability: float
    changes: Floats
    baseline: str
    seed: int
    removed: tuple[RemovedHead, ...]
    together: float
    random: tuple[float, ...]
    needed: NeededHeads | None = None
    model_sha256: str | None = None

    @cached_property
    def order(self) -> list[int]:
        """The flat indices of all heads, the strongest support of the answer first."""
        return order_by_support(self.changes)

    @property
    def rows(self) -> list[JsonObject]:
        """One row per head, the strongest support first: layer, head, estimated and exact change (None: not measured).

        ``pandas.DataFrame(result.rows)`` makes a table of them.
        """
        exact = {(one.layer, one.head): one.exact for one in self.removed}
        rows = []
        for head in self.order:
            place = divmod(head, self.changes.shape[1])
            estimated = float(self.changes[place])
            rows.append({"layer": place[0], "head": place[1], "estimated": estimated, "exact": exact.get(place)})
        return rows

    @property
    def shown_answer(self) -> str:
        """The answer in quotes, on one line."""
        return quoted(self.answer)

    @property
    def shown_prediction(self) -> str:
        """The full model's answer in quotes, on one line."""
        return quoted(self.predicted)

    @property
    def finding(self) -> str:
        """What removing the top heads does, against random heads, in a sentence."""
        return (
            f"without the top {len(self.removed)} of {self.changes.size} {self.unit}s the {self.metric} "
            f"{self.shown_answer} changes by {signed_nats(self.together)} nats, without as many at random by "
            f"{signed_nats(float(np.median(self.random)))} ({signed_nats(min(self.random))} to "
            f"{signed_nats(max(self.random))} in {len(self.random)} sets)"
        )

    def to_json(self) -> JsonObject:
        """Return the document of ``cahp attribute --json``; it holds no text but the answer."""
        simple = ("model", "unit", "tokens", "answer", "predicted", "log_probability", "baseline", "together")
        needed = None
        if self.needed is not None:
            as_pruned = {
                "answer": self.needed.as_pruned,
                "log_probability": self.needed.log_probability_as_pruned,
            }
            needed = {
                "count": self.needed.mask.count,
                "kept": self.needed.mask.kept,
                "log_probability": self.needed.log_probability,
                "as_pruned": as_pruned,
            }
        return {
            **{name: getattr(self, name) for name in simple},
            "metric": f"{self.metric}, nats",
            "changes": self.changes.tolist(),
            "top": [vars(one) for one in self.removed],
            "random": {"seed": self.seed, "changes": list(self.random)},
            "needed": needed,
        }

    def __repr__(self) -> str:
        return f"{self.model}, {self.tokens} tokens: {self.finding}"


def order_by_support(changes: Floats) -> list[int]:
    """Return the flat indices of heads, those first whose removal lowers the log-probability most."""
    order: list[int] = np.argsort(changes, axis=None, kind="stable").tolist()
    return order


def signed_nats(value: float) -> str:
    """Format a change in nats with its sign: two digits after the point, and of a small one two significant digits."""
    digits = 2
    if 1e-9 < abs(value) < 0.1:
        digits = 1 - math.floor(math.log10(abs(value)))
    return signed(value, digits)


def quoted(answer: str) -> str:
    """Return an answer in quotes, on one line; a space before a word stays visible."""
    return f'"{printable(answer)}"'


def show_attribution(result: Attribution) -> Blocks:
    """Yield the answer, the heads that support it most, and what removing them and keeping few does."""
    given = f"{result.shown_answer}, probability {percent(float(np.exp(result.log_probability)))}"
    if result.predicted != result.answer:
        given += f"; the model predicts {result.shown_prediction}"
    yield Line(f"{result.model}, {result.tokens} tokens, answer {given}")
    rows = []
    for one in result.removed:
        changes = (signed_nats(one.estimated), signed_nats(one.exact))
        rows.append((f"layer {one.layer}, {result.unit} {one.head}", *changes))
    title = f"Change of the {result.metric} without it, nats"
    yield Table(title, (result.unit, "estimated", "exact"), rows, name="attribution-top")
    yield Line(result.finding)
    needed = result.needed
    if needed is None:
        yield Text("The model gives another answer, so no heads are enough for this one.")
    else:
        enough = f"the answer {result.shown_answer} needs {needed.mask.count} of {result.changes.size} {result.unit}s"
        yield Line(f"{enough}; as pruned, without the means, it is {quoted(needed.as_pruned)}")
    yield Text(f"a removed {result.unit} gives its {result.baseline}")


def bundled_folder() -> Path:
    """Return the folder of the bundled baselines and checks."""
    return models.assets() / "attribution"


def read_check(model: str) -> list[str] | None:
    """Read what the experiment ``attribution_check`` found for the model of this digest (None: it was not checked)."""
    for file in sorted(bundled_folder().glob("*.json")):
        check = json.loads(file.read_text(encoding="utf-8"))
        if check["sha256"] == model:
            findings: list[str] = check["findings"]
            return findings
    return None


def find_check(comparison: ComparisonDocument) -> Claim | None:
    """Return what the experiment found for the model of a comparison (None: it was not checked)."""
    findings = read_check(comparison.model.sha256)
    if findings is None:
        return None
    lines = [Line(finding) for finding in findings]
    return Claim("attribution", "Attribution beside exact removal", "measured", lambda: lines)
