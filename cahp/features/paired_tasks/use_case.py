"""``cahp.compare_samples`` and ``cahp.evaluate_tasks``: runs of lm-evaluation-harness, compared item by item."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from cahp.api.options import (
    ModelOptions,
    Name,
    ShowProgress,
    changed_fields,
    check_used,
    read_mask_for,
    read_settings,
    show_progress,
)
from cahp.exports.masks import kept_heads
from cahp.features.paired_tasks.harness import (
    HarnessOptions,
    TaskSamples,
    check_installed,
    list_tasks,
    run_tasks,
)
from cahp.features.paired_tasks.pairing import PairedRow, PairedSamples, correct_rows, pair
from cahp.features.paired_tasks.samples import read_file, read_samples
from cahp.files import Content, json_text
from cahp.models.surgery import cut
from cahp.output import Mark, Output
from cahp.run.resources import Resources
from cahp.run.settings import Settings, identify_model
from cahp.store import Store
from cahp.values import HeadMask, ModelError, OptionError

#: The file of a folder of samples that bears our mark, and its schema.
RESULTS = "paired.json"
SCHEMA = "cahp.paired/1"
MARK = Mark(RESULTS, "cahp.paired")
#: The fields of the settings that the tasks of the harness read.
_USED = ("model", "seed", "device", "dtype")


@dataclass(frozen=True, eq=False)
class TaskComparison:
    """A pruned and the full model on tasks of the harness: how they compare, and the ``samples`` of each by task."""

    model: str
    kept: Mapping[str, Any] | None
    paired: PairedSamples
    samples: Mapping[str, TaskSamples]

    def to_json(self) -> dict[str, Any]:
        """Return the contents of ``paired.json``, without the samples."""
        tasks = list(self.samples["full"])
        return {"schema": SCHEMA, "model": self.model, "kept": self.kept, "tasks": tasks, **self.paired.to_json()}

    def list_files(self) -> list[str]:
        """Return the names of the files that ``write`` writes."""
        return [RESULTS, *self._file_samples()]

    def _file_samples(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        files: dict[str, Sequence[Mapping[str, Any]]] = {}
        for model, of_tasks in self.samples.items():
            for task, samples in of_tasks.items():
                name = re.sub(r"[^\w.-]", "_", task)
                files[f"{model}_samples_{name}.jsonl"] = samples
        return files

    def write(self, folder: Name | Output) -> None:
        """Write ``paired.json`` and a file of samples for each model and task into a folder.

        Raises:
            OptionError: If files of these names exist that no comparison wrote.
            UnwrittenError: If the folder cannot be written to.
        """
        contents: dict[str, Content] = {RESULTS: json_text(self.to_json()).encode()}
        for name, samples in self._file_samples().items():
            lines = [json.dumps(sample, default=str, ensure_ascii=False) for sample in samples]
            contents[name] = "".join(f"{line}\n" for line in lines).encode()
        output = Output.of(folder)
        output.check_files(contents, MARK)
        output.write(contents)


def compare_samples(a: Name, b: Name, *, seed: int = 42) -> PairedSamples:
    """Compare two runs of lm-evaluation-harness on one task, item by item.

    ``cahp.compare_samples("full/samples_piqa.jsonl", "pruned/samples_piqa.jsonl").rows`` has one row per metric.

    Args:
        a: The samples of one run: a file that the harness wrote with ``--log_samples``.
        b: Those of the other run.
        seed: Seed of the bootstrap of intervals.

    Returns:
        Both scores, the difference b - a with its 95 % interval, and its p, also corrected for all metrics (Holm).

    Raises:
        CahpError: If a file holds no samples, or both have no item or no metric in common; one line with the next step.
    """
    return pair(read_file(Path(a)), read_file(Path(b)), seed=seed)


def evaluate_tasks(
    model: Name | Settings = Settings.model,
    tasks: str | Sequence[str] = (),
    *,
    mask: HeadMask | Name,
    items: int | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> TaskComparison:
    """Evaluate a pruned and the full language model by lm-evaluation-harness, and compare them item by item.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options.
        tasks: Names of tasks of the harness, or YAML files.
        mask: A head mask or its file.
        items: Number of items of each task (None: all).
        progress, store: See ``cahp.prune``.
        yes: Let the harness download the data of the tasks; without it, the network is not used.
        **options: ``device``, ``dtype`` and ``seed``.

    Returns:
        Both runs, compared as by ``compare_samples``; ``write`` keeps their samples.

    Raises:
        CahpError: If the harness is not installed, a task or its data are not there, or model and mask do not fit.
    """
    names = _read_names(tasks)
    settings = read_settings("evaluate", model, None, options)
    _check_settings(settings)
    check_installed()
    given = HarnessOptions(names, items, yes, settings.seed)
    with show_progress(progress, yes=yes) as reporter:
        card = identify_model(settings)
        if card.task.items_are_texts:
            raise ModelError(f"{card.id} does not predict the next token of a text; name a causal language model")
        keep = read_mask_for(card, mask)[0]
        loaded = list_tasks(given)
        resources = Resources(card, store=store or Store(), device=settings.device, progress=reporter)
        # Before hours of work: not every mask can be cut.
        pruned_model = cut(resources.model, keep)
        full = run_tasks(resources.model, loaded, given)
        pruned = run_tasks(pruned_model, loaded, given)
    paired = _pair_all(full, pruned, settings.seed)
    return TaskComparison(card.id, kept_heads(keep), paired, {"full": full, "pruned": pruned})


def _check_settings(settings: Settings) -> None:
    """Check that no field is given that the harness does not read.

    Raises:
        OptionError: If one is.
    """
    for name in changed_fields(settings):
        if name in ("limit", "eval_limit"):
            raise OptionError(f"{name} has no effect on --tasks; use --items for the number of items of each task")
    check_used(settings, _USED, "--tasks, whose data and protocol are the harness's")


def _read_names(tasks: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(tasks, str):
        tasks = tasks.split(",")
    names = tuple(name.strip() for name in tasks if name.strip())
    if not names:
        raise OptionError("no task is named; give some with --tasks piqa,arc_easy")
    return names


def _pair_all(full: TaskSamples, pruned: TaskSamples, seed: int) -> PairedSamples:
    """Compare the models on each task, and correct the tests of all tasks together."""
    rows: list[PairedRow] = []
    notices: list[str] = []
    for task, samples in full.items():
        # The models have names here, not files.
        own = read_samples(f"{task} (full)", samples)
        paired = pair(own, read_samples(f"{task} (pruned)", pruned[task]), task=task, seed=seed)
        rows += paired.rows
        notices += [f"{task}: {notice}" for notice in paired.notices]
    return PairedSamples("full", "pruned", correct_rows(rows), tuple(notices))
