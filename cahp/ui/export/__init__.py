"""Take it home."""
