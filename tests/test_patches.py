"""What the network is fed: which patches, in which order, read how."""

from itertools import count, islice

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vol3dseg.config import AugmentConfig, Config, ModelConfig
from vol3dseg.preprocessing.patch_table import patch_table
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.box import Box, read_padded

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

from vol3dseg.training.augment import augmented  # noqa: E402 - after the skip
from vol3dseg.training.feed import TrainingFeed, dataset  # noqa: E402
from vol3dseg.training.sampling import (  # noqa: E402
    CaseReader,
    PatchSampler,
    read_ahead,
    stacked,
    validation_batches,
    validation_boxes,
)

SIZE = (4, 4, 4)


@pytest.fixture
def cases(brats_folder, tmp_path, recipe, labels):
    small = recipe.model_copy(update={"patch_size": SIZE})
    index = preprocess(
        brats_folder,
        tmp_path / "P",
        Config(labels=labels, recipe=small, model=ModelConfig(depth=1)),
    )
    return [StoredCase.open(tmp_path / "P", e, ["flair", "t1"]) for e in index.cases]


def test_every_case_comes_once_a_round(cases):
    sampler = PatchSampler(CaseReader(cases, 0), SIZE, 0.5, seed=3)
    drawn = [sampler.draw(n).case for n in range(3 * len(cases))]
    rounds = np.reshape(drawn, (3, len(cases)))
    assert (np.sort(rounds, axis=1) == np.arange(len(cases))).all()
    assert len({tuple(r) for r in rounds.tolist()}) > 1


def test_origins_are_jittered_and_patches_stay_inside(cases):
    sampler = PatchSampler(CaseReader(cases, 100), SIZE, 0.5, seed=0)
    starts = set()
    for number in range(200):
        drawn = sampler.draw(number)
        box, shape = drawn.box, cases[drawn.case].shape
        starts.add(box.start)
        for start, stop, extent in zip(box.start, box.stop, shape, strict=True):
            assert stop - start == 4
            assert (start >= 0 and stop <= extent) or extent < 4
    assert len(starts) > 20


def test_foreground_share_draws_classes_equally_often(cases):
    reader = CaseReader(cases, cache_mb=100)

    def draws(foreground):
        sampler = PatchSampler(reader, SIZE, foreground, seed=0)
        return [sampler.draw(n) for n in range(300)]

    wanted = np.bincount([drawn.wanted for drawn in draws(1.0)], minlength=4)
    assert wanted[0] == 0
    assert (np.abs(wanted[1:] - 100) < 30).all()
    sought = np.cumsum([drawn.wanted is not None for drawn in draws(0.3)])
    assert (np.abs(sought - 0.3 * np.arange(1, 301)) <= 1).all()  # in any row of patches
    assert {drawn.wanted for drawn in draws(0)} == {None}


@pytest.mark.parametrize(
    ("weights", "by_voxels", "shares"),
    [
        pytest.param({}, False, (0.5, 0.5), id="equally"),
        pytest.param({2: 4.0}, False, (0.2, 0.8), id="by weight"),
        pytest.param({}, True, (0.9, 0.1), id="by voxels"),
        pytest.param({2: 9.0}, True, (0.5, 0.5), id="by both"),
    ],
)
def test_how_often_a_class_is_drawn(weights, by_voxels, shares):
    label = np.zeros((4, 4, 4), np.uint8)
    label.flat[:18], label.flat[18:20] = 1, 2
    reader = CaseReader([OneCase(label, SIZE)], 1)
    sampler = PatchSampler(reader, SIZE, 1.0, 0, weights, by_voxels)
    drawn = np.bincount([sampler.draw(n).wanted for n in range(400)], minlength=3)[1:] / 400
    assert drawn == pytest.approx(shares, abs=0.07)


def test_a_training_is_fed_as_its_config_says(cases, recipe, labels):
    training = {"foreground": 1.0, "foreground_weights": {"edema": 1000.0}, "augment": None}
    config = Config(
        labels=labels,
        recipe=recipe.model_copy(update={"patch_size": SIZE}),
        model=ModelConfig(depth=1),
        training=training,
    )
    feed = TrainingFeed(config, cases, steps=10)
    edema = labels.names.index("edema")
    wanted = [draw.wanted for number in range(50) for draw in feed.draws(number)]
    assert len(wanted) == 100
    assert wanted.count(edema) > 95
    for draw, image, label in zip(feed.draws(7), *feed.batch(7), strict=True):
        np.testing.assert_array_equal(image, cases[draw.case].read(draw.box)[0])
        assert edema in label


def test_the_end_of_a_training_waits_for_no_tuning(labels, recipe):
    # It waits up to a minute, at random: tf.data's thread sleeps through being cancelled.
    feed = dataset(lambda number: ..., range(1), Config(labels=labels, recipe=recipe))
    assert feed.options().autotune.enabled is False


class OneCase:
    """A case in memory with the patch table that a store would hold."""

    memory_bytes = 0

    def __init__(self, label, size):
        self.label, self.shape, self.size = label, label.shape, size

    def patches(self):
        return patch_table(self.label, self.size, 3)

    def read(self, box):
        return np.zeros((*box.shape, 1), np.float32), read_padded(self.label, box)

    def read_label(self, box):
        return self.read(box)[1]


SIDES = st.tuples(*[st.integers(1, 13)] * 3)


@given(shape=SIDES, size=SIDES, seed=st.integers(0, 2**16), voxels=st.integers(1, 4))
@example(shape=(13, 13, 13), size=(8, 8, 8), seed=0, voxels=1)
def test_a_patch_that_was_drawn_for_a_class_holds_it(shape, size, seed, voxels):
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    label[tuple(rng.integers(0, shape, (voxels, 3)).T)] = rng.integers(1, 3, voxels)
    case = OneCase(label, size)
    for cache_mb in (0, 1):
        sampler = PatchSampler(CaseReader([case], cache_mb), size, 1.0, seed)
        for number in range(5):
            drawn = sampler.draw(number)
            assert drawn.wanted in read_padded(label, drawn.box)
            assert drawn.box.shape == size


def test_a_smaller_patch_lies_anywhere_in_the_scan_and_holds_its_class(cases):
    sampler = PatchSampler(CaseReader(cases, 100), SIZE, 0.5, seed=0)
    starts, wanted = set(), 0
    for number in range(300):
        drawn = sampler.draw(number, (2, 4, 3))
        shape = cases[drawn.case].shape
        assert drawn.box.shape == (2, 4, 3)
        assert min(drawn.box.start) >= 0
        assert all(stop <= n for stop, n in zip(drawn.box.stop, shape, strict=True))
        assert drawn.wanted is None or drawn.wanted in cases[drawn.case].read_label(drawn.box)
        starts.add(drawn.box.start[0])
        wanted += drawn.wanted is not None
    assert len(starts) > 10
    assert wanted == pytest.approx(150, abs=40)


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_cache_changes_nothing(cases, cache_mb):
    reader, other = CaseReader(cases, cache_mb), CaseReader(cases, 0)
    box = Box((-2, 3, 1), (14, 19, 30))
    for ours, theirs in zip(reader.read(1, box), other.read(1, box), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_neither_does_it_change_a_bit_of_augmented_patches(cases):
    config = AugmentConfig(rotation=1, rotate_degrees=90, scaling=1, elastic=1)
    small, large = CaseReader(cases, 0), CaseReader(cases, 100)
    sampler = PatchSampler(small, SIZE, 0.5, seed=1)
    for number in range(20):
        ours = augmented(small, sampler.draw(number), config)
        theirs = augmented(large, sampler.draw(number), config)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_batches_depend_on_their_number_alone(cases):
    def batches():
        reader = CaseReader(cases, 10)
        sampler = PatchSampler(reader, SIZE, 0.5, seed=1)
        return lambda n: stacked([reader.patch(sampler.draw(p)) for p in (2 * n, 2 * n + 1)])

    straight = list(islice(read_ahead(batches(), count(), workers=3), 6))
    resumed = list(islice(read_ahead(batches(), count(4), workers=1), 2))
    for (image, label), (again, label_again) in zip(straight[4:], resumed, strict=True):
        assert image.shape == (2, *SIZE, 2)
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(label, label_again)


def test_the_validation_list_is_fixed_and_has_foreground_and_background_of_every_case(cases):
    pairs = validation_boxes(cases, SIZE, per_case=2, seed=0)
    assert pairs == validation_boxes(cases, SIZE, per_case=2, seed=0)
    assert [[number for number, _ in pair] for pair in pairs] == [[0, 0], [1, 1], [2, 2]]
    batch = validation_batches(CaseReader(cases, 0), pairs)
    for number, case in enumerate(cases):
        image, (rich, poor) = batch(number)
        assert image.shape == (2, *SIZE, 2)
        most = (case.patches()[:, 4:] > 0).sum(axis=1).max()
        assert len(set(rich.ravel()) - {0}) == most
        assert not poor.any()


@pytest.mark.parametrize(
    ("lesion", "sides", "held"),
    [
        pytest.param(slice(0, 0), 8, [False, False], id="no foreground"),
        pytest.param(slice(None), 8, [True, True], id="no background"),
        pytest.param(slice(0, 4), 8, [True, False], id="both"),
        pytest.param(slice(0, 4), 4, [True], id="a single patch"),
    ],
)
def test_the_first_pair_of_a_case(lesion, sides, held):
    label = np.zeros((sides, 4, 4), np.uint8)
    label[lesion] = 1
    case = OneCase(label, SIZE)
    pairs = validation_boxes([case], SIZE, per_case=3, seed=0)
    assert [bool(read_padded(label, box).any()) for _, box in pairs[0]] == held
    every = [box for pair in pairs for _, box in pair]
    assert len(set(every)) == len(every) == min(3, len(case.patches()))


def test_a_worker_that_fails_is_heard(cases):
    def broken(number):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        next(read_ahead(broken, count(), workers=2))
