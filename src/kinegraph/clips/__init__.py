"""What a recording is, where recordings are kept, and how a set of them is divided."""

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, StoreWriter

__all__ = ["Clip", "ClipStore", "StoreWriter"]
