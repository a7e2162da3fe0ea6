"""The parts that all pages share: frame, sidebar, dialog, address and progress."""
