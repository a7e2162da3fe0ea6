"""Load the network and the tokenizer of a card, after checking that its files fit together and into memory."""

import inspect
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from cahp.files import process_folder, scratch
from cahp.models.attention import IMPLEMENTATION
from cahp.models.cards import FAMILIES, ModelCard, Prompt
from cahp.models.compact import HEADS, load_pruned
from cahp.models.devices import batch_size, find_device, free_bytes
from cahp.models.gguf import convert_weights
from cahp.models.head_model import HeadModel
from cahp.models.identity import explain_missing_classes, output_head
from cahp.models.matching import LOADING, check_fit, lost_weights, match_folder, quiet
from cahp.models.selftest import probe_family
from cahp.models.stored import Room, take_weights
from cahp.models.surgery import mark
from cahp.models.tokenizing import PromptReader, start_id
from cahp.models.weights import count_weights, read_shapes, weight_bytes, weight_files
from cahp.values import Fields, Ints, JsonObject, ModelError, Names, name_type
from cahp.words import first_line, size_of

#: Types of numbers by their names in safetensors files.
_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
#: Vectors of a pass in memory at once, for each token, each as wide as the hidden states.
_VECTORS = 16


def keep_network(network: object, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Save a network with its tokenizer for as long as the process lasts, and return the folder.

    Raises:
        ModelError: If it is no network of transformers.
    """
    if not isinstance(network, PreTrainedModel):
        raise ModelError(f"a tokenizer belongs to a model of transformers, not to {name_type(network)}")
    folder = Path(tempfile.mkdtemp(dir=process_folder())) / type(network).__name__
    with quiet():
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def load_model(card: ModelCard, *, device_name: str = "auto", labels: Names | None = None) -> HeadModel:
    """Load the weights of ``card``, without the proof of its heads.

    ``labels`` gives a plain encoder a new, untrained classification head (for training only).

    Raises:
        ModelError: If the weights are broken, or there is no trained head and no ``labels``.
    """
    # The head may be new where `labels` or an adapter brings one.
    new_head = labels is not None or card.adapter is not None
    if labels is not None:
        card = replace(card, labels=labels)
    if not card.labels and not card.predicts_tokens:
        raise ModelError(explain_missing_classes(card, card.id))
    where = find_device(device_name)
    if card.kept is not None and new_head:
        raise ModelError(f"{card.id} was pruned; train the model that it was made from, and prune it again")
    if card.source is not None:
        convert_weights(card)
    folder = Path(card.folder)
    family = FAMILIES.get(card.family)
    if family is None:
        family, _ = match_folder(card.id, card.folder, weight_bytes=weight_bytes(folder))
    attention = "eager"
    if family.interface:
        attention = IMPLEMENTATION
    head = output_head(card)
    stored, _ = read_shapes(weight_files(card.id, folder))
    largest = check_fit(card, stored, own_head=not new_head, head=head)
    room = _find_room(card, count_weights(stored), largest, where, made_here=new_head or card.kept is not None)
    settings: JsonObject = {**family.settings}
    if head == "classification":
        settings["id2label"] = dict(enumerate(card.labels))
        settings["label2id"] = {name: index for index, name in enumerate(card.labels)}
        settings["problem_type"] = "single_label_classification"
        if family.caches:
            settings["use_cache"] = False
    try:
        with quiet(), LOADING, ExitStack() as stack:
            if card.kept is not None:
                network = load_pruned(card.folder, attn_implementation=attention)
            else:
                if room is not None:
                    # On the disk, weights take no memory yet; those that transformers makes of several are written to
                    # the folder.
                    settings |= {"device_map": {"": "disk"}, "offload_folder": str(stack.enter_context(scratch()))}
                network, report = HEADS[head].from_pretrained(
                    card.folder,
                    use_safetensors=True,
                    trust_remote_code=False,
                    attn_implementation=attention,
                    dtype=torch.float32,
                    # A configuration may set these, and a forward pass here must not do them.
                    return_dict=True,
                    output_attentions=False,
                    output_hidden_states=False,
                    **settings,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
                _check_trained(card, network, report, new_head=new_head)
                if room is not None:
                    take_weights(network, room, where)
            if card.adapter is not None and labels is None:
                from peft import PeftModel

                network = PeftModel.from_pretrained(network, card.adapter).merge_and_unload()
    except ModelError:
        raise
    except Exception as error:  # damaged files raise anything
        raise ModelError(
            f"{card.id} cannot be read ({first_line(error)}); save, export or download the model again"
        ) from None
    # Of weights that are kept in another type or place, the numbers as they are kept.
    broken = [
        name for name, weight in network.named_parameters() if not getattr(weight, "kept", weight).isfinite().all()
    ]
    if broken:
        raise ModelError(
            f"the weights of {card.id} are not all finite numbers ({broken[0]}); save the model again in float32, or "
            "name another model"
        )
    tokenizer = load_tokenizer(card.folder, card.id, prompted=card.prompt is not None or card.predicts_tokens)
    _fit_tokenizer(tokenizer, network, card, classifies=head == "classification")
    if room is None:
        network = network.to(where)
    model = HeadModel(network, tokenizer, card, family=family)
    if room is not None:
        # Weights as their file stores them are always so with "auto".
        model.notice = room.notice
        model.lacks_room = card.dtype == "float32" or room.on_disk > 0
    if card.kept is not None:
        # Heads of a pruned model are numbered as in the full model.
        for layer, heads in zip(model.layer_modules, card.kept, strict=True):
            mark(layer, model, torch.tensor(heads, dtype=torch.long, device=where))
        if model.head_counts != tuple(map(len, card.kept)):
            raise ModelError(
                f"the weights of {card.id} do not have the heads that its config.json lists; export it again"
            )
    return probe_family(model)


@lru_cache(maxsize=8)
def prompt_reader(card: ModelCard, prompt: Prompt) -> PromptReader:
    """A prompt with the tokenizer of a model; no weights are loaded.

    Raises:
        OptionError: If its answers cannot be told apart; ModelError: if the tokenizer cannot be used.
    """
    return PromptReader(load_tokenizer(card.folder, card.id, prompted=True), prompt, card.id)


def _find_room(card: ModelCard, count: int, largest: int, where: torch.device, *, made_here: bool) -> Room | None:
    """The room for weights that are kept as their file stores them; None for float32 weights, where these have room.

    ``count`` is the number of weights, and ``largest`` that of the largest matrix. Weights that are ``made_here``, by
    an adapter or with a new head, are always float32.

    Raises:
        ModelError: If there is too little room even for weights on the disk.
    """
    needed = 4 * count
    reason = ""
    # Before the machine swaps or kills the process. It is loaded into the processor's memory first, wherever it goes.
    for place in (where, torch.device("cpu")):
        free = free_bytes(place)
        if free is not None and needed > free:
            reason = f"the weights take {size_of(needed)} in float32, and {place.type} has {size_of(free)} free, so "
    if not reason and (made_here or card.dtype == "float32"):
        return None
    types = card.details.get("types") or {}
    own = None
    if len(types) == 1:
        own = _TYPES.get(next(iter(types)))
    dtype = own
    form = Room.form
    if card.dtype == "bfloat16":
        dtype = torch.bfloat16
        if own != dtype:
            form = "rounded to bfloat16"
    # A cut model copies what it keeps of the attention; a pass converts the largest weight, and has activations.
    attention = 2 * card.layers * card.hidden * card.heads * card.head_size * (card.group + 1) // card.group
    used = attention * (dtype or torch.float32).itemsize + 4 * (largest + _VECTORS * card.hidden * batch_size(where)[0])
    free = free_bytes(where)
    if reason and (made_here or (free is not None and used > free)):
        raise ModelError(
            f"{reason}{card.id} cannot be loaded: trained and pruned weights must fit on one device; others can stay "
            f"on the disk, but a pass needs {size_of(used)}; use --device cpu, or a machine with more memory"
        )
    if free is not None:
        free -= used
    return Room(free, dtype, reason, form)


def _check_trained(card: ModelCard, network: Any, report: Fields, *, new_head: bool) -> None:
    """Check that all weights but those of a new head are as they were trained."""
    drawn = [*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]
    lost = sorted(name for name in drawn if not new_head or name.split(".")[0] == network.base_model_prefix)
    if lost:
        raise ModelError(lost_weights(card.id, lost, "are missing, or have other shapes than its config.json says"))


# Tokenizers --------------------------------------------------------------------------------------------------------


def load_tokenizer(folder: str, name: str, *, prompted: bool) -> Any:
    """Load the tokenizer of the model ``name``; ``prompted`` says that it answers a prompt.

    Raises:
        ModelError: If it cannot be read, or has no padding token.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except BaseException as error:  # damaged files raise anything, also a panic in Rust, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(
            f"the tokenizer of {name} cannot be read ({first_line(error)}); save it again beside the weights"
        ) from None
    # What ``saving.save_tokenizer`` writes again.
    tokenizer.cahp_original = {name: getattr(tokenizer, name) for name in ("padding_side", "pad_token")}
    if tokenizer.pad_token is None and prompted:
        # A prompt is answered at a token before the padding, so any token will do; few causal language models have one.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    if tokenizer.pad_token is None:
        raise ModelError(f"the tokenizer of {name} has no padding token; set one and save it again")
    # Positions are counted from the left, so padding there would change the answers.
    tokenizer.padding_side = "right"
    return tokenizer


def _fit_tokenizer(tokenizer: Any, network: Any, card: ModelCard, *, classifies: bool) -> None:
    """Let ``tokenizer`` make only those inputs that ``network`` takes.

    Raises:
        ModelError: If it makes tokens that the network does not know, or does not end texts where the network needs it.
    """
    accepted = set(inspect.signature(network.forward).parameters)
    kinds = getattr(network.config, "type_vocab_size", 2)
    if type(kinds) is not int or kinds < 2:
        accepted.discard("token_type_ids")
    names = tokenizer.model_input_names
    tokenizer.model_input_names = [name for name in names if isinstance(name, str) and name in accepted]
    # Tokenizers of some families add tokens of their own that a smaller model never sees in a text.
    added = tokenizer.get_added_vocab()
    rows = network.get_input_embeddings().num_embeddings
    words = [token for word, token in tokenizer.get_vocab().items() if word not in added]
    words.append(tokenizer.pad_token_id)
    if card.predicts_tokens:
        words.append(start_id(tokenizer) or 0)
    highest = max(words)
    if highest >= rows:
        raise ModelError(
            f"the tokenizer of {card.id} knows token {highest} but the model only {rows} tokens: they do not belong "
            "together; save the model and its own tokenizer again"
        )
    # These classifiers compute their answer at the token that ends a text.
    reads_end = getattr(network.config, "is_encoder_decoder", False) and hasattr(network, "classification_head")
    if reads_end and tokenizer("a")["input_ids"].count(network.config.eos_token_id) != 1:
        raise ModelError(
            f"{card.id} classifies at its end token ({network.config.eos_token_id}), which its tokenizer does not add "
            "to a text; save the model with its own tokenizer, or correct eos_token_id in config.json"
        )
    if not classifies:
        return
    # Causal classifiers compute their answer at the last token before the padding: texts are padded with the token that
    # the network takes for padding, or it takes another one if the tokenizer lacks it.
    config = network.config.get_text_config()
    token = None
    if config.pad_token_id is not None and 0 <= config.pad_token_id < len(tokenizer):
        token = tokenizer.convert_ids_to_tokens(config.pad_token_id)
    if token is None:
        config.pad_token_id = tokenizer.pad_token_id
    elif token != tokenizer.pad_token:
        tokenizer.pad_token = token


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens; the token of unknown words is not one of them, unless it has another role too."""
    roles = ("bos", "eos", "sep", "cls", "pad", "mask")
    others = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    return set(tokenizer.all_special_ids) - ({tokenizer.unk_token_id} - others)


def usual_ids(tokenizer: Any) -> Ints:
    """Ids of the tokens of which texts consist, ascending: neither special ones nor ones that were added."""
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    return np.array(sorted(set(tokenizer.get_vocab().values()) - special), dtype=np.int64)
