"""Arrays in JSON: nested lists of numbers, with null where nothing is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DIMENSIONS = 4
"""Persons, frames, joints and coordinates."""
MAX_VALUES = 2**24
"""Numbers of an array; a null may stand for many of them."""


def parse_array(value: Any) -> NDArray[np.float64]:
    """Convert nested lists of numbers to an array; null at any depth becomes NaN.

    An array of nulls only has as many dimensions as all of them are nested deep.

    Raises:
        ValueError: not numbers, lists of different lengths, too many dimensions or values.
    """
    try:
        array = np.asarray(value)
    except (ValueError, RecursionError):  # lists of different lengths, or a null among lists
        array = np.empty(0, object)
    if array.dtype == object:
        shape = _find_shape(value, MAX_DIMENSIONS) or ()
        if math.prod(shape) > MAX_VALUES:
            raise ValueError(f"got {math.prod(shape)} numbers, expected at most {MAX_VALUES}")
        try:
            array = np.asarray(_fill_missing(value, shape))
        except ValueError as error:
            raise ValueError("got lists of different lengths") from error
        if array.dtype == object:
            array = _convert_objects(array)
    if array.dtype.kind not in "fiu":
        raise ValueError("got values that are not numbers")
    if array.ndim > MAX_DIMENSIONS:
        raise ValueError(f"got lists that are nested more than {MAX_DIMENSIONS} deep")
    return array.astype(np.float64, copy=False)


def _find_shape(value: Any, depth: int) -> tuple[int, ...] | None:
    """Return the lengths of the nested lists around the first number; None without any number."""
    if not isinstance(value, list):
        return None if value is None else ()
    if not depth:
        raise ValueError(f"got lists that are nested more than {MAX_DIMENSIONS} deep")
    shapes = (_find_shape(item, depth - 1) for item in value)
    shape = next((shape for shape in shapes if shape is not None), None)
    return None if shape is None else (len(value), *shape)


def _fill_missing(value: Any, shape: tuple[int, ...]) -> Any:
    """Replace null by arrays of NaN of the shape of its neighbors."""
    if value is None:
        return np.broadcast_to(np.nan, shape) if shape else math.nan
    if shape and isinstance(value, list):
        return [_fill_missing(item, shape[1:]) for item in value]
    return value


def _convert_objects(array: NDArray[Any]) -> NDArray[np.float64]:
    """Convert integers that no integer type of numpy holds."""
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise ValueError("got a number that is too large") from error
    except (TypeError, ValueError) as error:
        raise ValueError("got values that are not numbers") from error
