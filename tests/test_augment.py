"""Patches as the network is given them: changed, and still what they were drawn for."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

pytest.importorskip("scipy")

from scipy import ndimage

from vol3dseg.config import AugmentConfig
from vol3dseg.preprocessing.patch_table import patch_table
from vol3dseg.space.box import Box, read_padded
from vol3dseg.training.augment import augmented
from vol3dseg.training.off_grid import CasePart, interpolated
from vol3dseg.training.sampling import CaseReader, Draw, PatchSampler
from vol3dseg.training.warping import draw_warp, factor

OFF = {
    "rotation": 0, "scaling": 0, "elastic": 0, "blur": 0, "low_resolution": 0, "noise": 0,
    "brightness": 0, "shift": 0, "contrast": 0, "gamma": 0, "inverted_gamma": 0,
}  # fmt: skip
SHAPES = ["rotation", "scaling", "elastic"]
PARTS = [name for name in OFF if name not in SHAPES]
ALL_ON = AugmentConfig(flip_axes=("i", "j", "k"), **dict.fromkeys(OFF, 1))
SEEDS = st.integers(0, 2**32 - 1)


def only(**parts):
    return AugmentConfig(**(OFF | parts))


class MemoryCase:
    """A case in memory, as a store would give it."""

    memory_bytes = 0

    def __init__(self, image, label, spacing=(1.0, 1.0, 1.0), size=(4, 4, 4)):
        self.image, self.label, self.shape, self.size = image, label, label.shape, size
        self.geometry = SimpleNamespace(spacing_mm=spacing)

    def patches(self):
        return patch_table(self.label, self.size, 5)

    def read(self, box):
        return read_padded(self.image, box), read_padded(self.label, box)

    def read_label(self, box):
        return read_padded(self.label, box)


def patch(seed=0, shape=(8, 6, 5), channels=2):
    """Return a patch with zeros round a body, each modality with its own."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(*shape, channels)).astype(np.float32)
    image[:2] = 0
    image[:, -1, :, -1] = 0
    return image, rng.choice([0, 1, 3, 255], size=shape).astype(np.uint8)


def augment(image, label, config, rng, spacing=(1.0, 1.0, 1.0), box=None, held=None):
    """Return a patch of a case, which is all of it unless a box is given."""
    reader = CaseReader([MemoryCase(image, label, spacing)], 1)
    wanted = None if held is None else int(label[held])
    return augmented(reader, Draw(0, box or Box.whole(label.shape), wanted, held, rng), config)


@given(seed=SEEDS)
def test_nothing_allowed_is_the_identity_in_a_new_image(seed):
    image, label = patch()
    new_image, new_label = augment(image, label, only(), np.random.default_rng(seed))
    assert np.array_equal(new_image, image)
    assert np.array_equal(new_label, label)
    assert not np.shares_memory(new_image, image)


@given(seed=SEEDS)
def test_everything_at_once_keeps_shape_type_values_of_labels_and_the_input(seed):
    image, label = patch()
    before = image.copy(), label.copy()
    new_image, new_label = augment(image, label, ALL_ON, np.random.default_rng(seed))
    assert (new_image.shape, new_image.dtype) == (image.shape, np.float32)
    assert (new_label.shape, new_label.dtype) == (label.shape, np.uint8)
    assert np.isfinite(new_image).all()
    assert set(np.unique(new_label)) <= {0, *np.unique(label)}
    assert np.array_equal(image, before[0])
    assert np.array_equal(label, before[1])


@given(seed=SEEDS)
def test_one_seed_gives_one_result(seed):
    first, second = (augment(*patch(), ALL_ON, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@given(seed=SEEDS)
def test_the_same_flips_twice_are_the_identity_and_label_goes_with_image(seed):
    config = only(flip_axes=("i", "k"))
    image, label = patch()
    image[..., 0] = label
    once = augment(image, label, config, np.random.default_rng(seed))
    twice = augment(*once, config, np.random.default_rng(seed))
    assert np.array_equal(once[0][..., 0], once[1])
    assert np.array_equal(twice[0], image)
    assert np.array_equal(twice[1], label)


@pytest.mark.parametrize(
    ("axis", "share"), [(0, 0.5), (1, 0.5), (2, 0.5), pytest.param(0, 1.0, id="always")]
)
def test_only_allowed_axes_flip_and_as_often_as_is_said(axis, share):
    image, label = patch()
    config = only(flip_axes=("ijk"[axis],), flip=share)
    rng = np.random.default_rng(0)
    results = [augment(image, label, config, rng)[1] for _ in range(200)]
    flipped = sum(np.array_equal(r, np.flip(label, axis)) for r in results)
    assert flipped + sum(np.array_equal(r, label) for r in results) == 200
    assert flipped == pytest.approx(200 * share, abs=30)


# Where the voxels of a patch lie.


def overlap(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def ellipsoid(shape, radii):
    """Return a smooth image whose ellipsoid in the middle is where it is above 1/2, and that."""
    grid = np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2
    distance = np.sqrt(((grid / radii) ** 2).sum(axis=-1))
    return np.clip(1.5 - distance, 0.01, 1)[..., None].astype(np.float32), (
        distance < 1
    ) * np.uint8(1)


@given(seed=SEEDS, thick=st.sampled_from([0, 1, 2]))
def test_a_ball_in_mm_stays_a_ball_however_long_its_voxels_are(seed, thick):
    spacing, shape, radii = [1.0, 1.0, 1.0], [27, 27, 27], [9.0, 9.0, 9.0]
    spacing[thick], shape[thick], radii[thick] = 2.5, 11, 9 / 2.5
    image, label = ellipsoid(shape, radii)
    config = only(rotation=1, rotate_degrees=90)
    turned, same = augment(image, label, config, np.random.default_rng(seed), tuple(spacing))
    assert overlap(same == 1, label == 1) > 0.9
    assert np.abs(turned - image)[..., 0][label == 1].mean() < 0.05


@given(seed=SEEDS)
def test_rotation_keeps_volume_and_takes_the_label_along(seed):
    # An ellipsoid of three different axes well inside: rotated, it loses nothing at the border.
    image, label = ellipsoid((31, 31, 31), [11, 7, 5])
    config = only(rotation=1, rotate_degrees=90)
    image, rotated = augment(image, label, config, np.random.default_rng(seed))
    assert np.count_nonzero(rotated) == pytest.approx(np.count_nonzero(label), rel=0.06)
    assert overlap(rotated == 1, image[..., 0] > 0.5) > 0.93


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_are_turned_resized_and_bent_in_their_plane_alone(axis):
    spacing, shape = [1.0, 1.0, 1.0], [20, 20, 20]
    spacing[axis], shape[axis] = 3.5, 6
    slices = np.broadcast_to(np.moveaxis(np.arange(6.0)[:, None, None], 0, axis) + 1, shape)
    image, label = slices[..., None].astype(np.float32), slices.astype(np.uint8)
    whole = Box((5, 5, 5), (9, 9, 9)), {"rotation": 1, "scaling": 1, "elastic": 1}
    start, stop = [8, 8, 8], [12, 12, 12]
    start[axis], stop[axis] = 0, 6
    box = Box(tuple(start), tuple(stop))
    for seed in range(10):
        rng = partial(np.random.default_rng, seed)
        kept, labels = augment(image, label, only(**whole[1]), rng(), tuple(spacing), box)
        assert np.array_equal(labels, label[box.slices])
        assert kept == pytest.approx(image[box.slices], abs=1e-5)
        free = only(**whole[1], in_plane_above=10)
        assert not np.allclose(augment(image, label, free, rng(), tuple(spacing), box)[0], kept)


def test_a_scale_above_one_enlarges_about_the_centre():
    image, label = ellipsoid((33, 33, 33), [6, 6, 6])
    config = only(scaling=1, scale=(1.5, 1.5))
    new_image, new_label = augment(image, label, config, np.random.default_rng(0))
    assert np.count_nonzero(new_label) == pytest.approx(1.5**3 * np.count_nonzero(label), rel=0.1)
    assert np.argwhere(new_label).mean(axis=0) == pytest.approx([16, 16, 16])
    assert overlap(new_label == 1, new_image[..., 0] > 0.5) > 0.93


WILD = only(rotation=1, rotate_degrees=180, scaling=1, elastic=1)


@given(seed=SEEDS)
def test_no_corner_is_empty_where_the_scan_goes_on(seed):
    shape, box = (40, 40, 40), Box((15, 16, 17), (23, 22, 23))
    image, label = np.full((*shape, 1), 2, np.float32), np.full(shape, 3, np.uint8)
    image, label = augment(image, label, WILD, np.random.default_rng(seed), box=box)
    assert image == pytest.approx(2)
    assert (label == 3).all()


@given(seed=SEEDS)
def test_beyond_the_scan_image_and_label_are_exactly_zero_as_at_inference(seed):
    shape = (9, 8, 10)
    image, label = np.full((*shape, 1), 2, np.float32), np.full(shape, 3, np.uint8)
    box = Box((-4, 2, -1), (6, 9, 12))
    image, label = augment(image, label, WILD, np.random.default_rng(seed), box=box)
    assert np.array_equal(image[..., 0] == 0, label == 0)
    assert image[label > 0] == pytest.approx(2)
    assert set(np.unique(label)) == {0, 3}


def test_a_small_scan_may_be_turned_out_of_the_patch():
    image, label = np.ones((2, 2, 2, 1), np.float32), np.ones((2, 2, 2), np.uint8)
    config = only(scaling=1, scale=(10, 10))
    image, label = augment(
        image, label, config, np.random.default_rng(0), box=Box((0,) * 3, (9,) * 3)
    )
    assert not image.any()
    assert not label.any()


SIDES = st.tuples(*[st.integers(1, 13)] * 3)
SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 2.4, 6.5])] * 3)


@given(shape=SIDES, size=SIDES, spacing=SPACINGS, seed=st.integers(0, 2**16))
@example(shape=(13, 13, 13), size=(8, 8, 8), spacing=(1.0, 1.0, 1.0), seed=0)
def test_a_patch_that_was_drawn_for_a_class_holds_it_whatever_is_done_to_it(
    shape, size, spacing, seed
):
    rng = np.random.default_rng(seed)
    image, label = rng.normal(size=(*shape, 1)).astype(np.float32), np.zeros(shape, np.uint8)
    label[tuple(rng.integers(0, shape, (2, 3)).T)] = [1, 4]
    reader = CaseReader([MemoryCase(image, label, spacing, size)], 1)
    sampler = PatchSampler(reader, size, foreground=1.0, seed=seed)
    config = ALL_ON.model_copy(update={"rotate_degrees": 180.0, "scale": (0.2, 1.4)})
    for number in range(5):
        drawn = sampler.draw(number, tuple(max(1, n // 2) for n in size) if number % 2 else size)
        assert label[drawn.held] == drawn.wanted
        assert drawn.wanted in read_padded(label, drawn.box)
        assert drawn.wanted in augmented(reader, drawn, config)[1]


def test_a_voxel_that_is_held_is_taken_as_it_is_where_it_was_if_it_can_be():
    image, label = patch(shape=(12, 12, 12), channels=1)
    label[...] = 0
    label[7, 3, 6] = 1
    for seed in range(20):
        rng, config = np.random.default_rng(seed), only(rotation=1, scaling=1, elastic=1)
        new_image, new_label = augment(image, label, config, rng, held=(7, 3, 6))
        assert np.abs(new_image[new_label == 1] - image[7, 3, 6, 0]).min() < 1e-4
        # The centre stays where it is, up to the half voxel that lattices are apart.
        warp = draw_warp((12,) * 3, (1.0,) * 3, only(rotation=1), np.random.default_rng(seed))
        offset = warp.offset(Box.whole((12,) * 3), (7, 3, 6))
        assert warp.matrix @ np.full(3, 5.5) + offset == pytest.approx(
            [5.5] * 3, abs=np.sqrt(3) / 2
        )


@given(seed=SEEDS, spacing=SPACINGS)
def test_bending_folds_nothing_and_moves_no_farther_than_is_said(seed, spacing):
    config = only(elastic=1, elastic_mm=4.0, elastic_spacing_mm=10.0)
    warp = draw_warp((24, 20, 16), spacing, config, np.random.default_rng(seed))
    moved = warp.bend * np.array(spacing)[:, None, None, None]
    assert 0 < np.abs(moved).max() <= 4
    rows = np.array([np.gradient(field) for field in warp.bend])
    jacobian = np.linalg.det(np.moveaxis(rows, (0, 1), (-2, -1)) + np.eye(3))
    assert jacobian.min() > 0


@pytest.mark.parametrize("shape", [(30, 30, 30), (30, 1, 30), (1, 1, 30)])
@pytest.mark.parametrize("size", [(6, 5, 4), (40, 40, 40), (1, 1, 1)])
def test_interpolation_is_that_of_scipy(shape, size):
    rng = np.random.default_rng(0)
    modalities = rng.normal(size=(3, *shape)).astype(np.float32)
    label = rng.integers(0, 256, shape).astype(np.uint8)
    warp = draw_warp(size, (1.0, 1.5, 2.0), WILD, rng)
    box = Box((10, -1, 2), tuple(np.add((10, -1, 2), size)))
    offset = warp.offset(box, None)
    image, nearest = interpolated(CasePart(modalities, label, (0, 0, 0), shape), warp, offset, size)
    places = (
        np.tensordot(warp.matrix, np.indices(size) + warp.bend, 1) + offset[:, None, None, None]
    )
    clear = (np.abs(places % 1 - 0.5) > 1e-4).all(axis=0)  # not half way between two voxels
    extent = np.array(shape)[:, None, None, None]
    inside = ((places > -0.5) & (places < extent - 0.5)).all(axis=0)
    for modality, found in zip(modalities, image, strict=True):
        expected = ndimage.map_coordinates(modality, places, order=1, mode="nearest") * inside
        assert found[clear] == pytest.approx(expected[clear], abs=1e-3)
    expected = ndimage.map_coordinates(label, places, order=0, mode="nearest") * inside
    assert np.array_equal(nearest[clear], expected[clear])


@given(seed=SEEDS)
def test_the_cache_changes_no_bit_of_a_turned_patch(seed):
    image, label = patch(seed, shape=(20, 18, 16))
    box, rng = Box((3, 4, 5), (9, 10, 11)), partial(np.random.default_rng, seed)
    whole = augment(image, label, ALL_ON, rng(), box=box)
    case = MemoryCase(image, label)
    case.memory_bytes = 2**30
    part = augmented(CaseReader([case], 1), Draw(0, box, None, None, rng()), ALL_ON)
    assert np.array_equal(part[0], whole[0])
    assert np.array_equal(part[1], whole[1])


# What their values become.


@given(seed=SEEDS, part=st.sampled_from(PARTS))
def test_exact_zeros_stay_zero_and_the_rest_changes(seed, part):
    image, label = patch(shape=(9, 8, 7))
    changed, same = augment(image, label, only(**{part: 1}), np.random.default_rng(seed))
    assert not changed[image == 0].any()
    assert (changed != image).any()
    assert np.array_equal(same, label)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(0, id="nothing but background"),
        pytest.param(2, id="constant body"),
    ],
)
def test_modalities_without_contrast_stay_as_they_are(part, value):
    image, label = np.full((4, 4, 4, 1), value, np.float32), np.zeros((4, 4, 4), np.uint8)
    config = only(**{part: 1}, brightness_factor=(1, 1))
    changed, _ = augment(image, label, config, np.random.default_rng(0))
    assert changed == pytest.approx(image)


def change(config, seed=0, shape=(12, 12, 12), spacing=(1.0, 1.0, 1.0)):
    image, label = patch(shape=shape, channels=1)
    image += np.float32(image != 0)  # no mean of 0
    changed, _ = augment(image, label, config, np.random.default_rng(seed), spacing)
    return image[image != 0], changed[image != 0]


@given(seed=SEEDS, part=st.sampled_from(["gamma", "inverted_gamma"]))
def test_gamma_keeps_mean_and_deviation_of_the_body(seed, part):
    old, new = change(only(**{part: 1}), seed)
    assert new.mean() == pytest.approx(old.mean(), abs=1e-5)
    assert new.std() == pytest.approx(old.std(), abs=1e-5)
    assert (np.diff(new[np.argsort(old)]) >= 0).all()


@pytest.mark.parametrize(("part", "end"), [("gamma", -1), ("inverted_gamma", 1)])
def test_a_high_gamma_presses_values_together_at_one_end(part, end):
    old, new = change(only(**{part: 1}, gamma_power=(1.5, 1.5)))
    order = np.argsort(end * old)
    gaps = np.diff(new[order]) / np.diff(old[order])
    assert abs(gaps[-20:].mean()) < 0.8 * abs(gaps[:20].mean())


@given(seed=SEEDS)
def test_factors_noise_and_shift_are_what_is_said(seed):
    old, new = change(only(brightness=1, brightness_factor=(0.5, 0.7)), seed)
    assert 0.5 <= np.ptp(new) / np.ptp(old) <= 0.7
    assert new == pytest.approx(old * (new[0] / old[0]), rel=1e-5, abs=1e-6)
    old, new = change(only(contrast=1, contrast_factor=(0.8, 0.8)), seed)
    assert new == pytest.approx(old.mean() + 0.8 * (old - old.mean()), abs=1e-5)
    old, new = change(only(contrast=1, contrast_factor=(1.2, 1.2)), seed)
    assert (new.min(), new.max()) == (old.min(), old.max())
    old, new = change(only(shift=1, shift_range=(0.3, 0.4)), seed)
    assert np.ptp(new - old) < 1e-5
    assert 0.3 <= abs((new - old).mean()) / old.std() <= 0.4
    old, new = change(only(noise=1, noise_sigma=(0.5, 0.5)), seed)
    assert (new - old).std() / old.std() == pytest.approx(0.5, rel=0.1)


def test_shifts_go_both_ways_and_factors_are_as_often_below_one_as_above():
    signs = [np.sign(np.subtract(*change(only(shift=1), seed))[0]) for seed in range(100)]
    assert abs(sum(signs)) < 30
    rng = np.random.default_rng(0)
    drawn = np.array([factor((0.7, 1.5), rng) for _ in range(400)])
    assert np.mean(drawn < 1) == pytest.approx(0.5, abs=0.07)
    assert 0.7 <= drawn.min() < 0.75
    assert 1.4 < drawn.max() <= 1.5
    assert 2 <= factor((2, 3), rng) <= 3


def point(config, spacing):
    image = np.full((21, 21, 21, 1), 1e-6, np.float32)
    image[10, 10, 10] = 1
    label = np.zeros((21, 21, 21), np.uint8)
    return augment(image, label, config, np.random.default_rng(0), spacing)[0][..., 0]


def test_blur_has_one_width_in_mm_that_counts_the_shortest_voxels():
    seen = point(only(blur=1, blur_sigma=(2, 2)), (1.0, 0.5, 2.0))
    along = [seen[:, 10, 10], seen[10, :, 10], seen[10, 10, :]]
    offsets = np.arange(21) - 10
    for values, sigma in zip(along, (1, 2, 0.5), strict=True):
        width = np.sqrt((values * offsets**2).sum() / values.sum())
        assert width == pytest.approx(sigma, rel=0.06)


@pytest.mark.parametrize("down", ["nearest", "linear"])
@pytest.mark.parametrize("up", ["linear", "cubic"])
def test_a_low_resolution_loses_what_is_fine_and_keeps_what_is_coarse(down, up):
    config = only(
        low_resolution=1, resolution=(0.5, 0.5), low_resolution_down=down, low_resolution_up=up
    )
    rng = np.random.default_rng(0)
    label = np.zeros((20, 20, 20), np.uint8)
    coarse = np.indices((20, 20, 20)).sum(axis=0)[..., None].astype(np.float32) + 1
    noise = 10 + rng.normal(size=coarse.shape).astype(np.float32)
    inner = (slice(4, -4),) * 3
    kept, _ = augment(coarse, label, config, rng)
    # The nearest of two voxels lies half a voxel aside, along each of three axes.
    assert np.abs(kept - coarse)[inner].max() <= (1.5 if down == "nearest" else 0) + 0.05
    blurred, _ = augment(noise, label, config, rng)
    assert np.diff(blurred, axis=0)[inner].std() < 0.7 * np.diff(noise, axis=0)[inner].std()


def test_thick_slices_are_not_sampled_more_coarsely():
    image = np.random.default_rng(0).normal(size=(8, 1, 1, 1)).astype(np.float32)
    image, label = np.tile(image, (1, 9, 9, 1)), np.zeros((8, 9, 9), np.uint8)
    config = only(low_resolution=1, resolution=(0.5, 0.5))
    same, other = (
        augment(image, label, config, np.random.default_rng(0), (mm, 1.0, 1.0))[0]
        for mm in (5.0, 3.0)
    )
    assert same == pytest.approx(image, abs=1e-5)
    assert not np.allclose(other, image, atol=0.1)


def test_every_modality_is_changed_by_itself():
    image, label = patch(shape=(9, 9, 9), channels=4)
    some = 0
    for seed in range(30):
        config = only(brightness=0.5)
        changed, _ = augment(image, label, config, np.random.default_rng(seed))
        some += 0 < (changed != image).any(axis=(0, 1, 2)).sum() < 4
    assert some > 15


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        pytest.param({"scale": (1.2, 0.8)}, r"scale \[1.2, 0.8\] must rise", id="factor"),
        pytest.param({"noise_sigma": (1, 0)}, "noise_sigma .* must rise", id="deviation"),
        pytest.param({"resolution": (0.5, 1.5)}, "less than or equal to 1", id="more than all"),
        pytest.param(
            {"elastic": 0.1, "elastic_mm": 5.0, "elastic_spacing_mm": 10.0},
            "elastic_mm 5 with elastic_spacing_mm 10 may fold space; give at most 4",
            id="folds",
        ),
    ],
)
def test_refused(keys, said):
    with pytest.raises(ValidationError, match=said):
        AugmentConfig(**keys)
