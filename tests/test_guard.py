"""The guard of a model: what is measured, what is learnt, what is said, and of whom."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.splits import SplitConfig, make_split
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import load_record
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.quality.appearance import Appearance, measure_appearance
from vol3dseg.quality.expectations import Expectations
from vol3dseg.quality.features import exchanged, features_of, turned
from vol3dseg.quality.guard import FALSE_ALARMS, Guard, limits_of, make_guard, percentile
from vol3dseg.quality.training_data import TrainingData, describe_data
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

NAMES = ("flair", "t1", "t2")
SHAPE = (24, 28, 20)
GRID = Geometry(SHAPE, np.diag([1.0, 1.0, 1.0, 1.0]))
PLACES = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")


def make_images(seed):
    """A body that is narrow in front and bright above, in modalities of fixed relation."""
    rng = np.random.default_rng(seed)
    x, y, z = PLACES
    inside = x**2 * (1.5 + y) + (y * rng.uniform(0.95, 1.05)) ** 2 + z**2 < 0.8
    tissue, fluid, lesion = (np.kron(b, np.ones((4, 4, 4))) for b in rng.normal(0, 1, (3, 6, 7, 5)))
    mixed = {
        "flair": 600 + 60 * np.exp(0.7 * lesion) + 60 * z,
        "t1": 600 + 60 * tissue - 50 * lesion + 60 * z,
        "t2": 600 - 40 * tissue + 30 * np.exp(0.7 * fluid) + 30 * lesion + 60 * z,
    }
    return {
        name: np.where(inside, image + rng.normal(0, 8, SHAPE), 0).astype(np.float32)
        for name, image in mixed.items()
    }


def looks_of(seeds, change=lambda images: images, grid=GRID):
    return [measure_appearance(change(make_images(seed)), grid) for seed in seeds]


@pytest.fixture(scope="module")
def training():
    return looks_of(range(60))


@pytest.fixture(scope="module")
def validation():
    return looks_of(range(100, 140))


@pytest.fixture(scope="module")
def guard(training, validation):
    return make_guard(training, validation)


def said(guard, seed=500, change=lambda images: images, grid=GRID):
    (appearance,) = looks_of([seed], change, grid)
    return guard.warnings(appearance)


# What is measured.


@pytest.mark.parametrize("pair", list(combinations(NAMES, 2)))
def test_swapped_scans_have_exchanged_features(pair):
    images = make_images(1)
    other = dict(zip(pair, reversed(pair), strict=True))
    swapped = {name: images[other.get(name, name)] for name in images}
    found, expected = (features_of(measure_appearance(i, GRID)) for i in (swapped, images))
    assert found == exchanged(expected, *pair)


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
def test_a_part_of_the_modalities_looks_like_a_part_of_the_appearance(names):
    images = make_images(2)
    part = measure_appearance({name: images[name] for name in names}, GRID)
    assert part == measure_appearance(images, GRID).select(names)
    assert features_of(part).items() <= features_of(measure_appearance(images, GRID)).items()


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_turned_scans_have_turned_profiles(order, mirrored):
    images = make_images(3)
    axes = [axis for axis, m in enumerate(mirrored) if m]
    images_turned = {name: np.flip(a.transpose(order), axes) for name, a in images.items()}
    grid = Geometry(images_turned["t1"].shape, np.eye(4))
    found = features_of(measure_appearance(images_turned, grid))
    expected = turned(features_of(measure_appearance(images, GRID)), tuple(order), mirrored)
    assert len(expected) == 3 * 3 * 6
    for key, value in expected.items():
        # The lattice leaves out one voxel at an end of each axis.
        assert found[key] == pytest.approx(value, abs=0.03)


@given(st.floats(1e-3, 1e3), st.integers(0, 20))
def test_units_change_the_span_and_nothing_else(factor, seed):
    images = make_images(seed)
    before = features_of(measure_appearance(images, GRID))
    scaled = features_of(
        measure_appearance({n: a * np.float32(factor) for n, a in images.items()}, GRID)
    )
    for key, value in scaled.items():
        shift = np.log(factor) if key[0] == "scale" else 0.0
        assert value == pytest.approx(before[key] + shift, abs=2e-3)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 5, 9), (2, 2, 2), (49, 50, 3)], ids=lambda s: "x".join(map(str, s))
)
@pytest.mark.parametrize("value", [0, 7, None], ids=["zeros", "flat", "noise"])
def test_any_shape_and_flat_images_can_be_looked_at(shape, value):
    rng = np.random.default_rng(0)
    image = rng.normal(5, 1, shape) if value is None else np.full(shape, value)
    found = measure_appearance(
        {"t1": image.astype("f4"), "t2": image.astype("f4")}, Geometry(shape, np.eye(4))
    )
    assert Appearance.model_validate_json(found.model_dump_json()) == found
    assert np.isfinite(list(features_of(found).values())).all()


def test_both_ways_in_measure_the_same(brats_folder, recipe):
    volume = read_volume(find_cases(brats_folder)[0], ("t1", "flair"))
    found = prepare(volume, recipe).appearance
    assert found.axes == "LPS"
    assert list(found.modalities) == ["flair", "t1"]
    alone = prepare(volume, recipe.select(["t1"])).appearance
    assert alone == found.select(["t1"])


# What is learnt.


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_a_percentile_leaves_no_more_than_a_twentieth_above(values):
    above = sum(v > percentile(values) for v in values)
    assert above <= FALSE_ALARMS * (len(values) + 1)
    assert len(values) >= 19 or percentile(values) == 1.5 * max(values)


@given(st.lists(st.tuples(*[st.floats(0, 1e4)] * 3), min_size=19, max_size=80))
def test_all_checks_together_are_passed_by_one_case_in_twenty(rows):
    scores = [dict(zip(("swapped", "texture", "grid"), row, strict=True)) for row in rows]
    limits = limits_of(scores)
    above = sum(any(each[c] > limits[c] for c in each) for each in scores)
    assert above <= FALSE_ALARMS * (len(scores) + 1)


def test_few_usual_scans_raise_an_alarm(guard, training, validation):
    assert guard.false_alarms <= FALSE_ALARMS
    for known in (training, validation):
        assert np.mean([bool(guard.warnings(each)) for each in known]) <= 0.1
    unseen = looks_of(range(200, 240))
    assert np.mean([bool(guard.warnings(each)) for each in unseen]) <= 0.15


def test_the_manifest_keeps_every_word(guard):
    again = Guard.model_validate_json(guard.model_dump_json())
    assert again == guard
    for change in (lambda i: i, lambda i: {**i, "t1": i["t2"], "t2": i["t1"]}):
        assert said(again, change=change) == said(guard, change=change)


def test_distances_of_a_subset_come_from_its_own_numbers(training):
    part = Expectations.learn([features_of(each.select(["t1", "t2"])) for each in training])
    whole = Expectations.learn([features_of(each) for each in training])
    assert 0 < len(part.features) < len(whole.features)
    assert set(part.features) < set(whole.features)


def test_without_a_validation_part_training_cases_are_held_out(training):
    found = make_guard(training[:20], [])
    assert found.calibrated_on == 20
    assert make_guard(training, training[:5]).calibrated_on == 65


def test_what_the_guard_cannot_see_is_said(training, validation):
    one = [each.select(["t1"]) for each in training]
    found = describe_data(one, [each.select(["t1"]) for each in validation], {"edema": [1.0, 3.0]})
    assert found.notes == ("swapped images cannot be detected: the model has one modality, t1",)
    assert found.volumes_ml == {"edema": (1.0, 2.0, 3.0)}
    assert found.axes == {"RAS": 60}
    few = describe_data(training[:9], validation, {})
    assert few.guard is None
    assert few.warnings(training[0]) == ()
    assert few.notes == (
        "scans are not compared with the training data: 9 training cases (fewer than 10) are too "
        "few to tell what is typical",
    )
    assert describe_data(training[:20], validation, {}).notes == (
        "what is typical was learnt from only 20 training cases",
    )


def test_how_often_a_swap_would_be_noticed_is_told(guard):
    assert set(guard.noticed) == {
        "flair and t1 swapped", "flair and t2 swapped", "t1 and t2 swapped",
        "mirrored left-right", "mirrored posterior-anterior", "mirrored inferior-superior",
    }  # fmt: skip
    assert guard.noticed["t1 and t2 swapped"] > 0.9
    assert guard.noticed["mirrored inferior-superior"] > 0.9
    assert guard.noticed["mirrored left-right"] < 0.1  # the body is symmetrical


# What is said.


@pytest.mark.parametrize("pair", list(combinations(NAMES, 2)), ids="-".join)
def test_swapped_modalities_are_named_and_nothing_else(guard, pair):
    a, b = pair
    (warning,) = said(guard, change=lambda images: {**images, a: images[b], b: images[a]})
    assert warning.startswith(
        f"{a} and {b} look swapped: they fit the training scans better if exchanged (distance "
    )
    assert warning.endswith("check which file is which")


def only(name, change):
    return lambda images: {**images, name: change(images[name])}


def everywhere(change):
    return lambda images: {name: change(image) for name, image in images.items()}


def noisy(image):
    added = np.random.default_rng(0).normal(0, image.std(), SHAPE)
    return np.where(image == 0, 0, image + added).astype(np.float32)


def unmasked(image):
    return np.where(image == 0, np.random.default_rng(1).uniform(100, 600, SHAPE), image).astype(
        "f4"
    )


@pytest.mark.parametrize(
    ("change", "start", "end"),
    [
        pytest.param(
            only("t2", lambda a: a * np.float32(1000)),
            "t2 has an unusually wide range of intensities: ", "; are the units right?",
            id="units",
        ),
        pytest.param(
            only("t1", lambda a: np.where(a == 0, 0, a + np.float32(3000))),
            "t1 has unusually high intensities: the median is ", "; are the units right?",
            id="offset",
        ),
        pytest.param(
            only("t1", noisy), "t1 is unusually rough: neighbouring voxels differ by ",
            "; is it noisy?", id="noise",
        ),
        pytest.param(
            only("flair", unmasked), "unusually much of flair is not background: 100%, typically ",
            "; was skull-stripping or masking left out?", id="skull",
        ),
        pytest.param(
            everywhere(lambda a: a[:, :, ::-1]),
            "the scan looks mirrored inferior-superior; that way ",
            "; check the orientation in its header", id="upside down",
        ),
        pytest.param(
            everywhere(lambda a: np.where(PLACES[1] < -0.3, a, 0)), "", "; was too much masked?",
            id="too much masked",
        ),
        pytest.param(
            only("t2", lambda a: np.flip(a, (0, 1))), "the images are unlike the training scans (",
            "", id="one turned by itself",
        ),
    ],
)  # fmt: skip
def test_what_is_unlike_is_said_in_a_sentence(guard, change, start, end):
    warnings = said(guard, change=change)
    assert any(w.startswith(start) and w.endswith(end) and "\n" not in w for w in warnings), (
        warnings
    )


def test_another_grid_is_said_axis_by_axis(guard):
    thick, long = (Geometry(SHAPE, np.diag([1, 1, mm, 1])) for mm in (5.0, 1.0))
    assert said(guard, grid=thick) == (
        "the inferior-superior voxel spacing is unusually coarse: 5 mm, typically 1 mm",
    )
    assert said(guard, grid=long) == ()
    twice = {
        name: np.concatenate([image, image], axis=0) for name, image in make_images(500).items()
    }
    long = measure_appearance(twice, Geometry((48, 28, 20), np.eye(4)))
    assert (
        "the left-right field of view is unusually large: 48 mm, typically 24 mm"
        in guard.warnings(long)
    )


def test_what_cannot_be_compared_is_said(guard):
    def masked(images):
        flair = np.zeros(SHAPE, np.float32)
        flair[10:14, 12:16, 9:12] = images["flair"][10:14, 12:16, 9:12]
        return {**images, "flair": flair}

    lacking = "flair cannot be compared with the training scans in every way: too few voxels"
    assert said(guard, change=masked)[-1].startswith(lacking)


def test_axes_that_changed_places_are_named(guard):
    def turn(images):
        return {name: a.transpose(2, 1, 0) for name, a in images.items()}

    warnings = said(guard, change=turn, grid=Geometry((20, 28, 24), np.eye(4)))
    assert any(
        w.startswith("the scan looks rotated: its axes seem to run ") and "says R, A, S" in w
        for w in warnings
    ), warnings


# Who is told.


@pytest.fixture
def data(training, validation):
    pair = ("flair", "t1")
    parts = ([each.select(pair) for each in part] for part in (training, validation))
    return describe_data(*parts, {})


def background(manifest):
    def run(patches):
        score = np.zeros((len(patches), len(manifest.labels.names), *patches.shape[2:]), np.float32)
        score[:, 0] = 1
        return score

    return run


def test_a_predictor_warns(manifest, data):
    known = manifest.model_copy(update={"training_data": data})
    images = make_images(7)
    swapped = Volume.stack({"flair": (images["t1"], GRID), "t1": (images["flair"], GRID)})
    usual = Volume.stack({name: (images[name], GRID) for name in ("t1", "flair")})
    predictor = Predictor(background(known), known)
    assert predictor(usual).warnings == ()
    (warning,) = predictor(swapped).warnings
    assert warning.startswith("flair and t1 look swapped")
    assert Predictor(background(manifest), manifest)(swapped).warnings == ()


def test_warnings_are_recorded(manifest, data, record, brats_folder, tmp_path):
    known = manifest.model_copy(update={"training_data": data})
    cases = find_cases(brats_folder)[:1]
    found = predict_cases(cases, Predictor(background(known), known), tmp_path, record)
    warnings = found.cases[cases[0].id].warnings
    assert (
        "the posterior-anterior field of view is unusually small: 20 mm, typically 28 mm"
        in warnings
    )
    assert load_record(tmp_path).cases[cases[0].id].warnings == warnings


def test_training_data_travels_in_the_manifest(manifest, data):
    known = manifest.model_copy(update={"training_data": data})
    assert type(known).model_validate_json(known.model_dump_json()) == known
    assert TrainingData.model_validate_json(data.model_dump_json()) == data


def swapped(volume):
    names = {"flair": "t1", "t1": "flair"}
    return replace(volume, modalities=tuple(names.get(n, n) for n in volume.modalities))


@pytest.mark.slow
def test_swaps_among_real_crops_are_noticed_with_few_false_alarms(shared_data):
    cases = find_cases(shared_data / "brats20-crops")
    modalities = ("flair", "t1", "t1ce", "t2")
    recipe = load_config("crops32").recipe
    volumes = {c.id: read_volume(c, modalities) for c in cases}
    looks = {i: prepare(volume, recipe).appearance for i, volume in volumes.items()}
    subjects = {c.id: c.subject for c in cases}
    split = make_split(subjects, SplitConfig(), dict.fromkeys(subjects, 1.0))
    train, validation, test = (
        [looks[i] for i in part] for part in (split.train, split.validation, split.test)
    )
    guard = make_guard(train, validation)
    alarms = [bool(guard.warnings(each)) for each in test]
    named = [
        any(w.startswith("flair and t1 look swapped") for w in guard.warnings(each))
        for each in (prepare(swapped(volumes[i]), recipe).appearance for i in split.test)
    ]
    assert np.mean(alarms) <= 0.05
    assert np.mean(named) >= 0.9
