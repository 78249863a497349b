"""Pydantic models of the messages of the websockets, for their JSON schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kinegraph.inference.answer import Candidate
from kinegraph.server.protocol import PersonId
from kinegraph.server.schemas import FramePayload


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Answer(_Message):
    person: PersonId
    time: float | None = Field(None, description="The time of the frame, if it has one.")
    frames: int = Field(description="Frames of the person that the prediction uses.")
    label: int | None = Field(description="Null if the action is unknown, or not predicted yet.")
    name: str | None = Field(description="The action, or unknown; null before any prediction.")
    probability: float | None
    top: list[Candidate] | None = Field(None, description="With the option top.")
    logits: list[float] | None = Field(None, description="With the option logits.")


class FrameAnswer(_Answer):
    """The answer to a frame."""

    frame: int = Field(description="Index of the frame, from 0.")


class FlushAnswer(_Answer):
    """The answer to a flush."""

    flush: Literal[True]


class EndAnswer(_Answer):
    """The answer to an end, the last one of a person."""

    end: Literal[True]


class StreamRejection(_Message):
    """A message that was rejected, or the reason why the connection is closed."""

    error: str
    status: int = Field(description="HTTP status of the error.")
    person: PersonId | None = Field(None, description="The person, if the message has one.")


class DroppedAnswers(_Message):
    """The number of answers that were dropped because the client reads too slowly."""

    dropped: int


class Skeleton(_Message):
    """The first message of a video: the skeletons that the pose estimator finds."""

    layout: str
    joints: list[str]
    bones: list[tuple[int, int]] = Field(description="Pairs of joints that are connected.")
    sides: list[str] = Field(description="Left, right or trunk, for each joint.")
    people: int = Field(description="Maximum number of persons in an image.")


class ImagePerson(_Message):
    """A person in an image."""

    person: int = Field(description="Number of the person, the same in every image.")
    joints: list[tuple[float, float] | None] = Field(
        description="Pixels of each joint; null if it is not visible."
    )
    label: int | None = Field(description="Null if the action is unknown, or not predicted yet.")
    name: str | None = Field(description="The action, or unknown; null before any prediction.")
    probability: float | None
    repetitions: int = Field(
        description="Repetitions of a movement since the last segment that has ended."
    )


class VideoAction(_Message):
    """An action of a video, named or not."""

    label: int | None
    name: str
    probability: float


class VideoSegment(VideoAction):
    """An action that has ended, with its times in seconds."""

    person: int
    start: float
    end: float
    repetitions: int = Field(description="Repetitions of a movement within the segment.")


class ImageAnswer(_Message):
    """The answer to an image."""

    time: float = Field(description="The time of the image.")
    width: int
    height: int
    persons: list[ImagePerson]
    segments: list[VideoSegment] = Field(description="Actions that have ended with this image.")
    skipped: int = Field(description="Images so far that were skipped because others waited.")


class VideoEnd(_Message):
    """The last message of a video, after a text message of the client."""

    end: Literal[True]
    segments: list[VideoSegment] = Field(description="Actions that the end of the video ends.")
    main: VideoAction = Field(description="The dominant action.")


ServerMessage = FrameAnswer | FlushAnswer | EndAnswer | StreamRejection | DroppedAnswers
Client = Annotated[FramePayload | list[FramePayload], Field(description="Text of the client.")]
Server = Annotated[ServerMessage | list[ServerMessage], Field(description="Text of the server.")]


VideoServer = Annotated[
    Skeleton | ImageAnswer | VideoEnd | StreamRejection, Field(description="Text of the server.")
]
MESSAGES: dict[str, dict[str, Any]] = {
    "stream": {"client": Client, "server": Server},
    "video": {"server": VideoServer},
}


def message_schemas(websocket: str) -> dict[str, dict[str, Any]]:
    """Return the JSON schemas of the text messages of clients and of the server, by sender.

    Args:
        websocket: "stream" or "video".
    """
    return {sender: TypeAdapter(kind).json_schema() for sender, kind in MESSAGES[websocket].items()}
