"""File formats, read with bounded memory and without executing code."""
