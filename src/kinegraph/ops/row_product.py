"""Products of many rows with one matrix, on a processor as a 1x1 convolution by oneDNN.

PyTorch multiplies float32 matrices with MKL, which does not use AVX-512 on processors of other
makers: there a 1x1 convolution, which goes to oneDNN, takes 0.4 of the time. PyTorch sends
convolutions of a batch of fewer than 16 to MKL as well, so the rows are divided into a batch.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d

MIN_BATCH = 16  # images, for PyTorch to choose oneDNN
MAX_BATCH = 64  # with more, and so smaller images, the convolution is slower than the product
MIN_ROWS = 200  # with fewer rows, or fewer multiplications, the product is faster
MIN_MULTIPLICATIONS = 4_000_000


def row_product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (R, C) times weight (C, C'), plus bias (C',)."""
    batch = _batch_size(rows, weight)
    if not batch:
        return rows @ weight if bias is None else torch.addmm(bias, rows, weight)
    images = rows.view(batch, rows.shape[0] // batch, 1, -1).permute(0, 3, 1, 2)
    kernel = weight.T[:, :, None, None]
    return conv2d(images, kernel, bias).permute(0, 2, 3, 1).reshape(rows.shape[0], -1)


def _batch_size(rows: Tensor, weight: Tensor) -> int:
    """Return the number of images to divide the rows into; 0 if the product is faster.

    Streams call this for every layer of every frame, so the cheap conditions come first.
    """
    is_traced = torch.compiler.is_exporting() or torch.compiler.is_compiling()
    if is_traced or torch.jit.is_tracing() or rows.shape[0] < MIN_ROWS:
        return 0
    is_suitable = (
        rows.is_cpu
        and rows.dtype == weight.dtype == torch.float32
        and rows.shape[0] * weight.numel() >= MIN_MULTIPLICATIONS
        and rows.is_contiguous()
        and not torch.is_autocast_enabled("cpu")
    )
    return divide_rows(rows.shape[0]) if is_suitable else 0


@lru_cache(maxsize=4096)
def divide_rows(rows: int) -> int:
    """Return the size of a batch of equal images with so many rows; 0 if there is none."""
    sizes = range(MIN_BATCH, MAX_BATCH + 1)
    return next((size for size in sizes if rows % size == 0), 0)
