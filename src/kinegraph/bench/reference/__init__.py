"""Reference networks and parsers in plain PyTorch and Python: the baselines of `bench`."""
