"""Benchmarks of this machine against reference implementations of the papers."""
