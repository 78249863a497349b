"""File formats, opened without trust: bounded memory and no code execution."""
