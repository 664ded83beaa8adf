"""Patches that grow while a network learns: which sizes, when, and of how many patches."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vol3dseg.config import Config, GrowPatchConfig, ModelConfig
from vol3dseg.planning.workload import step_share
from vol3dseg.training.growing import describe_growth, patches_of, stages_of, step_shares


@pytest.fixture(scope="module")
def config_of(recipe, labels):
    def make(whole=(40, 56, 40), batch_size=8, epochs=20, depth=3, grow=None):
        return Config(
            labels=labels,
            recipe=recipe.model_copy(update={"patch_size": whole}),
            model=ModelConfig(depth=depth),
            training={"batch_size": batch_size, "epochs": epochs, "grow_patch": grow or {}},
        )

    return make


def test_the_stages_of_the_default(config_of):
    stages = stages_of(config_of())
    assert [stage.size for stage in stages] == [
        (16, 24, 16),
        (24, 40, 24),
        (32, 48, 32),
        (40, 56, 40),
    ]
    assert [stage.first_epoch for stage in stages] == [0, 5, 10, 15]
    assert {stage.patches for stage in stages} == {8}
    assert describe_growth(stages).startswith(
        "patches grow: 16 x 24 x 16 from epoch 1 (8 at once), "
    )


def test_without_growth_there_is_one_stage(config_of):
    config = config_of()
    fixed = config.training.model_copy(update={"grow_patch": None})
    stages = stages_of(config.model_copy(update={"training": fixed}))
    assert [(stage.size, stage.first_epoch) for stage in stages] == [((40, 56, 40), 0)]
    assert describe_growth(stages) is None


@given(
    sides=st.tuples(*[st.integers(2, 12)] * 3),
    epochs=st.integers(1, 60),
    start=st.floats(0.01, 0.5),
    stages=st.integers(2, 30),
    share=st.floats(0.01, 0.99),
    batch=st.sampled_from(["patches", "voxels"]),
)
def test_stages_rise_to_the_whole_patch_in_what_the_network_takes(
    config_of, sides, epochs, start, stages, share, batch
):
    whole = tuple(8 * n for n in sides)
    config = config_of(
        whole,
        epochs=epochs,
        grow={"start": start, "stages": stages, "epochs": share, "batch": batch},
    )
    found = stages_of(config)
    assert found[0].first_epoch == 0
    assert found[-1].size == whole
    assert found[-1].first_epoch < epochs  # the last epoch learns on whole patches
    assert found[-1].patches == 8
    for stage in found:
        assert all(n % 8 == 0 and n >= 8 for n in stage.size)
        voxels = stage.patches * math.prod(stage.size)
        if batch == "voxels":
            assert 0.5 * 8 * math.prod(whole) < voxels <= 8 * math.prod(whole)
        else:
            assert stage.patches == 8
    for stage, after in pairwise(found):
        assert stage.first_epoch < after.first_epoch
        assert all(a <= b for a, b in zip(stage.size, after.size, strict=True))
        assert stage.size != after.size


@pytest.mark.parametrize(
    ("grow", "first"),
    [({"batch": "patches"}, 16 * 24 * 16), ({"batch": "voxels"}, 14 * 16 * 24 * 16)],
)
def test_the_time_of_a_step_follows_from_its_voxels(config_of, grow, first):
    shares, voxels = step_shares(config_of(grow=grow)), first / (40 * 56 * 40)
    assert len(shares) == 20
    assert shares[:5] == [step_share(voxels)] * 5
    assert shares[15:] == [1.0] * 5
    assert shares == sorted(shares) or grow["batch"] == "voxels"
    # Less than the voxels save, which small patches do not keep a processor busy with.
    assert voxels < shares[0] < 1 or grow["batch"] == "voxels"


@given(steps=st.integers(1, 7), batch=st.sampled_from(["patches", "voxels"]))
def test_patches_are_numbered_through_and_sizes_change_between_epochs(config_of, steps, batch):
    stages = stages_of(config_of(epochs=9, grow={"batch": batch}))
    expected, sizes = 0, []
    for number in range(9 * steps):
        size, numbers = patches_of(stages, steps, number)
        assert numbers.start == expected
        expected = numbers.stop
        sizes.append(size)
    for epoch in range(9):
        assert len(set(sizes[epoch * steps : (epoch + 1) * steps])) == 1
    assert set(sizes) == {stage.size for stage in stages}


def test_a_share_of_exactly_some_multiples_is_not_rounded_up():
    grow = GrowPatchConfig(start=0.6, stages=5)
    assert grow.sides(0, (80, 80, 80), (16, 16, 16)) == (48, 48, 48)
    assert [grow.sides(n, (80, 80, 80), (8, 8, 8))[0] for n in range(5)] == [48, 56, 64, 72, 80]


def test_a_patch_that_cannot_grow_is_refused(config_of):
    with pytest.raises(
        ValidationError, match=r"grow_patch.start 0.4 of recipe.patch_size \[16, 16, 16"
    ):
        config_of((16, 16, 16), depth=4)
