"""What MONAI's transforms give, with what is exactly zero in it; and what preparing takes.

`monai_prepared.json` holds, of small scans, what MONAI 1.6.1 gives with torch 2.13 on the CPU:
which voxels are exactly zero, and some of the others. Beside an object torch leaves 1e-14 or
nothing, as places round, and `nonzero` and `CropForegroundd` ask for that.
"""

import base64
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vol3dseg.preprocessing.monai_transforms import monai_preparing_bytes, prepare_as_monai
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.preprocessing.preparing_memory import largest_working_shape, preparing_takes_mb
from vol3dseg.recipe import MonaiRecipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.torch_sampling import sample_as_torch
from vol3dseg.space.volume import Volume

KNOWN = json.loads((Path(__file__).parent / "monai_prepared.json").read_text())
RAS = {"step": "orientation"}
SPACING = {"step": "spacing", "spacing_mm": (1.0, 1.0, 1.0)}
NONZERO = {"step": "standardise", "nonzero": True}
STRAIGHT = np.diag([-1.25, -1.25, 2.5, 1.0])
OBLIQUE = np.array([[-1.2, 0.3, 0.2, 0], [-0.3, -1.2, 0, 0], [0.1, -0.03, 2.5, 0], [0, 0, 0, 1.0]])


def image(shape, channels):
    """Whole numbers, and zeros around them."""
    numbers = np.sin(np.arange(channels * np.prod(shape)) * 0.7).reshape(channels, *shape)
    inside = np.zeros(shape, dtype=bool)
    inside[tuple(slice(n // 4, n - n // 4) for n in shape)] = True
    return np.where(inside, np.rint(numbers * 300), 0).astype(np.float32)


def recipe(steps, channels):
    names = ("a", "b", "c")[:channels]
    return MonaiRecipe(kind="monai", modalities=names, steps=steps, patch_size=(8, 8, 8))


@pytest.mark.parametrize("name", KNOWN)
def test_arrays_are_those_of_monai_with_their_zeros(name):
    known = KNOWN[name]
    channels = known["size"][0]
    grid = Geometry(tuple(known["shape"]), [*known["affine"], [0, 0, 0, 1]])
    steps = recipe(known["steps"], channels)
    scan = np.moveaxis(image(grid.shape, channels), 0, -1)
    made = prepare(Volume(scan, grid, steps.modalities), steps).volume
    found = np.moveaxis(made.array, -1, 0)
    assert list(found.shape) == known["size"]
    zeros = np.unpackbits(np.frombuffer(base64.b64decode(known["zero"]), np.uint8))
    assert np.array_equal(found == 0, zeros[: found.size].reshape(found.shape))
    assert made.geometry.affine[:3, 3] == pytest.approx(known["corner"], abs=1e-5)
    at = [found[tuple(place)] for place in known["places"]]
    assert at == pytest.approx(known["values"], rel=1e-5, abs=1e-5)


def test_the_scan_as_read_is_left_alone():
    scan = np.moveaxis(image((6, 6, 6), 1), 0, -1)
    before = scan.copy()
    volume = Volume(scan, Geometry((6, 6, 6), np.diag([-1.0, 1, 1, 1])), ("a",))
    made = prepare(volume, recipe([RAS, SPACING, NONZERO], 1)).volume
    assert np.array_equal(scan, before)
    assert not np.array_equal(made.array, before[::-1])


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_one_voxel_along_an_axis_is_repeated(precision):
    scan = image((8, 8, 8), 1)[:, :1]
    scan[0, 0, 3] = 7
    moved = sample_as_torch(scan, np.diag([3.0, 1, 1, 1]), (4, 8, 8), precision)
    assert np.allclose(moved, scan, atol=1e-3)


PIPELINES = {
    "masked": [RAS, SPACING, {**NONZERO, "channel_wise": True}],
    "masked together": [RAS, SPACING, NONZERO],
    "cropped": [RAS, SPACING, {"step": "crop"}, NONZERO],
    "widened": [RAS, SPACING, {"step": "crop", "margin": (9, 9, 9)}],
    "before": [{"step": "scale"}, RAS, SPACING],
    "turned late": [SPACING, RAS, {"step": "standardise"}],
    "no other grid": [RAS, {"step": "scale_range", "low": 0.0, "high": 5.0}],
}


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("name", PIPELINES)
def test_preparing_takes_what_is_said_at_most(name, affine):
    grid, steps = Geometry((60, 56, 30), affine), recipe(PIPELINES[name], 2)
    images = dict(zip("ab", np.asfortranarray(image(grid.shape, 2)), strict=True))
    tracemalloc.start()
    made = prepare_as_monai(images, grid, steps, lambda shape: None)
    peak = tracemalloc.get_traced_memory()[1] - made.array.nbytes
    tracemalloc.stop()
    shape = made.geometry.shape
    said = monai_preparing_bytes(steps, grid, shape)
    assert peak < said + 2**18
    assert said < 1.5 * peak + 2 * made.array.nbytes
    assert preparing_takes_mb(steps, grid, shape) > said / 2**20
    if steps.crop == "none":
        assert shape == largest_working_shape(steps, grid)


def test_memory_is_asked_for_as_margins_are_known():
    asked = []
    images = {"a": image((8, 8, 8), 1)[0]}
    steps = recipe([{"step": "crop", "margin": (20, 0, 0)}], 1)
    prepare_as_monai(images, Geometry((8, 8, 8), np.eye(4)), steps, asked.append)
    assert asked == [(8, 8, 8), (44, 4, 4)]
