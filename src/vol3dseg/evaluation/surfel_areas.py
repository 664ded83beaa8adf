"""The area of the surface in each way that a mask can run between eight voxels.

Between the centres of 2 x 2 x 2 voxels the surface cuts those edges in the middle whose ends differ
(Lorensen and Cline 1987, "Marching Cubes"). Two rules make it unique: where a face has two voxels
of the mask on a diagonal, those keep apart which are in the minority among the eight; and of the
ways to divide a polygon into triangles that one is taken which has the largest area, edges counted
as 1. The areas so found are those of the table of surface-distance 0.1 (Nikolov et al. 2021,
"Clinically Applicable Segmentation of Head and Neck Anatomy"), which tests compare.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
Polygon = tuple[Point, ...]
_CORNERS = tuple(product((0, 1), repeat=3))  # the place of each is its bit


def surfel_areas(spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the area [mm^2] for each code: bit 4 i + 2 j + k is voxel (i, j, k) of the eight."""
    i, j, k = spacing_mm
    faces_mm2 = np.array([j * k, k * i, i * j])  # what a normal's components stretch by
    lengths: Any = np.linalg.norm(_normals() * faces_mm2, axis=-1)
    return np.asarray(lengths.sum(axis=1))


@cache
def _normals() -> NDArray[np.float64]:
    """Return the triangles of each code as normals as long as their areas; (256, triangles, 3)."""
    of_codes = [[n for each in _polygons(code) for n in _largest(each)] for code in range(256)]
    found = np.zeros((256, max(map(len, of_codes)), 3))
    for row, normals in zip(found, of_codes, strict=True):
        row[: len(normals)] = np.reshape(normals, (-1, 3))
    return found


def _polygons(code: int) -> Iterator[Polygon]:
    """Walk along the lines in which the surface cuts the faces, until each polygon closes."""
    inside = [bool(code >> bit & 1) for bit in range(8)]
    fewer = dict(zip(_CORNERS, inside if sum(inside) <= 4 else np.invert(inside), strict=True))
    ends: dict[Point, list[Point]] = {}
    for face in _faces():
        for one, other in _lines(face, fewer):
            ends.setdefault(one, []).append(other)
            ends.setdefault(other, []).append(one)
    while ends:
        here, (there, _) = next(iter(ends.items()))
        polygon = [here]
        while there not in polygon:
            before = polygon[-1]
            polygon.append(there)
            there = next(point for point in ends[there] if point != before)
        for point in polygon:
            del ends[point]
        yield tuple(polygon)


def _faces() -> Iterator[list[tuple[int, ...]]]:
    """Return the corners of each face of the cube, in turn around it."""
    for axis, side in product(range(3), (0, 1)):
        flat = ((0, 0), (1, 0), (1, 1), (0, 1))
        yield [(*corner[:axis], side, *corner[axis:]) for corner in flat]


def _lines(face: list[tuple[int, ...]], inside: dict[Any, bool]) -> Iterator[tuple[Point, Point]]:
    """Return the lines across a face: between its two cuts, or around each corner of a diagonal."""
    edges = [(face[n - 1], face[n]) for n in range(4)]
    cut = [_middle(*edge) for edge in edges if inside[edge[0]] != inside[edge[1]]]
    if len(cut) == 2:
        yield cut[0], cut[1]
    elif len(cut) == 4:
        for n in range(4):
            if inside[face[n]]:
                yield _middle(face[n - 1], face[n]), _middle(face[n], face[(n + 1) % 4])


def _middle(one: tuple[int, ...], other: tuple[int, ...]) -> Point:
    i, j, k = ((a + b) / 2 for a, b in zip(one, other, strict=True))
    return i, j, k


def _largest(polygon: Polygon) -> list[NDArray[np.float64]]:
    """Return the triangles of the division with the largest area, as normals."""
    points = np.array(polygon)
    divisions = [
        [np.cross(points[b] - points[a], points[c] - points[a]) / 2 for a, b, c in triangles]
        for triangles in _divisions(0, len(points) - 1)
    ]
    return max(divisions, key=lambda each: round(float(sum(np.linalg.norm(n) for n in each)), 9))


def _divisions(first: int, last: int) -> Iterator[list[tuple[int, int, int]]]:
    """Return every way to divide the polygon of points first to last into triangles."""
    if last - first < 2:
        yield []
    for middle in range(first + 1, last):
        for left, right in product(_divisions(first, middle), _divisions(middle, last)):
            yield [*left, *right, (first, middle, last)]
