"""The options of the command line: one table, from which every command takes its own.

An option that fills a field of ``Settings`` has the field's name and default, and is spelled as
``cahp.run.spelling`` writes it, so that a command line which is shown is a command line that can be typed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import typer

from cahp.run import spelling
from cahp.run.settings import Settings

#: The default of an option that must be given.
REQUIRED: Any = ...


@dataclass(frozen=True)
class Option:
    """An option, or an argument, of a command.

    ``name`` is that of the parameter which takes its value, ``fills`` whether it goes into the field of ``Settings`` of
    that name instead. Without ``spelled``, an option is the name with two dashes (and ``--no-...`` for a flag). ``low``
    and ``high`` bound a number.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    spelled: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    fills: bool = False
    argument: bool = False

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter from which Typer makes the option."""
        made = (
            typer.Argument(self.default, help=self.help)
            if self.argument
            else typer.Option(self.default, *self.spelled, help=self.help, min=self.low, max=self.high)
        )
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=made, annotation=self.kind)

    def but(self, **changes: Any) -> Option:
        """The same, but for what a command says otherwise."""
        return replace(self, **changes)


_USUAL = {field.name: getattr(Settings(), field.name) for field in fields(Settings)}


def _setting(field: str, help: str, *short: str, low: int | None = None) -> Option:
    default = _USUAL[field]
    if isinstance(default, Mapping | tuple):
        default = spelling.written(default)
    kind = bool if isinstance(default, bool) else int if isinstance(default, int) else str
    return Option(field, help, kind, default, (spelling.option(field), *short), low=low, fills=True)


#: Options that more than one command takes, or that fill a setting. What a command alone takes stands in its file.
OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        _setting("model", "A built-in (see `cahp models`), a hub id, or a folder.", "-m"),
        _setting("data", "A built-in (see `cahp data`), a file, a folder, or hub:org/name.", "-d"),
        _setting("method", "How heads are chosen, such as magnitude; an unknown name is answered with all there are."),
        _setting("limit", "Calibration texts: heads are chosen on them.", low=2),
        _setting("sample", "stratified: like the whole in classes; head: the first rows."),
        _setting("select_split", "The split of the calibration texts."),
        _setting("eval_split", "The split of the evaluation texts."),
        _setting("eval_limit", "Evaluation texts.", low=1),
        _setting("budget", "Heads to keep: auto, a number, or per cent (15%)."),
        _setting("min_per_layer", "Heads that every layer keeps at least."),
        _setting("pool_size", "Side to which attention maps are pooled."),
        _setting("poly_degree", "Degree of the knee's polynomial: 2 keeps many, 6 few."),
        _setting("projection", "tsne, umap, pca or none."),
        _setting("salience", "batch (the paper's) or example."),
        _setting("representative", "salience (the paper's) or medoid."),
        _setting(
            "recover",
            "none, refit (seconds: on a third of the calibration texts, at least 512), distill (minutes), auto (in "
            "--recover-time) or finetune.",
        ),
        _setting("recover_data", "Texts to recover on, without labels: a file with a text column."),
        _setting("recover_time", "What --recover auto may take: 90s, 2m (as usual), 1h."),
        _setting("labels", "Distillation heeds the labels of the calibration texts, too."),
        _setting("report", "test: open the test split, and report on it too."),
        _setting("seed", "Seeds sampling, projection, clustering and training."),
        _setting("device", "auto, cpu, cuda or mps."),
        _setting("precision", "float32; bfloat16: answers and signatures; auto: answers, where it is fast here."),
        _setting("latency_time", "Seconds that a timing may take; it ends before when it knows: 5s, 1m."),
        _setting("text_column", "The column of the texts."),
        _setting("pair_column", "The column of the second text of each pair."),
        _setting("label_column", "The column of the labels."),
        _setting("splits", 'Which file, or published split, is which: "a.csv=train,b.csv=validation".'),
        _setting("label_map", 'Data label to model label: "neg=NEGATIVE,pos=POSITIVE".'),
        _setting("prompt", 'How a language model is asked: "{text} It was", for a masked one "{text} It was {mask}."'),
        _setting("answers", 'Its answers, a word for each class in the data\'s order: "terrible,okay,great".'),
        Option("mask", "A head mask: head_mask.json, .npy or .pt, or heads_to_prune JSON.", Path, REQUIRED),
        Option("out", "The folder to write to.", Path),
        Option("force", "Replace files in the folder of --out that cahp did not write.", bool, False, ("--force",)),
        Option("batch", "Texts a batch.", int, 32, low=1, high=1024),
        Option("epochs", "Epochs of training.", int, 3, low=1, high=100),
        Option("learning_rate", "Highest learning rate.", float, 2e-5, low=1e-7, high=1.0),
        Option("as_json", "Print JSON on stdout and nothing else there.", bool, False, ("--json",)),
        Option("yes", "Fetch what is large from the hub without a question.", bool, False, ("--yes", "-y")),
        Option("quiet", "No progress bars.", bool, False, ("--quiet", "-q")),
        Option("no_cache", "Measure anew what an earlier run has measured.", bool, False, ("--no-cache",)),
    )
}

COLUMNS = spelling.COLUMNS
PROMPT = spelling.PROMPT


def filling(spelled: Mapping[str, str]) -> list[Option]:
    """The options that fill these fields of ``Settings``, spelled so."""
    return [
        option.but(spelled=(spelled[name], *option.spelled[1:]))
        for name, option in ((name, OPTIONS[name]) for name in spelled)
    ]
