"""What an exported folder says of itself: how it loads, what was measured, where it comes from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cahp.cards import ModelCard, Prompt, PromptExample
from cahp.exports.footprint import Footprint, markdown
from cahp.exports.form import ModelForm
from cahp.exports.formats import as_asked
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.run.command_line import join_words
from cahp.run.document import machine
from cahp.values import HeadMask


def model_card(
    form: ModelForm,
    card: ModelCard,
    mask: HeadMask,
    outcome: Mapping[str, Any],
    source: Mapping[str, Any],
    *,
    reading: PromptExample | None = None,
    files: Sequence[Footprint] = (),
) -> str:
    """``README.md`` of a folder: what it is, how to load it, what was measured, where it comes from.

    ``reading`` is what a language model was asked, ``files`` are sizes and times if they were measured.
    """
    weights = source["parameters"]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {_TASKS[None if card.prompt is None else card.language]}",
        "tags: [attention-head-pruning, cahp]",
        "---",
        "",
        f"# {card.id}, {mask.count} of {mask.keep.size} attention heads",
        "",
        f"Made from `{card.id}` ({card.family}) by removing attention heads with cahp-explorer"
        f"{RECOVERIES[source['recovery']].card}. {weights['full']:,} weights before, {weights['pruned']:,} after.",
        "",
        "## Load it",
        "",
        as_asked(form.card, card.prompt).rstrip(),
        "",
        *([] if card.prompt is None or reading is None else _asking(form, card.prompt, reading)),
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
        *([*markdown(files, form.runtime.name, machine()), ""] if files and form.runtime is not None else []),
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


_TASKS = {None: "text-classification", "causal": "text-generation", "masked": "fill-mask"}


def _asking(form: ModelForm, prompt: Prompt, reading: PromptExample) -> list[str]:
    """How the measured answers are had of a language model: in Python, and where it can be on the command line."""
    at = 'inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)' if prompt.masked else str(-1 - reading.ending)
    places = {"premise": "a text", "hypothesis": "another"} if prompt.pairs else {"text": "a text"}
    filled = "".join(f'.replace("{{{place}}}", "{text}")' for place, text in places.items())
    filled += '.replace("{mask}", tokenizer.mask_token)' if prompt.masked else ""
    tensors = "pt" if form.runtime is None else "np"
    says = (
        [f"logits = model(**inputs).logits[0, {at}].tolist()"]
        if form.runtime is None
        else [
            'found = session.run(["logits"], {name: values for name, values in inputs.items() if name in wanted})',
            f"logits = found[0][0, {at}].tolist()",
        ]
    )
    tokens = {one.word: one.token for one in reading.answers}
    line = shlex.join(
        ["cahp", "evaluate", "--model", "FOLDER", "--prompt", prompt.template, "--answers", join_words(prompt.answers)]
    )
    return [
        "## Ask it",
        "",
        "It is a language model as before. What was measured are its answers to a prompt, each by the score of its "
        "first token.",
        "",
        "```python",
        f"prompt = {prompt.template.rstrip(' ')!r}",
        f"answers = {tokens!r}",
        f'inputs = tokenizer(prompt{filled}, return_tensors="{tensors}")',
        *says,
        "scores = {answer: logits[token] for answer, token in answers.items()}",
        "```",
        "",
        *(
            [f"Where cahp-explorer is installed, `{line}` does that for a data set.", ""]
            if form.runtime is None
            else []
        ),
    ]


def _figures(outcome: Mapping[str, Any], data: Mapping[str, Any] | None) -> list[str]:
    states = {state: outcomes for state, outcomes in (outcome["outcomes"] or {}).items() if outcomes is not None}
    if not states:
        return ["Nothing: no data were given."]
    shown = [row for row in OUTCOMES.values() if any(row.name in outcomes for outcomes in states.values())]
    rows = [f"| model | {' | '.join(row.label for row in shown)} |", f"|---|{'---|' * len(shown)}"]
    for state, outcomes in states.items():
        cells = [outcomes.get(row.name) for row in shown]
        rows.append(f"| {state} | {' | '.join('' if one is None else f'{one.text} {one.interval}' for one in cells)} |")
    steps = outcome.get("steps", ())
    if steps:
        after = [f"{step.result} {step.outcomes['accuracy'].text}" for step in steps]
        rows += ["", f"Accuracy after each step of the recovery: {', '.join(after)}."]
    split = "" if data is None else f" of the split `{data['split']}`"
    return [f"On {states['full']['accuracy'].n:,} texts{split}, with 95 % intervals:", "", *rows]


def _data(data: Mapping[str, Any] | None) -> str:
    return "none" if data is None else f"`{data['id']}`, split `{data['split']}`, sha256 `{data['sha256']}`"
