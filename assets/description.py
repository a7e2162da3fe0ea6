"""The description of the package on an index such as PyPI: the README, whose links and pictures lead to the repository.

An index shows the README alone. The build of the package runs this as its metadata hook.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: Hosts that are reserved for examples (RFC 2606).
RESERVED = ("example.com", "example.net", "example.org")
#: A link that leads elsewhere in the checkout or on the page; its words may hold a picture, as badges do.
_LINK = re.compile(r"\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\((?!https?:)([^)]*)\)")


def make_description(readme: str, address: str) -> str:
    """Return the README with absolute links and pictures in the repository at ``address``.

    Where no repository can be, links become their words, and pictures of the checkout and references that are a
    sentence of their own are left out.
    """
    if urlsplit(address).hostname in RESERVED:
        readme = re.sub(r"<picture>.*?</picture>\n+", "", readme, flags=re.DOTALL)
        readme = re.sub(rf"(?<=[.]) {_LINK.pattern}$", "", readme, flags=re.MULTILINE)
        return _LINK.sub(r"\1", readme)
    readme = re.sub(r'(src|srcset)="(?!https?:)', rf'\1="{address}/raw/main/', readme)
    readme = re.sub(r"\]\(#", f"]({address}#", readme)
    return _LINK.sub(rf"[\1]({address}/blob/main/\2)", readme)


class DescriptionHook(MetadataHookInterface):
    """Adds the description to the metadata of the project."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        described = make_description(text, metadata["urls"]["Repository"])
        metadata["readme"] = {"content-type": "text/markdown", "text": described}
