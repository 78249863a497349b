"""`kinegraph export`: a run as a file that other runtimes answer with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.console import print_table


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    out: Annotated[Path, typer.Argument(help="The file: .onnx, .xml (OpenVINO) or .pt2 (torch).")],
    format: Annotated[
        str | None, typer.Option(help="onnx, openvino or torch. Default: by the file's ending.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16 or int8.")] = "fp32",
    streaming: Annotated[
        bool, typer.Option("--streaming", help="A step network: a few frames and its state.")
    ] = False,
    store: Annotated[
        Path | None, typer.Option(help="Clips to compare and calibrate on. Default: the recipe's.")
    ] = None,
) -> None:
    """Export a run, compared with its module before the file is there."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.inference.export.export_run import export_run

    opened = ClipStore(store) if store else None
    manifest = export_run(
        run, out, format=format, precision=precision, streaming=streaming, store=opened
    )
    parity: dict[str, Any] = manifest.parity or {}
    kind = "step network" if streaming else "network"
    print_table(f"{out}: {manifest.format} {precision}, {kind}", ("parity", ""), told(parity))
    print(f"next: kinegraph predict {out} FILE")


def told(parity: dict[str, Any]) -> list[tuple[str, str]]:
    """The parity table's rows."""
    return [
        ("compared on", f"{parity['clips']} {parity['source']}"),
        ("largest difference of logits", f"{parity['difference']:.2g}"),
        ("as a share of the largest logit", f"{parity['relative']:.2g}"),
        ("same top-1", f"{parity['agreement']:.1%}"),
        ("speed against the module", f"{parity['speed']:.2f}x"),
        ("size", f"{parity['size'] / 1e6:.2f} MB"),
    ]
