"""Small models, made on the spot, of every architecture in the family table."""

import copy
import json
import sys
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from cahp.features import measures
from cahp.methods.shared import registry
from cahp.models.cards import Costs, ModelCard
from cahp.models.head_model import HeadModel
from cahp.models.identity import BUILTINS
from cahp.run.bench import Bench, open_bench
from cahp.run.evidence import HeadEvidence
from cahp.run.measurements import Measurements
from cahp.run.prune import Run, measure_run
from cahp.run.recoveries import Recovered, Recoveries
from cahp.run.resources import Resources
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import CahpError, Cancelled, HeadMask, Progress

#: The words that a tiny model knows.
_VOCABULARY = """
good bad fine poor great awful film plot cast song the a of and is was very not never always
it they laughed cried left stayed long short bright dull warm cold slow quick story end start scene light dark
"""
WORDS = _VOCABULARY.split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_SMALL = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
TYPED = ("bert", "electra", "albert", "deberta-v2")

_IDS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}

#: Small shapes; the families' words for the same things.
SHAPES: dict[str, dict[str, Any]] = {
    "albert": {**_SMALL, "num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 16},
    "bart": {
        "encoder_layers": 3,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "d_model": 32,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 32,
        # The separator ends a text.
        "eos_token_id": 3,
        "bos_token_id": 2,
        "decoder_start_token_id": 3,
        "forced_eos_token_id": 3,
    },
    "bert": _SMALL,
    "camembert": {**_SMALL, "num_hidden_layers": 2},
    "deberta-v2": {
        **_SMALL,
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["c2p", "p2c"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
    "distilbert": {"n_layers": 3, "n_heads": 4, "dim": 32, "hidden_dim": 48},
    "electra": {**_SMALL, "embedding_size": 16},
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32, "n_inner": 48},
    "gpt_neox": _SMALL,
    "llama": {**_SMALL, "num_attention_heads": 8, "num_key_value_heads": 4},
    "modernbert": {**_SMALL, "num_hidden_layers": 4, "global_attn_every_n_layers": 2, "local_attention": 6},
    "mpnet": _SMALL,
    "opt": {**{name: _SMALL[name] for name in _SMALL if name != "intermediate_size"}, "ffn_dim": 48},
    "qwen2": {**_SMALL, "num_attention_heads": 8, "num_key_value_heads": 4},
    "roberta": _SMALL,
    "xlm-roberta": {**_SMALL, "num_hidden_layers": 2},
}

#: The shape of any other family of language models.
_OTHER = {**_SMALL, "num_key_value_heads": 2, "head_dim": 8}

#: Architectures that are tried in each run, for their shared layers, decoder, queries, keys and values in one matrix,
#: key-value groups, and relative or rotary positions. The others are nightly.
SAMPLE = ("albert", "bart", "bert", "deberta-v2", "gpt2", "llama", "modernbert")


def rarely(kinds: Iterable[str], often: Container[str] = SAMPLE) -> list[Any]:
    """Parameters, of which those beside the usual ones are tried at night."""
    return [kind if kind in often else pytest.param(kind, marks=pytest.mark.nightly) for kind in kinds]


def tokenizer(*, type_ids: bool = True) -> PreTrainedTokenizerFast:
    """One word, one token; pairs as ``[CLS] a [SEP] b [SEP]``."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    second = 1 if type_ids else 0
    inner.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=f"[CLS] $A [SEP] $B:{second} [SEP]:{second}",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"] if type_ids else names,
    )


def save_model(
    folder: Path, family: str = "bert", *, labels: tuple[str, ...] = ("bad", "good"), seed: int = 0, **more: Any
) -> Path:
    """A random classifier of ``family`` in ``folder``, with weights large enough that its heads matter."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(SPECIAL) + len(WORDS),
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **{
            "max_position_embeddings": 80,
            "type_vocab_size": 2 if family in TYPED else 1,
            **_IDS,
            **SHAPES[family],
            **more,
        },
    )
    network = AutoModelForSequenceClassification.from_config(config)
    check_small(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2 and "embeddings" not in name:
                parameter.normal_(0.0, 0.25)
    network.save_pretrained(folder)
    tokenizer(type_ids=family in TYPED).save_pretrained(folder)
    return folder


def check_small(network: torch.nn.Module) -> None:
    """Fail if a size was forgotten, whose default makes a model of gigabytes."""
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert weights < 10_000_000, f"a tiny model has {weights:,} weights"


def other_package(monkeypatch: pytest.MonkeyPatch, model: str, **changes: Any) -> None:
    """Let a built-in model be looked for in another package."""
    builtin = BUILTINS[model]
    monkeypatch.setitem(BUILTINS, model, replace(builtin, package=replace(builtin.package, **changes)))


def configure(folder: Path, file: str = "config.json", /, **changes: Any) -> None:
    """Change entries of a JSON file of a model."""
    entries = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**entries, **changes}))


def split_weights(folder: Path) -> None:
    """Divide the weights in ``folder`` among two files, ``model-1.safetensors`` and ``model-2.safetensors``."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    listed = {name: f"model-{1 + number % 2}.safetensors" for number, name in enumerate(sorted(weights))}
    for part in ("model-1.safetensors", "model-2.safetensors"):
        own = {name: weight for name, weight in weights.items() if listed[name] == part}
        save_file(own, folder / part, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))


#: What a tiny language model is asked, and its answers in the order of the classes of ``sentences``.
PROMPTS = {"causal": "{text} it was", "masked": "{text} it was {mask} ."}
ANSWERS = ("awful", "great")
_HEADS = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM}


def save_language_model(
    folder: Path, language: str = "causal", family: str | None = None, *, seed: int = 0, **more: Any
) -> Path:
    """A random causal or masked language model of ``family`` in ``folder``, with embeddings tied to its head."""
    torch.manual_seed(seed)
    family = family or {"causal": "gpt2", "masked": "bert"}[language]
    words = tokenizer(type_ids=False)
    if language == "masked":
        words.add_special_tokens({"mask_token": "[MASK]"})
    given = {"max_position_embeddings": 80, **_IDS, **SHAPES.get(family, _OTHER), "tie_word_embeddings": True, **more}
    config = AutoConfig.for_model(family, vocab_size=len(words), pad_token_id=0, **given)
    network = _HEADS[language].from_config(config)
    check_small(network)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.25)
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def teach(folder: Path, language: str = "causal", *, steps: int = 80, **options: Any) -> Path:
    """Teach the language model in ``folder`` a rule: what is said of ``sentences`` in ``PROMPTS`` is their class.

    Done with transformers alone, so that what the package finds of it says something about the package.
    """
    network = _HEADS[language].from_pretrained(folder)
    words = AutoTokenizer.from_pretrained(folder)
    texts = sentences(400, seed=9, **options)
    said = [PROMPTS[language].replace("{text}", text).replace("{mask}", "[MASK]") for text in texts.first]
    given = words(said, padding=True, return_tensors="pt", add_special_tokens=language == "masked")
    wanted = torch.tensor(words.convert_tokens_to_ids(list(ANSWERS)))[torch.tensor(texts.labels)]
    if language == "masked":
        at = (given["input_ids"] == words.mask_token_id).int().argmax(1)
    else:
        at = given["attention_mask"].sum(1) - 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    torch.manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(at), (64,))
        logits = network(**{name: tensor[rows] for name, tensor in given.items()}).logits
        nn.functional.cross_entropy(logits[torch.arange(64), at[rows]], wanted[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(folder)
    return folder


def write_on(network: nn.Module, ids: torch.Tensor, count: int) -> torch.Tensor:
    """``ids`` and the ``count`` most probable tokens after them, one by one and without a cache."""
    for _ in range(count):
        ids = torch.cat([ids, network(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    return ids


def save_encoder(folder: Path, family: str = "bert") -> Path:
    """The encoder of ``save_model`` alone: something to fit a classifier on."""
    classifier = AutoModelForSequenceClassification.from_pretrained(save_model(folder, family))
    classifier.base_model.save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int = 0, classes: int = 2, pairs: bool = False) -> Texts:
    """Texts of 2 to 12 words; the first words of the list are commoner in the first classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes

    def text(label: int) -> str:
        size = int(random.integers(2, 13))
        start = int(label * len(WORDS) / classes / 2)
        return " ".join(WORDS[start + int(index)] for index in random.integers(0, len(WORDS) // 2, size))

    first = tuple(text(int(label)) for label in labels)
    second = tuple(text(int(label)) for label in labels) if pairs else None
    names = tuple(("bad", "good", "fine", "poor", "long")[:classes])
    return Texts(first, second, labels.astype(np.int64), names)


def write_data(folder: Path, *, train: int = 120, validation: int = 40, test: int = 40, **options: Any) -> Path:
    """Split files as people have them."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        texts = sentences(count, seed=seed + 1, **options)
        rows = []
        for index, text in enumerate(texts.first):
            row = {"text": text} if texts.second is None else {"premise": text, "hypothesis": texts.second[index]}
            rows.append(json.dumps({**row, "label": texts.classes[texts.labels[index]]}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def quick(model: Path | str, data: Path | str, **options: Any) -> Settings:
    """Settings of a run that takes a second."""
    usual = {"pool_size": 8, "projection": "pca", "latency": False, "device": "cpu"}
    return Settings(model=str(model), data=str(data), **{**usual, **options})


def quick_task(place: Path, **options: Any) -> Settings:
    """``quick`` with a new tiny classifier and its data."""
    return quick(save_model(place / "model"), write_data(place / "data"), **options)


def resources(card: ModelCard, store: Store, **options: Any) -> Resources:
    """Resources of a model on the CPU."""
    return Resources(card, store=store, **{"device": "cpu", **options})


_OF_RESOURCES = ("device", "precisions", "model", "load", "progress", "clock")


def evidence(card: ModelCard, texts: Texts, store: Store, **options: Any) -> HeadEvidence:
    """Evidence that is quick to gather; ``options`` are those of evidence and of resources."""
    ours = {name: options.pop(name) for name in _OF_RESOURCES if name in options}
    settings = Settings(**{"pool_size": 8, "projection": "pca", **options})
    return HeadEvidence(resources(card, store, **ours), texts, settings)


def gather(model: HeadModel, texts: Texts, folder: Path, **options: Any) -> HeadEvidence:
    """Evidence of a loaded model, kept in a folder."""
    return evidence(model.card, texts, Store(folder), **{"model": model, **options})


def quick_method(name: str, **options: Any) -> Any:
    """A method by its name; one that learns gates for long does so in few steps."""
    few = {"l0": {"steps": 3}, "pass": {"steps": 3}}
    return registry.get(name, **few.get(name, {}), **options)


class Opened(NamedTuple):
    """Evidence, measurements and recoveries of one model, and the resources that they share."""

    resources: Resources
    evidence: HeadEvidence
    measurements: Measurements
    recoveries: Recoveries

    @property
    def model(self) -> HeadModel:
        return self.resources.model


def opened(card: ModelCard, texts: Texts, store: Store, *, seed: int = 42, **options: Any) -> Opened:
    """Evidence and measurements side by side, as on a bench."""
    shared = resources(card, store, **{name: options.pop(name) for name in _OF_RESOURCES if name in options})
    settings = Settings(seed=seed, **{"pool_size": 8, "projection": "pca", **options})
    gathered = HeadEvidence(shared, texts, settings)
    return Opened(shared, gathered, Measurements(shared), Recoveries(shared, texts, seed=seed))


def measurements(card: ModelCard, store: Store, **options: Any) -> Measurements:
    """Measurements of a model on the CPU."""
    return Measurements(resources(card, store, **options))


def recoveries(card: ModelCard, texts: Texts, store: Store, *, seed: int = 42, **options: Any) -> Recoveries:
    """Recoveries on ``texts``."""
    return Recoveries(resources(card, store, **options), texts, seed=seed)


class Memory:
    """A checkpoint in memory that counts how often it was saved."""

    def __init__(self) -> None:
        self.kept: tuple[dict[str, NDArray[Any]], dict[str, Any]] | None = None
        self.saved = 0

    @property
    def exists(self) -> bool:
        return self.kept is not None

    def load(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        return self.kept

    def save(self, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        # Copied, as a disk would: what lies on a checkpoint must not change with the network.
        self.kept = {name: array.copy() for name, array in arrays.items()}, copy.deepcopy(dict(meta))
        self.saved += 1

    def remove(self) -> None:
        self.kept = None


#: What times a mask in few rounds.
QUICK_COSTS: dict[str, int] = {"batch": 2, "repeats": 5}


def time_quickly(bench: Bench, mask: HeadMask, recovered: Recovered | None = None, *, fresh: bool = False) -> Costs:
    """Time as ``Bench.costs`` does, in few rounds."""
    return bench.measurements.costs(mask, length=bench.length, fresh=fresh, **QUICK_COSTS)


class WorkClock:
    """A clock that a model's own work turns: a pass of a text takes a second, with gradients three, a layer its share.

    Batches are small while it goes, as they are beside the texts of a real task.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, size: int = 64) -> None:
        self.now = 0.0
        scores, step, batches = HeadModel.scores, HeadModel.step, HeadModel.batches

        def scored(model: HeadModel, inputs: Any, **options: Any) -> Any:
            self.now += len(inputs["input_ids"]) * (3 if model.network.training else 1)
            return scores(model, inputs, **options)

        def stepped(model: HeadModel, state: Any, **options: Any) -> Any:
            self.now += len(state.real) / model.layers
            return step(model, state, **options)

        def batched(model: HeadModel, tokens: Any, *, rows: Any = None, **_: Any) -> Any:
            return batches(model, tokens, rows=rows, size=size)

        monkeypatch.setattr(HeadModel, "scores", scored)
        monkeypatch.setattr(HeadModel, "step", stepped)
        monkeypatch.setattr(HeadModel, "batches", batched)

    def __call__(self) -> float:
        return self.now


def stop_at(stage: str = "", step: int | None = None) -> Progress:
    """Progress that cancels what reports it: at once, or at a stage, or at a step of one."""

    def stop(at: str, done: int, total: int) -> None:
        if stage in ("", at) and step in (None, done):
            raise Cancelled

    return stop


def unread(card: ModelCard, /, *, device: str) -> HeadModel:
    """Loading of a model that must not be asked for."""
    raise AssertionError("the model was read")


def reason(error: type[CahpError], call: Callable[..., object], *given: object, **options: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(error) as refused:
        call(*given, **options)
    said = str(refused.value)
    assert "\n" not in said
    return said


def in_this_process(code: str, folder: Path, *paths: Path, failure: str = "") -> None:
    """What ``saving`` runs in a fresh process, without the seconds that it takes to start one."""
    argv, path = sys.argv[:], sys.path[:]
    try:
        sys.argv = ["-c", str(folder), *map(str, paths)]
        with warnings.catch_warnings():
            exec(compile(code, "fresh", "exec"), {})
    finally:
        sys.argv, sys.path = argv, path
        sys.modules.pop("load_pruned", None)


def prune(settings: Settings, *, command: str = "", clock: Callable[[], float] = perf_counter, **given: Any) -> Run:
    """The run of these settings; ``given`` are options of ``open_bench``."""
    start = clock()
    bench = open_bench(settings, **given)
    bench.resources.clock = clock
    return measure_run(bench, command, start, measures=measures())
