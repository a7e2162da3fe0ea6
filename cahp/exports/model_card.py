"""The model card of an exported folder: how to load it, what it keeps, what was measured, and what it was made from."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from cahp.exports.form import ModelForm, show_files
from cahp.exports.formats import name_class
from cahp.models.cards import ModelCard, PromptExample
from cahp.models.identity import base_of, output_head
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES, find_applied
from cahp.run.document import machine, measured_states
from cahp.run.settings import join_words
from cahp.run.show import show_outcomes, show_steps
from cahp.show import markdown
from cahp.show.blocks import Block, Text
from cahp.values import Fields, HeadMask, JsonObject
from cahp.words import capital, printable, safe

_TASKS = {"classification": "text-classification", "causal": "text-generation", "masked": "fill-mask"}
#: How a model of a task is used, where transformers runs it.
_USES = {
    "text-generation": """\
## Generate text

```python
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20, do_sample=False)[0]))
```
"""
}


def model_card(
    form: ModelForm,
    card: ModelCard,
    mask: HeadMask,
    figures: Fields,
    *,
    example: PromptExample | None,
    findings: Sequence[str],
) -> str:
    """Return the ``README.md`` of a folder, whose ``metrics.json`` holds the ``figures``.

    ``example`` is a prompt of a language model with its answers. ``findings`` are lines about what else was measured,
    before the model was rounded.
    """
    task = _TASKS[output_head(card)]
    weights = figures["parameters"]
    data = figures["data"]
    protocol = figures["protocol"]
    states = measured_states(figures)
    kept = f"{mask.count} of {mask.keep.size} {card.unit}s"

    unit = "attention heads"
    if card.group > 1:
        unit = f"key-value groups of {card.group} attention heads each"

    applied = find_applied(figures["recovery"], figures.get("refit"), figures.get("distill"))
    recovery = RECOVERIES[applied].card
    tried = [name for name in ("refit", "distill") if figures.get(name) is not None]
    rejected = [name for name in tried if not figures[name].accepted]
    if applied != figures["recovery"] and rejected:
        recovery += f" (held-out texts rejected: {', '.join(rejected)})"

    use = ""
    if not form.runtime:
        use = _USES.get(task, "")
        if card.prompt is not None and example is not None:
            asked = ["--prompt", card.prompt.template, "--answers", join_words(card.prompt.answers)]
            command = shlex.join(["cahp", "evaluate", "FOLDER", *asked])
            tokens = ", ".join(f"`{answer.word}` (token {answer.token})" for answer in example.answers)
            use = (
                f"## Prompt the model\n\nThe results are those of its answers to the prompt `{card.prompt.template}`, "
                f"each scored by its first token: {tokens}. Where cahp-explorer is installed, `{command}` does this "
                "for a data set.\n"
            )

    blocks: list[Block] = [Text("Not evaluated: no data were given.")]
    if states:
        title = f"On {data['split']}, with 95 % intervals"
        if protocol:
            title += f", {protocol}"
        blocks = [show_outcomes(title, states), *show_steps(figures.get("steps") or ())]
    # They name classes of the data.
    found = [f"{safe(printable(finding))}." for finding in findings]
    if form.rounded:
        found = [f"Before rounding: {finding}" for finding in found]
    checked = [f"Read back in a new process: {form.closeness(figures)}."]
    if figures.get("note"):
        checked.append(f"{capital(figures['note'])}.")

    origin = [
        f"- model: `{card.id}`, revision {card.revision or 'local'}, sha256 `{card.identity}`",
        f"- head mask: `head_mask.json`, sha256 `{mask.sha256}`",
    ]
    if data is not None:
        origin.append(f"- data: `{data['id']}`, split `{data['split']}`, sha256 `{data['sha256']}`")
    origin.append(f"- versions: {', '.join(f'{name} {number}' for name, number in figures['versions'].items())}")
    if figures["command"]:
        origin.append(f"- command: `{figures['command']}`")
    heads = [(str(layer), ", ".join(map(str, kept)) or "-") for layer, kept in enumerate(mask.by_layer)]
    parts = [
        f"---\n{_describe_for_hub(form, card, kept, task, states, figures)}---",
        f"# {card.id}, {mask.count} of {mask.keep.size} {unit}",
        f"Made from `{card.id}` ({card.family}) by removing attention heads with cahp-explorer{recovery}. "
        f"{weights['full']:,} weights before, {weights['pruned']:,} in use after.",
        "## Load the model",
        name_class(form.cards.get(card.saves, form.card), card).rstrip(),
        use.rstrip(),
        "## Checked",
        *checked,
        f"## Kept {card.unit}s",
        "\n".join(markdown.table(("layer", f"{card.unit}s (numbered as in the original)"), heads)),
        "## Results",
        "\n".join(markdown.draw(blocks)).rstrip(),
        *found,
        "\n".join(markdown.draw(show_files(figures["files"] or (), f"{form.runtime} on {machine()}"))).rstrip(),
        "## Origin",
        "\n".join(origin),
        "The weights derive from the original model: its licence applies to them.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _describe_for_hub(
    form: ModelForm,
    card: ModelCard,
    kept: str,
    task: str,
    states: Fields,
    figures: Fields,
) -> str:
    """Return what the hub reads of a model, as YAML: its origin, and its outcomes with interval, n, split, protocol."""
    from huggingface_hub import EvalResult, ModelCardData

    facts: JsonObject = {}
    base = base_of(card)
    if base is not None:
        facts = {"base_model": base, "base_model_relation": "finetune"}
        if form.rounded:
            facts["base_model_relation"] = "quantized"
    if states:
        data = figures["data"]
        # By the id on the hub, or by a name without the folders of this machine.
        name = Path(data["id"]).name
        if data["id"].startswith("hub:"):
            name = data["id"].removeprefix("hub:")
        protocol = str(figures["protocol"] or f"{data['max_length']} tokens of each text")
        *_, outcomes = states.values()
        facts["model_name"] = f"{Path(card.id).name}-{kept.replace(' ', '-')}"
        facts["eval_results"] = [
            EvalResult(
                task_type=task,
                dataset_type=name,
                dataset_name=name,
                dataset_split=data["split"],
                dataset_args={"protocol": protocol, "sha256": data["sha256"]},
                metric_type=metric,
                metric_name=OUTCOMES[metric].label,
                metric_value=estimate.value,
                metric_args={"n": estimate.n, "unit": estimate.unit, "ci95": estimate.ci95 and list(estimate.ci95)},
            )
            for metric, estimate in outcomes.items()
            if math.isfinite(estimate.value)
        ]
    tags = ["attention-head-pruning", "cahp"]
    return ModelCardData(library_name=form.library, pipeline_tag=task, tags=tags, **facts).to_yaml() + "\n"
