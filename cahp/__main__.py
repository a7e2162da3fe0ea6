"""``python -m cahp``: the command line."""

from cahp.cli import main

main()
