"""What lm-evaluation-harness says of a tiny model, of SmolLM2 and of WikiText-2, for tests that run without it.

``python tests/wikitext.py tiny`` writes its entry of ``reference.json`` anew, with the extra
``tasks``; ``... smollm2 FOLDER`` and ``... wikitext FOLDER FILE`` do so for SmolLM2, saved by ``save_pretrained``.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

REFERENCE = Path(__file__).parent / "experiments" / "reference.json"
#: Tokens of a window of the tiny model, and of SmolLM2.
TINY_WINDOW = 16
WINDOW = 2048
#: Texts of BBC News that are joined, and read by SmolLM2.
BBC_TEXTS = 150

_WORDS = "the a river sea old new town mill bridge was is built in of and by s it 1 000 , . - ( ) = : ' ; years two"
WORDS = _WORDS.split()
_SENTENCES = (
    "the river was old , and the town 's mill was built in two years .",
    "it is 1 @,@ 000 years old ; the bridge ( a new bridge ) was built by the sea : it is new @-@ old .",
    "a mill , a bridge and a river is the town .",
)


def make_wikitext() -> str:
    """A text in the form of WikiText: ten pages of several lengths, with sections, and lines with a space only."""
    lines: list[str] = []
    for page in range(10):
        lines += [" ", f" = The {WORDS[2 + page]} = ", " "]
        for number in range(page):
            lines.append(" " + " ".join(_SENTENCES[(page + number + more) % 3] for more in range(1 + number % 2)))
            if number == 2:
                lines += [" ", " = = The sea = = ", " "]
    return "\n".join([*lines, ""])


def save_tiny(folder: Path, *, begins: bool = True, ends: bool = False) -> Path:
    """A language model with grouped queries, whose weights follow from a formula.

    Its tokenizer has a beginning token, or only an end token; ``ends`` says that it adds one to each text.
    """
    vocabulary = {word: index for index, word in enumerate(("[PAD]", "[UNK]", "[BOS]", "[EOS]", *WORDS))}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    if ends:
        inner.post_processor = TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[EOS]"}
    if begins:
        special["bos_token"] = "[BOS]"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **special)
    tokenizer.save_pretrained(folder)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        )
    )
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            if parameter.ndim == 2:
                waves = torch.sin(torch.arange(parameter.numel()) * 0.37 + number)
                parameter.copy_(0.4 * waves.reshape(parameter.shape))
    network.save_pretrained(folder)
    return folder


def evaluate(folder: Path, pages: Iterable[str], *, window: int, task: str = "wikitext") -> dict[str, Any]:
    """Evaluate a model on pages by the task ``wikitext`` of the harness, whose data are these pages.

    With another ``task``, the text of a page is predicted as it is.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "pages.jsonl").write_text("".join(json.dumps({"page": page}) + "\n" for page in pages))
        own = Path(lm_eval.__file__).parent / "tasks" / "wikitext"
        (place / "preprocess_wikitext.py").write_text((own / "preprocess_wikitext.py").read_text())
        lines = (own / "wikitext.yaml").read_text().splitlines()
        settings = [line for line in lines if not line.startswith(("task:", "dataset", "training", "validation"))]
        settings += [
            "task: local",
            "dataset_path: json",
            f"dataset_kwargs: {{data_files: {{test: {place / 'pages.jsonl'}}}}}",
        ]
        if task != "wikitext":
            settings = [line for line in settings if not line.startswith("doc_to_target")]
            settings.append('doc_to_target: "{{page}}"')
        (place / "local.yaml").write_text("\n".join(settings))
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args=f"pretrained={folder},max_length={window},dtype=float32",
            tasks=["local"],
            task_manager=TaskManager(include_path=str(place)),
            device="cpu",
            batch_size=1,
            bootstrap_iters=0,
        )
    names = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    found: dict[str, Any] = {name: results["results"]["local"][f"{name},none"] for name in names}
    samples: Sequence[Any] = results["samples"]["local"]
    found["log_likelihoods"] = [sample["word_perplexity"][0] for sample in samples]
    return found


def split_pages(text: str) -> list[str]:
    """The pages of WikiText, as the data set of the task has them."""
    pages: list[list[str]] = [[]]
    for line in text.split("\n"):
        heading = line.replace("= = =", "===").replace("= =", "==").strip()
        if heading.startswith("= ") and heading.endswith(" ="):
            pages.append([])
        pages[-1].append(line)
    return [page for page in map("\n".join, pages) if page.strip()]


def join_bbc() -> str:
    """Texts of BBC News as one text of several windows."""
    from cahp import data

    return "\n".join(data.load("bbc-news").split("validation").plain_texts[:BBC_TEXTS])


def measure(name: str, folder: Path | None = None, file: Path | None = None) -> dict[str, Any]:
    """Measure one entry of the reference: ``tiny``, ``smollm2`` or ``wikitext``."""
    if name == "tiny":
        pages = split_pages(make_wikitext())
        kinds = {"begins": {}, "ends only": {"begins": False}, "adds both": {"ends": True}}
        with TemporaryDirectory() as scratch:
            return {
                kind: evaluate(save_tiny(Path(scratch) / kind, **options), pages, window=TINY_WINDOW)
                for kind, options in kinds.items()
            }
    if name == "smollm2":
        return evaluate(folder, [join_bbc()], window=WINDOW, task="as it is")
    return evaluate(folder, split_pages(file.read_text(encoding="utf-8")), window=WINDOW)


if __name__ == "__main__":
    kept = {}
    if REFERENCE.exists():
        kept = json.loads(REFERENCE.read_text())
    kept[sys.argv[1]] = measure(sys.argv[1], *map(Path, sys.argv[2:]))
    REFERENCE.write_text(json.dumps(kept, indent=1) + "\n")
