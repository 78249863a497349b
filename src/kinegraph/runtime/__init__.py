"""Inference of trained models: fused layers, streaming by steps and by windows."""
