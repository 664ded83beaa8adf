"""What the network is fed: which patches, in which order, read how."""

from itertools import count, islice

import numpy as np
import pytest

from vol3dseg.config import Config, ModelConfig
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.box import Box

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

from vol3dseg.training.sampling import (  # noqa: E402 - after the skip
    CaseReader,
    PatchSampler,
    read_ahead,
    training_batches,
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


def unchanged(image, label, rng):
    return image, label


def test_every_case_comes_once_a_round(cases):
    sampler = PatchSampler(cases, SIZE, 0.5, seed=3)
    drawn = [sampler.draw(n)[0] for n in range(3 * len(cases))]
    rounds = np.reshape(drawn, (3, len(cases)))
    assert (np.sort(rounds, axis=1) == np.arange(len(cases))).all()
    assert len({tuple(r) for r in rounds.tolist()}) > 1


def test_origins_are_jittered_and_patches_stay_inside(cases):
    sampler = PatchSampler(cases, SIZE, 0.5, seed=0)
    starts = set()
    for number in range(200):
        case, box, _ = sampler.draw(number)
        starts.add(box.start)
        for start, stop, extent in zip(box.start, box.stop, cases[case].shape, strict=True):
            assert stop - start == 4
            assert (start >= 0 and stop <= extent) or extent < 4
    assert len(starts) > 20


def test_foreground_share_draws_classes_equally_often(cases):
    reader = CaseReader(cases, cache_mb=100)

    def share_with_foreground(foreground):
        sampler = PatchSampler(cases, SIZE, foreground, seed=0)
        drawn = [reader.read(*sampler.draw(n)[:2])[1] for n in range(200)]
        return np.mean([label.any() for label in drawn])

    # Only jitter can lead a chosen patch away from its class.
    assert share_with_foreground(1.0) > share_with_foreground(0.0) + 0.1


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_cache_changes_nothing(cases, cache_mb):
    reader, other = CaseReader(cases, cache_mb), CaseReader(cases, 0)
    box = Box((-2, 3, 1), (14, 19, 30))
    for ours, theirs in zip(reader.read(1, box), other.read(1, box), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_batches_depend_on_their_number_alone(cases):
    def batches():
        reader = CaseReader(cases, 10)
        sampler = PatchSampler(cases, SIZE, 0.5, seed=1)
        return training_batches(reader, sampler, 2, unchanged)

    straight = list(islice(read_ahead(batches(), count(), workers=3), 6))
    resumed = list(islice(read_ahead(batches(), count(4), workers=1), 2))
    for (image, label), (again, label_again) in zip(straight[4:], resumed, strict=True):
        assert image.shape == (2, *SIZE, 2)
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(label, label_again)


def test_validation_list_is_fixed_and_begins_with_foreground(cases):
    boxes = validation_boxes(cases, SIZE, limit=5, seed=0)
    assert boxes == validation_boxes(cases, SIZE, limit=5, seed=0)
    assert len(boxes) == 5
    assert [number for number, _ in boxes[:3]] == [0, 1, 2]
    batch = validation_batches(CaseReader(cases, 0), boxes, 2)
    sizes = [len(batch(n)[0]) for n in range(3)]
    assert sizes == [2, 2, 1]
    assert all(label.any() for label in batch(0)[1])


def test_a_worker_that_fails_is_heard(cases):
    def broken(number):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        next(read_ahead(broken, count(), workers=2))
