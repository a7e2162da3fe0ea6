"""A comparison as the page shows it: every value checked and named, and its verdict in words."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.compare import Comparison
from cahp.compare.summary import AGAINST
from cahp.values import CahpError

Document = Mapping[str, Any]

#: What recoveries are called within a sentence.
AFTER = {"none": "before recovery", "refit": "after refit", "finetune": "after fine-tuning"}

#: More heads than any model has; a file that claims more is not one of ours.
_MOST_HEADS = 65_536
#: Names that a sentence lists; more are counted.
_LISTED = 4


@dataclass(frozen=True)
class Method:
    """A method that took part: its name, what it says of itself, and whether it is pure chance or trains gates."""

    name: str
    about: str
    chance: bool
    learned: bool


@dataclass(frozen=True)
class Mean:
    """Right answers of a method at a budget, shares: the mean over seeds and masks, and its 95 % interval."""

    accuracy: float
    low: float
    high: float
    macro_f1: float | None
    agreement: float | None
    change: float | None
    n: int
    seeds: int
    masks: int


@dataclass(frozen=True)
class Verdict:
    """One test: by how many points the reference is better than ``method``, and whether that is more than chance.

    At one budget, or of the areas over all of them (None).
    """

    recovery: str
    budget: int | None
    method: str
    pp: float
    low: float
    high: float
    p: float
    p_holm: float
    better: str | None
    n: int
    seeds: int

    @property
    def tie(self) -> bool:
        """Whether no difference was found at this n."""
        return self.better is None


@dataclass(frozen=True, eq=False)
class Consensus:
    """Which heads all methods keep and none keeps; ``share (L, H)`` is the mean share of a method's masks."""

    methods: int
    everybody: tuple[tuple[int, int], ...]
    nobody: tuple[tuple[int, int], ...]
    share: NDArray[np.float64]


@dataclass(frozen=True)
class Cost:
    """What a method costs: forward passes and labels to choose, and seconds to choose and after each recovery."""

    forwards: float | None
    labels: int | None
    score_s: float
    recovery_s: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a comparison says on one split: the one it reports on, or else the one that judged.

    ``means`` by recovery, method and budget; ``areas`` by recovery and method (accuracy, low, high); ``layers`` (heads
    kept in each layer) by method and budget; ``overall`` the tests of areas; ``overlap`` by two methods in the order of
    their names, or one method twice (its own masks), and budget; ``chance`` by budget; ``full`` accuracy of all heads
    by recovery.
    """

    comparison: Comparison
    model: str
    model_sha256: str
    data: str
    split: str
    n: int
    select: int
    seeds: int
    layers_of_model: int
    heads: int
    methods: Mapping[str, Method]
    recoveries: tuple[str, ...]
    against: str
    rule: str
    means: Mapping[tuple[str, str, int], Mean]
    areas: Mapping[tuple[str, str], tuple[float, float, float]]
    verdicts: tuple[Verdict, ...]
    overall: tuple[Verdict, ...]
    layers: Mapping[tuple[str, int], tuple[float, ...]]
    overlap: Mapping[tuple[str, str, int], float]
    chance: Mapping[int, float]
    consensus: Mapping[int, Consensus]
    cost: Mapping[str, Cost]
    full: Mapping[str, float]
    notices: tuple[str, ...]
    command: str
    test_opened: int

    @cached_property
    def budgets(self) -> tuple[int, ...]:
        """All numbers of heads that something was measured at, ascending."""
        return tuple(sorted({budget for _, _, budget in self.means}))

    @property
    def total(self) -> int:
        """Heads of the unpruned model."""
        return self.layers_of_model * self.heads

    @property
    def title(self) -> str:
        """Model, data and size, as a choice among comparisons says it."""
        count = len(self.methods)
        return f"{self.model} on {self.data}, {count} method{'' if count == 1 else 's'}"

    def named(self, name: str) -> str:
        """What a method is called on screen."""
        return "CAHP" if name == AGAINST else name

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The files that ``cahp compare --out`` would write: the document, a table, the figures."""
        with tempfile.TemporaryDirectory(prefix="cahp-") as folder:
            names = self.comparison.write(Path(folder) / "out")
            return {name: (Path(folder) / "out" / name).read_bytes() for name in names}

    @property
    def archive(self) -> bytes:
        """All files in a ZIP archive."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                # A fixed date: the same comparison gives the same archive.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return out.getvalue()


def read(path: Path) -> Reading:
    """The comparison in a folder, or in its ``compare.json``.

    Raises:
        CahpError: If there is none, or it is broken.
    """
    try:
        found = Comparison.read(path)
        # What was written is what its authors saw; asking the bootstrap again takes seconds.
        return of(found if found.written is None else replace(found, right={}))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError):
        raise CahpError(
            f"{path.name} says that it is a comparison, but parts of it are missing or broken; write one with "
            "`cahp compare --out DIR`"
        ) from None


def opened(name: str, content: bytes) -> Reading:
    """A ``compare.json`` that somebody brought.

    Raises:
        CahpError: If it is none, in a sentence that names it as they do.
    """
    with tempfile.TemporaryDirectory(prefix="cahp-") as folder:
        path = Path(folder) / "compare.json"
        path.write_bytes(content)
        try:
            found = read(path)
            # A file that cannot be written again is broken where the page does not look.
            _ = found.files
        except CahpError as error:
            sentence = (
                str(error).replace(str(path), f"the file {name}").replace(f"{path.name} says", f"the file {name} says")
            )
            raise CahpError(sentence if name in sentence else f"the file {name}: {sentence}") from None
        except Exception:
            raise CahpError(f"the file {name} is broken; write a comparison with `cahp compare --out DIR`") from None
    return found


def of(comparison: Comparison) -> Reading:
    """A comparison, read.

    Raises:
        CahpError: If it holds no summary.
        KeyError, TypeError, ValueError, ...: If parts are missing or broken.
    """
    said, summary = comparison.document, comparison.summary
    model, report = said["model"], said["data"]["report"]
    layers, heads = int(model["layers"]), int(model["heads"])
    if not 0 < layers * heads <= _MOST_HEADS:
        raise ValueError("an impossible number of heads")
    part = "report" if report else "eval"
    judged = said["data"][part]
    split = str(judged["split"])
    found = Reading(
        comparison=comparison,
        model=str(model["id"]),
        model_sha256=str(model["sha256"]),
        data=str(said["data"]["id"]),
        split=split,
        n=int(judged["examples"]),
        select=max(int(one["examples"]) for one in said["data"]["select"]),
        seeds=len(said["settings"]["seeds"]),
        layers_of_model=layers,
        heads=heads,
        methods={str(name): _method(str(name), one) for name, one in said["methods"].items()},
        recoveries=tuple(name for name in AFTER if name in said["settings"]["recoveries"]),
        against=str(summary["against"]),
        rule=str(summary["rule"]),
        means={
            (str(one["recovery"]), str(one["method"]), int(one["budget"])): _mean(one)
            for one in summary["means"]
            if one["split"] == split
        },
        areas={
            (str(one["recovery"]), str(one["method"])): (float(one["area"]), *_ends(one))
            for one in summary["areas"]
            if one["split"] == split
        },
        verdicts=tuple(_verdict(one) for one in summary["verdicts"] if one["split"] == split),
        # Comparisons of before areas were tested have none.
        overall=tuple(_verdict(one) for one in summary.get("area_verdicts", ()) if one["split"] == split),
        layers={
            (str(one["method"]), int(one["budget"])): tuple(float(mean) for mean in one["mean"])
            for one in summary["layers"]
        },
        overlap=_overlap(summary["overlap"]),
        chance={int(one["budget"]): float(one["chance"]) for of in summary["overlap"].values() for one in of},
        consensus={int(one["budget"]): _consensus(one) for one in summary["consensus"]},
        cost={str(one["method"]): _cost(one) for one in summary["cost"]},
        full=_full(said["full"], part),
        notices=tuple(str(notice) for notice in said["notices"]),
        command=str(said["command"] or ""),
        test_opened=int(said["test_opened"]),
    )
    _check(found)
    return found


def _check(found: Reading) -> None:
    named = {
        found.against,
        *(method for _, method, _ in found.means),
        *(method for method, _ in found.layers),
        *(verdict.method for verdict in (*found.verdicts, *found.overall)),
        *found.cost,
    }
    if not named <= set(found.methods) or not found.means or "none" not in found.full:
        raise ValueError("methods that did not take part, or no means")
    if any(not 0 < budget <= found.total for budget in found.budgets):
        raise ValueError("an impossible budget")
    shapes = {len(mean) for mean in found.layers.values()} | {one.share.shape for one in found.consensus.values()}
    if not shapes <= {found.layers_of_model, (found.layers_of_model, found.heads)}:
        raise ValueError("layers or heads that the model does not have")


def _method(name: str, one: Document) -> Method:
    return Method(name, str(one.get("about", "")), int(one.get("draws", 1)) > 1, bool(one.get("learned", False)))


def _mean(one: Document) -> Mean:
    low, high = _ends(one)
    return Mean(
        accuracy=float(one["accuracy"]),
        low=low,
        high=high,
        macro_f1=_maybe(one["macro_f1"]),
        agreement=_maybe(one["agreement"]),
        change=_maybe(one["delta_pp"]),
        n=int(one["n"]),
        seeds=int(one["seeds"]),
        masks=int(one["masks"]),
    )


def _ends(one: Document) -> tuple[float, float]:
    low, high = one["ci95"]
    return float(low), float(high)


def _maybe(value: Any) -> float | None:
    return None if value is None else float(value)


def _verdict(one: Document) -> Verdict:
    low, high = _ends(one)
    return Verdict(
        recovery=str(one["recovery"]),
        budget=None if one["budget"] is None else int(one["budget"]),
        method=str(one["method"]),
        pp=float(one["pp"]),
        low=low,
        high=high,
        p=float(one["p"]),
        p_holm=float(one["p_holm"]),
        better=None if one["tie"] else str(one["better"]),
        n=int(one["n"]),
        seeds=int(one["seeds"]),
    )


def _overlap(overlap: Document) -> dict[tuple[str, str, int], float]:
    found = {}
    for one in overlap["methods"]:
        first, second = sorted(str(name) for name in one["methods"])
        found[first, second, int(one["budget"])] = float(one["jaccard"])
    for one in overlap["seeds"]:
        found[str(one["method"]), str(one["method"]), int(one["budget"])] = float(one["jaccard"])
    return found


def _consensus(one: Document) -> Consensus:
    everybody, nobody = (
        tuple((int(layer), int(head)) for layer, head in one[name]) for name in ("everybody", "nobody")
    )
    return Consensus(int(one["methods"]), everybody, nobody, np.array(one["share"], dtype=np.float64))


def _cost(one: Document) -> Cost:
    labels = None if one["labels"] is None else int(one["labels"])
    recovery = {str(name): float(value) for name, value in one["recovery_s"].items() if value is not None}
    return Cost(_maybe(one["forwards"]), labels, float(one["score_s"]), recovery)


def _full(cells: Sequence[Document], part: str) -> dict[str, float]:
    """Accuracy of all heads after each recovery that changes them, the mean over seeds."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        for recovery, measured in cell["recoveries"].items():
            if measured[part] is not None:
                found.setdefault(str(recovery), []).append(float(measured[part]["accuracy"]))
    return {recovery: float(np.mean(values)) for recovery, values in found.items()}


# The verdict in words ----------------------------------------------------------------------------------------


def headline(found: Reading) -> str:
    """Who is ahead after which recovery, over all budgets where that was tested, in one sentence."""
    ours = found.named(found.against)
    tested = [recovery for recovery in found.recoveries if any(one.recovery == recovery for one in found.verdicts)]
    if not tested:
        return f"Only {ours} was measured, so there is nothing to hold it against."
    if all(one.tie for one in (*found.verdicts, *found.overall)):
        when = _listed([AFTER[recovery] for recovery in tested], "or")
        return f"No method differs from {ours} at this n, {when}."
    whole = [recovery for recovery in tested if any(one.recovery == recovery for one in found.overall)]
    # Those that were measured at one budget alone come last, with their budget.
    parts = [
        f"{AFTER[recovery]}, {phrase(found, [one for one in found.overall if one.recovery == recovery])}"
        for recovery in whole
    ]
    for recovery in [recovery for recovery in tested if recovery not in whole]:
        tests = [one for one in found.verdicts if one.recovery == recovery]
        where = f"at {_listed(list(dict.fromkeys(str(one.budget) for one in tests)))} heads " if whole else ""
        parts.append(f"{where}{AFTER[recovery]}, {phrase(found, tests)}")
    said = "; ".join(parts)
    return f"Over all budgets, {said}." if whole else f"{said[:1].upper()}{said[1:]}."


def phrase(found: Reading, verdicts: Iterable[Verdict]) -> str:
    """Whom the reference is ahead of and behind by these tests, all after the same recovery, within a sentence."""
    ours = found.named(found.against)
    tests: dict[str, list[Verdict]] = {}
    for one in verdicts:
        tests.setdefault(one.method, []).append(one)
    if not tests:
        return f"{ours} was held against no other method"
    ahead = {name: [one for one in of if one.better == found.against] for name, of in tests.items()}
    behind = {name: [one for one in of if one.better == name] for name, of in tests.items()}
    parts = [
        f"{how} {_at(found, at, tests)}" for how, at in (("ahead of", ahead), ("behind", behind)) if any(at.values())
    ]
    if not parts:
        others = "the other method" if len(tests) == 1 else f"any of the {len(tests)} others"
        return f"{ours} does not differ from {others} at this n"
    ties = sum(not ahead[name] and not behind[name] for name in tests)
    rest = f", with no difference from {ties} other{'' if ties == 1 else 's'} at this n" if ties else ""
    return f"{ours} is {' and '.join(parts)}{rest}"


def _at(found: Reading, at: Mapping[str, list[Verdict]], tests: Mapping[str, list[Verdict]]) -> str:
    """Methods by name, with the budgets where it holds at some of them only; many are counted."""
    names = [name for name, passed in at.items() if passed]
    if len(names) > _LISTED:
        everywhere = sum(len(at[name]) == len(tests[name]) for name in names)
        several = max(map(len, tests.values())) > 1
        return f"{len(names)} of {len(tests)} methods" + (f" ({everywhere} of them at every budget)" if several else "")
    return _listed(
        [
            found.named(name)
            + (
                ""
                if len(at[name]) == len(tests[name])
                else f" (at {_listed([str(one.budget) for one in at[name]])} heads)"
            )
            for name in names
        ]
    )


def _listed(names: Sequence[str], word: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def words(found: Reading, one: Verdict) -> str:
    """A test in a sentence, with the statistics behind it."""
    ours, other = found.named(found.against), found.named(one.method)
    if one.tie:
        said = f"no difference between {ours} and {other} at this n"
    else:
        better, worse = (ours, other) if one.better == found.against else (other, ours)
        said = f"{better} is better than {worse}"
    where = "Over all budgets" if one.budget is None else f"{one.budget} heads"
    return (
        f"{where}, {AFTER[one.recovery]}: {said} ({one.pp:+.1f} pp for {ours}, 95 % interval {one.low:+.1f} "
        f"to {one.high:+.1f}, p = {one.p_holm:.2g} after Holm, n = {one.n:,}, {one.seeds} "
        f"seed{'' if one.seeds == 1 else 's'})"
    ).replace("-", "−")


def towards_output(mean: Sequence[float]) -> float:
    """The mean layer of the heads that are kept, from 0 (first) to L - 1 (last)."""
    kept = np.asarray(mean, dtype=np.float64)
    return float((np.arange(len(kept)) * kept).sum() / max(kept.sum(), 1e-12))
