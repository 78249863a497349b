"""Teaching on the server: models for new actions from the examples of a client, kept in memory."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.teach import teach
from kinegraph.server.errors import RequestRejectedError, too_large
from kinegraph.server.limits import Limits
from kinegraph.server.schemas import ClipPayload, rejection, to_clip
from kinegraph.training.checkpoint import pack_checkpoint
from kinegraph.transforms import TRANSFORMS
from kinegraph.video.sources import FPS

MAX_MODELS = 8
"""Taught models that are kept; the one that was used least lately is forgotten first."""
MAX_ACTIONS = 50
MAX_EXAMPLES = 300
MAX_NAME_LENGTH = 100

TEACH_EXAMPLE = {
    "examples": {
        "wave": [{"joints": [[[0.1, 0.9], [0.2, 0.5]], [[0.1, 0.8], None]], "fps": 30}],
        "clap": [{"joints": [[[0.1, 0.9], [0.2, 0.4]], [[0.1, 0.9], [0.2, 0.5]]], "fps": 30}],
    }
}
"""Shortened; shown in the OpenAPI description."""

_Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]


class ExamplesPayload(BaseModel):
    """Examples of new actions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    examples: dict[_Name, list[ClipPayload]] = Field(
        min_length=2,
        max_length=MAX_ACTIONS,
        description=f"an object of 2 to {MAX_ACTIONS} actions, by name, each a list of clips",
    )


class HeldOutEstimate(BaseModel):
    """Answers for examples that the model was taught without, as fractions."""

    examples: int = Field(description="how many were held out")
    correct: float
    wrong: float
    unknown: float = Field(description="of the examples of an action that was not taught")


class TaughtModel(BaseModel):
    """A taught model, which the paths of videos and predictions take as ``model``."""

    id: str
    actions: dict[str, int] = Field(description="number of examples by action")
    held_out: HeldOutEstimate


class TaughtModels:
    """The models that clients of this server have taught, by id."""

    def __init__(self) -> None:
        self._models = OrderedDict[str, Recognizer]()

    def add(self, recognizer: Recognizer) -> TaughtModel:
        """Keep a taught model under a new id that cannot be guessed."""
        name = secrets.token_urlsafe(12)
        self._models[name] = recognizer
        while len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)
        taught = recognizer.header.training["taught"]
        return TaughtModel(
            id=name,
            actions=taught["examples"],
            held_out=HeldOutEstimate(**taught["held_out"]),
        )

    def get(self, name: str) -> Recognizer:
        """Return a taught model.

        Raises:
            RequestRejectedError: there is none with this id, or it is forgotten.
        """
        if name not in self._models:
            raise RequestRejectedError(
                f"no taught model {name[:MAX_NAME_LENGTH]!r}: the server keeps the latest "
                f"{MAX_MODELS}, until it stops; teach it again",
                HTTPStatus.NOT_FOUND,
            )
        self._models.move_to_end(name)
        return self._models[name]


def teach_examples(body: bytes, recognizer: Recognizer, limits: Limits) -> Recognizer:
    """Return a model that is taught the examples in a request body.

    Frames are brought to the frame rate of videos.

    Raises:
        RequestRejectedError, KinegraphError: the body is not `ExamplesPayload`, or its clips do
            not fit the model.
    """
    try:
        payload = ExamplesPayload.model_validate_json(body)
    except ValidationError as error:
        raise rejection(ExamplesPayload, error) from error
    count = sum(map(len, payload.examples.values()))
    if count > MAX_EXAMPLES:
        raise too_large(f"expected at most {MAX_EXAMPLES} examples, got {count}")
    resample = TRANSFORMS["resample"]
    examples = {
        name: [resample(to_clip(clip, recognizer, limits), fps=FPS) for clip in clips]
        for name, clips in payload.examples.items()
    }
    taught = teach(recognizer, examples)
    _ = taught.step_network  # made here, since tracing takes a second
    return taught


def pack_model(recognizer: Recognizer) -> bytes:
    """Return the checkpoint of a taught model, which every command opens."""
    return pack_checkpoint(recognizer.model.state_dict(), recognizer.header)
