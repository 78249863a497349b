"""What the labels of public datasets are called."""

from __future__ import annotations

from functools import cache
from importlib import resources

from kinegraph.errors import ReadError, unknown_name

_NTU60_CLASSES = 60

#: Sets that are known but whose names cannot be listed here, each with its reason.
_NAMELESS = {
    "fsd10": "its 30 classes have no public names; use the label numbers",
    "kinetics": "its 400 names come with the label file beside the clips, kinetics_val_label.json",
}


def class_names(set_name: str) -> tuple[str, ...]:
    """The class names of a dataset by label: `class_names("ntu60")[0]` is "drink water".

    Raises:
        ReadError: the set is known but has no public names.
        UnknownNameError: no such set; the message lists the known ones.
    """
    if set_name in _NAMELESS:
        raise ReadError(f"no class names for {set_name!r}: {_NAMELESS[set_name]}")
    names = _all_names().get(set_name)
    if names is None:
        raise unknown_name("class set", set_name, _all_names())
    return names


def list_class_sets() -> list[str]:
    """The sets that `class_names` knows, sorted."""
    return sorted(_all_names())


@cache
def _all_names() -> dict[str, tuple[str, ...]]:
    import yaml

    text = resources.files("kinegraph.readers").joinpath("class_names.yaml").read_text("utf-8")
    names = {key: tuple(values) for key, values in yaml.safe_load(text).items()}
    return {**names, "ntu60": names["ntu120"][:_NTU60_CLASSES]}
