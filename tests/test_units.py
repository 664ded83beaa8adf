"""Nothing that is measured or drawn of a scan depends on the unit of its intensities."""

import numpy as np
import pytest

from vol3dseg.config import AugmentConfig
from vol3dseg.quality.case_facts import measure_contents
from vol3dseg.quality.contents import Contents
from vol3dseg.quality.training_data import describe_data
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation
from vol3dseg.space.volume import Volume

SHAPE = (24, 20, 16)
GRID = Geometry(SHAPE, np.eye(4))
FACTORS = [pytest.param(2.0**n, id=f"2^{n}") for n in (-100, -40, 30, 80)]


def scan():
    """Noise round two blobs, so that each image varies and both fit each other."""
    rng = np.random.default_rng(0)
    array = np.zeros((*SHAPE, 2), np.float32)
    array[3:-3, 3:-3, 2:-2] = rng.normal(1000, 120, array[3:-3, 3:-3, 2:-2].shape)
    array[6:14, 5:12, 4:9] += 700
    return array


def contents(factor):
    images = {name: scan()[..., n] * np.float32(factor) for n, name in enumerate(("t1", "t2"))}
    return Contents(GRID, images, (scan()[..., 0] > 1400).astype(np.uint8), ("core",), ())


@pytest.mark.parametrize("factor", FACTORS)
def test_what_inspect_measures(factor):
    plain, other = (measure_contents("a", "a", contents(f)) for f in (1, factor))
    for name in ("t1", "t2"):
        a, b = plain.modalities[name], other.modalities[name]
        assert (a.histogram, a.noise, a.inside) == (b.histogram, b.noise, b.inside)
        assert b.deviation == pytest.approx(a.deviation * factor)
    assert (plain.contrasts, plain.correlations) == (other.contrasts, other.correlations)
    assert plain.mirrorings == other.mirrorings


@pytest.mark.parametrize("factor", FACTORS)
def test_pictures(factor, tmp_path):
    pytest.importorskip("PIL")
    pytest.importorskip("matplotlib")
    from vol3dseg.reporting.inspection.thumbnails import draw_contents
    from vol3dseg.reporting.overlay import save_overlay

    assert draw_contents(contents(factor), ["core"], {}) == draw_contents(contents(1), ["core"], {})
    labels = LabelSet(
        classes=tuple(Label(name=n, read=(v,), write=v) for v, n in enumerate(("none", "core")))
    )
    found = []
    for size in (1, factor):
        volume = Volume(scan() * np.float32(size), GRID, ("t1", "t2"))
        mask = Segmentation(contents(1).classes, GRID, labels)
        save_overlay(tmp_path / "a.png", volume, mask, None, "a")
        found.append((tmp_path / "a.png").read_bytes())
    assert found[0] == found[1]


PARTS = (
    *("blur", "low_resolution", "noise", "brightness", "shift", "contrast"),
    *("gamma", "inverted_gamma"),
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("factor", FACTORS)
def test_augmentation(part, factor):
    module = pytest.importorskip("vol3dseg.training.intensities", exc_type=ImportError)
    config = AugmentConfig(**{**dict.fromkeys(PARTS, 0), part: 1})
    found = []
    for size in (1, factor):
        modality = scan()[..., 0] * np.float32(size)
        module.change_intensities(modality, (1.0,) * 3, config, np.random.default_rng(0))
        found.append(modality / np.float32(size))
    assert not np.array_equal(found[0], scan()[..., 0])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1)


def test_lengths_and_volumes_of_micrometres():
    """Decimals would make them 0: a voxel of a micrometre has 1e-12 ml."""
    case = measure_contents("a", "a", contents(1))
    appearance = case.appearance.model_copy(update={"spacing_mm": (1.23456e-6,) * 3})
    found = describe_data([appearance], [], {"core": [1.23456e-12]})
    assert found.volumes_ml["core"] == (1.2346e-12,) * 3
    assert found.spacing_mm[0] == (1.2346e-6,) * 3
