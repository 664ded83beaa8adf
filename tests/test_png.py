"""PNG files, read by somebody else's decoder."""

import io

import numpy as np
import pytest

from vol3dseg.reporting.png import grey_png, palette_png

Image = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 100)])
def test_grey_comes_back(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    image = Image.open(io.BytesIO(grey_png(pixels)))
    image.load()  # and checks each CRC
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_colours_and_opacity_come_back():
    colours = [(0, 0, 0, 0), (213, 94, 0, 110), (86, 180, 233, 255)]
    pixels = np.random.default_rng(0).integers(0, 3, (9, 5)).astype(np.uint8)
    image = Image.open(io.BytesIO(palette_png(pixels, colours)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), np.array(colours)[pixels])


def test_what_is_alike_from_row_to_row_is_packed_well():
    smooth = np.add.outer(np.arange(100), np.arange(100)).astype(np.uint8)
    assert len(grey_png(smooth)) < 300
    assert len(palette_png(np.zeros((300, 300), np.uint8), [(0, 0, 0, 0)])) < 300
