"""A pruned model as a folder to take home: its weights, how to load it, its mask, its figures, where it comes from."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from cahp.export.masks import mask_to_json
from cahp.files import json_text
from cahp.run.bench import Bench
from cahp.run.document import versions
from cahp.run.prune import outcomes
from cahp.run.settings import Recovery
from cahp.values import CahpError, HeadMask, Input, ModelCard, OptionError, Progress, silent
from cahp.words import percent, span

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Watch
    from cahp.stages.latency import Times

Form = Literal["compact", "drop-in", "onnx"]
STAGE = "write"
#: Texts that a written model is tried on.
TRIED = 64
#: What it is tried on where no data are at hand.
SENTENCES: tuple[Input, ...] = (
    "A short text.",
    "Most heads of a transformer can be removed, one after the other, and its answers hardly change.",
    "Why would it need so many, then?",
    "Fine.",
)


@dataclass(frozen=True)
class Written:
    """A model on disk: its form, the bytes of its weights, how far its logits stray when read back.

    ``latency`` is that of the ONNX file beside the full model's (None for other forms, or if not asked for).
    """

    form: Form
    bytes: int
    difference: float
    latency: Times | None = None

    def as_json(self) -> dict[str, Any]:
        """What JSON can say of it."""
        timed = None
        if self.latency is not None:
            found = self.latency
            timed = {
                "full": asdict(found.full),
                "pruned": asdict(found.pruned),
                "ratio": asdict(found.ratio),
            }
        return {"form": self.form, "bytes": self.bytes, "difference": self.difference, "onnx_latency_ms": timed}


def check_form(form: str, *, besides: Iterable[str] = ()) -> Form:
    """``form``, if there is such a form of a model, and what it needs is installed.

    ``besides`` are what else could have been asked for.

    Raises:
        OptionError: If not.
    """
    if form not in get_args(Form):
        raise OptionError(f"--format {form} is unknown; choose one of {', '.join((*get_args(Form), *besides))}")
    if form == "onnx":
        from importlib.util import find_spec

        missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise OptionError(
                f"writing ONNX needs {' and '.join(missing)}; install it with `pip install 'cahp-explorer[onnx]'`"
            )
    return form  # type: ignore[return-value]


#: What a folder that ``fit`` or ``recover`` wrote, or ``save_pretrained``, may hold.
_OF_A_MODEL = re.compile(
    r"(adapter_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|(adapter_|generation_|tokenizer_)?config\.json"
    r"|metrics\.json|head_mask\.json|load_pruned\.py|model\.onnx|(tokenizer|special_tokens_map|added_tokens|vocab)\.json|(vocab|merges)\.txt|\w+\.model|README\.md"
)


def check_replaceable(out: Path, card: ModelCard) -> None:
    """Check that nothing but a model would be lost when a new one takes the place of ``out``.

    Raises:
        OptionError: If it holds other files, or the model of ``card`` itself.
    """
    if not out.is_dir():
        return
    if out.resolve() == Path(card.folder).resolve():
        raise OptionError(f"{out} holds {card.id} itself, which would be overwritten; name another folder with --out")
    others = [item.name for item in sorted(out.iterdir()) if item.is_dir() or not _OF_A_MODEL.fullmatch(item.name)]
    if others:
        raise OptionError(
            f"{out} holds {others[0]}, which is no part of a model and would be lost; name a new or empty folder with "
            "--out"
        )


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """A disk that fails while something is written to ``out`` becomes one sentence (``CahpError``)."""
    try:
        yield
    except OSError as error:
        raise CahpError(
            f"the model cannot be written to {out} ({error.strerror or error}); name another folder with --out"
        ) from error


def recovered(
    bench: Bench, mask: HeadMask, *, recover: Recovery, epochs: int = 3, watch: Watch | None = None
) -> tuple[dict[str, Any], HeadModel]:
    """The model cut to ``mask`` and recovered as asked, and the ``metrics`` and ``delta`` of a run with it.

    With a refit also why it was taken or not (``refit``), with fine-tuning its ``epochs``, and ``watch`` sees the loss.
    """
    seed = bench.settings.seed
    if recover == "finetune":
        from cahp.models.training import Schedule

        tuned = bench.measurements.finetune(mask, schedule=Schedule(epochs=epochs), watch=watch)
        outcome = dict(vars(outcomes(bench.measurements, bench.evaluation, mask, recovered=tuned, seed=seed)))
        outcome["epochs"] = list(tuned.epochs)
        return outcome, bench.measurements.pruned(mask, tuned)
    refit = bench.measurements.refit(mask) if recover == "refit" else None
    outcome = dict(vars(outcomes(bench.measurements, bench.evaluation, mask, recovered=refit, seed=seed)))
    if refit is not None:
        outcome["refit"] = refit.report
    return outcome, bench.measurements.pruned(mask, refit)


def write(
    form: Form,
    folder: Path,
    *,
    model: HeadModel,
    pruned: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input] = SENTENCES,
    outcome: Mapping[str, Any] | None = None,
    method: str = "by hand",
    data: Mapping[str, Any] | None = None,
    recovery: str = "none",
    command: str = "",
    latency: bool = True,
    progress: Progress = silent,
) -> Written:
    """Write ``pruned`` (``model`` cut to ``mask``, recovered or not) as a folder that others load, whole or not at all.

    Besides weights and tokenizer it holds ``head_mask.json``, ``metrics.json`` and a ``README.md`` that says how to
    load it, what was measured, and from which model and data it was made. It is read back in a fresh process that does
    not know this package and must answer ``inputs`` with the same logits. ``outcome`` has the ``metrics`` and
    ``delta`` of a run, ``data`` what it was measured on; None where nothing was measured.

    Raises:
        CahpError: If it answers otherwise (by more than 1e-5, or 1e-4 for ONNX), or cannot be read; nothing is written.
    """
    from cahp.models import saving

    card = model.card
    measured = dict(outcome or {"metrics": None, "delta": None})
    source = {
        "model": {"id": card.id, "revision": card.revision, "family": card.family, "sha256": card.sha256},
        "data": data,
        "recovery": recovery,
        "parameters": {"full": model.parameters, "pruned": pruned.parameters},
        "versions": versions(),
        "command": command,
    }
    said_of_mask = mask_to_json(
        mask, model=card.id, method=method, budget={"attained": mask.count}, metrics=measured["metrics"] or {}
    )
    files = {
        "head_mask.json": json_text(said_of_mask),
        "metrics.json": json_text({"schema": "cahp.metrics/1", **source, **measured}),
        "README.md": model_card(form, card, mask, measured, source),
    }
    timed = form == "onnx" and latency
    steps = 2 if timed else 1
    progress(STAGE, 0, steps)
    difference = saving.write(
        form, folder, model=model, pruned=pruned, mask=mask, inputs=list(inputs)[:TRIED], files=files
    )
    progress(STAGE, 1, steps)
    found = onnx_latency(model, folder / saving.ONNX_FILE) if timed else None
    progress(STAGE, steps, steps)
    weights = folder / (saving.ONNX_FILE if form == "onnx" else "model.safetensors")
    size = weights.stat().st_size if weights.is_file() else sum(path.stat().st_size for path in folder.glob("*.safe*"))
    return Written(form, size, difference, found)


def onnx_latency(model: HeadModel, pruned: Path, *, batch: int = 8, length: int = 128, repeats: int = 20) -> Times:
    """Time a pruned model's ONNX file beside one of the full ``model``, in turn, with onnxruntime on the CPU."""
    from cahp.models import saving
    from cahp.models.surgery import cut
    from cahp.stages.latency import measure_onnx

    everything = HeadMask.full(model.layers, model.heads)
    with tempfile.TemporaryDirectory(prefix="cahp-") as place:
        full = Path(place) / "full"
        saving.write("onnx", full, model=model, pruned=cut(model, everything), mask=everything, inputs=SENTENCES)
        length = min(length, model.max_length)
        return measure_onnx(model, full / saving.ONNX_FILE, pruned, batch=batch, length=length, repeats=repeats)


# What the folder says of itself --------------------------------------------------------------------------------

_HOW: Mapping[Form, str] = {
    "compact": """\
The layers have different numbers of heads, which no class of transformers builds. The file `load_pruned.py` does; it
needs torch, transformers and safetensors, and nothing of the folder is run but that one file, which you import:

```python
import sys
sys.path.insert(0, "FOLDER")            # or copy load_pruned.py beside your own code
from load_pruned import load_pruned
from transformers import AutoTokenizer

model = load_pruned("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
logits = model(**tokenizer("a text", return_tensors="pt")).logits
```

Where cahp-explorer is installed, `cahp.load_pruned("FOLDER")` does the same, and `cahp evaluate --model FOLDER`
measures it.
""",
    "drop-in": """\
The shapes are those of the original: the pruned heads are there, with zero output weights. So it loads everywhere, and
answers as the pruned model does, but it is neither smaller nor faster.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
```
""",
    "onnx": """\
`model.onnx` holds the smaller model; batch and length are free.

```python
import onnxruntime
from transformers import AutoTokenizer

session = onnxruntime.InferenceSession("FOLDER/model.onnx")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
inputs = tokenizer(["a text", "another"], padding=True, return_tensors="np")
wanted = {entry.name for entry in session.get_inputs()}
(logits,) = session.run(["logits"], {name: values for name, values in inputs.items() if name in wanted})
```
""",
}


def model_card(
    form: Form, card: ModelCard, mask: HeadMask, outcome: Mapping[str, Any], source: Mapping[str, Any]
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
        _HOW[form].rstrip(),
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
