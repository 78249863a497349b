"""`kinegraph serve`: an HTTP and websocket server, with a page to try a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import EventsOption, WebhookOption, WebhookSecretOption, echo

if TYPE_CHECKING:
    from kinegraph.server.service import Service


def serve(
    model: Annotated[
        Path, typer.Argument(help="Run folder, checkpoint, exported file, or bundled model name.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but localhost requires --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="KINEGRAPH_TOKEN", help="Token that clients must send.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin of a site whose pages have access, such as https://example.org; "
            "repeatable."
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="IP address of a trusted proxy, which states the address of each client in the "
            "header X-Forwarded-For; repeatable."
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="Mode of streams: step, window, or auto.")] = "auto",
    window: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Window length of a stream in seconds; default: the run's, or 3."
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Frames between two predictions in window mode.")
    ] = 10,
    rate: Annotated[
        float, typer.Option(min=1, help="Frame rate of each person, in frames/s.")
    ] = 30.0,
    persons: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of persons; default: measured at startup."),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="Maximum number of websockets.")] = 512,
    connections_per_address: Annotated[
        int, typer.Option(min=1, help="Maximum number of connections of one client address.")
    ] = 256,
    body: Annotated[int, typer.Option(min=1, help="Maximum size of an .npz clip in MiB.")] = 16,
    frames: Annotated[int, typer.Option(min=1, help="Maximum number of frames in a clip.")] = 3000,
    queue: Annotated[int, typer.Option(min=1, help="Maximum queued frames per person.")] = 30,
    processes: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Worker processes for streams; 0: none. Default: 1, or one per core for large "
            "networks.",
        ),
    ] = None,
    videos: Annotated[int, typer.Option(min=1, help="Maximum number of videos at a time.")] = 2,
    events: EventsOption = None,
    webhook: WebhookOption = None,
    webhook_secret: WebhookSecretOption = None,
) -> None:
    """Serve a model over HTTP and websockets, with a page for cameras and videos."""
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.server.limits import MIB, Limits
    from kinegraph.server.serve import address_of, create_server, open_socket, run_server
    from kinegraph.video.events import STANDARD_OUTPUT, open_outputs

    limits = Limits(
        max_body_bytes=body * MIB,
        max_frames=frames,
        frame_rate=rate,
        max_persons=persons,
        max_connections=connections,
        max_connections_per_address=connections_per_address,
        max_queued_frames=queue,
        max_videos=videos,
    )
    name = model.name or str(model)
    with (
        open_outputs(events, webhook, webhook_secret) as send_segments,
        open_socket(host, port, token) as listening,
    ):

        def on_ready(service: Service) -> None:
            echo(
                f"{name} at {address_of(listening)}\n"
                f"streams: {service.mode} mode, capacity {service.capacity} persons at "
                f"{rate:g} frames/s; press Ctrl+C to stop",
                error=events == STANDARD_OUTPUT,
                flush=True,
            )

        server = create_server(
            Recognizer.load(model),
            token=token,
            limits=limits,
            origins=allow_origin or (),
            proxies=proxy or (),
            name=name,
            on_ready=on_ready,
            processes=processes,
            mode=mode,
            window="auto" if window is None else window,
            every=every,
            send_segments=send_segments,
        )
        run_server(server, listening)
