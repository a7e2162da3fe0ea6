"""The configuration class of a checkpoint of the type ``nemotron-nas``, of which transformers has none.

vLLM and SGLang read ``config.json`` with transformers, which loads this file if it may (``--trust-remote-code``).
"""

from typing import Any

from transformers import PretrainedConfig


class Entries(dict[str, Any]):
    """Entries of a configuration that are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        """Return the entry ``name``."""
        if name not in self:
            raise AttributeError(name)
        return self[name]


class NemotronNasConfig(PretrainedConfig):  # type: ignore[misc]
    """The entries of ``config.json``; those of the layers are attributes as well."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs: list[dict[str, dict[str, Any]]] | None = None, **entries: Any) -> None:
        super().__init__(**entries)
        self.block_configs = [
            Entries({name: Entries(part) for name, part in block.items()}) for block in block_configs or ()
        ]
