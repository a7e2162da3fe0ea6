"""The only place that knows Hugging Face and PEFT: load, batch, gate, probe, cut, train.

``identify`` and ``BUILTINS`` cost nothing; the first ``load`` imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cahp.models.identity import BUILTINS, assets, identify
from cahp.values import ModelCard

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

__all__ = ["BUILTINS", "assets", "identify", "load"]


def load(name: str | ModelCard, *, device: str = "auto") -> HeadModel:
    """Load a model by name or card, and prove that its heads can be gated and cut.

    Raises:
        ModelError: If it cannot be loaded; ``SelfTestError`` if its masks would not be true.
    """
    from cahp.models.loading import read
    from cahp.models.selftest import verify

    model = read(identify(name) if isinstance(name, str) else name, device_name=device)
    verify(model)
    return model
