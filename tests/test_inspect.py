"""What is measured of a case, and which cases of a set look wrong."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg import formats
from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.formats.image_file import ImageFile
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.quality.background import inside_of
from vol3dseg.quality.case_facts import measure, measure_contents, noise
from vol3dseg.quality.contents import MASK, Contents, read_contents
from vol3dseg.quality.expectations import Expectations
from vol3dseg.quality.features import exchanged, features_of, features_of_case
from vol3dseg.quality.similarity import coarse, correlations, mirrorings, ranked
from vol3dseg.quality.suspects import CERTAIN, rank
from vol3dseg.reporting.inspection.survey import survey
from vol3dseg.space.geometry import Geometry

MODALITIES = ("flair", "t1", "t1ce", "t2")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Twelve small scans with a tumour, in memory."""
    folder = tmp_path_factory.mktemp("phantoms")
    make_phantoms(folder, 12, seed=3, shape=(36, 40, 32))
    return [read_contents(case, MODALITIES, None) for case in find_cases(folder)]


@pytest.fixture(scope="module")
def good(phantoms):
    return [facts(n, contents) for n, contents in enumerate(phantoms)]


def facts(number, contents):
    return measure_contents(f"case {number:02d}", f"case {number:02d}", contents)


def cut_off(image):
    return np.minimum(image, np.percentile(image, 98))


def first_reason(good, spoilt):
    """Put a spoilt case among the good ones; return its first reason and its place."""
    verdicts = rank([*good[:-1], spoilt])
    place = [v.case_id for v in verdicts].index(spoilt.case_id)
    assert verdicts[place].reasons, "not suspect"
    return verdicts[place].reasons[0], place


def spoilt(contents, **changed):
    return facts(11, replace(contents, images={**contents.images, **changed}))


@given(st.floats(0.5, 500.0), st.integers(0, 99))
def test_noise_is_that_of_white_noise_whatever_smooth_lies_below(sigma, seed):
    rng = np.random.default_rng(seed)
    i, j, k = np.meshgrid(*map(np.arange, (20, 20, 20)), indexing="ij")
    smooth = 30 * i - 8 * j + 0.5 * i * k + j**2
    image = smooth + rng.normal(0, sigma, smooth.shape)
    assert noise(image, np.ones(image.shape, dtype=bool)) == pytest.approx(sigma, rel=0.1)


def test_noise_is_not_told_of_thin_or_tiny_bodies():
    image = np.ones((9, 9, 9))
    assert noise(image[..., :2], image[..., :2] > 0) is None
    assert noise(image, np.zeros(image.shape, dtype=bool)) is None
    assert noise(image, np.ones(image.shape, dtype=bool)) == 0.0


@pytest.mark.parametrize("factor", [0.01, 1000.0])
def test_facts_do_not_depend_on_the_scale_of_intensities(phantoms, factor):
    contents = phantoms[0]
    images = {name: (a * factor).astype(np.float32) for name, a in contents.images.items()}
    one, other = facts(0, contents), facts(0, replace(contents, images=images))
    assert one.correlations == pytest.approx(other.correlations, abs=1e-3)
    assert one.contrasts == pytest.approx(other.contrasts, abs=1e-3)
    for name in MODALITIES:
        assert one.modalities[name].noise == pytest.approx(other.modalities[name].noise, rel=1e-3)


def test_contrast_and_volume_of_a_known_case():
    image = np.arange(1, 1001, dtype=np.float32).reshape(10, 10, 10)
    classes = np.zeros(image.shape, dtype=np.uint8)
    classes[:5] = 1
    grid = Geometry(image.shape, np.diag([2.0, 1.0, 1.0, 1.0]))
    found = facts(0, Contents(grid, {"t1": image}, classes, ("core",), ()))
    assert found.contrasts == {("core", "t1"): pytest.approx(-np.sqrt(3), rel=1e-3)}
    assert found.volumes_ml == {"core": 1.0}
    assert found.foreground_ml == 1.0


@pytest.mark.parametrize(
    ("background", "inside"),
    [
        pytest.param(0.0, 875, id="zero"),
        pytest.param(-3.5, 875, id="floor of z-scores"),
        pytest.param(None, 1000, id="none"),
    ],
)
def test_inside_is_what_is_not_background(background, inside):
    image = np.random.default_rng(0).normal(5, 1, (10, 10, 10)).astype(np.float32)
    if background is not None:
        image[5:, 5:, 5:] = background
    assert np.count_nonzero(inside_of(image, "t1")) == inside


def test_coarse_keeps_small_grids_and_averages_large_ones():
    small, inside = np.ones((64, 3, 5), dtype=np.float32), np.ones((64, 3, 5), dtype=bool)
    assert coarse(small, inside)[0] is small
    large = np.repeat(np.arange(65, dtype=np.float32), 2)[:, None, None] * np.ones((1, 2, 2))
    array, mask = coarse(large, large < 60)
    assert array.shape == (43, 2, 2)
    assert array[0, 0, 0] == pytest.approx((0 + 0 + 1) / 3)
    assert mask.any()
    assert not mask.all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", MODALITIES)
def test_a_mirrored_modality_is_found_with_its_axis(name, axis, phantoms, good):
    contents = phantoms[11]
    assert all(m.gain < 0 for m in good[11].mirrorings)
    reason, place = first_reason(
        good, spoilt(contents, **{name: np.flip(contents.images[name], axis)})
    )
    assert reason.kind == "mirrored"
    assert reason.text.startswith(f"{name} looks mirrored along {'ijk'[axis]} (")
    assert place == 0


def test_a_mirrored_mask_is_found(phantoms, good):
    contents = replace(phantoms[11], classes=np.flip(phantoms[11].classes, 0))
    assert first_reason(good, facts(11, contents))[0].text.startswith(f"{MASK} looks mirrored")


def test_of_two_images_nobody_can_tell_which_is_mirrored(phantoms):
    images = {"t1": phantoms[0].images["t1"], "t2": np.flip(phantoms[0].images["t2"], 1)}
    found = rank([facts(0, replace(phantoms[0], images=images, classes=None))])[0]
    assert found.reasons[0].text.startswith("t1 or t2 looks mirrored along j")


def test_an_image_alone_or_flat_is_not_compared():
    image = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    inside = np.ones(image.shape, dtype=bool)
    assert mirrorings({"t1": ranked(image, inside)}, {"t1": inside}) == ()
    flat = {"t1": ranked(image, inside), "t2": ranked(np.full_like(image, 7), inside)}
    assert mirrorings(flat, dict.fromkeys(flat, inside)) == ()
    assert correlations(flat, dict.fromkeys(flat, inside)) == {}


@given(st.lists(st.sampled_from([-3.5, 0.0, 1.0, 7.0]), max_size=30))
def test_ranks_are_even_centred_and_one_for_equals(values):
    image = np.array([9.0, *values], dtype=np.float32)
    inside = np.arange(image.size) > 0
    ranks = ranked(image, inside)
    assert ranks[0] == 0
    assert ranks.dtype == np.float32
    assert float(ranks.sum()) == pytest.approx(0, abs=1e-4)
    assert np.abs(ranks).max() <= 0.5
    for value in set(values):
        assert np.ptp(ranks[inside & (image == value)]) == 0
    if len(set(values)) < 2:
        assert not ranks.any()


def test_images_of_two_values_are_not_alike_for_their_places():
    rng = np.random.default_rng(0)
    inside = np.ones((16, 16, 16), dtype=bool)
    images = {name: rng.integers(0, 2, inside.shape).astype(np.float32) for name in ("t1", "t2")}
    ranks = {name: ranked(image, inside) for name, image in images.items()}
    found = correlations(ranks, dict.fromkeys(images, inside))
    assert abs(found["t1", "t2"]) < 0.05


def test_a_survey_learns_what_the_guard_of_a_model_learns(good):
    """Of the same scans; masks and noise come on top."""
    of_scans = Expectations.learn([features_of(case.appearance) for case in good])
    of_cases = Expectations.learn([features_of_case(case) for case in good])
    assert {e.key for e in of_cases.features} > {e.key for e in of_scans.features}
    assert set(of_scans.features) < set(of_cases.features)


@pytest.mark.parametrize("pair", [("flair", "t1"), ("t1ce", "t2"), ("t1", "absent")])
def test_an_exchange_done_twice_changes_nothing(pair, good):
    features = features_of_case(good[0])
    once = exchanged(features, *pair)
    assert once != features
    assert exchanged(once, *pair) == features


@pytest.mark.parametrize("pair", [("flair", "t1"), ("t1", "t2"), ("flair", "t1ce")])
def test_swapped_modalities_are_found(pair, phantoms, good):
    contents = phantoms[11]
    first, second = pair
    images = {first: contents.images[second], second: contents.images[first]}
    reason, place = first_reason(good, spoilt(contents, **images))
    assert reason.kind == "swapped"
    assert reason.text.startswith(f"{first} and {second} look swapped")
    assert place == 0


def test_a_modality_that_is_missing_is_not_swapped(phantoms, good):
    images = {name: a for name, a in phantoms[11].images.items() if name != "t1"}
    t2 = images["t2"]
    images["t2"] = np.where(t2 > 0, t2.max() + 1 - t2, 0).astype(np.float32)
    reasons = rank([*good[:-1], facts(11, replace(phantoms[11], images=images))])[0].reasons
    assert reasons
    for reason in reasons:
        assert reason.kind != "swapped" or "t1 " not in reason.text


def test_noise_is_found_and_not_taken_for_a_swap(phantoms, good):
    image = phantoms[11].images["t2"]
    added = np.random.default_rng(1).normal(0, image.std(), image.shape) * (image > 0)
    reason, place = first_reason(good, spoilt(phantoms[11], t2=(image + added).astype(np.float32)))
    assert reason.kind == "noise"
    assert reason.text.startswith("t2 is unusually noisy: noise is ")
    assert place == 0


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        pytest.param(
            lambda c: replace(c, classes=np.zeros_like(c.classes)),
            "empty mask", "the mask is empty", id="empty mask",
        ),
        pytest.param(
            lambda c: replace(c, images={**c.images, "t2": np.zeros_like(c.images["t2"])}),
            "flat", "t2 is flat: all voxels have one value", id="zeros",
        ),
        pytest.param(
            lambda c: replace(c, images={**c.images, "t2": np.full_like(c.images["t2"], 7)}),
            "flat", "t2 is flat", id="constant",
        ),
        pytest.param(
            lambda c: replace(c, images={**c.images, "t2": 7 * np.float32(c.images["t2"] > 0)}),
            "flat", "t2 is flat: all voxels inside have one value", id="constant inside",
        ),
        pytest.param(
            lambda c: replace(c, images={**c.images, "t1": cut_off(c.images["t1"])}),
            "clipped", "t1 looks clipped: ", id="clipped",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_by_itself_is_found_in_a_single_case(change, kind, words, phantoms):
    (verdict,) = rank([facts(0, change(phantoms[0]))])
    assert verdict.reasons[0].kind == kind
    assert verdict.reasons[0].text.startswith(words)
    assert verdict.score >= 1


def test_a_good_case_alone_is_not_suspect(good):
    assert [v.reasons for v in rank(good[:1])] == [()]
    assert rank([]) == []


def test_one_of_eight_cases_does_not_widen_what_is_usual(good):
    """Seven cases have a noise of 0.03 to 0.07, and one of 0.35."""
    levels = (0.03, 0.04, 0.05, 0.06, 0.07, 0.05, 0.04, 0.35)
    cases = [with_modality(case, noise=v) for case, v in zip(good[:8], levels, strict=True)]
    noisy = [v.case_id for v in rank(cases) if any(r.kind == "noise" for r in v.reasons)]
    assert noisy == ["case 07"]


def on_grid(case, grid):
    lengths = tuple(n * mm for n, mm in zip(grid.shape, grid.spacing_mm, strict=True))
    case = with_appearance(case, spacing_mm=grid.spacing_mm, size_mm=lengths)
    return replace(case, geometry=grid)


def scaled_grid(case, factors):
    grid = case.geometry
    return on_grid(case, Geometry(grid.shape, grid.affine @ np.diag([*factors, 1.0])))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        pytest.param(
            lambda c: scaled_grid(c, (1, 1, 3)), "spacing",
            "the inferior-superior voxel spacing is unusually coarse: 6 mm, typically 2 mm",
            id="spacing",
        ),
        pytest.param(
            lambda c: on_grid(c, Geometry((400, 400, 400), c.geometry.affine)), "size",
            " field of view is unusually large: ", id="shape",
        ),
        pytest.param(
            lambda c: replace(c, volumes_ml={n: v * 1e-4 for n, v in c.volumes_ml.items()}),
            "volume", " is unusually small: ", id="volume",
        ),
        pytest.param(
            lambda c: replace(c, volumes_ml={**c.volumes_ml, "value 4": 0.0}), "missing class",
            "the mask has no value 4; 11 of 12 cases have it", id="missing class",
        ),
        pytest.param(
            lambda c: replace(c, contrasts={**c.contrasts, ("value 2", "flair"): -4.0}),
            "contrast",
            "value 2 is unusually dark in flair: -4.0 standard deviations from the other tissue, ",
            id="contrast",
        ),
        pytest.param(
            lambda c: with_correlation(c, ("t1", "t1ce"), -0.9), "correlation",
            "t1 and t1ce are unusually dissimilar: their intensities correlate at -0.90, typically",
            id="correlation",
        ),
        pytest.param(
            lambda c: with_quantiles(c, 0, 1e5, 3e5, 4e5, 5e5, 8e8, 1e9), "scale",
            "t1 has an unusually wide range of intensities: 1e+09 from percentile 1 to 99, ",
            id="scale",
        ),
        pytest.param(
            lambda c: with_quantiles(c, *(1e9 + 1e6 * np.array([0, 0.1, 0.3, 0.4, 0.5, 0.8, 1]))),
            "scale", "t1 has an unusually wide range of intensities: 1e+06 from percentile 1 to 99",
            id="scale and level",
        ),
        pytest.param(
            lambda c: with_quantiles(c, 100, 200, 300, 100, 700, 800, 900), "median",
            "the median of t1 lies unusually low in its range: at 0.00, typically ", id="median",
        ),
    ],
)  # fmt: skip
def test_what_is_unusual_is_said_in_words(change, kind, words, good):
    even = [on_grid(c, Geometry((36, 36, 36), np.diag([2.0, 2, 2, 1]))) for c in good]
    verdict = next(v for v in rank([*even[:-1], change(even[-1])]) if v.case_id == "case 11")
    assert any(r.kind == kind and words in r.text for r in verdict.reasons), verdict.reasons


def with_appearance(case, **changed):
    return replace(case, appearance=case.appearance.model_copy(update=changed))


def with_quantiles(case, *quantiles):
    known = case.appearance.modalities
    t1 = known["t1"].model_copy(update={"quantiles": quantiles})
    return with_appearance(case, modalities={**known, "t1": t1})


def with_correlation(case, names, value):
    pairs = [
        pair.model_copy(update={"correlation": value}) if pair.names == names else pair
        for pair in case.appearance.pairs
    ]
    return with_appearance(case, pairs=tuple(pairs))


def with_modality(case, **changed):
    modalities = {**case.modalities, "t1": replace(case.modalities["t1"], **changed)}
    return replace(case, modalities=modalities)


def test_the_one_that_runs_otherwise_is_named(good):
    grid = Geometry((36, 36, 36), np.diag([2.0, 2, 2, 1]))
    turned = Geometry(grid.shape, np.diag([-2.0, -2, 2, 1]))
    cases = [replace(c, geometry=turned if n == 5 else grid) for n, c in enumerate(good)]
    verdict = rank(cases)[0]
    assert verdict.case_id == "case 05"
    assert verdict.reasons[0].text == "the axes run LPS; in 11 of 12 cases they run RAS"


def test_the_ranking_does_not_depend_on_the_order_of_cases(good):
    one = rank([scaled_grid(good[0], (2, 2, 2)), *good[1:]])
    assert rank([*good[1:], scaled_grid(good[0], (2, 2, 2))]) == one
    assert sorted(v.case_id for v in one) == [c.case_id for c in good]
    scores = [v.score for v in one]
    assert scores == sorted(scores, reverse=True)


def broken(folder, spoil):
    """Spoil Case_002 in place; return what is measured of it."""
    spoil(folder / "Case_002", *formats.read_image(folder / "Case_002" / "Case_002_t1.nii.gz"))
    (case,) = (c for c in find_cases(folder) if c.id == "Case_002")
    return measure(case, ("flair", "t1"), load_config("brats2020").labels)


def shifted(grid):
    affine = grid.affine.copy()
    affine[:3, 3] += 5
    return Geometry(grid.shape, affine)


T1, SEG = "Case_002_t1.nii.gz", "Case_002_seg.nii.gz"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            lambda f, a, g: (f / T1).unlink(),
            "case Case_002: modality t1 is missing; found flair; expected t1; add the file, or",
            id="missing",
        ),
        pytest.param(
            lambda f, a, g: (f / T1).write_bytes(b"\x1f\x8b\x08\x00"), "truncated", id="truncated"
        ),
        pytest.param(
            lambda f, a, g: nifti.write(f / T1, np.where(a > 0, np.nan, 0.0), g), "NaN", id="NaN"
        ),
        pytest.param(
            lambda f, a, g: nifti.write(f / T1, a, shifted(g)),
            "case Case_002: flair and t1 lie on different grids: ", id="grid",
        ),
        pytest.param(
            lambda f, a, g: nifti.write(f / SEG, (a > 0).astype(np.uint8), shifted(g)),
            "case Case_002: flair and label lie on different grids: ", id="grid of the mask",
        ),
        pytest.param(
            lambda f, a, g: nifti.write(f / SEG, 7 * (a > 0).astype(np.uint8), g),
            "label values 7 (", id="unknown label",
        ),
    ],
)  # fmt: skip
def test_a_case_with_bad_files_is_certainly_suspect(spoil, words, brats_folder):
    found = broken(brats_folder, spoil)
    (verdict,) = rank([found])
    assert verdict.score == CERTAIN
    assert verdict.reasons[0].kind == "files"
    assert words in verdict.reasons[0].text
    assert found.modalities, "what can be read is measured all the same"


@pytest.mark.parametrize("name", [T1, SEG])
def test_grids_of_another_place_are_told_apart(name, brats_folder):
    """Shape, spacing and axes are the same: the text must say what differs."""

    def spoil(folder, array, grid):
        nifti.write(folder / name, (array > 0).astype(np.uint8), shifted(grid))

    (problem,) = broken(brats_folder, spoil).problems
    grid = formats.read_image(brats_folder / "Case_002" / "Case_002_flair.nii.gz")[1]
    for words in (f"{name} has {shifted(grid).placed()}; ", f"flair.nii.gz has {grid.placed()}, "):
        assert words in problem
    assert "; expected one grid; bring " in problem
    assert problem.endswith("mend the header")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param(np.linspace(0, 1, 8640), "which is not a whole number", id="fractions"),
        pytest.param(
            np.arange(8640),
            "holds 8639 values; expected 1 to 254 besides the background; give a label map, if ",
            id="image",
        ),
        pytest.param(np.full(8640, np.nan), "holds NaN", id="NaN"),
    ],
)
def test_without_a_config_labels_must_look_like_labels(values, words, brats_folder):
    def spoil(folder, array, grid):
        image = values.astype(np.float32).reshape(array.shape)
        nifti.write(folder / SEG, image, grid)

    broken(brats_folder, spoil)
    (case,) = (c for c in find_cases(brats_folder) if c.id == "Case_002")
    assert words in measure(case, ("t1",)).problems[0]


def test_classes_are_named_by_value_or_by_the_config(brats_folder):
    case = find_cases(brats_folder)[0]
    plain = measure(case, ("t1",))
    named = measure(case, ("t1",), load_config("brats2020").labels)
    assert list(plain.volumes_ml) == ["value 1", "value 2", "value 4"]
    assert list(named.volumes_ml) == ["necrotic core", "edema", "enhancing"]
    assert list(plain.volumes_ml.values()) == list(named.volumes_ml.values())


def test_rounding_errors_of_labels_are_forgiven_with_and_without_a_config(brats_folder):
    path = brats_folder / "Case_002" / SEG
    values, grid = formats.open_volume(path).labels()
    plain = measure(find_cases(brats_folder)[1], ("t1",))
    nifti.write(path, values.astype(np.float32) * np.float32(1 + 1e-6), grid)
    for labels in (None, load_config("brats2020").labels):
        found = measure(find_cases(brats_folder)[1], ("t1",), labels)
        assert found.problems == ()
        assert list(found.volumes_ml.values()) == list(plain.volumes_ml.values())


def test_as_many_classes_as_a_byte_holds(brats_folder):
    path = brats_folder / "Case_002" / SEG
    grid = formats.open_volume(path).labels()[1]
    nifti.write(path, np.minimum(np.arange(8640), 254).astype(np.int16).reshape(grid.shape), grid)
    found = measure(find_cases(brats_folder)[1], ("t1",))
    assert found.problems == ()
    assert len(found.volumes_ml) == 254
    assert min(found.volumes_ml.values()) > 0


def test_a_case_without_an_image_is_a_suspect_and_has_volumes(brats_folder):
    plain = measure(find_cases(brats_folder)[0], ("t1",))
    for path in brats_folder.rglob("*.nii.gz"):
        if not path.name.endswith("_seg.nii.gz"):
            path.unlink()
    found = survey(find_cases(brats_folder))
    assert [verdict.reasons[0].text for verdict in found.verdicts] == [
        f"case Case_00{n}: no image; found Case_00{n}_seg.nii.gz; add the scans" for n in (1, 2, 3)
    ]
    assert found.cases[0].volumes_ml == plain.volumes_ml
    assert found.cases[0].geometry.fits(plain.geometry)


def test_a_mask_counts_where_all_images_are_damaged(brats_folder):
    for path in (brats_folder / "Case_001").iterdir():
        if not path.name.endswith("_seg.nii.gz"):
            path.write_bytes(b"")
    found = measure(find_cases(brats_folder)[0], ("flair", "t1"))
    assert len(found.problems) == 2
    assert found.foreground_ml > 0


def test_a_file_of_several_modalities_is_unpacked_once(tmp_path, monkeypatch):
    grid = Geometry((6, 7, 8), np.eye(4))
    array = np.random.default_rng(0).normal(5, 1, (*grid.shape, 3)).astype(np.float32)
    array[0, 0, 0, 1] = np.nan
    nifti.write(tmp_path / "x.nii.gz", array, grid)
    names = ("a", "b", "c")
    images = {name: ImageSource(tmp_path / "x.nii.gz", n) for n, name in enumerate(names)}
    opened, unpack = [], ImageFile._voxels
    monkeypatch.setattr(ImageFile, "_voxels", lambda file: opened.append(file.path) or unpack(file))
    found = measure(Case("x", "x", images), names)
    assert len(opened) == 1
    assert list(found.modalities) == ["a", "c"]
    assert "1 voxels are NaN" in found.problems[0]


def test_a_damaged_file_of_several_modalities_is_named_once(tmp_path):
    (tmp_path / "x.nii").write_bytes(b"")
    images = {name: ImageSource(tmp_path / "x.nii", n) for n, name in enumerate("ab")}
    assert len(measure(Case("x", "x", images), ("a", "b")).problems) == 1


def test_who_lacks_a_required_class_is_left_out_with_the_reason(brats_folder):
    path = brats_folder / "Case_002" / SEG
    values, grid = formats.open_volume(path).labels()
    nifti.write(path, np.where(values == 4, 2, values).astype(np.uint8), grid)
    labels = load_config("brats2020").labels
    found = survey(find_cases(brats_folder), ("t1",), labels)
    assert found.left_out == {"Case_002": "lacks the required class enhancing"}
    everyone = labels.model_copy(update={"required": ()})
    assert survey(find_cases(brats_folder), ("t1",), everyone).left_out == {}


def test_side_by_side_equals_one_by_one(brats_folder):
    cases = find_cases(brats_folder)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert str(survey(cases, executor=pool)) == str(survey(cases))


def test_of_many_reasons_the_worst_are_told_and_the_others_counted():
    problems = tuple(f"file {n} is damaged" for n in range(8))
    image = np.random.default_rng(0).normal(9, 1, (12, 12, 12)).astype(np.float32)
    grid = Geometry(image.shape, np.eye(4))
    case = facts(0, Contents(grid, {"t1": image}, None, (), problems))
    (verdict,) = rank([case])
    assert [reason.kind for reason in verdict.reasons] == ["files"] * 5 + ["more"]
    assert verdict.reasons[-1].text == "and 3 more reasons of no higher score"
