"""The command and its page, opened in a browser without a network."""

import csv
import io
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("PIL")

from click.testing import CliRunner
from PIL import Image

from vol3dseg import formats
from vol3dseg.cli.inspect import inspect as command
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import MissingExtraError, OutputError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.quality.case_facts import measure
from vol3dseg.quality.contents import Contents
from vol3dseg.quality.suspects import rank
from vol3dseg.reporting.figures import COLOURS
from vol3dseg.reporting.inspection.inspection_page import page
from vol3dseg.reporting.inspection.inspection_report import inspect
from vol3dseg.reporting.inspection.overview import _middle, plain
from vol3dseg.reporting.inspection.survey import Gallery, Survey, survey
from vol3dseg.reporting.inspection.thumbnails import colour_of, draw_contents, require_pillow
from vol3dseg.space.geometry import Geometry

HOSTILE = "<img src=x onerror=alert(1)>_001"


def press(path, script):
    """Add a script that acts as a user does; return the new page."""
    text = path.read_text("utf-8")
    acted = path.with_name(f"acted-{path.name}")
    acted.write_text(text.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    return acted


def many(brats_folder, count):
    """Return a survey of so many cases that differ a little, and pictures of one of them."""
    first = find_cases(brats_folder)[0]
    known = measure(first, ("flair", "t1"))
    rng = np.random.default_rng(0)
    cases = tuple(
        replace(
            known,
            case_id=f"case-{n:04d}",
            volumes_ml={c: v * rng.lognormal(0, 0.1) for c, v in known.volumes_ml.items()},
        )
        for n in range(count)
    )
    return Survey(
        title="many",
        layout="BraTS",
        cases=cases,
        verdicts=tuple(rank(cases)),
        left_out={"case-0007": "lacks the required class core"},
        required=("core",),
        modalities=("flair", "t1"),
        classes=("value 1", "value 2", "value 4"),
    )


def test_the_page_opens_offline_and_shows_everything(browse, brats_folder, tmp_path):
    found = inspect(brats_folder, tmp_path / "out", sample=2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".vol3dseg-files", "cases.csv", "index.html", "suspects.json",
    ]  # fmt: skip
    dom, console = browse(tmp_path / "out" / "index.html")
    assert not console
    assert "cases 1 to 3 of 3, page 1 of 1" in dom
    assert dom.count('<article class="case">') == len(found.verdicts) == 3
    assert dom.count('src="data:image/webp;base64,') == 2 + 2 * 2  # the example and the sample
    assert dom.count("No picture: not among those drawn.</p>") == 1
    assert "24 × 20 × 18" in dom
    assert "With fewer than 8 cases" in dom


def test_the_command_says_what_was_found(brats_folder, tmp_path):
    (brats_folder / "Case_003" / "Case_003_t1.nii.gz").unlink()
    out = tmp_path / "out"
    done = CliRunner().invoke(command, [str(brats_folder), "-o", str(out), "-j", "1"])
    assert done.exit_code == 0
    assert "Case_003" in done.output
    assert "\nWith fewer than 8 cases there is nothing to compare: " in done.output
    assert done.output.endswith(f"\n3 cases, 1 suspect, 0 left out -> {out / 'index.html'}\n")


def test_worker_processes_and_one_case(brats_folder, tmp_path):
    for number in (2, 3):
        found = inspect(brats_folder, tmp_path / "out", sample=2, workers=2)
        assert len(found.verdicts) == 5 - number
        shutil.rmtree(brats_folder / f"Case_00{number}")
    arguments = [str(brats_folder), "-o", str(tmp_path / "out"), "--sample", "2", "-j", "2"]
    assert "\n1 case, 0 suspect" in CliRunner().invoke(command, arguments).output


def test_a_place_that_cannot_be_written_is_found_before_the_first_case(
    brats_folder, tmp_path, monkeypatch
):
    from vol3dseg.reporting.inspection import survey as module

    monkeypatch.setattr(module, "measure", None)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file: cannot be written .*; expected a writable place"):
        inspect(brats_folder, tmp_path / "file", sample=2)


def test_a_mask_that_cannot_be_used_is_not_called_absent(browse, brats_folder, tmp_path):
    (brats_folder / "Case_001" / "Case_001_seg.nii.gz").write_bytes(b"")
    found = survey(find_cases(brats_folder))
    (tmp_path / "index.html").write_text(page(found, Gallery((), {})), "utf-8")
    dom, _ = browse(tmp_path / "index.html")
    assert dom.count("No label map, or none that can be used.</p>") == 1


def test_files_named_in_reasons_are_text(browse, brats_folder, tmp_path):
    target = brats_folder / HOSTILE
    target.mkdir()
    shutil.copy(brats_folder / "Case_001" / "Case_001_seg.nii.gz", target / f"{HOSTILE}_seg.nii.gz")
    inspect(brats_folder, tmp_path, sample=0)
    dom, console = browse(tmp_path / "index.html")
    assert not console
    assert "<img src=x" not in dom.lower()
    assert "no image; found &lt;img src=x onerror=alert(1)&gt;_001_seg.nii.gz" in dom


def test_hostile_names_are_text(browse, brats_folder, tmp_path):
    target = brats_folder / HOSTILE
    target.mkdir()
    for path in (brats_folder / "Case_001").iterdir():
        shutil.copy(path, target / path.name)
    (target / "Case_001_t1.nii.gz").write_bytes(b"")
    inspect(brats_folder, tmp_path, "brats2020", sample=9)
    dom, console = browse(tmp_path / "index.html")
    assert not console
    assert "<img src=x" not in dom.lower()
    assert "&lt;img src=x onerror=alert(1)&gt;_001" in dom
    record = json.loads((tmp_path / "suspects.json").read_text("utf-8"))
    assert HOSTILE in [each["case"] for each in record["suspects"]]


def test_thousands_of_cases_are_paged_and_searched(browse, brats_folder, tmp_path):
    found = many(brats_folder, 3000)
    path = tmp_path / "index.html"
    path.write_text(page(found, Gallery((), {})), "utf-8")
    assert path.stat().st_size < 8e6
    dom, console = browse(path)
    assert not console
    assert "cases 1 to 20 of 3000, page 1 of 150" in dom
    assert dom.count("<article") == 20
    dom, _ = browse(press(path, 'document.getElementById("next").click()'))
    assert "cases 21 to 40 of 3000, page 2 of 150" in dom
    dom, _ = browse(press(path, 'document.getElementById("last").click()'))
    assert "cases 2981 to 3000 of 3000, page 150 of 150" in dom
    typed = (
        'const s = document.getElementById("search"); s.value = "CASE-012";'
        's.dispatchEvent(new Event("input"))'
    )
    dom, _ = browse(press(path, typed))
    assert "cases 1 to 10 of 10, page 1 of 1" in dom
    assert dom.count("<h3>case-012") == 10


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("all", "cases 1 to 20 of 30, page 1 of 2"),
        ("left_out", "cases 1 to 1 of 1, page 1 of 1"),
        ("suspects", "no case fits"),
        ("drawn", "no case fits"),
    ],
)
def test_the_list_can_be_narrowed(kind, status, browse, brats_folder, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(page(many(brats_folder, 30), Gallery((), {})), "utf-8")
    chosen = (
        f'const k = document.getElementById("kind"); k.value = "{kind}";'
        'k.dispatchEvent(new Event("change"))'
    )
    dom, console = browse(press(path, chosen))
    assert not console
    assert status in dom


def test_programs_get_one_row_for_each_case(brats_folder, tmp_path):
    inspect(brats_folder, tmp_path, "brats2020", sample=0)
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["Case_001", "Case_002", "Case_003"]
    assert {row["voxels_i"] for row in rows} == {"24"}
    assert all(float(row["enhancing_ml"]) > 0 for row in rows)
    assert all("modality t1ce is missing" in row["reasons"] for row in rows)


def test_suspects_are_drawn_and_no_more_than_the_sample_besides(brats_folder):
    found = many(brats_folder, 30)
    assert len(found.drawn(7)) == 7
    broken = replace(found.cases[3], problems=("cut off",))
    cases = (*found.cases[:3], broken, *found.cases[4:])
    assert len(replace(found, cases=cases, verdicts=tuple(rank(cases))).drawn(7)) == 8


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 2, 1]), np.diag([-1.0, -1, 2, 1])])
def test_pictures_are_radiological_whatever_the_axes(affine):
    grid = Geometry((40, 40, 20), affine)
    image = np.full(grid.shape, 10.0, dtype=np.float32)
    classes = np.zeros(grid.shape, dtype=np.uint8)
    at = np.array(grid.shape) // 2
    world = np.sign(np.diag(affine)[:3])
    right_front_top = tuple((at + world * (np.array(grid.shape) // 4)).astype(int))
    place = tuple(slice(p - 3, p + 4) for p in right_front_top)
    image[place], classes[place] = 100.0, 1
    image += np.random.default_rng(0).uniform(0, 1, grid.shape).astype(np.float32)
    modalities, masks = draw_contents(
        Contents(grid, {"t1": image}, classes, ("core",), ()), ("core",), {}, side=80
    )
    assert modalities.captions == ("t1",)
    assert masks.captions[0].startswith("axial ")
    bright = np.argwhere(pixels(modalities)[..., 0] > 200).mean(axis=0)
    assert bright[0] < 35  # front is up
    assert 8 < bright[1] < 35  # the subject's right is left
    orange = pixels(masks)
    found = (orange[..., 0] - orange[..., 2] > 60) & (orange[..., 0] > 150)
    columns = np.argwhere(found)[:, 1]
    for panel in range(3):  # each plane shows the class on the left: right, right, front
        inside = columns[(columns >= 84 * panel) & (columns < 84 * panel + 80)] - 84 * panel
        assert inside.size
        assert inside.mean() < 38


def test_thick_slices_keep_their_proportions():
    grid = Geometry((40, 40, 10), np.diag([1.0, 1, 4, 1]))
    image = np.random.default_rng(0).uniform(50, 100, grid.shape).astype(np.float32)
    picture = draw_contents(Contents(grid, {"t1": image}, None, (), ()), (), {}, side=80)[1]
    coronal = pixels(picture)[:, 84:164].sum(axis=2) > 30
    assert np.flatnonzero(coronal.any(axis=1)).size >= 78  # 40 mm high, as it is wide
    assert "without a mask" in picture.alternative


def test_classes_have_the_colours_that_other_pictures_give_them(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.colors", None)
    first = [colour_of(number) for number in range(2 * len(COLOURS))]
    assert first[: len(COLOURS)] == [colour.lower() for colour in COLOURS]
    assert len(set(first)) == len(first)
    assert first[len(COLOURS)] == "#eaae80"  # half way from the first to white


def test_without_pillow_the_remedy_is_named(monkeypatch, brats_folder, tmp_path):
    import sys

    monkeypatch.delitem(sys.modules, "PIL.Image")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vol3dseg\[report\]'"):
        require_pillow()
    with pytest.raises(MissingExtraError):
        inspect(brats_folder, tmp_path / "out", sample=0)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (1440.4, "1,440"), (-2563, "-2,563")],
)
def test_numbers_are_plain(value, text):
    assert plain(value) == text


@pytest.mark.parametrize("seed", [0, 1])
def test_four_planted_cases_are_among_the_first_six(seed, shared_data, browse, tmp_path):
    cases = find_cases(shared_data / "brats20-crops")
    rng = np.random.default_rng(seed)
    chosen = [cases[n] for n in rng.choice(len(cases), 40, replace=False)]
    for case in chosen:
        shutil.copytree(case.label.parent, tmp_path / "set" / case.id)
    swap, noisy, mirror, empty = (case.id for case in chosen[:4])

    def change(case_id, modality, function):
        path = next((tmp_path / "set" / case_id).glob(f"*_{modality}.nii.gz"))
        array, grid = formats.read_image(path)
        path.unlink()  # of the data set, and nothing that may be replaced
        nifti.write(path, np.rint(function(array)).astype(np.int16), grid)
        return array

    t1 = change(swap, "t1", lambda a: a)
    flair = change(swap, "flair", lambda a: t1)
    change(swap, "t1", lambda a: flair)
    change(noisy, "t2", lambda a: a + rng.normal(0, 0.7 * a.std(), a.shape))
    change(mirror, "t1ce", lambda a: np.flip(a, 0))
    change(empty, "seg", lambda a: 0 * a)
    inspect(tmp_path / "set", tmp_path / "out", "crops32", sample=5)
    record = json.loads((tmp_path / "out" / "suspects.json").read_text("utf-8"))
    first = {each["case"]: each["reasons"][0]["text"] for each in record["suspects"][:6]}
    assert first[swap].startswith("flair and t1 look swapped")
    assert first[noisy].startswith("t2 is unusually noisy: noise is ")
    assert first[mirror].startswith("t1ce looks mirrored along i (left-right)")
    assert first[empty] == "the mask is empty"
    assert not browse(tmp_path / "out" / "index.html")[1]


@pytest.mark.parametrize("name", [pytest.param("brats", marks=pytest.mark.slow), "hippocampus"])
def test_real_sets_open_without_a_message(name, shared_data, browse, tmp_path):
    source = shared_data / name
    if name == "hippocampus":  # every eighth case is enough
        source = tmp_path / "some"
        whole = json.loads((shared_data / name / "dataset.json").read_text())
        whole["training"], whole["test"] = whole["training"][::8], []
        for entry in whole["training"]:
            for path in entry.values():
                (source / path).parent.mkdir(parents=True, exist_ok=True)
                (source / path).symlink_to((shared_data / name / path).resolve())
        (source / "dataset.json").write_text(json.dumps(whole))
    found = inspect(source, tmp_path / "out", sample=3)
    assert not found.suspects
    dom, console = browse(tmp_path / "out" / "index.html")
    assert not console
    assert "<article" in dom


def test_a_mean_over_fewer_cases_says_so():
    assert _middle([1.0, None, 3.0]).endswith("; 2 of 3)")
    assert _middle([1.0, 3.0]).endswith("2.90)")
    assert _middle([None]) == "–"


def test_what_is_noted_of_files_is_said(tmp_path, vol3dseg):
    """An axis of one volume is harmless: it is no reason for suspicion, and not kept quiet."""
    grid = Geometry((12, 12, 12), np.eye(4))
    for name in ("a", "b"):
        image = np.random.default_rng(0).uniform(1, 2, (*grid.shape, 1)).astype(np.float32)
        path = tmp_path / "D" / name / f"{name}_t1.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image, np.eye(4)), path)
    done = vol3dseg("inspect", tmp_path / "D", "-o", tmp_path / "I")
    note = "2 of 2 cases (a, b): t1: has 4 axes, "
    assert f"note: {note}" in done.stdout
    assert json.loads((tmp_path / "I" / "suspects.json").read_text())["notes"][0].startswith(note)
    assert "0 suspect" in done.stdout
    assert "t1: has 4 axes" in (tmp_path / "I" / "cases.csv").read_text()
