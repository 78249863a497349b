"""Pretrained models by name: bundled with kinegraph, or on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

from kinegraph.errors import CheckpointError, install_command, unknown_name
from kinegraph.inference.recognizer import Precision, Recognizer
from kinegraph.training.checkpoint import find_checkpoint, load_header
from kinegraph.training.model_zoo import bundled_weights, list_pretrained, model_card

HUB_PREFIX = "hf://"
HUB_WEIGHTS_FILE, HUB_CARD_FILE = "model.safetensors", "README.md"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def load_pretrained(name: str = "penn-action", precision: Precision = "fp32") -> Recognizer:
    """Load a recognizer that needs no training.

    Examples:
        >>> load_pretrained("penn-action").layout.name
        'penn13'

    Args:
        name: one of `kinegraph list pretrained`, or ``hf://owner/name`` for a model uploaded by
            `push_to_hub`; that needs the extra ``hub``. The download is only read:
            weights are numbers, the header is plain data.
        precision: see `Recognizer.load`.

    Raises:
        UnknownNameError: an unknown name.
        CheckpointError: the hub cannot be reached, or has no such checkpoint.
    """
    if name.startswith(HUB_PREFIX):
        return Recognizer.load(_download(name.removeprefix(HUB_PREFIX)), precision)
    path = bundled_weights(name)
    if path is None:
        raise unknown_name("pretrained model", name, list_pretrained())
    return Recognizer.load(path, precision)


def push_to_hub(run: str | Path, repository: str, *, private: bool = True) -> str:
    """Upload a run's checkpoint to the Hugging Face hub, with a model card.

    Args:
        run: a run, a checkpoint file, or the name of a pretrained model.
        repository: ``owner/name``; created if it does not exist. Log in by `hf auth login` first.
        private: whether a new repository is private.

    Returns:
        the name for `load_pretrained`.

    Raises:
        CheckpointError: the run is missing, or the hub rejects it.
    """
    path = find_checkpoint(Path(run))
    load_header(path)  # only checkpoints are uploaded
    hub = _import_hub(repository)
    files = {HUB_WEIGHTS_FILE: path.read_bytes(), HUB_CARD_FILE: _model_card(run, path)}
    try:
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        for name, content in files.items():
            api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id=repository)
    except Exception as error:  # network, rights and names: there are many kinds
        raise CheckpointError(f"the hub rejects {repository!r}: {_first_line(error)}") from error
    return HUB_PREFIX + repository


def _download(repository: str) -> Path:
    hub = _import_hub(repository)
    try:
        return Path(hub.hf_hub_download(repository, HUB_WEIGHTS_FILE))
    except Exception as error:  # network, rights and names: there are many kinds
        reason = f"cannot download {HUB_WEIGHTS_FILE} of {repository!r} from the hub"
        raise CheckpointError(f"{reason}: {_first_line(error)}") from error


def _import_hub(repository: str) -> ModuleType:
    """Import the hub's client, and check the name of a repository."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"huggingface_hub is not installed: run {install_command('hub')}"
        ) from error
    if not _REPOSITORY.fullmatch(repository):
        raise CheckpointError(f"expected a repository as owner/name, got {repository!r}")
    return huggingface_hub


def _model_card(run: str | Path, path: Path) -> bytes:
    """Return the card of a bundled model, or one made from the header."""
    if bundled_weights(str(run)) == path:
        return model_card(str(run)).read_bytes()
    header = load_header(path)
    classes = ", ".join(header.class_name(i) for i in range(header.num_classes))
    return (
        f"# {header.recipe.get('name', path.stem)}\n\nA checkpoint of kinegraph: "
        f"{header.model['name']} on the skeleton {header.layout['name']}, trained on "
        f"{header.training.get('clips', 'unknown')} clips. It names: {classes}.\n"
    ).encode()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
