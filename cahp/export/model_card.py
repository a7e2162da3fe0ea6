"""What an exported folder says of itself: how it loads, what was measured, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cahp.export.formats import ModelForm
from cahp.values import HeadMask, ModelCard
from cahp.words import percent, span


def model_card(
    form: ModelForm, card: ModelCard, mask: HeadMask, outcome: Mapping[str, Any], source: Mapping[str, Any]
) -> str:
    """``README.md`` of a folder: what it is, how to load it, what was measured, where it comes from."""
    weights = source["parameters"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "tags: [attention-head-pruning, cahp]",
        "---",
        "",
        f"# {card.id}, {mask.count} of {mask.keep.size} attention heads",
        "",
        f"Made from `{card.id}` ({card.family}) by removing attention heads with cahp-explorer"
        f"{_RECOVERED[source['recovery']]}. {weights['full']:,} weights before, {weights['pruned']:,} after.",
        "",
        "## Load it",
        "",
        form.card.rstrip(),
        "",
        "## Heads that stayed",
        "",
        "| layer | heads (numbered as in the original) |",
        "|---|---|",
        *(f"| {layer} | {', '.join(map(str, heads)) or '-'} |" for layer, heads in enumerate(mask.by_layer)),
        "",
        "## Measured",
        "",
        *_figures(outcome, source["data"]),
        "",
        "## Where it comes from",
        "",
        f"- model: `{card.id}`, revision {card.revision or 'local'}, sha256 `{card.sha256}`",
        f"- head mask: `head_mask.json`, sha256 `{mask.sha256}`",
        f"- data: {_data(source['data'])}",
        f"- versions: {', '.join(f'{name} {number}' for name, number in source['versions'].items())}",
        *([f"- command: `{source['command']}`"] if source["command"] else []),
        "",
        "The weights derive from the original model: its licence applies to them.",
    ]
    return "\n".join(lines) + "\n"


_RECOVERED = {
    "none": "; nothing was recovered",
    "refit": "; its output projections were solved anew in closed form (refit)",
    "distill": "; it then learned from the full model on unlabelled texts (refit and distillation)",
    "auto": "; it then learned from the full model as long as time allowed (refit and distillation)",
    "finetune": "; it was fine-tuned afterwards",
}


def _figures(outcome: Mapping[str, Any], data: Mapping[str, Any] | None) -> list[str]:
    if not outcome["metrics"]:
        return ["Nothing: no data were given."]
    rows = ["| model | accuracy | 95 % interval | macro-F1 |", "|---|---|---|---|"]
    for name, metrics in outcome["metrics"].measured.items():
        ends = span(100 * metrics.ci95[0], 100 * metrics.ci95[1])
        rows.append(f"| {name} | {percent(metrics.accuracy)} | {ends} % | {percent(metrics.macro_f1)} |")
    split = "" if data is None else f" of the split `{data['split']}`"
    return [f"On {outcome['metrics'].full.n:,} texts{split}:", "", *rows]


def _data(data: Mapping[str, Any] | None) -> str:
    return "none" if data is None else f"`{data['id']}`, split `{data['split']}`, sha256 `{data['sha256']}`"
