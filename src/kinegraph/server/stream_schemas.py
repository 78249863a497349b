"""Pydantic models of the messages of a stream, for its JSON schemas."""

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


ServerMessage = FrameAnswer | FlushAnswer | EndAnswer | StreamRejection | DroppedAnswers
Client = Annotated[FramePayload | list[FramePayload], Field(description="Text of the client.")]
Server = Annotated[ServerMessage | list[ServerMessage], Field(description="Text of the server.")]


def message_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schemas of the text messages of clients and of the server."""
    return {
        "client": TypeAdapter(Client).json_schema(),
        "server": TypeAdapter(Server).json_schema(),
    }
