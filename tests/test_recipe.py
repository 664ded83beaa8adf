import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vol3dseg.errors import ConfigError, DatasetError, MemoryLimitError, RecipeMismatch
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.restore import Restorer
from vol3dseg.model.outputs import Softmax
from vol3dseg.preprocessing.prepare import prepare, prepare_labels, restore_labels
from vol3dseg.recipe import Recipe
from vol3dseg.recipe.bias_field import N4
from vol3dseg.recipe.window import Window
from vol3dseg.recipe.zscore import ZScore
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.label_resampling import nearest_labels
from vol3dseg.space.labels import Label, LabelSet, Segmentation
from vol3dseg.space.volume import Volume

LABELS = LabelSet(
    classes=tuple(Label(name=n, read=(v,), write=v) for v, n in enumerate(("none", "a", "b", "c")))
)
MODALITIES = ("flair", "t1", "t1ce", "t2")


def recipe(modalities=("t1",), **changes):
    normal = {m: ZScore() for m in modalities}
    return Recipe(
        **{
            "modalities": modalities,
            "normalisation": normal,
            "patch_size": (8, 8, 8),
            **changes,
        }
    )


def grid(shape, spacing_mm, order=(0, 1, 2), signs=(1, 1, 1), angles=(0, 0, 0), origin=(3, -7, 11)):
    affine = np.eye(4)
    turn = nib.eulerangles.euler2mat(*angles)
    affine[:3, :3] = turn @ (np.eye(3)[:, list(order)] * signs) @ np.diag(spacing_mm)
    affine[:3, 3] = origin
    return Geometry(shape, affine)


spacings = st.tuples(*[st.floats(0.5, 2)] * 3)
seeds = st.integers(0, 2**32 - 1)
interpolations = st.sampled_from(["linear", "cubic"])


@st.composite
def geometries(draw):
    return grid(
        draw(st.tuples(*[st.integers(4, 11)] * 3)),
        draw(spacings),
        draw(st.permutations(range(3))),
        draw(st.tuples(*[st.sampled_from([-1, 1])] * 3)),
        draw(st.tuples(*[st.floats(-0.2, 0.2)] * 3)),
        draw(st.tuples(*[st.floats(-150, 150)] * 3)),
    )


@st.composite
def scans(draw, modalities=("t1",)):
    """Noise inside a box of its own for each modality, zero outside."""
    geometry = draw(geometries())
    rng = np.random.default_rng(draw(seeds))
    array = np.zeros((*geometry.shape, len(modalities)), np.float32)
    for channel in range(len(modalities)):
        start = [int(rng.integers(0, n // 2)) for n in geometry.shape]
        stop = [int(rng.integers(n // 2 + 1, n + 1)) for n in geometry.shape]
        place = (*(slice(a, b) for a, b in zip(start, stop, strict=True)), channel)
        array[place] = rng.normal(100, 20, array[place].shape)
    return Volume(array, geometry, modalities)


def inside(prepared, geometry):
    """Which voxels of a grid have their centre in the box."""
    working = prepared.volume.geometry
    ones = Segmentation(np.ones(working.shape, np.uint8), working, LABELS)
    return restore_labels(ones, geometry).array == 1


@given(scans(), st.data(), seeds, st.floats(0.02, 1), st.sampled_from(["nonzero", "none"]))
def test_labels_come_home_where_the_grid_is_nowhere_coarser(scan, data, seed, density, crop):
    finest = scan.geometry.canonical().spacing_mm
    factors = data.draw(st.tuples(*[st.floats(0.4, 1)] * 3))
    spacing_mm = tuple(float(s * f) for s, f in zip(finest, factors, strict=True))
    prepared = prepare(scan, recipe(crop=crop, spacing_mm=spacing_mm))
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 4, scan.geometry.shape) * (rng.random(scan.geometry.shape) < density)
    kept = np.where(inside(prepared, scan.geometry), labels, 0).astype(np.uint8)
    there = prepare_labels(Segmentation(kept, scan.geometry, LABELS), prepared)
    home = restore_labels(there, scan.geometry)
    assert home.geometry == scan.geometry
    np.testing.assert_array_equal(home.array, kept)


@given(geometries(), st.floats(1, 2.5), st.data())
def test_balls_come_home_from_coarser_grids(small, factor, data):
    finest = small.canonical().spacing_mm
    spacing_mm = tuple(float(s * factor) for s in finest)
    radius_mm = 3 * max(spacing_mm) * data.draw(st.floats(1, 1.5))
    shape = tuple(int(2.5 * radius_mm / s) + 3 for s in small.spacing_mm)
    geometry = Geometry(shape, small.affine)
    centre = data.draw(st.tuples(*[st.floats(-0.5, 0.5)] * 3)) + (np.array(shape) - 1) / 2
    away = (np.indices(shape).T - centre) * geometry.spacing_mm
    ball = (radius_mm >= np.linalg.norm(away, axis=-1).T).astype(np.uint8)
    scan = Volume(np.ones((*shape, 1), np.float32), geometry, ("t1",))
    prepared = prepare(scan, recipe(spacing_mm=spacing_mm))
    there = prepare_labels(Segmentation(ball, geometry, LABELS), prepared)
    home = restore_labels(there, geometry).array
    assert 2 * (home * ball).sum() / (home.sum() + ball.sum()) >= 0.8


@given(
    scans(),
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.none() | spacings,
    st.sampled_from(["nonzero", "none"]),
    interpolations,
)
def test_storage_order_does_not_matter(scan, order, flips, spacing_mm, crop, interpolation):
    """The same voxels of the world, stored along other axes, are prepared to the same volume."""
    array, affine = scan.array, np.eye(4)
    linear = np.eye(3)[:, order]
    array = np.transpose(array, (*order, 3))
    for axis in range(3):
        if flips[axis]:
            array = np.flip(array, axis)
            affine[:3, 3] += linear[:, axis] * (array.shape[axis] - 1)
            linear[:, axis] *= -1
    affine[:3, :3] = linear
    other = Volume(array, Geometry(array.shape[:3], scan.geometry.affine @ affine), scan.modalities)
    chosen = recipe(spacing_mm=spacing_mm, crop=crop, interpolation=interpolation)
    a, b = prepare(scan, chosen), prepare(other, chosen)
    assert a.box == b.box
    assert a.volume.geometry.fits(b.volume.geometry, 1e-6)
    if spacing_mm is None:
        np.testing.assert_array_equal(a.volume.array, b.volume.array)
    np.testing.assert_allclose(a.volume.array, b.volume.array, atol=1e-4)


@given(
    scans(MODALITIES), st.none() | spacings, st.sampled_from(["nonzero", "none"]), interpolations
)
def test_a_modality_alone_equals_its_part_of_all_to_the_last_bit(
    scan, spacing_mm, crop, interpolation
):
    steps = {"spacing_mm": spacing_mm, "crop": crop, "interpolation": interpolation}
    every = prepare(scan, recipe(MODALITIES, **steps))
    for channel, name in enumerate(MODALITIES):
        alone = prepare(scan, recipe((name,), **steps))
        assert alone.grid == every.grid
        assert alone.box == every.boxes[name]
        part = every.volume.array[alone.box.relative_to(every.box).slices][..., channel]
        assert part.tobytes() == alone.volume.array[..., 0].tobytes()
        outside = every.volume.array[..., channel].copy()
        outside[alone.box.relative_to(every.box).slices] = 0
        assert not outside.any()


@given(scans(), spacings, interpolations)
def test_the_box_holds_all_that_interpolation_touches(scan, spacing_mm, interpolation):
    steps = {"spacing_mm": spacing_mm, "interpolation": interpolation}
    cropped = prepare(scan, recipe(crop="nonzero", **steps))
    whole = prepare(scan, recipe(crop="none", **steps))
    assert whole.box == Box.whole(whole.grid.shape)
    rest = whole.volume.array.copy()
    part = rest[cropped.box.slices].copy()
    np.testing.assert_array_equal(part, cropped.volume.array)
    rest[cropped.box.slices] = 0
    assert not rest.any()


def test_nothing_but_zeros_is_prepared_whole():
    scan = Volume(np.zeros((4, 5, 6, 1), np.float32), grid((4, 5, 6), (1, 1, 1)), ("t1",))
    prepared = prepare(scan, recipe())
    assert prepared.box == Box.whole((4, 5, 6))
    assert not prepared.volume.array.any()


@given(geometries(), spacings, seeds)
def test_probabilities_sum_to_one_at_home(labels, geometry, spacing_mm, seed):
    rng = np.random.default_rng(seed)
    array = np.zeros((*geometry.shape, 1), np.float32)
    array[1:3, 1:3, 1:3] = rng.normal(5, 1, (2, 2, 2, 1))
    prepared = prepare(Volume(array, geometry, ("t1",)), recipe(spacing_mm=spacing_mm))
    working = prepared.volume.geometry
    probabilities = rng.random((3, *working.shape)).astype(np.float32)
    decision = Decision(Softmax(classes=("a", "b", "c")), labels)
    restorer = Restorer(working, geometry, decision, keep_probabilities=True)
    restorer.add(probabilities / probabilities.sum(axis=0))
    home = restorer.probabilities
    np.testing.assert_allclose(home.sum(axis=-1), 1, atol=1e-5)
    near = prepared.grid.cropped(
        Box.at(prepared.box.shifted((-1, -1, -1)).start, tuple(n + 2 for n in prepared.box.shape))
    )
    beyond = nearest_labels(np.ones(near.shape, np.uint8), near, geometry) == 0
    assert (home[beyond] == [1, 0, 0]).all()


def test_modalities_are_found_by_name():
    array = np.random.default_rng(0).normal(9, 1, (4, 4, 4, 2)).astype(np.float32)
    geometry = grid((4, 4, 4), (1, 1, 1))
    one = prepare(Volume(array, geometry, ("t1", "t2")), recipe(("t2",)))
    two = prepare(Volume(array[..., ::-1], geometry, ("t2", "t1")), recipe(("t2",)))
    np.testing.assert_array_equal(one.volume.array, two.volume.array)
    with pytest.raises(DatasetError, match=r"has \('t1', 't2'\), \['flair'\] is missing"):
        prepare(Volume(array, geometry, ("t1", "t2")), recipe(("flair",)))


class TestRecipe:
    def test_the_fingerprint_is_of_the_content(self):
        assert recipe().fingerprint == recipe().fingerprint
        assert recipe().fingerprint != recipe(patch_size=(8, 8, 16)).fingerprint
        assert recipe(("a", "b")).fingerprint != recipe(("b", "a")).fingerprint

    def test_what_recipes_could_not_say_at_first_leaves_fingerprints_alone(self):
        """That of a recipe made before, which must still be that of what was made by it."""
        expected = "e25631a00eae827f4dd286a0855a98e0c134d505ea98b271cb52794e88f28d2f"
        assert recipe().fingerprint == expected
        assert recipe(interpolation="cubic").fingerprint != recipe().fingerprint

    def test_the_fingerprint_survives_json(self):
        original = recipe(spacing_mm=(1.1, 0.7, 1 / 3), interpolation="cubic")
        assert Recipe.model_validate_json(original.model_dump_json()) == original

    def test_a_subset_is_the_recipe_of_that_subset(self):
        assert recipe(MODALITIES).select(["t1"]).fingerprint == recipe(("t1",)).fingerprint

    @pytest.mark.parametrize(
        "wanted", [pytest.param(["x"], id="unknown"), pytest.param([], id="none")]
    )
    def test_what_cannot_be_selected(self, wanted):
        with pytest.raises(ConfigError, match="cannot be chosen; expected some of"):
            recipe().select(wanted)

    def test_a_mismatch_names_every_field(self):
        other = recipe(crop="none", spacing_mm=(1, 1, 1))
        with pytest.raises(
            RecipeMismatch, match=r"P and M differ in crop: .*; spacing_mm: None"
        ) as e:
            recipe().require_equal(other, "P", "M")
        assert "patch_size" not in str(e.value)
        recipe().require_equal(recipe(), "P", "M")


def normalised(step, image):
    return step.fitted(image)(image)


class TestNormalisation:
    VALUES = np.array([0, 2, 4, 6], np.float32).reshape(1, 1, 4)

    def test_zscore_inside_the_mask(self):
        # mean of 2, 4, 6 is 4, variance (4 + 0 + 4) / 3
        expected = np.array([0, -2, 0, 2]) / np.sqrt(8 / 3)
        np.testing.assert_allclose(normalised(ZScore(), self.VALUES).ravel(), expected, rtol=1e-6)

    def test_zscore_of_all(self):
        # mean of 0, 2, 4, 6 is 3, variance (9 + 1 + 1 + 9) / 4
        expected = np.array([-3, -1, 1, 3]) / np.sqrt(5)
        np.testing.assert_allclose(
            normalised(ZScore(mask="all"), self.VALUES).ravel(), expected, rtol=1e-6
        )

    def test_clipping_is_inside_the_mask_too(self):
        # 50 % of 2, 4, 6 is 4: clipped to 4, 4, 6, mean 14/3, variance 8/9
        result = normalised(ZScore(clip_percentiles=(50, 100)), self.VALUES).ravel()
        expected = np.array([0, -2 / 3, -2 / 3, 4 / 3]) / np.sqrt(8 / 9)
        np.testing.assert_allclose(result, expected, rtol=1e-6)

    @pytest.mark.parametrize(
        "value", [pytest.param(0, id="empty"), *map(pytest.param, (1e6, 1000.1, 1e-9, 3e38))]
    )
    def test_without_spread_all_is_zero(self, value):
        for mask in ("nonzero", "all"):
            result = normalised(ZScore(mask=mask), np.full((3, 3, 3), value, np.float32))
            assert result.dtype == np.float32
            assert not result.any()

    @pytest.mark.parametrize("mask", ["nonzero", "all"])
    @pytest.mark.parametrize("clip", [None, (1, 99)])
    def test_many_groups_of_values_have_the_moments_of_all(self, mask, clip):
        rng = np.random.default_rng(0)
        image = rng.normal(1000, 30, (70, 60, 90)).astype(np.float32)
        image *= np.linspace(0.5, 2, 70, dtype=np.float32)[:, None, None]  # groups differ
        image[rng.random(image.shape) < 0.3] = 0
        values = (image[image != 0] if mask == "nonzero" else image).astype(np.float64)
        limits = (-np.inf, np.inf) if clip is None else np.percentile(values, clip)
        values = np.clip(values, *limits)
        expected = (np.clip(image.astype(np.float64), *limits) - values.mean()) / values.std()
        expected[(image == 0) & (mask == "nonzero")] = 0
        for held in (image, np.asfortranarray(image)):
            found = normalised(ZScore(mask=mask, clip_percentiles=clip), held)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    @given(st.floats(0.1, 1000), st.floats(-1000, 1000), seeds)
    def test_zscore_forgets_scale_and_shift(self, scale, shift, seed):
        values = np.random.default_rng(seed).normal(size=(4, 4, 4))
        assume(not np.any(values * scale + shift == 0))
        images = (values.astype(np.float32), (values * scale + shift).astype(np.float32))
        a, b = (normalised(ZScore(mask="all"), image) for image in images)
        np.testing.assert_allclose(a, b, atol=2e-3 * (1 + abs(shift) / scale / 100))

    @pytest.mark.parametrize("exponent", [-110, -40, -30, 0, 30, 100])
    @pytest.mark.parametrize("mask", ["nonzero", "all"])
    @pytest.mark.parametrize("clip", [None, (1, 99)])
    def test_zscore_knows_no_unit(self, exponent, mask, clip):
        """An ADC map in m^2/s is that in mm^2/s: a power of two changes no digit of a float."""
        image = np.random.default_rng(0).normal(900, 150, (6, 7, 8)).astype(np.float32)
        image[:2] = 0
        step = ZScore(mask=mask, clip_percentiles=clip)
        found = normalised(step, image * np.float32(2.0**exponent))
        np.testing.assert_array_equal(found, normalised(step, image))
        assert found[image != 0].std() > 0.3

    def test_n4_knows_no_unit(self):
        pytest.importorskip("SimpleITK")
        rng = np.random.default_rng(0)
        field = np.exp(np.linspace(-0.3, 0.3, 16))[:, None, None]
        image = (rng.normal(900, 50, (16, 16, 16)) * field).astype(np.float32)
        found = [N4().corrected(image * np.float32(f)) / f for f in (1, 2.0**-40, 2.0**30)]
        np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-3)

    def test_window(self):
        result = normalised(Window(method="window", low=2, high=4), self.VALUES + 1)
        assert result.ravel().tolist() == [0, 1 / 2, 1, 1]

    @pytest.mark.parametrize(
        "settings",
        [
            pytest.param({"method": "window", "low": 2, "high": 2}, id="empty window"),
            pytest.param({"method": "zscore", "clip_percentiles": (9, 1)}, id="falling"),
            pytest.param({"method": "zscore", "clip_percentiles": (1, 101)}, id="over 100"),
            pytest.param({"method": "other"}, id="unknown"),
        ],
    )
    def test_settings_that_mean_nothing(self, settings):
        with pytest.raises(ValueError, match="validation error"):
            recipe(normalisation={"t1": settings})


def test_a_working_grid_that_does_not_fit_into_memory_is_refused(monkeypatch):
    volume = Volume(np.ones((4, 4, 4, 1), np.float32), Geometry((4, 4, 4), np.eye(4)), ("t1",))
    recipe = Recipe(modalities=("t1",), normalisation={"method": "zscore"}, patch_size=(4, 4, 4))

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("vol3dseg.preprocessing.prepare.np.empty", full)
    message = r"^1 images of \(4, 4, 4\) voxels on the working grid do not fit into memory; prepare"
    with pytest.raises(MemoryLimitError, match=message):
        prepare(volume, recipe)
