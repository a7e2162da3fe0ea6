"""Evaluate a model, whole or pruned, by lm-evaluation-harness.

The model is handed to the harness, whose data, protocol and scores they are:

    cahp experiment harness --model smollm2 --mask run/head_mask.json --tasks piqa,arc_easy --out pruned
    cahp experiment harness --model smollm2 --text wiki.test.raw --window 2048 --out full

``--text`` is the task ``wikitext`` on a file of your own, the perplexity of a word: each article of WikiText is a
document, and any other text is one. ``cahp experiment pair`` compares the samples of two runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cahp
from cahp.api.options import read_mask_for
from cahp.files import json_text
from cahp.output import Mark, Output
from cahp.values import CahpError, DataError, ModelError, OptionError
from cahp.words import first_line

RESULTS = "results.json"
SCHEMA = "cahp.harness/1"
MARK = Mark(RESULTS, "cahp.harness")


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate by the harness, print its scores, and write them with the samples."""
    parser = argparse.ArgumentParser(prog="cahp experiment harness", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="a causal language model, such as a folder of cahp export")
    parser.add_argument("--mask", type=Path, help="a head mask, which is cut before the evaluation")
    parser.add_argument("--tasks", default="", help="tasks of the harness, or YAML files, separated by commas")
    parser.add_argument("--text", type=Path, help="a text file, for its perplexity")
    parser.add_argument("--window", type=int, help="tokens that the model reads at once (default: all it can)")
    parser.add_argument("--items", type=int, help="number of items, or first articles, of each task (default: all)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--yes", action="store_true", help="let the harness download the data of the tasks")
    parser.add_argument("--out", type=Path, help=f"folder for {RESULTS} and a samples_TASK.jsonl of each task")
    options = parser.parse_args(arguments)
    if find_spec("lm_eval") is None:
        raise OptionError('lm-evaluation-harness is not installed; run pip install "cahp-explorer[tasks]"')
    output = None
    if options.out is not None:
        output = Output(options.out)
        output.check_files([RESULTS], MARK)
    tasks = [name.strip() for name in options.tasks.split(",") if name.strip()]
    if not tasks and options.text is None:
        raise OptionError("no task is named; give some with --tasks piqa,arc_easy, or a file with --text")
    model = cahp.load(options.model, device=options.device)
    if model.card.task.items_are_texts:
        raise ModelError(f"{model.card.id} does not predict the next token of a text; name a causal language model")
    if options.mask is not None:
        mask = read_mask_for(model.card, options.mask).mask
        model = cahp.cut(model, mask)
    try:
        with offline(wanted=not options.yes):
            results = evaluate(model, [*tasks, *read_texts(options.text)], options)
    except CahpError:
        raise
    except Exception as error:  # tasks run code of their own
        advice = "check the tasks, or give --yes to let it download their data"
        raise OptionError(f"lm-evaluation-harness failed ({first_line(error)}); {advice}") from error
    for task, scores in results["results"].items():
        for name, value in scores.items():
            if isinstance(value, float):
                print(f"{task}: {name.removesuffix(',none')} {value:.4f}")
    if output is not None:
        document = {"schema": SCHEMA, "model": model.card.id, "kept": model.card.kept, "results": results["results"]}
        contents = {RESULTS: json_text(document).encode()}
        for task, samples in results["samples"].items():
            lines = [json.dumps(sample, default=str, ensure_ascii=False) + "\n" for sample in samples]
            contents["samples_" + re.sub(r"[^\w.-]", "_", task) + ".jsonl"] = "".join(lines).encode()
        output.check_files(contents, MARK)
        output.write(contents)
        print(output.describe(list(contents)))


@contextmanager
def offline(*, wanted: bool) -> Iterator[None]:
    """Keep the hub's client, and the ``datasets`` library, from using the network inside the block, if ``wanted``."""
    import datasets
    from huggingface_hub import constants

    before = (constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)
    if wanted:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def evaluate(model: Any, tasks: list[Any], options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a ``HeadModel`` on tasks by the harness, and return its results with the samples of each task."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    language_model = HFLM(
        pretrained=model.network,
        tokenizer=model.tokenizer,
        backend="causal",
        max_length=options.window or model.longest,
        batch_size=1,
    )
    # The thousands of files of its own tasks take the harness half a minute.
    named = any(isinstance(task, str) and not Path(task).is_file() for task in tasks)
    results: dict[str, Any] = lm_eval.simple_evaluate(
        language_model,
        tasks=tasks,
        task_manager=TaskManager(include_defaults=named),
        limit=options.items,
        bootstrap_iters=0,
        random_seed=options.seed,
        numpy_random_seed=options.seed,
        torch_random_seed=options.seed,
        fewshot_random_seed=options.seed,
    )
    return results


def read_texts(file: Path | None) -> list[Any]:
    """Return the task ``wikitext`` of the harness on the articles of a file, or on a text that is one document."""
    if file is None:
        return []
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks.wikitext import preprocess_wikitext

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({first_line(error)}); name a text file") from error
    pages = split_pages(text)
    write = preprocess_wikitext.wikitext_detokenizer
    if not is_title(text.strip().partition("\n")[0]):
        pages = [text]
        write = read_page
    data = Dataset.from_dict({"page": pages})
    config = {
        "task": file.name,
        "custom_dataset": partial(dict, test=data),
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": write,
        "process_results": preprocess_wikitext.process_results,
        "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    }
    return [ConfigurableTask(config=config)]


def read_page(document: dict[str, str]) -> str:
    """Return the text of a document as it is."""
    return document["page"]


def split_pages(text: str) -> list[str]:
    """Return the articles of WikiText, each with its title, ``= Title =``; sections have ``= = Title = =``."""
    pages: list[list[str]] = [[]]
    for line in text.split("\n"):
        if is_title(line):
            pages.append([])
        pages[-1].append(line)
    joined = ["\n".join(lines) for lines in pages]
    return [page for page in joined if page.strip()]


def is_title(line: str) -> bool:
    """Return whether a line is the title of an article."""
    line = line.strip().replace("= = =", "===").replace("= =", "==")
    return line.startswith("= ") and line.endswith(" =")


if __name__ == "__main__":
    main()
