import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg import formats
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.datasets.reading import read_segmentation, read_volume

MODALITIES = ("flair", "t1", "t1ce", "t2")
NECROTIC, EDEMA, ENHANCING = 1, 2, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantoms")
    make_phantoms(path, cases=6, seed=0)
    return path


@pytest.fixture(scope="module")
def phantoms(folder):
    """Images by modality and labels as stored, of each phantom."""
    return [
        (
            {m: formats.read_image(path / f"{path.name}_{m}.nii.gz")[0] for m in MODALITIES},
            np.asarray(formats.open_volume(path / f"{path.name}_seg.nii.gz").labels()[0]),
        )
        for path in sorted(folder.iterdir())
    ]


def touches(label, value, others):
    """Tell whether a voxel of `value` has one of `others` as a neighbour."""
    found = False
    for axis in range(3):
        pair = np.delete(label, -1, axis), np.delete(label, 0, axis)
        for one, other in (pair, pair[::-1]):
            found |= bool(((one == value) & np.isin(other, others)).any())
    return found


def test_the_layout_is_that_of_brats(folder):
    cases = find_cases(folder)
    assert [case.id for case in cases] == [f"Phantom_{n:03d}" for n in range(1, 7)]
    labels = load_config("demo").labels
    for case in cases:
        assert set(case.images) == set(MODALITIES)
        volume = read_volume(case, MODALITIES)
        assert min(read_segmentation(case, labels, volume.geometry).counts()) > 100


def test_files_store_what_brats_stores(folder):
    path = folder / "Phantom_001"
    label, _ = formats.open_volume(path / "Phantom_001_seg.nii.gz").labels()
    image, _ = formats.open_volume(path / "Phantom_001_t1.nii.gz").labels()
    assert (label.dtype, image.dtype) == (np.uint8, np.int16)
    assert np.unique(label).tolist() == [0, NECROTIC, EDEMA, ENHANCING]


def test_the_core_lies_in_the_rim_and_the_rim_in_the_edema(phantoms):
    for images, label in phantoms:
        assert not touches(label, NECROTIC, [0])
        healthy = np.where((label == 0) & (images["t1"] > 0), 9, label)
        assert not touches(healthy, ENHANCING, [9])


def test_each_class_is_seen_where_it_should(phantoms):
    for images, label in phantoms:
        brain = (label == 0) & (images["t1"] > 0)

        def median(modality, where, images=images):
            return np.median(images[modality][where])

        for other in (brain, label == NECROTIC, label == EDEMA):
            assert median("t1ce", label == ENHANCING) > 1.3 * median("t1ce", other)
        for modality in ("flair", "t2"):
            assert median(modality, label == EDEMA) > 1.3 * median(modality, brain)
        assert median("flair", label == EDEMA) > 1.5 * median("flair", label == NECROTIC)


def test_no_threshold_of_one_modality_finds_a_class(phantoms):
    """Otherwise there would be nothing to learn: scales differ, drift and noise overlap."""
    images = {m: np.concatenate([i[m].ravel() for i, _ in phantoms]) for m in MODALITIES}
    label = np.concatenate([label.ravel() for _, label in phantoms])
    for value in (NECROTIC, EDEMA, ENHANCING):
        assert max(best_threshold(image, label == value) for image in images.values()) < 0.75


def best_threshold(image, mask):
    """Return the best Dice that a window of intensities reaches."""
    edges = np.quantile(image[mask], np.linspace(0, 1, 11))
    best = 0.0
    for n, low in enumerate(edges):
        for high in edges[n + 1 :]:
            found = (image >= low) & (image <= high)
            best = max(best, 2 * (found & mask).sum() / (found.sum() + mask.sum()))
    return best


def test_outside_the_brain_all_is_zero_in_every_modality(phantoms):
    for images, label in phantoms:
        zero = [image == 0 for image in images.values()]
        assert all(np.array_equal(zero[0], other) for other in zero[1:])
        assert 0.3 < zero[0].mean() < 0.9
        assert not label[zero[0]].any()


def test_axes_are_oblique_and_in_several_orders(folder):
    grids = [read_volume(case, ["t1"]).geometry for case in find_cases(folder)]
    assert len({grid.axis_codes for grid in grids}) > 3
    for grid in grids:
        cosines = np.abs(grid.affine[:3, :3]) / 2
        assert 1e-3 < 1 - cosines.max(axis=0).min() < 0.15
        assert grid.spacing_mm == pytest.approx((2, 2, 2))


def test_an_upright_phantom_is_the_same_whatever_its_axes(folder):
    """The eyes of a head would be in front: sides are those of the world, not of the array."""
    for case in find_cases(folder):
        volume = read_volume(case, ["t1"])
        canonical = volume.geometry.canonical()
        assert canonical.shape == (64, 72, 56)
        centre = canonical.affine @ [31.5, 35.5, 27.5, 1]
        assert np.abs(centre[:3]).max() <= 15


def read_all(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.nii.gz")}


@settings(max_examples=3)
@given(st.integers(0, 2**32))
def test_a_seed_says_everything_byte_for_byte(tmp_path_factory, seed):
    folders = [tmp_path_factory.mktemp("seed") for _ in range(3)]
    shape = (24, 28, 20)
    make_phantoms(folders[0], 2, seed, shape)
    make_phantoms(folders[1], 1, seed, shape)
    make_phantoms(folders[2], 1, seed + 1, shape)
    two, one, other = map(read_all, folders)
    assert len(two) == 10
    assert one.items() <= two.items()  # a phantom does not depend on how many are made
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
