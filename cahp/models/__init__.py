"""The only place that knows Hugging Face and PEFT: load, batch, gate, probe, cut, train.

``identify`` and ``BUILTINS`` cost nothing; the first ``load`` imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cahp.models.identity import BUILTINS, assets, identify, preview
from cahp.values import ModelCard

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

__all__ = ["BUILTINS", "assets", "identify", "load", "preview", "proven"]


def load(name: str | ModelCard, *, device: str = "auto") -> HeadModel:
    """Load a model by name or card, and prove that its heads can be gated and cut.

    Raises:
        ModelError: If it cannot be loaded; ``SelfTestError`` if its masks would not be true.
    """
    from cahp.models.loading import read

    return proven(read(identify(name) if isinstance(name, str) else name, device_name=device))


def proven(model: HeadModel) -> HeadModel:
    """``model`` itself, once it is proven that its heads can be gated and cut; ``verified`` says what was found.

    ``load`` proves what it reads; this is for models that come from elsewhere. A second call costs nothing.

    Raises:
        SelfTestError: If its masks would not be true.
        ModelError: If heads were cut out of it before.
    """
    from cahp.models.selftest import proven as tested

    return tested(model)
