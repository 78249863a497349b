"""`kinegraph serve`: a model that answers over HTTP and websockets, and a page to try it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kinegraph.server.service import Service


def serve(
    model: Annotated[
        Path, typer.Argument(help="A run's folder, a checkpoint, or the name of a shipped model.")
    ],
    host: Annotated[str, typer.Option(help="Others than this machine need --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="KINEGRAPH_TOKEN", help="What clients have to show."),
    ] = None,
    mode: Annotated[str, typer.Option(help="Of streams: auto, step or window.")] = "auto",
    window: Annotated[int | None, typer.Option(min=1, help="Latest frames that count.")] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Frames between answers of a stream of windows.")
    ] = 10,
    rate: Annotated[float, typer.Option(min=1, help="Frames/s of a person.")] = 30.0,
    persons: Annotated[
        int | None, typer.Option(min=1, help="Default: as many as this machine has room for.")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="Open streams.")] = 512,
    body: Annotated[int, typer.Option(min=1, help="MiB of a clip that is sent as .npz.")] = 16,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a clip.")] = 3000,
    queue: Annotated[int, typer.Option(min=1, help="Frames of a person that wait.")] = 30,
    processes: Annotated[
        int | None,
        typer.Option(min=0, help="For streams; default: 1, or one a core. 0: the server's own."),
    ] = None,
    videos: Annotated[int, typer.Option(min=1, help="Videos watched at a time.")] = 2,
) -> None:
    """Answer over HTTP and websockets, and show a page for cameras and videos."""
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.server import serve as run
    from kinegraph.server.limits import MIB, Limits

    limits = Limits(
        max_body_bytes=body * MIB,
        max_frames=frames,
        frame_rate=rate,
        max_persons=persons,
        max_connections=connections,
        max_queued_frames=queue,
        max_videos=videos,
    )
    with run.open_socket(host, port, token) as listening:
        recognizer = Recognizer.load(model)
        address = run.address_of(listening)

        def ready(service: Service) -> None:
            print(
                f"{model.name or model} at {address}\n"
                f"streams: {service.mode}, room for {service.admission.capacity} persons at "
                f"{rate:g} frames/s; end with Ctrl+C",
                flush=True,
            )

        run.serve(
            recognizer,
            listening,
            token=token,
            limits=limits,
            name=model.name or str(model),
            ready=ready,
            processes=processes,
            mode=mode,
            window=window,
            every=every,
        )
