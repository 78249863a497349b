"""Tensor operations that models and the runtime share."""
