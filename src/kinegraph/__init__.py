"""kinegraph: skeleton-based action recognition, from raw skeletons to named actions.

The public names are imported on first use, so that `import kinegraph` does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "Clip": "kinegraph.clips.clip",
    "ClipStore": "kinegraph.clips.store",
    "KinegraphError": "kinegraph.errors",
    "Recognizer": "kinegraph.inference.recognizer",
    "RepetitionCounter": "kinegraph.inference.counting",
    "SkeletonLayout": "kinegraph.skeleton.layout",
    "adjacency": "kinegraph.skeleton.graph",
    "assess": "kinegraph.inference.assess",
    "convert": "kinegraph.readers.convert",
    "convert_layout": "kinegraph.transforms.convert_layout",
    "count_repetitions": "kinegraph.inference.counting",
    "create_model": "kinegraph.models",
    "evaluate_run": "kinegraph.inference.evaluate",
    "from_movement": "kinegraph.readers.movement",
    "get_layout": "kinegraph.skeleton.layouts",
    "list_layouts": "kinegraph.skeleton.layouts",
    "list_models": "kinegraph.models",
    "load_pretrained": "kinegraph.inference.pretrained",
    "load_recipe": "kinegraph.training.recipe",
    "open_session": "kinegraph.inference.session",
    "read_clip": "kinegraph.readers",
    "read_clips": "kinegraph.readers",
    "register_layout": "kinegraph.skeleton.layouts",
    "register_model": "kinegraph.models",
    "teach": "kinegraph.inference.teach",
    "to_movement": "kinegraph.readers.movement",
    "train": "kinegraph.training.train",
}

__all__ = sorted(_MODULE_OF)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'kinegraph' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
