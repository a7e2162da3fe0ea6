"""Long articles, of which a language model reads windows; used by ``bypass`` and ``peers``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import split_pages

from cahp import data
from cahp.models.windows import cut_windows
from cahp.run.bench import Bench
from cahp.tasks.texts import Texts

#: The tokens of a window of the articles, and of all articles that are read.
WINDOW = 2048
ARTICLES = 32768


def read_articles(bench: Bench, text: Path, tokens: int) -> Texts:
    """Cut the first articles of a text in the form of WikiText into windows."""
    articles = [{"text": page} for page in split_pages(text.read_text(encoding="utf-8"))]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "articles.jsonl"
        file.write_text("\n".join(map(json.dumps, articles)), encoding="utf-8")
        texts = data.load_calibration(str(file), documents="paragraph")
    windows = cut_windows(bench.card, texts, window=WINDOW, tokens=tokens, seed=None, bos=bench.settings.bos)
    return replace(windows, classes=bench.evaluation.classes)
