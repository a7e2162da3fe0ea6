"""``python -m cahp``, which ``accelerate launch -m cahp`` runs in several processes."""

from cahp.cli import main

main()
