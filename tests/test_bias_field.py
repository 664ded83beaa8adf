"""N4: a smooth field is found and taken out, the same wherever it is done."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.cli.main import main
from vol3dseg.config import Config, ModelConfig, load_config, parse_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import ConfigError, IntensityError, MissingExtraError
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import load_record
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.recipe import Recipe
from vol3dseg.recipe.bias_field import N4
from vol3dseg.recipe.window import Window
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

QUICK = N4(shrink_factor=2, maximum_number_of_iterations=(10, 10))
SETTINGS = QUICK.model_dump(mode="json")


@pytest.fixture(scope="module")
def sitk():
    return pytest.importorskip("SimpleITK", reason="N4 needs the extra [itk]")


@pytest.fixture
def threads(sitk):
    """Set how many threads ITK takes where nothing else is said; undone after the test."""
    process = sitk.ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    yield process.SetGlobalDefaultNumberOfThreads
    process.SetGlobalDefaultNumberOfThreads(before)


@pytest.fixture
def recipe():
    """Two modalities; a patch holds a whole case."""
    return Recipe(
        modalities=("flair", "t1"),
        bias_correction=QUICK,
        normalisation={"method": "zscore"},
        patch_size=(32, 32, 32),
    )


def phantom(side=48, seed=0):
    """Two tissues with 2 % of noise in a ball, and a smooth field of 13 %."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij")
    waves = np.sin(9 * x) * np.sin(8 * y) * np.sin(7 * z)
    tissue = np.where(x**2 + y**2 + z**2 < 0.8, np.where(waves > 0, 150, 100), 0)
    noise = 1 + 0.02 * np.random.default_rng(seed).normal(size=tissue.shape)
    return tissue, (tissue * noise).astype(np.float32), np.exp(0.3 * x - 0.2 * y * z + 0.25 * z**2)


def variation(values):
    """Coefficient of variation."""
    return values.std() / values.mean()


@pytest.mark.parametrize(("factor", "most"), [(4, 0.026), (2, 0.021)])
def test_a_known_field_is_taken_out(sitk, factor, most):
    """Of 13 % variation in a tissue hardly more than its own 2 % are left."""
    tissue, image, field = phantom()
    spoilt = (image * field).astype(np.float32)
    found = N4(shrink_factor=factor).corrected(spoilt)
    for value in (100, 150):
        assert variation(spoilt[tissue == value]) > 0.125
        assert variation(found[tissue == value]) < most
    assert not found[tissue == 0].any()
    kept = np.log(found[tissue > 0]).mean() - np.log(spoilt[tissue > 0]).mean()
    assert abs(kept) < 1e-5


@pytest.mark.slow
def test_otsu_leaves_the_background_out(sitk):
    """One that is not 0, and rises where the field falls, misleads the other mask."""
    tissue, image, field = phantom()
    ghost = np.where(tissue == 0, 30 * np.exp(-np.linspace(-1, 1, 48))[:, None, None], 0)
    spoilt = (image * field + ghost).astype(np.float32)
    found, misled = (N4(shrink_factor=2, mask=m).corrected(spoilt) for m in ("otsu", "nonzero"))
    for value in (100, 150):
        assert variation(found[tissue == value]) < 0.022
        assert variation(misled[tissue == value]) > 0.06


def test_what_has_no_logarithm_does_not_count(sitk):
    """Even above Otsu's threshold, which lies between -1000 and 0 here."""
    tissue, image, field = phantom()
    spoilt = (image * field).astype(np.float32)
    spoilt[:12], spoilt[-12:] = -1000, -1000
    found = N4(shrink_factor=2, mask="otsu").corrected(spoilt)
    for value in (100, 150):
        assert variation(found[12:-12][tissue[12:-12] == value]) < 0.025


@pytest.mark.parametrize(
    "setting",
    [
        {"control_points": 7},
        {"spline_order": 2},
        {"histogram_bins": 50},
        {"width": 0.5},
        {"wiener_noise": 0.5},
        {"otsu_bins": 2},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_every_setting_is_heard(sitk, setting):
    _, image, field = phantom(24)
    spoilt = (image * field).astype(np.float32)
    assert (N4(mask="otsu", **setting).corrected(spoilt) != N4(mask="otsu").corrected(spoilt)).any()


def test_simpleitk_called_by_hand_gives_the_same(sitk, threads):
    """Up to one factor for the whole image, which N4 leaves open."""
    threads(1)
    _, image, field = phantom(32)
    spoilt = (image * field).astype(np.float32)
    scan = sitk.GetImageFromArray(spoilt.T)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()  # but for these, all as SimpleITK has it
    n4.SetMaximumNumberOfIterations(QUICK.maximum_number_of_iterations)
    n4.Execute(sitk.Shrink(scan, [2] * 3), sitk.Shrink(scan > 0, [2] * 3))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(scan)).T
    inside = spoilt > 0
    theirs = spoilt / np.exp(field - field[inside].mean())
    ours = QUICK.corrected(spoilt)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert variation(np.exp(field[inside])) > 0.1


def test_the_number_of_threads_does_not_matter(sitk, threads):
    """To the last bit; nor does what runs beside it. ITK's setting is as it was before."""
    _, image, field = phantom(32)
    spoilt = (image * field).astype(np.float32)
    found = []
    for number in (1, 2, 5):
        threads(number)
        with ThreadPoolExecutor(3) as pool:
            found += pool.map(QUICK.corrected, [spoilt] * 3)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == number
    assert len({one.tobytes() for one in found}) == 1


ODD = {
    "empty": np.zeros((9, 8, 7)),
    "constant": np.full((9, 8, 7), 5.0),
    "negative": -phantom(12)[1] - 1,
    "one plane": phantom(12)[1][:, :, :1],
    "one voxel": np.full((1, 1, 1), 5.0),
    "one voxel in zeros": np.pad(np.full((1, 1, 1), 5.0), 4),
    "constant inside": np.pad(np.full((6, 6, 6), 5.0), 3),
}


@pytest.mark.parametrize("mask", ["nonzero", "otsu"])
@pytest.mark.parametrize("image", ODD.values(), ids=ODD)
def test_where_there_is_no_field_the_image_stays(sitk, image, mask):
    image = image.astype(np.float32)
    np.testing.assert_array_equal(N4(mask=mask).corrected(image), image)


small = st.tuples(*[st.integers(1, 14)] * 3)


@settings(max_examples=40)
@given(small, st.floats(0.02, 1), st.sampled_from(["nonzero", "otsu"]), st.integers(0, 2**32 - 1))
def test_any_size_and_any_mask_will_do(sitk, shape, density, mask, seed):
    rng = np.random.default_rng(seed)
    image = np.where(rng.random(shape) < density, rng.normal(50, 30, shape), 0).astype(np.float32)
    step = N4(mask=mask, maximum_number_of_iterations=(3, 3))
    found = step.corrected(image)
    assert found.dtype == np.float32
    assert found.shape == shape
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.sign(found), np.sign(image))


def scan(modalities=("flair", "t1"), side=24):
    """Two images of their own fields and boxes."""
    array = np.stack([phantom(side, n)[1] * phantom(side)[2] ** (n + 1) for n in range(2)], -1)
    array[:3, ..., 0], array[..., -4:, 1] = 0, 0
    affine = np.diag([1.0, 1.2, 1.4, 1.0])
    order = [("flair", "t1").index(name) for name in modalities]
    return Volume(array[..., order].astype(np.float32), Geometry((side,) * 3, affine), modalities)


@pytest.mark.parametrize("spacing_mm", [None, (1.3, 1.0, 1.4)], ids=["as it is", "resampled"])
def test_a_modality_alone_equals_its_part_of_all_to_the_last_bit(sitk, recipe, spacing_mm):
    both = recipe.model_copy(update={"spacing_mm": spacing_mm})
    every = prepare(scan(), both)
    for channel, name in enumerate(every.volume.modalities):
        alone = prepare(scan(("t1", "flair")), both.select([name]))
        assert alone.box == every.boxes[name]
        part = every.volume.array[alone.box.relative_to(every.box).slices][..., channel]
        assert part.tobytes() == alone.volume.array[..., 0].tobytes()


def test_storage_order_does_not_matter(sitk, recipe):
    one = scan()
    affine = one.geometry.affine @ np.array(
        [[0, 0, -1, 23], [1, 0, 0, 0], [0, -1, 0, 23], [0, 0, 0, 1]]
    )
    turned = np.ascontiguousarray(one.array.transpose(1, 2, 0, 3)[:, ::-1, ::-1])
    other = Volume(turned, Geometry(turned.shape[:3], affine), one.modalities)
    a, b = prepare(one, recipe), prepare(other, recipe)
    np.testing.assert_array_equal(a.volume.array, b.volume.array)


def test_it_comes_first_and_leaves_the_rest_alone(sitk, recipe):
    """The box and what the guard measures are those of the scan as read."""
    plain = recipe.model_copy(update={"bias_correction": None})
    with_it, without = prepare(scan(), recipe), prepare(scan(), plain)
    assert with_it.box == without.box
    assert with_it.appearance == without.appearance
    for channel, name in enumerate(recipe.modalities):
        image = QUICK.corrected(scan().array[..., channel])
        expected = plain.normalisation[name].fitted(image)(image)[with_it.box.slices]
        found = with_it.volume.array[..., channel]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(found - without.volume.array[..., channel]).max() > 0.1


def test_intensities_keep_their_size_for_windows(sitk, recipe):
    window = {name: Window(method="window", low=0, high=400) for name in recipe.modalities}
    windowed = recipe.model_copy(update={"normalisation": window})
    found = prepare(scan(), windowed).volume.array
    inside = found[found > 0]
    assert 100 / 400 < np.exp(np.log(inside).mean()) < 200 / 400


def test_training_and_prediction_see_the_same(
    threads, recipe, manifest, record, labels, brats_folder
):
    """To the last bit, on machines of one and of three cores."""
    cases, folder = find_cases(brats_folder)[:2], brats_folder.parent
    seen = []

    def background(patches):
        seen.append(patches[0].copy())
        shape = (len(patches), len(labels.names), *patches.shape[2:])
        return np.full(shape, 1 / len(labels.names), np.float32)

    threads(1)
    index = preprocess(
        cases, folder / "prepared", Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1))
    )
    threads(3)
    found = predict_cases(cases, Predictor(background, manifest), folder / "out", record)
    assert not index.failed
    for entry, patch in zip(index.cases, seen, strict=True):
        stored = StoredCase.open(folder / "prepared", entry, recipe.modalities)
        start = tuple(-((32 - n) // 2) for n in stored.shape)
        image, _ = stored.read(Box.at(start, (32, 32, 32)))
        assert np.moveaxis(patch, 0, -1).tobytes() == image.tobytes()
        assert found.cases[entry.id].seconds["prepare"] > 0


def test_the_commands_run_it(sitk, vol3dseg, recipe, model_path, brats_folder, tmp_path):
    """The index and the record say what was done, and with which SimpleITK."""
    pytest.importorskip("onnxruntime")
    data = load_config("crops32").model_dump(mode="json")
    data["recipe"] = recipe.model_dump(mode="json")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    prepared, out = tmp_path / "P", tmp_path / "O"
    done = vol3dseg("preprocess", brats_folder, "-o", prepared, "-c", tmp_path / "c.yaml", "-j", 1)
    assert done.returncode == 0, done.stderr
    assert load_index(prepared).recipe.bias_correction == QUICK
    done = vol3dseg("predict", model_path, brats_folder, "-o", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    record = load_record(out)
    assert record.versions["SimpleITK"] == sitk.Version_VersionString()
    assert record.fingerprint == recipe.fingerprint
    assert not [case.error for case in record.cases.values() if case.error]


class TestRecipe:
    def test_every_setting_is_in_the_fingerprint(self, recipe):
        changes = [
            {"mask": "otsu"},
            {"shrink_factor": 3},
            {"maximum_number_of_iterations": (10,)},
            {"convergence_threshold": 0.01},
        ]
        steps = [None, QUICK, *(QUICK.model_copy(update=change) for change in changes)]
        found = {recipe.model_copy(update={"bias_correction": s}).fingerprint for s in steps}
        assert len(found) == len(steps)

    def test_it_survives_json_and_selection(self, recipe):
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
        assert recipe.select(["t1"]).bias_correction == QUICK

    def test_a_name_stands_for_its_defaults(self):
        data = load_config("crops32").model_dump(mode="json")
        for given_ in ("n4", {"method": "n4"}, {}):
            data["recipe"]["bias_correction"] = given_
            assert parse_config(data, "c.yaml").recipe.bias_correction == N4()
        data["recipe"]["bias_correction"] = None
        assert parse_config(data, "c.yaml").recipe == load_config("crops32").recipe

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            pytest.param("n3", "recipe.bias_correction.method: .*'n4'.*'n3'", id="unknown"),
            pytest.param(
                {"shrink_factor": 0}, "shrink_factor: expected at least 1, found 0", id="factor"
            ),
            pytest.param({"shrink": 2}, "did you mean 'shrink_factor'", id="key"),
            pytest.param(
                {"maximum_number_of_iterations": []}, "expected at least 1 entries", id="levels"
            ),
            pytest.param({"convergence_threshold": float("nan")}, "finite number", id="threshold"),
            pytest.param({"mask": "brain"}, "'nonzero' or 'otsu'", id="mask"),
        ],
    )
    def test_settings_that_mean_nothing(self, wrong, message):
        data = load_config("crops32").model_dump(mode="json")
        data["recipe"]["bias_correction"] = wrong
        with pytest.raises(ConfigError, match=message):
            parse_config(data, "c.yaml")


class TestWithoutSimpleITK:
    @pytest.fixture(autouse=True)
    def absent(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "SimpleITK", None)

    def run(self, monkeypatch, capsys, *words):
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # which it sets, and which shall not stay
        monkeypatch.setattr(sys, "argv", ["vol3dseg", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    MESSAGE = "SimpleITK is not installed; install it with: pip install 'vol3dseg[itk]'"

    def test_the_extra_is_named(self, recipe):
        with pytest.raises(MissingExtraError, match=r"SimpleITK.*vol3dseg\[itk\]"):
            prepare(scan(), recipe)

    def test_predict_says_so_before_it_reads_a_case(
        self, monkeypatch, capsys, model_path, brats_folder, tmp_path
    ):
        pytest.importorskip("onnxruntime")
        monkeypatch.setattr("vol3dseg.datasets.reading.read_volume", None)
        words = ("predict", model_path, brats_folder, "-o", tmp_path / "out", "--device", "cpu")
        code, said = self.run(monkeypatch, capsys, *words)
        assert code == 1
        assert said.splitlines()[-1].endswith(self.MESSAGE)
        assert "Traceback" not in said
        assert not (tmp_path / "out").exists()

    def test_preprocess_says_so_before_it_reads_a_case(
        self, monkeypatch, capsys, recipe, brats_folder, tmp_path
    ):
        data = load_config("crops32").model_dump(mode="json")
        data["recipe"] = recipe.model_dump(mode="json")
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
        words = ("preprocess", brats_folder, "-o", tmp_path / "P", "-c", tmp_path / "c.yaml")
        code, said = self.run(monkeypatch, capsys, *words)
        assert code == 1
        assert said.splitlines()[-1].endswith(self.MESSAGE)
        assert not (tmp_path / "P").exists()

    def test_other_recipes_do_not_miss_it(self, recipe):
        plain = recipe.model_copy(update={"bias_correction": None})
        plain.require_extras()
        assert prepare(scan(), plain).volume.array.any()


def test_what_simpleitk_cannot_do_is_one_line(sitk, monkeypatch, recipe):
    def fail(self, *images):
        raise RuntimeError("Exception thrown\nITK ERROR: it went wrong ")

    monkeypatch.setattr(sitk.N4BiasFieldCorrectionImageFilter, "Execute", fail)
    with pytest.raises(IntensityError) as raised:
        prepare(scan(), recipe.select(["t1"]))
    said = str(raised.value)
    assert said.startswith("t1: N4 found no bias field (ITK ERROR: it went wrong); ")
    assert "recipe.bias_correction: null" in said


def test_info_shows_the_step(vol3dseg, model_path):
    shown = vol3dseg("info", model_path)
    (step,) = (line for line in shown.stdout.splitlines() if line.startswith("bias correction"))
    assert "n4, " in step
    document = json.loads(vol3dseg("info", model_path, "--json").stdout)
    assert document["recipe"]["bias_correction"] == SETTINGS


def test_a_known_field_is_taken_out_of_a_real_scan(sitk, shared_data):
    """What N4 makes of a scan, and of it with a field of 12 % put upon it, differs by a tenth."""
    case = find_cases(shared_data / "brats")[0]
    image = read_volume(case, ["t1"]).array[..., 0]
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in image.shape], indexing="ij")
    field, brain = np.exp(0.4 * x + 0.2 * y - 0.4 * y * z), image > 0
    assert variation(field[brain]) > 0.12
    step = N4(shrink_factor=6)
    one, other = (step.corrected(scan.astype(np.float32)) for scan in (image, image * field))
    assert variation(other[brain] / one[brain]) < 0.012
