"""Inference with exported files."""
