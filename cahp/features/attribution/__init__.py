"""Which heads matter for one text: attribution patching, checked by exact removal."""

#: Heads that are removed exactly.
TOP = 10
