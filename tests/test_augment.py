import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")

from vol3dseg.config import AugmentConfig
from vol3dseg.training.augment import augment

OFF = {"affine": 0, "intensity": 0, "noise": 0, "gamma": 0}
ALL_ON = AugmentConfig(flip_axes=("i", "j", "k"), affine=1, intensity=1, noise=1, gamma=1)
PARTS = ["intensity", "noise", "gamma"]


def patch(seed=0, shape=(8, 6, 5), channels=2):
    """Return a patch with zeros round a body, each modality with its own."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(*shape, channels)).astype(np.float32)
    image[:2] = 0
    image[:, -1, :, 1] = 0
    return image, rng.choice([0, 1, 3], size=shape).astype(np.uint8)


def only(**parts):
    return AugmentConfig(**(OFF | parts))


@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_allowed_is_the_identity_in_new_arrays(seed):
    image, label = patch()
    new_image, new_label = augment(image, label, only(), np.random.default_rng(seed))
    assert np.array_equal(new_image, image)
    assert np.array_equal(new_label, label)
    assert not np.shares_memory(new_image, image)
    assert not np.shares_memory(new_label, label)


@given(seed=st.integers(0, 2**32 - 1))
def test_everything_at_once_keeps_shape_type_values_of_labels_and_the_input(seed):
    image, label = patch()
    before = image.copy(), label.copy()
    new_image, new_label = augment(image, label, ALL_ON, np.random.default_rng(seed))
    assert (new_image.shape, new_image.dtype) == (image.shape, np.float32)
    assert (new_label.shape, new_label.dtype) == (label.shape, np.uint8)
    assert new_image.flags.c_contiguous
    assert new_label.flags.c_contiguous
    assert np.isfinite(new_image).all()
    assert set(np.unique(new_label)) <= {0, *np.unique(label)}
    assert np.array_equal(image, before[0])
    assert np.array_equal(label, before[1])


@given(seed=st.integers(0, 2**32 - 1))
def test_one_seed_gives_one_result(seed):
    first, second = (augment(*patch(), ALL_ON, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@given(seed=st.integers(0, 2**32 - 1))
def test_the_same_flips_twice_are_the_identity_and_label_goes_with_image(seed):
    config = only(flip_axes=("i", "k"))
    image, label = patch()
    image[..., 0] = label
    once = augment(image, label, config, np.random.default_rng(seed))
    twice = augment(*once, config, np.random.default_rng(seed))
    assert np.array_equal(once[0][..., 0], once[1])
    assert np.array_equal(twice[0], image)
    assert np.array_equal(twice[1], label)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_allowed_axes_flip_and_about_half_the_time(axis):
    image, label = patch()
    config = only(flip_axes=("ijk"[axis],))
    rng = np.random.default_rng(0)
    results = [augment(image, label, config, rng)[1] for _ in range(200)]
    flipped = sum(np.array_equal(r, np.flip(label, axis)) for r in results)
    kept = sum(np.array_equal(r, label) for r in results)
    assert flipped + kept == 200
    assert 70 < flipped < 130


@given(seed=st.integers(0, 2**32 - 1), part=st.sampled_from(PARTS))
def test_exact_zeros_stay_zero_and_the_rest_changes(seed, part):
    image, label = patch()
    changed, same = augment(image, label, only(**{part: 1}), np.random.default_rng(seed))
    assert not changed[image == 0].any()
    assert (changed != image).any()
    assert np.array_equal(same, label)


@given(seed=st.integers(0, 2**32 - 1))
def test_gamma_keeps_mean_and_deviation_of_the_body(seed):
    image, label = patch()
    changed, _ = augment(image, label, only(gamma=1), np.random.default_rng(seed))
    for channel in range(2):
        body = image[..., channel] != 0
        old, new = image[..., channel][body], changed[..., channel][body]
        assert new.mean() == pytest.approx(old.mean(), abs=1e-5)
        assert new.std() == pytest.approx(old.std(), abs=1e-5)
        assert np.array_equal(np.argsort(new), np.argsort(old))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(0, id="nothing but background"),
        pytest.param(2, id="constant body"),
    ],
)
def test_modalities_without_contrast_stay_finite(part, value):
    image, label = np.full((4, 4, 4, 1), value, np.float32), np.zeros((4, 4, 4), np.uint8)
    changed, _ = augment(image, label, only(**{part: 1}), np.random.default_rng(0))
    assert changed == pytest.approx(image)


def overlap(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_a_scale_above_one_enlarges_about_the_centre():
    label = np.zeros((33, 33, 33), np.uint8)
    label[11:22, 11:22, 11:22] = 1
    image = label[..., None].astype(np.float32)
    config = only(affine=1, rotate_degrees=0, scale=(1.5, 1.5))
    new_image, new_label = augment(image, label, config, np.random.default_rng(0))
    assert np.count_nonzero(new_label) == pytest.approx((1.5 * 11) ** 3, rel=0.1)
    assert np.argwhere(new_label).mean(axis=0) == pytest.approx([16, 16, 16])
    assert overlap(new_label == 1, new_image[..., 0] > 0.5) > 0.95


@given(seed=st.integers(0, 2**32 - 1))
def test_rotation_keeps_volume_and_takes_the_label_along(seed):
    # An ellipsoid of three different axes well inside: rotated, it loses nothing at the border.
    grid = np.stack(np.indices((31, 31, 31)), axis=-1) - 15
    label = (((grid / [11, 7, 5]) ** 2).sum(axis=-1) < 1).astype(np.uint8)
    config = only(affine=1, rotate_degrees=90, scale=(1, 1))
    image, rotated = augment(
        label[..., None].astype(np.float32), label, config, np.random.default_rng(seed)
    )
    assert np.count_nonzero(rotated) == pytest.approx(np.count_nonzero(label), rel=0.06)
    assert overlap(rotated == 1, image[..., 0] > 0.5) > 0.9
