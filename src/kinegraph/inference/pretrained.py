"""Models by name: those that come with kinegraph, and those that others have put on a hub."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from kinegraph.errors import CheckpointError, unknown_name
from kinegraph.inference.recognizer import Precision, Recognizer
from kinegraph.training.checkpoint import find_checkpoint, load_header
from kinegraph.training.model_zoo import bundled_weights, list_pretrained, model_card

HUB = "hf://"
WEIGHTS, CARD = "model.safetensors", "README.md"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_pretrained(name: str = "penn-action", precision: Precision = "fp32") -> Recognizer:
    """A recogniser that needs no training.

    >>> load_pretrained("penn-action").layout.name
    'penn13'

    Args:
        name: one of `kinegraph list pretrained`, or ``hf://owner/name`` for what `push_to_hub` has
            put on the Hugging Face hub; that needs ``pip install "kinegraph[hub]"``. Nothing that
            comes from there is executed: weights are numbers, and a header of plain data.
        precision: see `Recognizer.load`.

    Raises:
        UnknownNameError: there is none of that name.
        CheckpointError: the hub cannot be reached, or holds no checkpoint there.
    """
    if name.startswith(HUB):
        return Recognizer.load(_pulled(name.removeprefix(HUB)), precision)
    path = bundled_weights(name)
    if path is None:
        raise unknown_name("pretrained model", name, list_pretrained())
    return Recognizer.load(path, precision)


def push_to_hub(run: str | Path, repository: str, *, private: bool = True) -> str:
    """Put a run's checkpoint on the Hugging Face hub, with a model card beside it.

    Args:
        run: a run, a checkpoint file, or the name of a pretrained model.
        repository: ``owner/name``; made if it is not there. Log in by `hf auth login` first.
        private: whether others cannot see a repository that is made.

    Returns:
        the name by which `load_pretrained` finds it.

    Raises:
        CheckpointError: there is no run, or the hub does not take it.
    """
    hub = _hub()
    path = find_checkpoint(Path(run))
    load_header(path)  # what is no checkpoint of ours stays here
    repository = _checked(repository)
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        for name, content in ((WEIGHTS, path.read_bytes()), (CARD, _card(run, path))):
            api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repository)
    except Exception as error:  # of network, rights and names: there are many kinds
        raise CheckpointError(
            f"the hub does not take {repository!r}: {_first_line(error)}"
        ) from error
    return HUB + repository


def _pulled(repository: str) -> Path:
    hub = _hub()
    repository = _checked(repository)
    try:
        return Path(hub.hf_hub_download(repository, WEIGHTS))
    except Exception as error:  # of network, rights and names: there are many kinds
        raise CheckpointError(
            f"the hub gives no {WEIGHTS} of {repository!r}: {_first_line(error)}"
        ) from error


def _checked(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(f"expected owner/name of a hub's repository, got {repository!r}")
    return repository


def _card(run: str | Path, path: Path) -> bytes:
    """The model card: that of a pretrained model, or what the header says."""
    if bundled_weights(str(run)) == path:
        return model_card(str(run)).read_bytes()
    header = load_header(path)
    classes = ", ".join(header.class_name(i) for i in range(header.num_classes))
    return (
        f"# {header.recipe.get('name', path.stem)}\n\nA checkpoint of kinegraph: "
        f"{header.model['name']} on the skeleton {header.layout['name']}, trained on "
        f"{header.training.get('clips', 'unknown')} clips. It names: {classes}.\n"
    ).encode()


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            'huggingface_hub is not installed, and hubs need it: pip install "kinegraph[hub]"'
        ) from error
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
