"""The only place that knows Hugging Face and PEFT: load, batch, gate, probe, cut, train.

``identify`` and ``BUILTINS`` cost nothing; the first ``load`` imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.files import assets as assets
from cahp.models.cards import (
    Dtype as Dtype,
    ModelCard as ModelCard,
    PromptExample,
    Site as Site,
    make_prompt as make_prompt,
)
from cahp.models.identity import (
    BUILTINS as BUILTINS,
    EXAMPLE,
    INSTALL_SMOLLM2 as INSTALL_SMOLLM2,
    check_builtin as check_builtin,
    has_package as has_package,
    identify as identify,
    locate,
    name_of as name_of,
    preview as preview,
    set_dtype as set_dtype,
)
from cahp.models.weights import TOKENIZER_FILES
from cahp.values import Input, ModelError, OptionError, Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from cahp.models.caching import continue_greedily as continue_greedily
    from cahp.models.head_model import HeadModel as HeadModel
    from cahp.models.loading import usual_ids as usual_ids
    from cahp.models.reading import average_outputs as average_outputs
    from cahp.models.surgery import can_cut as can_cut
    from cahp.models.tokenizing import (
        from_ids as from_ids,
        known_tokens as known_tokens,
        split_text as split_text,
        start_id as start_id,
    )
    from cahp.models.vocabulary import token_losses as token_losses


def load(
    name: str | PathLike[str] | ModelCard | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str = "auto",
    prompt: str | None = None,
    answers: Sequence[str] = (),
    dtype: Dtype = "float32",
    max_length: int | None = None,
) -> HeadModel:
    """Load a model by name or card, or copy one of transformers, and prove that its heads can be gated and cut.

    One that is in memory is given with its ``tokenizer``.

    A language model without a classification head answers by words: ``prompt`` says how a text is put to it, such as
    ``"{text} It was"``, and ``answers`` are its classes, in the order of their scores.

    ``dtype`` says how weights are kept in memory. Results are computed in float32 and are the same with ``float32`` and
    ``auto``, the type of the file; ``bfloat16`` rounds the weights. Weights that have no room in float32 are kept as in
    the file, and on the disk if need be. Of a longer text ``max_length`` tokens are read (None: 512), if
    the model reads as many.

    Raises:
        ModelError: If it cannot be loaded; ``SelfTestError`` if its masks would not be true.
        OptionError: If prompt and answers have no sense, alone or with this model.
    """
    from cahp.models.loading import keep_network, load_model

    if tokenizer is not None:
        name = keep_network(name, tokenizer)
    if not isinstance(name, str | PathLike | ModelCard):
        raise ModelError(
            f"a model is loaded by its name, its folder or its card, not from {type(name).__name__}; give one of "
            "transformers with its tokenizer"
        )
    if not isinstance(name, ModelCard):
        name = os.fspath(name)
        card = set_dtype(identify(name, prompt=make_prompt(prompt, answers)), dtype)
        name = replace(card, max_length=max_length)
    elif prompt is not None or answers or dtype != "float32" or max_length is not None:
        raise OptionError(
            "a card holds its prompt, dtype and length already; load the model by its name, or change the card"
        )
    return verify_model(load_model(locate(name), device_name=device))


def choose_precision(setting: str, device: str) -> Precision:
    """The numbers that ``auto``, ``float32`` or ``bfloat16`` means for answers on a device of this name.

    ``auto`` is bfloat16 where the device has instructions for it.

    Raises:
        OptionError: If this machine has no such device.
    """
    if setting == "bfloat16":
        return "bfloat16"
    if setting != "auto":
        return "float32"
    from cahp.models import devices

    return "bfloat16" if devices.has_bfloat16(devices.find_device(device)) else "float32"


def count_tokens(card: ModelCard, inputs: Sequence[Input]) -> list[int]:
    """The number of tokens of each text or pair as a whole, with the special ones; reads the tokenizer alone.

    Raises:
        ModelError: If the tokenizer cannot be used.
    """
    from cahp.models.loading import load_tokenizer
    from cahp.models.tokenizing import count_whole

    card = locate(card)
    return count_whole(load_tokenizer(card.folder, card.id, prompted=card.language is not None), inputs)


def preview_prompt(card: ModelCard, example: Input | None = None) -> PromptExample | None:
    """How a language model reads ``example`` (default: a sentence) in its prompt, and by which tokens it answers.

    None for a model that has classes of its own. Reads the tokenizer, and no weights; where that was not fetched from
    the hub yet, the tokens are not known (none).

    Raises:
        OptionError: If two answers begin with the same token, or one is not known to the tokenizer.
        ModelError: If the tokenizer cannot be used.
    """
    if card.prompt is None:
        return None
    if not any(Path(card.folder, file).is_file() for file in TOKENIZER_FILES):
        # A model on the hub that is only looked at.
        if example is None:
            example = EXAMPLE
        return PromptExample(card.prompt.render(example), ())
    from cahp.models.loading import prompt_reader

    return prompt_reader(card, card.prompt).preview(example, max_length=card.max_length)


def verify_model(model: HeadModel) -> HeadModel:
    """``model`` itself, once it is proven that its heads can be gated and cut; ``verified`` says what was found.

    ``load`` proves what it reads; this is for models that come from elsewhere. A second call costs nothing.

    Raises:
        SelfTestError: If its masks would not be true.
        ModelError: If heads were cut out of it before.
    """
    if model.verified is None:
        from cahp.models.selftest import verify

        model.verified = verify(model)
    return model


#: What is imported with torch when it is first used, by its module.
_HOMES = {
    "HeadModel": "head_model",
    "continue_greedily": "caching",
    "average_outputs": "reading",
    "usual_ids": "loading",
    "can_cut": "surgery",
    "from_ids": "tokenizing",
    "known_tokens": "tokenizing",
    "split_text": "tokenizing",
    "start_id": "tokenizing",
    "token_losses": "vocabulary",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
