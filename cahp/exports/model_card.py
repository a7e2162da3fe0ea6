"""The model card of an exported folder: how to load it, what it keeps, what was measured, and what it was made from."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.exports import formats
from cahp.exports.form import Footprint, ModelForm, show_files
from cahp.models.cards import ModelCard, Prompt, PromptExample
from cahp.models.identity import base_of, output_head
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, RECOVERIES, find_applied
from cahp.run.document import machine
from cahp.run.settings import join_words
from cahp.run.show import show_outcomes, show_steps
from cahp.show import markdown
from cahp.tasks.answers import WindowProtocol
from cahp.values import HeadMask
from cahp.words import capital, printable, safe

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TASKS = {"classification": "text-classification", "causal": "text-generation", "masked": "fill-mask"}


def _quote(note: str | None) -> list[str]:
    """Return what the form says of what it wrote, as a paragraph."""
    if note is None:
        return []
    return ["", f"{capital(note)}."]


def model_card(
    form: ModelForm,
    card: ModelCard,
    mask: HeadMask,
    outcome: Mapping[str, Any],
    source: Mapping[str, Any],
    *,
    example: PromptExample | None = None,
    files: Sequence[Footprint] = (),
    findings: Sequence[str] = (),
) -> str:
    """Return the ``README.md`` of a folder.

    ``example`` is a prompt of a language model with its answers; ``files`` are sizes and latencies, if measured.
    ``findings`` are lines about what else was measured, before the model was rounded.
    """
    weights = source["parameters"]
    data = source["data"]
    evaluated_on = "none"
    if data is not None:
        evaluated_on = f"`{data['id']}`, split `{data['split']}`, sha256 `{data['sha256']}`"
    packages = [f"{name} {version(name)}" for name in form.checked_with]
    words = "texts"
    if source["protocol"] is not None:
        words = "tokens"
    closeness = form.closeness(
        outcome["difference"], outcome["agreement"], outcome["tried"], written=outcome["written"], words=words
    )
    unit = "attention heads"
    if card.group > 1:
        unit = f"key-value groups of {card.group} attention heads each"
    holds = ""
    if form.keeps_shapes:
        holds = " are used, and the files hold all of them"
    heads = [(str(layer), ", ".join(map(str, kept)) or "-") for layer, kept in enumerate(mask.by_layer)]
    versions = [f"{name} {number}" for name, number in source["versions"].items()]
    lines = [
        "---",
        *_front_matter(form, card, mask, outcome, source).splitlines(),
        "---",
        "",
        f"# {card.id}, {mask.count} of {mask.keep.size} {unit}",
        "",
        f"Made from `{card.id}` ({card.family}) by removing attention heads with cahp-explorer"
        f"{_describe_recovery(source['recovery'], outcome)}. {weights['full']:,} weights before, "
        f"{weights['pruned']:,} after{holds}.",
        "",
        "## Load the model",
        "",
        formats.describe_loading(form, card).rstrip(),
        "",
    ]
    if card.prompt is not None and example is not None and form.runtime in ("", "onnxruntime"):
        lines += _prompting(form, card, card.prompt, example)
    if card.task.predicts_often and not form.runtime:
        lines.append(formats.GENERATING)
    lines += [
        "## Checked",
        "",
        f"Read back in a new process with {', '.join(packages)}: {closeness}.",
        *_quote(outcome.get("note")),
        "",
        f"## Kept {card.unit}s",
        "",
        *markdown.table(("layer", f"{card.unit}s (numbered as in the original)"), heads),
        "",
        "## Results",
        "",
        *_results(outcome, data, source["protocol"]),
    ]
    for finding in findings:
        rounded = ""
        if form.rounded is not None:
            rounded = "Before rounding: "
        # They name classes of the data.
        lines += [f"{rounded}{safe(printable(finding))}.", ""]
    lines += markdown.draw(show_files(files, form.runtime, machine()))
    lines += [
        "## Origin",
        "",
        f"- model: `{card.id}`, revision {card.revision or 'local'}, sha256 `{card.identity}`",
        f"- head mask: `head_mask.json`, sha256 `{mask.sha256}`",
        f"- data: {evaluated_on}",
        f"- versions: {', '.join(versions)}",
    ]
    if source["command"]:
        lines.append(f"- command: `{source['command']}`")
    lines += ["", "The weights derive from the original model: its licence applies to them."]
    return "\n".join(lines) + "\n"


def _describe_recovery(name: str, outcome: Mapping[str, Any]) -> str:
    """Say how a model was recovered, and which steps held-out texts rejected."""
    refit = outcome.get("refit")
    distilled = outcome.get("distill")
    applied = find_applied(name, refit, distilled)
    clause = RECOVERIES[applied].card
    if applied == name:
        return clause
    if applied != NONE.name:
        return f"{clause}; a distillation was tried and rejected"
    tried = []
    if refit is not None:
        tried.append("a refit")
    if distilled is not None:
        tried.append("a distillation")
    return f"{clause}, because held-out texts rejected {' and '.join(tried)}"


def _front_matter(
    form: ModelForm, card: ModelCard, mask: HeadMask, outcome: Mapping[str, Any], source: Mapping[str, Any]
) -> str:
    """Return what the hub reads of the model, as YAML: what it was made from, and what was measured of it."""
    from huggingface_hub import ModelCardData

    relation = "finetune"
    if form.rounded is not None:
        relation = "quantized"
    origin: dict[str, Any] = {}
    base = base_of(card)
    if base is not None:
        origin = {"base_model": base, "base_model_relation": relation}
    results = _eval_results(card, outcome, source)
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


def _eval_results(card: ModelCard, outcome: Mapping[str, Any], source: Mapping[str, Any]) -> list[EvalResult]:
    """Return the outcomes of the model that was written, with their intervals, n, split and protocol."""
    from huggingface_hub import EvalResult

    states = [outcomes for outcomes in (outcome["outcomes"] or {}).values() if outcomes is not None]
    if not states:
        return []
    data = source["data"]
    protocol = f"{data['max_length']} tokens of each text"
    if source["protocol"] is not None:
        protocol = str(source["protocol"])
    results = []
    for name, estimate in states[-1].items():
        if not math.isfinite(estimate.value):
            continue
        facts: dict[str, Any] = {"n": estimate.n, "unit": estimate.unit}
        if estimate.ci95 is not None:
            facts["ci95"] = [_rounded(end) for end in estimate.ci95]
        results.append(
            EvalResult(
                task_type=_TASKS[output_head(card)],
                dataset_type=_name_data(data["id"]),
                dataset_name=_name_data(data["id"]),
                dataset_split=data["split"],
                dataset_args={"protocol": protocol, "sha256": data["sha256"]},
                metric_type=name,
                metric_name=OUTCOMES[name].label,
                metric_value=_rounded(estimate.value),
                metric_args=facts,
            )
        )
    return results


def _name_data(name: str) -> str:
    """Return data by the id on the hub, or by a name without the folders of this machine."""
    if name.startswith("hub:"):
        return name.removeprefix("hub:")
    return Path(name).name


def _rounded(value: float) -> float:
    """Round a number to six significant digits."""
    return float(f"{value:.6g}")


def _prompting(form: ModelForm, card: ModelCard, prompt: Prompt, example: PromptExample) -> list[str]:
    """Return a section that shows how to get the answers of a language model in Python and on the command line."""
    places = {"text": "a text"}
    if prompt.pairs:
        places = {"premise": "a text", "hypothesis": "another"}
    filled = "".join(f'.replace("{{{place}}}", "{text}")' for place, text in places.items())
    at = str(-1 - example.ending)
    if prompt.masked:
        at = 'inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)'
        filled += '.replace("{mask}", tokenizer.mask_token)'
    tokens = {answer.word: answer.token for answer in example.answers}
    command = ["cahp", "evaluate", "--model", "FOLDER"]
    command += ["--prompt", prompt.template, "--answers", join_words(prompt.answers)]
    tensors = "np"
    evaluate = []
    if not form.runtime:
        tensors = "pt"
        logits = [f"logits = model(**inputs).logits[0, {at}].tolist()"]
        evaluate = [f"Where cahp-explorer is installed, `{shlex.join(command)}` does this for a data set.", ""]
    elif card.saves == "cache":
        logits = [f'logits = read(inputs["input_ids"], inputs["attention_mask"])[0][0, {at}].tolist()']
    else:
        logits = [
            'found = session.run(["logits"], {name: values for name, values in inputs.items() if name in wanted})',
            f"logits = found[0][0, {at}].tolist()",
        ]
    return [
        "## Prompt the model",
        "",
        "The results are those of its answers to a prompt, each scored by its first token. The model can still be used "
        "as a language model.",
        "",
        "```python",
        f"prompt = {prompt.template.rstrip(' ')!r}",
        f"answers = {tokens!r}",
        f'inputs = tokenizer(prompt{filled}, return_tensors="{tensors}")',
        *logits,
        "scores = {answer: logits[token] for answer, token in answers.items()}",
        "```",
        "",
        *evaluate,
    ]


def _results(outcome: Mapping[str, Any], data: Mapping[str, Any] | None, protocol: WindowProtocol | None) -> list[str]:
    states = {state: outcomes for state, outcomes in (outcome["outcomes"] or {}).items() if outcomes is not None}
    if not states:
        return ["Not evaluated: no data were given.", ""]
    measured = "the texts"
    over = ""
    if protocol is not None:
        measured = safe(protocol)  # <s> is a tag
        over = f" over {protocol.units}"
    split = ""
    if data is not None:
        split = f" of the split `{data['split']}`"
    tables = [show_outcomes("", states, protocol), *show_steps(outcome.get("steps") or (), protocol)]
    return [f"On {measured}{split}, with 95 % intervals{over}:", "", *markdown.draw(tables)]
