"""``python -m cahp.cli``."""

from cahp.cli import main

main()
