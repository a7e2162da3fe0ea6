"""The model card of an exported folder: how to load it, what it keeps, what was measured, and what it was made from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.exports import formats
from cahp.exports.form import ModelForm, show_files
from cahp.models.cards import ModelCard, Prompt, PromptExample
from cahp.models.identity import base_of, output_head
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES, find_applied
from cahp.run.document import machine
from cahp.run.settings import join_words
from cahp.run.show import show_outcomes, show_steps
from cahp.show import markdown
from cahp.show.blocks import Block, Text
from cahp.values import HeadMask
from cahp.words import capital, printable, safe

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TASKS = {"classification": "text-classification", "causal": "text-generation", "masked": "fill-mask"}


def model_card(
    form: ModelForm,
    card: ModelCard,
    mask: HeadMask,
    figures: Mapping[str, Any],
    *,
    example: PromptExample | None = None,
    findings: Sequence[str] = (),
) -> str:
    """Return the ``README.md`` of a folder, whose ``metrics.json`` holds the ``figures``.

    ``example`` is a prompt of a language model with its answers. ``findings`` are lines about what else was measured,
    before the model was rounded.
    """
    weights = figures["parameters"]
    unit = "attention heads"
    if card.group > 1:
        unit = f"key-value groups of {card.group} attention heads each"
    holds = ""
    if form.keeps_shapes:
        holds = " are used, and the files hold all of them"
    heads = [(str(layer), ", ".join(map(str, kept)) or "-") for layer, kept in enumerate(mask.by_layer)]
    lines = [
        "---",
        *_front_matter(form, card, mask, figures).splitlines(),
        "---",
        "",
        f"# {card.id}, {mask.count} of {mask.keep.size} {unit}",
        "",
        f"Made from `{card.id}` ({card.family}) by removing attention heads with cahp-explorer"
        f"{_describe_recovery(figures)}. {weights['full']:,} weights before, {weights['pruned']:,} after{holds}.",
        "",
        "## Load the model",
        "",
        formats.describe_loading(form, card).rstrip(),
        "",
    ]
    if not form.runtime:
        if card.prompt is not None and example is not None:
            lines += _prompting(card.prompt, example)
        if card.task.predicts_often:
            lines.append(formats.GENERATING)
    lines += ["## Checked", "", f"Read back in a new process: {form.closeness(figures)}.", ""]
    if figures.get("note"):
        lines += [f"{capital(figures['note'])}.", ""]
    lines += [
        f"## Kept {card.unit}s",
        "",
        *markdown.table(("layer", f"{card.unit}s (numbered as in the original)"), heads),
        "",
        "## Results",
        "",
        *markdown.draw(_show_results(figures)),
    ]
    for finding in findings:
        rounded = ""
        if form.rounded:
            rounded = "Before rounding: "
        # They name classes of the data.
        lines += [f"{rounded}{safe(printable(finding))}.", ""]
    lines += markdown.draw(show_files(figures["files"] or (), form.runtime, machine()))
    versions = [f"{name} {number}" for name, number in figures["versions"].items()]
    lines += [
        "## Origin",
        "",
        f"- model: `{card.id}`, revision {card.revision or 'local'}, sha256 `{card.identity}`",
        f"- head mask: `head_mask.json`, sha256 `{mask.sha256}`",
    ]
    data = figures["data"]
    if data is not None:
        lines.append(f"- data: `{data['id']}`, split `{data['split']}`, sha256 `{data['sha256']}`")
    lines.append(f"- versions: {', '.join(versions)}")
    if figures["command"]:
        lines.append(f"- command: `{figures['command']}`")
    lines += ["", "The weights derive from the original model: its licence applies to them."]
    return "\n".join(lines) + "\n"


def _describe_recovery(figures: Mapping[str, Any]) -> str:
    """Say how a model was recovered, and which steps held-out texts rejected."""
    tried = [name for name in ("refit", "distill") if figures.get(name) is not None]
    applied = find_applied(figures["recovery"], figures.get("refit"), figures.get("distill"))
    clause = RECOVERIES[applied].card
    rejected = [name for name in tried if not figures[name].accepted]
    if applied == figures["recovery"] or not rejected:
        return clause
    return f"{clause} (held-out texts rejected: {', '.join(rejected)})"


def _front_matter(form: ModelForm, card: ModelCard, mask: HeadMask, figures: Mapping[str, Any]) -> str:
    """Return what the hub reads of the model, as YAML: what it was made from, and what was measured of it."""
    from huggingface_hub import ModelCardData

    relation = "finetune"
    if form.rounded:
        relation = "quantized"
    origin: dict[str, Any] = {}
    base = base_of(card)
    if base is not None:
        origin = {"base_model": base, "base_model_relation": relation}
    results = _eval_results(card, figures)
    if results:
        origin |= {
            "model_name": f"{Path(card.id).name}-{mask.count}-of-{mask.keep.size}-{card.unit}s",
            "eval_results": results,
        }
    return ModelCardData(
        library_name=form.library,
        pipeline_tag=_TASKS[output_head(card)],
        tags=["attention-head-pruning", "cahp"],
        **origin,
    ).to_yaml()


def _eval_results(card: ModelCard, figures: Mapping[str, Any]) -> list[EvalResult]:
    """Return the outcomes of the model that was written, with their intervals, n, split and protocol."""
    from huggingface_hub import EvalResult

    states = [outcomes for outcomes in (figures["outcomes"] or {}).values() if outcomes is not None]
    if not states:
        return []
    data = figures["data"]
    # By the id on the hub, or by a name without the folders of this machine.
    name = Path(data["id"]).name
    if data["id"].startswith("hub:"):
        name = data["id"].removeprefix("hub:")
    protocol = f"{data['max_length']} tokens of each text"
    if figures["protocol"] is not None:
        protocol = str(figures["protocol"])
    results = []
    for metric, estimate in states[-1].items():
        if not math.isfinite(estimate.value):
            continue
        facts: dict[str, Any] = {"n": estimate.n, "unit": estimate.unit}
        if estimate.ci95 is not None:
            facts["ci95"] = [_rounded(end) for end in estimate.ci95]
        results.append(
            EvalResult(
                task_type=_TASKS[output_head(card)],
                dataset_type=name,
                dataset_name=name,
                dataset_split=data["split"],
                dataset_args={"protocol": protocol, "sha256": data["sha256"]},
                metric_type=metric,
                metric_name=OUTCOMES[metric].label,
                metric_value=_rounded(estimate.value),
                metric_args=facts,
            )
        )
    return results


def _rounded(value: float) -> float:
    """Round a number to six significant digits."""
    return float(f"{value:.6g}")


def _prompting(prompt: Prompt, example: PromptExample) -> list[str]:
    """Return a section that tells how a language model was asked."""
    command = ["cahp", "evaluate", "--model", "FOLDER"]
    command += ["--prompt", prompt.template, "--answers", join_words(prompt.answers)]
    tokens = ", ".join(f"`{answer.word}` (token {answer.token})" for answer in example.answers)
    return [
        "## Prompt the model",
        "",
        f"The results are those of its answers to the prompt `{prompt.template}`, each scored by its first token: "
        f"{tokens}. Where cahp-explorer is installed, `{shlex.join(command)}` does this for a data set.",
        "",
    ]


def _show_results(figures: Mapping[str, Any]) -> Iterator[Block]:
    states = {state: outcomes for state, outcomes in (figures["outcomes"] or {}).items() if outcomes is not None}
    if not states:
        yield Text("Not evaluated: no data were given.")
        return
    protocol = figures["protocol"]
    if protocol is not None:
        yield Text(f"Measured on {protocol}.")
    yield show_outcomes(f"On {figures['data']['split']}, with 95 % intervals", states, protocol)
    yield from show_steps(figures.get("steps") or (), protocol)
