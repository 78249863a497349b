"""How fast kinegraph is, measured beside plain implementations of the same papers."""
