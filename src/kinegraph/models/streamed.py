"""What every model can do beside training: answer frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinegraph.models.stream import Stream, Streams


class Streamed:
    """Methods that begin streams; a base of every model beside `torch.nn.Module`."""

    def stream(self, mode: str = "auto", **options: Any) -> Stream:
        """One stream with the weights as they are now: frames (C, V, M) in, logits out.

        The arguments are those of `kinegraph.models.stream.open_streams`.
        """
        from kinegraph.models.stream import Stream

        return Stream(self.streams(mode, **options))

    def streams(self, mode: str = "auto", **options: Any) -> Streams:
        """Many streams that are worked on together, see `kinegraph.models.stream.open_streams`."""
        from kinegraph.models.stream import open_streams

        return open_streams(self, mode, **options)  # type: ignore[arg-type]
