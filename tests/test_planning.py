"""Plans: rules as laws on fingerprints made by hand, and plans of small data sets."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.config import load_config, parse_config
from vol3dseg.config.growth_section import GrowPatchConfig
from vol3dseg.config.yaml_text import values_of_yaml
from vol3dseg.errors import ConfigError
from vol3dseg.planning.case_measures import CaseMeasure, ClassMeasure, ImageMeasure
from vol3dseg.planning.draft import Limits
from vol3dseg.planning.fingerprint import Fingerprint
from vol3dseg.planning.grid_rules import target_spacing, topology
from vol3dseg.planning.make_plan import plan_for
from vol3dseg.planning.patch_fit import patch_warnings
from vol3dseg.planning.workload import Speed, growth_share, step_share
from vol3dseg.space.labels import Label, LabelSet

FAST = Speed(1e11, start_s=20.0, how="given by a test")
LIMITS = Limits(8192, 1800)


def image(hounsfield=False, nonzero=1.0, maximum=5.0):
    foreground = np.linspace(-50, 250, 1001, dtype=np.float32)
    return ImageMeasure(hounsfield, nonzero, 0.0, 4.0, maximum, foreground)


def case(number, shape=(36, 50, 35), spacing_mm=(1.0, 1.0, 1.0), values=(1, 2), **facts):
    pieces = facts.pop("pieces", (1200, 3))
    classes = {value: ClassMeasure(sum(pieces), pieces) for value in values}
    images = facts.pop("images", {"MRI": image()})
    facts = {"box": shape, **facts}
    return CaseMeasure(
        f"c{number:03}", f"s{number:03}", shape, spacing_mm, classes, images, **facts
    )


def fingerprint(count=20, modalities=("MRI",), **facts):
    return Fingerprint(tuple(case(n, **facts) for n in range(count)), modalities)


def planned(found, limits=LIMITS, speed=FAST, stated=None):
    return plan_for(found, stated, limits, lambda config, before=None: speed)


SETS = {
    "isotropic": fingerprint(200),
    "large": fingerprint(100, shape=(240, 240, 155), box=(140, 170, 140)),
    "anisotropic": fingerprint(30, shape=(320, 260, 24), spacing_mm=(0.7, 0.7, 6.5)),
    "single slices": fingerprint(30, shape=(256, 256, 1), spacing_mm=(0.5, 0.5, 8.0)),
    "CT": fingerprint(30, ("CT",), shape=(512, 512, 300), spacing_mm=(0.8, 0.8, 1.0),
                      images={"CT": image(hounsfield=True)}),
    "tiny": fingerprint(5, shape=(6, 5, 4)),
    "one case": fingerprint(1),
    "two cases": fingerprint(2, shape=(240, 240, 155)),
    "huge": fingerprint(3, shape=(700, 700, 900), spacing_mm=(0.1, 0.1, 0.1)),
}  # fmt: skip
every_set = pytest.mark.parametrize("found", SETS.values(), ids=SETS.keys())


@every_set
def test_a_plan_is_an_ordinary_config_that_keeps_memory_and_time(found):
    made = planned(found)
    assert parse_config(values_of_yaml(made.text), "the text") == made.config
    assert made.memory.total_mb <= LIMITS.memory_mb
    assert made.seconds <= LIMITS.seconds
    config = made.config
    assert config.model.norm == "batch"
    assert len(config.model.level_kernels) == config.model.depth + 1


@every_set
def test_every_choice_says_why(found):
    lines = planned(found).text.splitlines()
    keys = [n for n, line in enumerate(lines) if line.startswith("  ") and line[2] not in " -#"]
    assert len(keys) > 20
    assert all(lines[n - 1].startswith("  # ") for n in keys)


@every_set
@pytest.mark.parametrize("memory_mb", [1200, 2000, 100_000])
def test_more_memory_allows_no_less(found, memory_mb):
    less, more = (planned(found, Limits(each, 1800)) for each in (memory_mb, 2 * memory_mb))
    assert less.memory.total_mb <= memory_mb
    sizes = [math.prod(m.config.recipe.patch_size) * m.config.model.width for m in (less, more)]
    assert sizes[0] <= sizes[1]


def test_a_memory_that_nothing_fits_into_is_refused():
    with pytest.raises(ConfigError, match=r"700 MB of memory .*--memory"):
        planned(SETS["large"], Limits(700, 1800))


def test_the_hippocampus_comes_out_as_its_preset():
    made = planned(SETS["isotropic"], speed=FAST.faster(5)).config
    preset = load_config("hippocampus")
    assert made.training.batch_size == preset.training.batch_size
    for key in ("patch_size", "crop", "spacing_mm", "normalisation"):
        theirs = {"MRI": preset.recipe.normalisation["MRI"]} if key == "normalisation" else None
        assert getattr(made.recipe, key) == (theirs or getattr(preset.recipe, key))
    assert (made.model.depth, made.model.width) == (preset.model.depth, preset.model.width)
    assert made.training.deep_supervision == preset.training.deep_supervision
    assert made.training.foreground == 0
    assert made.training.augment.flip_axes == ()


def test_isotropic_scans_have_kernels_and_strides_in_all_directions():
    model = planned(SETS["isotropic"]).config.model
    assert set(model.level_strides) == {(2, 2, 2)}
    assert set(model.level_kernels) == {(3, 3, 3)}


def test_slices_far_apart_are_neither_halved_nor_mixed_before_they_are_as_long_as_wide():
    model = planned(SETS["anisotropic"]).config.model
    assert model.level_strides[:3] == ((2, 2, 1),) * 3
    assert model.level_kernels[:3] == ((3, 3, 1),) * 3
    assert model.level_kernels[-1] == (3, 3, 3)


def test_scans_of_a_few_voxels_are_patches_of_a_network_of_one_level():
    made = planned(SETS["tiny"])
    assert made.config.recipe.patch_size == (6, 5, 4)
    assert made.config.model.strides == ((2, 1, 1),)
    assert not any("patch" in warning for warning in made.warnings)


def test_single_slices_have_a_network_of_two_dimensions():
    model = planned(SETS["single slices"]).config.model
    assert {stride[2] for stride in model.level_strides} == {1}
    assert {kernel[2] for kernel in model.level_kernels} == {1}


sides = st.lists(st.integers(1, 300), min_size=3, max_size=3)
spacings = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)


@given(spacings, sides)
def test_levels_leave_four_voxels_and_halve_no_axis_twice_as_coarse(spacing_mm, patch):
    levels = topology(spacing_mm, patch)
    assert (1, 1, 1) not in (*levels.strides, *levels.kernels)
    space, shape = np.array(spacing_mm), np.array(patch)
    for stride, (before, after) in zip(levels.strides, pairwise(levels.kernels), strict=True):
        halved = np.array(stride) == 2
        assert halved.any()
        if max(patch) < 8:  # a network has one level at least
            assert shape[halved] == max(patch)
            continue
        assert (shape[halved] >= 8).all()
        assert (space[halved] < 2 * space[shape >= 8].min()).all()
        assert (np.array(before) <= np.array(after)).all() or (shape <= 2).any()
        space, shape = space * stride, -(-shape // stride)


@pytest.mark.parametrize(
    ("spacings_mm", "shape", "expected"),
    [
        pytest.param([(1, 1, 1), (1, 1, 2), (1, 1, 3)], (99, 99, 99), (1, 1, 2), id="the median"),
        pytest.param([(1, 1, n) for n in (4, 5, 6, 7, 8)], (300, 300, 20), (1, 1, 4.4),
                     id="percentile 10 of a coarse axis"),
        pytest.param([(1, 1, n) for n in (4, 5, 6, 7, 8)], (40, 40, 40), (1, 1, 6),
                     id="a coarse axis with many voxels"),
        pytest.param([(2, 2, n) for n in (1, 1, 9, 9, 9)], (300, 300, 20), (2, 2, 2),
                     id="no finer than the others"),
    ],
)  # fmt: skip
def test_the_spacing_of_the_working_grid(spacings_mm, shape, expected):
    shapes = np.array([shape] * len(spacings_mm), dtype=float)
    assert target_spacing(np.array(spacings_mm, dtype=float), shapes) == pytest.approx(expected)


def test_scans_of_one_spacing_keep_it_and_others_are_resampled():
    assert planned(fingerprint(5)).config.recipe.spacing_mm is None
    mixed = Fingerprint(
        tuple(case(n, spacing_mm=(1.0, 1.0, 1.0 + n / 4)) for n in range(5)), ("MRI",)
    )
    assert planned(mixed).config.recipe.spacing_mm == (1.0, 1.0, 1.5)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"nonzero": 0.9}, {"method": "zscore", "mask": "all"}),
        ({"nonzero": 0.3}, {"method": "zscore", "mask": "nonzero"}),
        ({"maximum": 99}, {"method": "zscore", "mask": "all", "clip_percentiles": (0.5, 99.5)}),
        ({"hounsfield": True}, {"method": "window", "low": -49.0, "high": 249.0}),
    ],
)
def test_normalisation(images, expected):
    step = planned(fingerprint(images={"MRI": image(**images)})).config.recipe.normalisation["MRI"]
    assert step.model_dump(exclude_defaults=True) | {"method": step.method} == {
        name: value for name, value in expected.items() if (name, value) != ("mask", "nonzero")
    }


def test_modalities_may_be_normalised_in_their_own_ways():
    images = {"CT": image(hounsfield=True), "PET": image()}
    steps = planned(fingerprint(modalities=("CT", "PET"), images=images)).config.recipe
    assert [steps.normalisation[name].method for name in ("CT", "PET")] == ["window", "zscore"]


@pytest.mark.parametrize(
    ("box", "outside", "crop"),
    [((36, 50, 35), 0, "none"), ((20, 40, 30), 0, "nonzero"), ((20, 40, 30), 7, "none")],
)
def test_zeros_are_cut_off_where_that_saves_and_loses_no_label(box, outside, crop):
    assert planned(fingerprint(box=box, outside=outside)).config.recipe.crop == crop


@pytest.mark.parametrize(("subjects", "folds"), [(1, 5), (3, 3), (8, 5), (20, 5)])
def test_few_subjects_are_all_learned_from_and_the_user_is_warned(subjects, folds):
    made, usual = planned(fingerprint(subjects)), planned(fingerprint(200))
    few = subjects < 20
    assert made.config.split.folds == folds
    assert few == any("few: on others" in warning for warning in made.warnings)
    ours, theirs = made.config.training.augment, usual.config.training.augment
    assert (ours.gamma > theirs.gamma, ours.elastic > 0) == (few, few)


@pytest.mark.parametrize(
    ("subjects", "validation"), [(1, 0), (2, 0), (19, 0), (20, 0.2), (49, 0.2), (50, 0.1)]
)
def test_what_is_kept_for_validation(subjects, validation):
    made = planned(fingerprint(subjects))
    assert made.config.split.validation == validation
    assert made.config.split.test == 0
    assert (validation == 0) == any("learned from" in note for note in made.notes)
    training = made.config.training
    assert (training.reduce_lr_on_plateau, training.early_stopping) == (None, None)
    assert not training.model_checkpoint


@pytest.mark.parametrize(
    ("facts", "share"),
    [
        ({}, 0),
        ({"shape": (240, 240, 240), "pieces": (200_000,)}, 0.67),
        ({"shape": (240, 240, 240), "pieces": (2_000_000,)}, 0.33),
        ({"shape": (240, 240, 240), "pieces": (5,) * 40}, 0.8),
        ({"shape": (240, 240, 240), "pieces": (200_000, *(1,) * 99)}, 0.67),
    ],
    ids=["whole scans", "rare", "common", "small pieces", "stray voxels"],
)
def test_how_many_patches_are_drawn_for_a_class(facts, share):
    assert planned(fingerprint(**facts)).config.training.foreground == share


def test_more_time_is_used():
    short, long = (planned(SETS["large"], Limits(8192, 60 * m)) for m in (10, 100))
    assert math.prod(short.config.recipe.patch_size) < math.prod(long.config.recipe.patch_size)
    assert 0.8 * 600 < short.seconds <= 600
    assert 0.8 * 6000 < long.seconds <= 6000


def test_a_faster_machine_has_a_wider_network():
    assert planned(SETS["large"], Limits(120_000, 1800), FAST.faster(500)).config.model.width == 32


STATED = LabelSet(
    classes=[Label(name=n, read=(v,), write=v) for v, n in enumerate(["none", "front", "back"])]
)


def test_the_precision_that_was_measured_is_kept_and_halves_memory():
    half = replace(FAST, precision="bfloat16")
    whole, halved = planned(SETS["isotropic"]), planned(SETS["isotropic"], speed=half)
    assert (whole.config.training.precision, halved.config.training.precision) == (
        "auto",
        "bfloat16",
    )
    assert halved.memory.network_mb < 0.7 * whole.memory.network_mb


def test_classes_have_the_names_that_the_data_set_states():
    assert planned(fingerprint(), stated=STATED).config.labels.names == ("none", "front", "back")


def test_classes_without_a_name_are_called_by_their_values():
    made = planned(fingerprint(values=(1, 2, 4)), stated=None).config.labels
    assert made.names == ("background", "class 1", "class 2", "class 4")
    assert [label.write for label in made.classes] == [0, 1, 2, 4]
    made = planned(fingerprint(values=(7, 5000))).config.labels
    assert [(label.read, label.write) for label in made.classes[1:]] == [((7,), 1), ((5000,), 2)]


def test_a_stated_class_that_nobody_has_and_one_that_is_not_stated():
    made = planned(fingerprint(values=(1, 3)), stated=STATED)
    assert made.config.labels.names == ("none", "front", "back", "class 3")
    assert "no label map holds 2" in " ".join(made.text.split("\n  # "))


def test_what_nnunet_calls_ignore_is_ignored():
    stated = LabelSet(
        classes=[Label(name=n, read=(v,), write=v) for v, n in enumerate(["b", "a", "ignore"])]
    )
    labels = planned(fingerprint(), stated=stated).config.labels
    assert (labels.names, labels.ignore) == (("b", "a"), (2,))


def config_with(patch, norm="batch", depth=3):
    data = load_config("hippocampus").model_dump(mode="json")
    data["recipe"]["patch_size"] = list(patch)
    data["model"].update(norm=norm, depth=depth)
    return parse_config(data, "test")


@pytest.mark.parametrize(
    ("patch", "norm", "said"),
    [
        pytest.param((40, 56, 40), "batch", "", id="fits"),
        pytest.param((40, 56, 40), "instance", "", id="fits, instance norm"),
        pytest.param((96, 96, 96), "batch", "larger than every scan (the largest sides are "
                     "43x59x47): 91 % of a patch is empty; recipe.patch_size [48, 64, 48]",
                     id="larger"),
        pytest.param((32, 48, 32), "instance", "compute it 6.1 times over", id="just smaller"),
        pytest.param((32, 48, 32), "batch", "", id="just smaller, tiles are free"),
        pytest.param((16, 16, 16), "instance", "", id="much smaller"),
    ],
)  # fmt: skip
def test_a_patch_that_does_not_fit_is_said_aloud(patch, norm, said):
    shapes = [(36, 50, 35), (35, 50, 36), (43, 59, 47)]
    found = "".join(patch_warnings(config_with(patch, norm), shapes))
    assert (said in found) if said else (found == "")


def test_no_scans_no_warning():
    assert patch_warnings(config_with((96, 96, 96)), []) == []


def test_a_time_that_nothing_fits_into_is_said():
    made = planned(SETS["large"], Limits(8192, 30))
    assert made.config.training.epochs == 1
    assert "minutes, more than 0" in "".join(made.warnings)


def test_a_network_is_chosen_by_its_own_speed():
    """One that is slower for its arithmetic the larger it is, as where caches are small."""
    asked = []

    def measure(config, before=None):
        voxels = math.prod(config.recipe.patch_size) * config.training.batch_size
        asked.append(voxels)
        return Speed(2e10 if voxels > 2 * 64**3 else 4e11, start_s=20.0)

    made = plan_for(SETS["large"], None, LIMITS, measure)
    assert max(asked) > 2 * 64**3
    assert made.speed.flops_per_s == 4e11
    assert made.speed == measure(made.config)
    assert made.work.steps(made.config) * made.config.training.epochs >= 500
    assert made.seconds <= LIMITS.seconds


def test_patches_that_grow_and_volumes_that_are_judged_count_in_the_time():
    made = planned(SETS["large"])
    plain, work = made.config.chosen(grow_patch=None), made.work
    judged = plain.chosen(validate_every=1, validation_volumes=2)
    grown = plain.chosen(grow_patch=GrowPatchConfig(start=0.5, stages=2, epochs=0.5))
    seconds = [work.seconds(config, FAST) for config in (grown, plain, judged)]
    assert seconds == sorted(seconds)
    assert seconds[1] > 1.02 * seconds[0]
    assert seconds[2] > 1.02 * seconds[1]
    assert growth_share(plain) == 1
    data = config_with((64, 64, 64)).chosen(grow_patch=grown.training.grow_patch)
    assert growth_share(data) == pytest.approx(0.5 * step_share(1 / 8) + 0.5)
    same = GrowPatchConfig(start=0.5, stages=2, epochs=0.5, batch="voxels")
    assert growth_share(plain.chosen(grow_patch=same)) == 1
