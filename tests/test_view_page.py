"""The page of `view`, in headless Chromium with WebGL in software."""

import io

import numpy as np
import pytest

from tests.test_view import served
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.formats import read_image, read_labels
from vol3dseg.formats.nifti import nifti_file
from vol3dseg.inference.record import CaseRecord
from vol3dseg.space.geometry import Geometry

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
Image = pytest.importorskip("PIL.Image", reason="Pillow reads the pictures")

COLOURS = {"necrotic core": (213, 94, 0), "edema": (86, 180, 233), "enhancing": (240, 228, 66)}
SHAPE = np.array((24, 20, 18))


@pytest.fixture(scope="module")
def browser(chromium):
    webgl = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", *webgl])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folders(shared_brats_folder, tmp_path_factory, labels, manifest_of, recipe):
    """A data set of three cases, and predictions of them: the core is missed in the first."""
    from vol3dseg.inference.prediction import Origin
    from vol3dseg.inference.record import Record

    folder, made = tmp_path_factory.mktemp("page") / "predictions", {}
    for number, case in enumerate(find_cases(shared_brats_folder)):
        array, grid = read_image(case.label)
        array[(array == 1) & (number == 0)] = 2
        nifti_file.write(folder / f"{case.id}.nii.gz", array.astype(np.uint8), grid)
        made[case.id] = CaseRecord(file=f"{case.id}.nii.gz")
    origin = Origin("nothing", "0" * 64, "nothing")
    Record.of(manifest_of(recipe, labels), origin).with_cases(made).save(folder)
    return shared_brats_folder, folder


@pytest.fixture(scope="module")
def server(folders):
    with served([folders[0]], folders[1]) as server:
        yield server


class Page:
    """A page, with what it asked for and what it complained of."""

    def __init__(self, browser, server, fragment="", **options):
        self.at = browser.new_page(viewport={"width": 900, "height": 700}, **options)
        self.strangers, self.complaints = [], []
        self.at.route("**/*", lambda route: self._only(route, server.url))
        self.at.on("console", lambda message: self.complaints.append(message.text))
        self.at.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.at.goto(server.url + fragment)
        self.wait()

    def _only(self, route, url):
        if route.request.url.startswith((url, "data:", "blob:")):
            return route.continue_()
        self.strangers.append(route.request.url)
        return route.abort()

    def wait(self):
        self.at.wait_for_selector("body[data-state=ready]", timeout=60_000)

    def values(self):
        """What stands under the crosshair, by image and map."""
        rows = self.at.locator("#values tr").all()
        return dict([cell.inner_text() for cell in row.locator("td").all()] for row in rows)

    def mm(self):
        return [float(each) for each in self.at.input_value("#mm").split(",")]

    def opacity(self, **shares):
        for name, share in shares.items():
            self.at.locator(f"#{name}").fill(str(share))

    def picture(self, canvas=None):
        """A canvas as it is seen, (y, x, 3)."""
        content = (canvas or self.at.locator("canvas")).screenshot()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)

    def seen(self, colour, canvas=None):
        """How many pixels have a colour, give or take what blending rounds."""
        return int((np.abs(self.picture(canvas) - colour).max(axis=-1) < 12).sum())

    def coloured(self):
        """How many pixels are not grey."""
        return int((np.ptp(self.picture(), axis=-1) > 12).sum())


@pytest.fixture
def page(browser, server):
    page = Page(browser, server)
    yield page
    page.at.close()
    assert not page.strangers
    assert not page.complaints


def choose(page, layout):
    page.at.get_by_role("button", name=layout, exact=True).click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_whole_and_without_a_word(scheme, browser, server, labels):
    page = Page(browser, server, color_scheme=scheme)
    assert set(page.values()) == {"flair", "t1", "prediction", "reference"}
    assert page.at.locator("#classes li").all_inner_texts() == list(labels.foreground)
    assert not page.at.locator("#problems li").count()
    paper = page.at.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]
    assert (page.picture() > 100).mean() > 0.05  # something is drawn
    page.at.close()
    assert not page.strangers
    assert not page.complaints


def test_a_click_moves_the_crosshair_to_where_it_points(page, folders):
    """In mm, from the right to the left of the subject, on a grid whose i and j run backwards."""
    choose(page, "axial")
    case = find_cases(folders[0])[0]
    array, grid = read_image(case.images["t1"].path)
    middle = (grid.affine @ [*((SHAPE - 1) / 2), 1])[:3]
    height = page.mm()[2]
    box = page.at.locator("canvas").bounding_box()
    scale = min(box["width"] / SHAPE[0], box["height"] / SHAPE[1])
    for right, front in ((4.7, 3.2), (-4.3, -2.7), (0.4, 6.2)):
        x, y = box["width"] / 2 - right * scale, box["height"] / 2 - front * scale
        page.at.locator("canvas").click(position={"x": x, "y": y})
        found = page.mm()
        np.testing.assert_allclose(found[:2], (middle[0] + right, middle[1] + front), atol=0.2)
        assert found[2] == height
        i, j, k = np.rint(np.linalg.inv(grid.affine) @ [*found, 1])[:3].astype(int)
        assert float(page.values()["t1"]) == array[i, j, k]
        mm = ",".join(f"{each:.1f}" for each in found)
        assert page.at.url.endswith(f"#case={case.id}&mm={mm}")


def test_classes_are_drawn_where_they_are_and_as_strong_as_is_asked(page, folders):
    """Colours at full opacity are those of all our pictures; at none there is only grey."""
    choose(page, "axial")
    page.opacity(prediction=1, reference=0)
    assert page.seen(COLOURS["edema"]) > 1000
    assert page.seen(COLOURS["enhancing"]) > 1000
    assert page.seen(COLOURS["necrotic core"]) == 0  # missed in this case
    page.opacity(prediction=0, reference=1)
    assert page.seen(COLOURS["necrotic core"]) > 500
    page.opacity(reference=0)
    assert page.coloured() == 0
    page.opacity(prediction=0.5)
    assert page.seen(COLOURS["edema"]) == 0
    assert page.coloured() > 1000


def test_a_class_is_drawn_over_its_own_voxels(page, folders):
    choose(page, "axial")
    page.opacity(prediction=0, reference=1)
    case = find_cases(folders[0])[0]
    values, grid = read_image(case.label)
    box = page.at.locator("canvas").bounding_box()
    scale = min(box["width"] / SHAPE[0], box["height"] / SHAPE[1])
    page.at.locator("#mm").fill(",".join(map(str, (grid.affine @ [1, 1, 9, 1])[:3])))
    page.at.locator("#mm").press("Enter")  # the crosshair away from what is looked at
    picture = page.picture()
    names = {0: None, 1: "necrotic core", 2: "edema", 4: "enhancing"}
    checked = set()
    for i, j in np.ndindex(24, 20):
        if min(i, j) < 3:  # the crosshair
            continue
        # i and j grow to the left and to the back; the subject's left is on the right.
        x = box["width"] / 2 + (i - (SHAPE[0] - 1) / 2) * scale
        y = box["height"] / 2 + (j - (SHAPE[1] - 1) / 2) * scale
        pixel, name = picture[int(y), int(x)], names[int(values[i, j, 9])]
        checked.add(name)
        if name is None:
            assert np.ptp(pixel) < 12, (i, j)
        else:
            assert np.abs(pixel - COLOURS[name]).max() < 12, (i, j)
    assert checked == set(names.values())


def test_the_names_of_classes_are_told_under_the_crosshair(page, folders):
    affine = read_image(find_cases(folders[0])[0].label)[1].affine
    page.at.locator("#mm").fill(" ".join(map(str, (affine @ [11, 9, 8, 1])[:3])))
    page.at.locator("#mm").press("Enter")
    values = page.values()
    assert (values["prediction"], values["reference"]) == ("edema", "necrotic core")
    page.at.locator("#mm").fill("nowhere")
    page.at.locator("#mm").press("Enter")
    assert page.values() == values
    np.testing.assert_allclose(page.mm(), (affine @ [11, 9, 8, 1])[:3], atol=0.06)


def test_window_and_level_change_the_grey(page):
    choose(page, "axial")
    page.opacity(prediction=0, reference=0)
    before = page.picture()
    page.at.locator("#level").fill(page.at.get_attribute("#level", "max"))
    assert page.picture().mean() < 0.7 * before.mean()
    page.at.get_by_role("button", name="reset window").click()
    np.testing.assert_array_equal(page.picture(), before)
    page.at.locator("#window").fill(page.at.get_attribute("#window", "min"))
    assert page.picture().mean() != before.mean()


def test_every_image_can_be_looked_at(page):
    choose(page, "axial")
    flair, where = page.picture(), page.mm()
    choose(page, "t1")
    assert (page.picture() != flair).any()
    assert page.mm() == where
    choose(page, "flair")
    np.testing.assert_array_equal(page.picture(), flair)


def test_all_images_side_by_side(page, folders):
    """One crosshair in all, classes in all; and back to one."""
    choose(page, "all images")
    page.at.locator("figure").nth(1).wait_for()
    assert page.at.locator("figcaption").all_inner_texts() == ["flair", "t1"]
    page.opacity(prediction=1)
    for figure in page.at.locator("canvas").all():
        assert page.seen(COLOURS["edema"], figure) > 300
    second = page.at.locator("canvas").nth(1)
    size, before = second.bounding_box(), page.mm()
    scale = min(size["width"] / SHAPE[0], size["height"] / SHAPE[1])
    first = page.picture(page.at.locator("canvas").first)
    second.click(position={"x": size["width"] / 2 + 3.3 * scale, "y": size["height"] / 2})
    assert page.mm()[2] == before[2]
    affine = read_image(find_cases(folders[0])[0].label)[1].affine
    middle = affine @ [*((SHAPE - 1) / 2), 1]
    np.testing.assert_allclose(page.mm()[:2], middle[:2] - (3.3, 0), atol=0.2)
    assert (page.picture(page.at.locator("canvas").first) != first).any()
    for name in ("all images", "axial", "all images", "axial"):  # faster than they are drawn
        choose(page, name)
    page.at.wait_for_function("document.querySelectorAll('canvas').length === 1")
    assert page.seen(COLOURS["edema"]) > 1000
    assert page.at.locator("#problems li").all_inner_texts() == []


def test_no_case_stands_under_the_name_of_another(browser, brats_folder):
    for path in (brats_folder / "Case_002").glob("*_[ft]*"):
        path.write_bytes(b"none")
    with served([brats_folder]) as server:
        page = Page(browser, server)
        page.at.locator("#next").click()
        page.at.wait_for_selector("body[data-state=failed]")
        assert not page.at.locator("canvas").is_visible()
        assert not page.values()
        assert page.at.locator("#problems li").count() >= 2
        page.at.locator("#next").click()
        page.wait()
        assert page.at.locator("canvas").is_visible()
        page.at.close()


def test_three_dimensions_are_drawn(page):
    choose(page, "3-D")
    page.opacity(prediction=1)
    assert (page.picture() > 60).mean() > 0.02
    assert page.coloured() > 100


def test_scores_are_told(page, folders, labels):
    case = find_cases(folders[0])[0]
    maps = read_labels(case.label, labels), read_labels(folders[1] / f"{case.id}.nii.gz", labels)
    known = evaluate_case(case.id, *maps).structures
    page.at.wait_for_selector("#scores td")
    rows = [row.locator("th, td").all_inner_texts() for row in page.at.locator("#scores tr").all()]
    assert rows[0][1:] == list(known)
    dice = next(row for row in rows if row[0] == "dice")
    expected = [values["dice"] for values in known.values()]
    np.testing.assert_allclose([float(each) for each in dice[1:]], expected, atol=1e-3)


def test_from_case_to_case(page, folders):
    ids = [case.id for case in find_cases(folders[0])]
    assert page.at.locator("#previous").is_disabled()
    page.at.locator("#next").click()
    page.wait()
    assert page.at.locator("#place").inner_text() == "case 2 of 3"
    assert f"#case={ids[1]}&" in page.at.url
    page.at.keyboard.press("PageDown")
    page.wait()
    assert page.at.locator("#next").is_disabled()
    assert ids[2] in page.at.title()
    page.at.locator("#case").select_option(label=ids[0])
    page.wait()
    assert f"#case={ids[0]}&" in page.at.url


def test_millimetres_of_a_grid_that_is_turned(browser, tmp_path):
    """They are those of the world, not of a straight grid beside it."""
    turn = np.radians(25)
    affine = np.diag([-1.5, 2.0, 3.0, 1.0])
    affine[:2, :2] = [[-np.cos(turn), np.sin(turn)], [-np.sin(turn), -np.cos(turn)]]
    affine[:3, 3] = 12, -30, 7
    array = np.random.default_rng(0).integers(0, 999, (14, 12, 10)).astype(np.int16)
    nifti_file.write(tmp_path / "x.nii", array, Geometry(array.shape, affine))
    with served([tmp_path / "x.nii"]) as server:
        page = Page(browser, server, f"#mm={','.join(map(str, (affine @ [2, 9, 4, 1])[:3]))}")
        np.testing.assert_allclose(page.mm(), (affine @ [2, 9, 4, 1])[:3], atol=0.06)
        assert page.values() == {"x": str(array[2, 9, 4])}
        choose(page, "axial")  # along the axes of the grid: i to the left, j to the back
        box = page.at.locator("canvas").bounding_box()
        scale = min(box["width"] / 14, box["height"] / 12)
        for i, j in ((11, 1), (3, 8)):
            x, y = box["width"] / 2 + (i - 6.5) * scale, box["height"] / 2 + (j - 5.5) * scale
            page.at.locator("canvas").click(position={"x": x, "y": y})
            np.testing.assert_allclose(page.mm(), (affine @ [i, j, 4, 1])[:3], atol=0.1)
            assert page.values() == {"x": str(array[i, j, 4])}
        page.at.close()


def test_a_link_leads_to_a_place_in_a_case(browser, server, folders):
    case = find_cases(folders[0])[1]
    mm = (read_image(case.label)[1].affine @ [9, 8, 7, 1])[:3].round(1)
    page = Page(browser, server, f"#case={case.id}&mm={','.join(map(str, mm))}")
    assert page.at.input_value("#case") == "1"
    np.testing.assert_allclose(page.mm(), mm, atol=0.06)
    page.at.evaluate("location.hash = '#case=Case_003'")
    page.at.wait_for_function("document.title.startsWith('Case_003')")
    page.wait()
    page.at.evaluate("location.hash = '#case=nobody'")
    page.at.wait_for_selector("#problems li")
    assert page.at.locator("#problems li").inner_text() == "link: there is no case nobody"
    assert not page.strangers
    assert not page.complaints
    page.at.close()


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(browser, brats_folder):
    (brats_folder / "Case_001" / "Case_001_t1.nii.gz").write_bytes(b"<b>none")
    with served([brats_folder]) as server:
        page = Page(browser, server)
        assert set(page.values()) == {"flair", "reference"}
        (said,) = page.at.locator("#problems li").all_inner_texts()
        assert said.startswith("t1: ")
        assert "Case_001_t1.nii.gz" in said
        assert not page.at.locator("#problems b").count()
        page.at.close()


def test_hostile_names_are_text(browser, tmp_path, brats_folder):
    name = "<img src=x onerror=alert(1)>&mm=1"
    source = next((brats_folder / "Case_001").glob("*_flair.nii.gz"))
    source.rename(tmp_path / f"{name}.nii.gz")
    with served([tmp_path / f"{name}.nii.gz"]) as server:
        page = Page(browser, server)
        assert page.at.locator("#case option").inner_text() == name
        assert list(page.values()) == [name]
        page.at.reload()
        page.wait()
        assert page.at.locator("#case option").inner_text() == name
        assert not page.at.locator("#problems li").count()
        page.at.close()
        assert not page.complaints
