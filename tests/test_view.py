"""What `view` serves, to whom, and that it ends; the page itself is in test_view_page.py."""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import nibabel as nib
import numpy as np
import pytest

from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import EvaluationError, OutputError, Vol3dSegError
from vol3dseg.evaluation.scoring import evaluate_case
from vol3dseg.formats import read_image, read_labels, write
from vol3dseg.formats.nifti import nifti_file
from vol3dseg.inference.record import CaseRecord, load_record
from vol3dseg.space.geometry import Geometry
from vol3dseg.viewing import serving, viewer
from vol3dseg.viewing.shown_cases import gather

CODE = "from vol3dseg.cli.main import main; main()"


@contextmanager
def served(*args, reported=None, **options):
    """A server of `gather`, in a thread; gives it, its token and what asks it."""
    with serving.ViewServer(gather(*args, **options), reported or {}) as server:
        Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def ask(server, rest="", path=None, method="GET", host=None, at=None):
    """Return status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    token = re.fullmatch(r"http://127\.0\.0\.1:\d+/([\w-]{30,})/", server.url)[1]
    connection.putrequest(method, path or f"/{token}/{rest}", skip_host=True)
    for each in [f"127.0.0.1:{server.server_port}"] if host is None else host:
        connection.putheader("Host", each)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def nifti(server, rest):
    status, _, content = ask(server, rest)
    assert status == 200, content
    return nib.Nifti1Image.from_bytes(content)


@pytest.fixture
def predictions(brats_folder, tmp_path, record):
    """A folder of predictions of two of three cases, which differ from their references."""
    folder, made = tmp_path / "predictions", {}
    for case in find_cases(brats_folder)[:2]:
        array, grid = read_image(case.label)
        array[array == 1] = 2
        nifti_file.write(folder / f"{case.id}.nii.gz", array.astype(np.uint8), grid)
        made[case.id] = CaseRecord(file=f"{case.id}.nii.gz")
    record.with_cases(made).save(folder)
    return folder


def test_the_volumes_are_those_of_the_files(brats_folder, predictions, labels, record):
    (first, second, _) = find_cases(brats_folder)
    with served([brats_folder], predictions) as server:
        assert json.loads(ask(server, "cases.json")[2]) == {
            "cases": [first.id, second.id],
            "notes": [f"predicted by the model of SHA-256 {record.model_sha256}"],
        }
        facts = json.loads(ask(server, "case/1/facts.json")[2])
        assert facts["images"] == ["flair", "t1"]
        assert facts["maps"] == ["prediction", "reference"]
        assert [c["name"] for c in facts["classes"]] == list(labels.foreground)
        assert [c["colour"] for c in facts["classes"]] == ["#d55e00", "#56b4e9", "#f0e442"]
        assert facts["problems"] == {}
        for number, name in enumerate(facts["images"]):
            found = nifti(server, f"case/1/image-{number}.nii")
            array, grid = read_image(second.images[name].path)
            np.testing.assert_array_equal(found.get_fdata(), array)
            np.testing.assert_allclose(found.affine, grid.affine, atol=1e-4)
            assert found.header["cal_max"] > found.header["cal_min"]
        for which, path in (
            ("prediction", predictions / f"{second.id}.nii.gz"),
            ("reference", second.label),
        ):
            found = nifti(server, f"case/1/{which}.nii")
            np.testing.assert_array_equal(found.dataobj, read_labels(path, labels).array)
        inside = np.linalg.inv(found.affine) @ [*facts["start"], 1]
        assert np.asarray(found.dataobj)[tuple(np.rint(inside[:3]).astype(int))] > 0


def test_numbers_that_two_bytes_do_not_hold_stay_as_they_are(tmp_path):
    array = np.random.default_rng(0).normal(0, 1, (6, 5, 4)).astype(np.float32)
    write(tmp_path / "a.nrrd", array, Geometry(array.shape, np.eye(4)))
    write(tmp_path / "b.mha", np.rint(array * 1e5), Geometry(array.shape, np.eye(4)))
    with served([tmp_path / "a.nrrd", tmp_path / "b.mha"]) as server:
        np.testing.assert_array_equal(nifti(server, "case/0/image-0.nii").get_fdata(), array)
        np.testing.assert_array_equal(
            nifti(server, "case/0/image-1.nii").get_fdata(), np.rint(array * 1e5)
        )


def test_scores_are_those_of_evaluate(brats_folder, predictions, labels):
    case = find_cases(brats_folder)[0]
    maps = read_labels(case.label, labels), read_labels(predictions / f"{case.id}.nii.gz", labels)
    known = evaluate_case(case.id, *maps).structures
    with served([brats_folder], predictions, brats_folder) as server:
        found = json.loads(ask(server, "case/0/scores.json")[2])
    assert found.keys() == known.keys()
    for name, values in known.items():
        assert found[name].keys() == values.keys()
        for metric, value in values.items():
            assert found[name][metric] == (None if np.isnan(value) else pytest.approx(value))


def test_scores_of_a_report_are_not_computed(brats_folder, predictions, tmp_path):
    evaluated = viewer.read_report  # whatever metrics there are
    import vol3dseg

    shutil.rmtree(brats_folder / "Case_003")
    vol3dseg.evaluate(predictions, brats_folder, tmp_path / "report")
    summary = tmp_path / "report" / "summary.json"
    told = json.loads(summary.read_text())
    told["scores"]["Case_001"]["edema"] = {"hd95_mm": 3.25, "dice": None}
    summary.write_text(json.dumps(told))
    with served([brats_folder], predictions, reported=evaluated(tmp_path / "report")) as server:
        assert json.loads(ask(server, "case/0/scores.json")[2])["edema"] == {
            "hd95_mm": 3.25,
            "dice": None,
        }
        assert "dice" in json.loads(ask(server, "case/1/scores.json")[2])["edema"]


def test_what_is_one_case(brats_folder, predictions, tmp_path):
    """Files by name, and what a DICOM folder or a map is called does not matter."""
    files = sorted((brats_folder / "Case_001").glob("*_[ft]*.nii.gz"))
    (only,) = gather(files, predictions).cases
    assert (only.images.id, list(only.images.images)) == ("Case_001", ["flair", "t1"])
    assert only.prediction == predictions / "Case_001.nii.gz"
    assert only.reference is None
    shutil.copy(predictions / "Case_002.nii.gz", tmp_path / "any.nii.gz")
    (only,) = gather(files[:1], tmp_path / "any.nii.gz", tmp_path / "any.nii.gz").cases
    assert only.images.id == "Case_001_flair"
    assert only.prediction == only.reference.label == tmp_path / "any.nii.gz"
    (tmp_path / "x").mkdir()
    shutil.copy(files[0], tmp_path / "x")
    (only,) = gather([files[0], tmp_path / "x" / files[0].name]).cases
    assert len(only.images.images) == 2


def test_classes_without_names_are_values_of_both_maps(brats_folder, tmp_path):
    case = find_cases(brats_folder)[0]
    array, grid = read_image(case.label)
    nifti_file.write(tmp_path / "p.nii", np.where(array == 4, 7, 0).astype(np.uint8), grid)
    with served([case.images["t1"].path], tmp_path / "p.nii", case.label) as server:
        facts = json.loads(ask(server, "case/0/facts.json")[2])
        assert [c["name"] for c in facts["classes"]] == [f"value {n}" for n in (1, 2, 4, 7)]
        found = nifti(server, "case/0/prediction.nii")
    assert set(np.unique(found.dataobj)) == {0, 4}


def test_no_header_is_served(dicom_series, tmp_path):
    array = np.random.default_rng(0).integers(0, 900, (8, 7, 6)).astype(np.int16)
    (tmp_path / "scan").mkdir()
    for k, image in enumerate(dicom_series(array)):
        image.save_as(tmp_path / "scan" / f"{k}.dcm", enforce_file_format=True)
    with served([tmp_path / "scan"]) as server:
        said = [
            ask(server, rest)[2]
            for rest in ("cases.json", "case/0/facts.json", "case/0/image-0.nii")
        ]
        assert nifti(server, "case/0/image-0.nii").shape == (8, 7, 6)
    for secret in (b"DOE", b"4711", b"T1 axial", b"1.2.3"):
        assert not [content for content in said if secret in content]


# --- who is served --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(shared_brats_folder):
    with served([shared_brats_folder]) as server:
        yield server


def test_the_page_and_what_it_is_made_of(server):
    for rest, kind in (
        ("", "text/html"),
        ("view.js", "text/javascript"),
        ("view.css", "text/css"),
        ("niivue.js", "text/javascript"),
    ):
        status, headers, content = ask(server, rest)
        assert status == 200
        assert headers["Content-Type"].startswith(kind)
        assert len(content) > 1000
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Python" not in str(headers)


def test_the_script_of_others_is_named_with_its_licence():
    folder = Path(serving.__file__).parent
    version = re.search(r"\d+\.\d+\.\d+", serving.NIIVUE)[0]
    assert f'"{version}"' in (folder / serving.NIIVUE).read_text("utf-8")
    licence = (folder / f"{serving.NIIVUE}.LICENSE.txt").read_text("utf-8")
    assert f"version {version}" in licence
    assert "BSD 2-Clause" in licence


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/cases.json",
        "/view.js",
        "/wrong/",
        "/wrong/cases.json",
        "//",
        "/%00",
        "/%C3%A9",
        "*",
    ],
)
def test_nothing_without_the_token(path, server):
    assert ask(server, path=path or "?")[0] == 404


def test_a_token_is_whole(server):
    token = server.url.split("/")[3]
    for wrong in (token[:-1], token + "x", token.swapcase(), token + "%"):
        assert ask(server, path=f"/{wrong}/cases.json")[0] == 404
    assert ask(server, path=f"/{token}")[0] == 404


@pytest.mark.parametrize(
    "rest",
    [
        "serving.py", "__init__.py", "../serving.py", "../../etc/passwd", "%2e%2e/%2e%2e/x",
        "/etc/passwd", "case/0/../../serving.py", "case/0/image-0.nii/", "case/0/image-9.nii",
        "case/3/facts.json", "case/-1/facts.json", "case/00/facts.json", "case/%D9%A0/facts.json",
        "case/0/prediction.nii", "case/0/Case_001_flair.nii.gz", "case/0/", "case", "view.html",
        "niivue-0.69.0.umd.js", "cases.json?x", "Case_001/Case_001_flair.nii.gz", "//view.js",
    ],
)  # fmt: skip
def test_only_what_was_given(rest, server):
    status, _, content = ask(server, rest)
    assert (status, content) == (404, b"Not Found\n")


@pytest.mark.parametrize(
    "host",
    [
        [],
        ["evil.example"],
        ["127.0.0.1"],
        ["evil.example:{}"],
        ["127.0.0.1.evil.example:{}"],
        ["127.0.0.1:{}", "x"],
        [""],
    ],
)
def test_another_host_is_refused(host, server):
    given = [each.format(server.server_port) for each in host]
    status, _, content = ask(server, "cases.json", host=given)
    assert (status, content) == (403, b"Forbidden\n")


def test_the_two_names_of_this_machine(server):
    assert ask(server, "cases.json", host=[f"localhost:{server.server_port}"])[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_only_get(method, server):
    status, headers, _ = ask(server, "cases.json", method=method)
    assert status == 405
    assert headers["Allow"] == "GET"


def test_nobody_else_is_listened_to(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(2)
        with pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", server.server_port))


def test_bytes_that_are_no_request_harm_nothing(server):
    token = server.url.split("/")[3].encode()
    for path in (b"/\xc3\xa9/", b"/" + token + b"/\xff", b"http://x/" + token + b"/view.js"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as raw:
            host = b"127.0.0.1:%d" % server.server_port
            raw.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert raw.recv(99).startswith(b"HTTP/1.1 404 ")
    assert ask(server, "cases.json")[0] == 200


def test_two_servers_have_two_tokens(server, shared_brats_folder):
    with served([shared_brats_folder]) as other:
        assert ask(other, path=f"/{server.url.split('/')[3]}/cases.json")[0] == 404


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_damaged_map_is_said_and_the_rest_is_served(brats_folder, predictions):
    path = predictions / "Case_001.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with served([brats_folder], predictions) as server:
        facts = json.loads(ask(server, "case/0/facts.json")[2])
        assert facts["maps"] == ["reference"]
        assert "Case_001.nii.gz" in facts["problems"]["prediction"]
        assert ask(server, "case/0/prediction.nii")[0] == 404
        assert ask(server, "case/0/reference.nii")[0] == 200
        assert json.loads(ask(server, "case/0/scores.json")[2]) == {}


def test_an_image_that_is_gone_is_said(brats_folder):
    with served([brats_folder]) as server:
        (brats_folder / "Case_001" / "Case_001_t1.nii.gz").unlink()
        status, _, content = ask(server, "case/0/image-1.nii")
        assert status == 422
        assert b"Case_001_t1.nii.gz" in content
        assert ask(server, "case/0/image-0.nii")[0] == 200


def test_a_map_elsewhere_is_said(brats_folder, tmp_path):
    case = find_cases(brats_folder)[0]
    array, grid = read_image(case.label)
    moved = grid.affine.copy()
    moved[0, 3] += 30
    nifti_file.write(tmp_path / "p.nii", array.astype(np.uint8), Geometry(array.shape, moved))
    with served([case.images["t1"].path], tmp_path / "p.nii", case.label) as server:
        facts = json.loads(ask(server, "case/0/facts.json")[2])
        assert "different grids" in facts["problems"]["prediction"]
        assert facts["maps"] == ["prediction", "reference"]
        assert ask(server, "case/0/scores.json")[0] == 422


def test_what_fits_nothing_is_refused(brats_folder, predictions, tmp_path):
    def refused(match, *args):
        with pytest.raises(Vol3dSegError, match=match):
            viewer.view(*args, browser=False)

    flair = brats_folder / "Case_001" / "Case_001_flair.nii.gz"
    refused("does not exist", tmp_path / "nothing.nii")
    refused("does not exist", brats_folder, tmp_path / "nothing")
    refused(
        "is one label map, but there are 3 cases", brats_folder, predictions / "Case_001.nii.gz"
    )
    (tmp_path / "others").mkdir()
    shutil.copy(predictions / "Case_001.nii.gz", tmp_path / "others" / "x.nii.gz")
    refused("holds label maps of x", brats_folder, tmp_path / "others")
    refused("holds label maps of x", brats_folder, predictions, tmp_path / "others")
    refused("summary.json: is missing", brats_folder, None, None, predictions)
    refused("no image is given", [])
    flair.write_bytes(b"none")
    refused("Case_001_flair.nii.gz", flair)


def test_a_taken_port_is_said(server, shared_brats_folder):
    with pytest.raises(OutputError, match=f"port {server.server_port}: .*choose another --port"):
        viewer.view(shared_brats_folder, port=server.server_port, browser=False)


def test_what_lacks_its_other_half_is_noted(brats_folder, predictions, tmp_path):
    (tmp_path / "references").mkdir()
    shutil.copy(predictions / "Case_001.nii.gz", tmp_path / "references")
    found = gather([brats_folder], predictions, tmp_path / "references")
    assert [case.reference is None for case in found.cases] == [False, True]
    by = f"predicted by the model of SHA-256 {load_record(predictions).model_sha256}"
    assert found.notes == (by, "without a reference: Case_002")
    assert len(gather([brats_folder], None, tmp_path / "references").cases) == 1
    shutil.rmtree(brats_folder / "Case_002")
    assert gather([brats_folder], predictions).notes == (
        by,
        "left out, for they have no image: Case_002",
    )
    (predictions / "predictions.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"predictions\.json"):
        gather([brats_folder], predictions)


@pytest.mark.parametrize("browser", [True, False])
def test_the_browser_is_opened_unless_not_wanted(browser, shared_brats_folder, monkeypatch):
    opened, told = [], []

    def interrupted(server):
        for _ in range(100 if browser else 5):
            if not opened:
                time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(viewer.webbrowser, "open", opened.append)
    monkeypatch.setattr(serving.ViewServer, "serve_forever", interrupted)
    viewer.view(shared_brats_folder, browser=browser, started=lambda *said: told.append(said))
    ((url, notes),) = told
    assert opened == [url] * browser
    assert notes == ()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c_ends_it(shared_brats_folder):
    words = [
        sys.executable,
        "-W",
        "error",
        "-c",
        CODE,
        "view",
        str(shared_brats_folder),
        "--no-browser",
    ]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        line = process.stdout.readline()
        found = re.fullmatch(r"page -> http://127\.0\.0\.1:(\d+)(/\S+)  \(Ctrl-C ends\)\n", line)
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
        connection.request("GET", f"{found[2]}cases.json")
        assert connection.getresponse().status == 200  # and the connection stays open
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        connection.close()
        assert process.stdout.read() == process.stderr.read() == ""
