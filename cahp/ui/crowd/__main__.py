"""Read where to go and with how many from stdin, and tell on stdout, a line each, how far it is and what was found."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from cahp.ui.crowd.tour import tour
from cahp.values import CahpError


def _tell(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    try:
        _tell(
            {
                "found": asyncio.run(
                    tour(
                        asked["url"],
                        sessions=asked["sessions"],
                        progress=lambda done, of: _tell({"done": done, "of": of}),
                    )
                )
            }
        )
    except (CahpError, ValueError) as error:
        _tell({"error": str(error)})
