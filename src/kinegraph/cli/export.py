"""`kinegraph export`: a run as a verified ONNX, OpenVINO or PyTorch file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.console import echo, print_table


def export(
    run: Annotated[Path, typer.Argument(help="Folder of the run, or a checkpoint file.")],
    out: Annotated[
        Path, typer.Argument(help="Output file: .onnx, .xml (OpenVINO) or .pt2 (PyTorch).")
    ],
    format: Annotated[
        str | None, typer.Option(help="Format: onnx, openvino or torch; default: by extension.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Precision: fp32, fp16, bf16 or int8.")] = "fp32",
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Export a network that takes a few frames per call.")
    ] = False,
    store: Annotated[
        Path | None,
        typer.Option(help="Clips for verification and calibration. Default: the recipe's store."),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(help="Opset of an ONNX file, 11 to 23, for compilers that need an old one."),
    ] = None,
) -> None:
    """Export a run; the exported model is verified against the original before it is written."""
    from kinegraph.clips.store import ClipStore
    from kinegraph.inference.export.export_run import export_run

    opened = ClipStore(store) if store else None
    manifest = export_run(
        run, out, format=format, precision=precision, streaming=streaming, store=opened, opset=opset
    )
    kind = "step network" if streaming else "network"
    rows = parity_rows(manifest.parity or {})
    print_table(f"{out}: {manifest.format} {precision}, {kind}", ("parity", ""), rows)
    echo(f"next: kinegraph predict {out} FILE")


def parity_rows(parity: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table that compares an exported model with the original."""
    return [
        ("compared on", f"{parity['clips']} {parity['source']}"),
        ("largest logit difference", f"{parity['difference']:.2g}"),
        ("relative to the largest logit", f"{parity['relative']:.2g}"),
        ("top-1 agreement", f"{parity['agreement']:.1%}"),
        ("speed-up over the original", f"{parity['speed']:.2f}x"),
        ("file size", f"{parity['size'] / 1e6:.2f} MB"),
    ]
