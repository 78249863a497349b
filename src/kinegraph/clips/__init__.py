"""Clips, the store file that holds them, and their splits into training and test."""

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, StoreWriter

__all__ = ["Clip", "ClipStore", "StoreWriter"]
