"""Inference: predictions, evaluation, streaming sessions and export of trained models."""
