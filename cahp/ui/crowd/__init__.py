"""Many people at once: what each of them waits for, and whether each is shown what is theirs.

``python -m cahp.ui.crowd`` visits an explorer that runs, over the socket that browsers use; ``cahp bench --sessions``
starts both. Nothing here is a part of the explorer.
"""
