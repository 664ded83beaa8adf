"""Commands say nothing to anybody, leave nothing but what they were asked for, heed no folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from tests.monai_bundles import make_bundle
from vol3dseg.cli.main import cli
from vol3dseg.config import load_config

MAIN = "from vol3dseg.cli.main import main; main()"
COMMAND = Path(sys.executable).parent / "vol3dseg"  # not -m, with which Python looks here first
# Python loads it in every process, children too, before anything else.
WATCH = """
import os, sys

def told(event, arguments):
    if not event.startswith("socket."):
        return
    family = getattr(arguments[0], "family", 0)
    # Not a socket of a file, by which the server of worker processes is asked.
    if 1 not in (family, *arguments[1:2]):
        line = f"{event} {arguments[1:]} by {sys.argv}\\n"
        fd = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND)
        os.write(fd, line.encode())

sys.addaudithook(told)
"""
# What goes on behind Python's back is counted by the kernel: every address has a way out here that
# leads nowhere, so that whoever connects or sends anything is seen to.
COUNTED = """
import ctypes, fcntl, socket, struct, subprocess, sys

def counts():
    with open("/proc/self/net/snmp") as file:
        rows = [line.split() for line in file]
    said = {a + b: int(n) for names, values in zip(rows[::2], rows[1::2])
            for a, b, n in zip([names[0]] * 99, names[1:], values[1:])}
    return {name: said[name] for name in ("Tcp:ActiveOpens", "Udp:OutDatagrams")}

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up
    name, address = ctypes.create_string_buffer(b"lo"), struct.pack("=H14x", socket.AF_INET)
    route = struct.pack("@L16s16s16sHhLBBhhhhPLLH", 0, address, address, address, 1, 0, 0, 0, 0,
                        0, 0, 0, 0, ctypes.addressof(name), 0, 0, 0)
    fcntl.ioctl(sock, 0x890B, route)  # SIOCADDRT: everything goes to lo
before = counts()
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "a") as file:
    file.write("".join(f"{n} {name} by {sys.argv[2:]}\\n" for name, n in counts().items()
                       if n != before[name]))
sys.exit(code)
"""
# urllib3, which TensorFlow imports, asks the system whether it has IPv6; nothing leaves it.
ASKED = ("socket.__new__ (10, 1, 0)", "socket.bind (('::1', 0),)")


@pytest.fixture(scope="session")
def isolated():
    """What a command starts with to be cut off from every network."""
    for options in (["-n"], ["-r", "-n"]):
        words = ["unshare", *options]
        try:
            if subprocess.run([*words, "true"], check=False, capture_output=True).returncode == 0:
                return words
        except FileNotFoundError:
            break
    pytest.skip("no network namespaces: unshare -n is not permitted here")


@pytest.fixture
def alone(tmp_path, isolated):
    """Run a command without a network, in an empty home and working folder, which stay empty."""
    places = {name: tmp_path / name for name in ("home", "here", "temporary", "hook")}
    for place in places.values():
        place.mkdir()
    (places["hook"] / "sitecustomize.py").write_text(WATCH)
    watched = tmp_path / "watched"
    watched.write_text("")
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {
        "HOME": str(places["home"]), "TMPDIR": str(places["temporary"]),
        "PYTHONPATH": str(places["hook"]), "WATCHED": str(watched),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip

    def run(*words, trains=False, code=MAIN):
        done = subprocess.run(
            [*isolated, sys.executable, "-I", "-c", COUNTED, watched, sys.executable, "-c", code,
             *map(str, words)],
            cwd=places["here"], env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        heard = watched.read_text().splitlines()
        watched.write_text("")
        said = [line for line in heard if not (trains and line.startswith(ASKED))]
        left = [p for name in ("home", "here", "temporary") for p in places[name].rglob("*")]
        assert (said, left) == ([], []), words
        return done.stdout

    return run


LIGHT = {
    *("check", "inspect", "preprocess", "split", "info", "predict", "evaluate", "show"),
    *("corrections", "adopt"),
}
TRAINED = {"plan", "train", "compare", "export-onnx", "cross-validate"}
ELSEWHERE = {"demo", "view"}  # of what is run here; serves a page, tests/test_view.py


def test_every_command_is_run_here():
    assert set(cli.commands) == LIGHT | TRAINED | ELSEWHERE


def test_what_python_does_not_see_is_counted(alone):
    """A library in C that asks a name server."""
    code = (
        "import ctypes, socket, struct; c = ctypes.CDLL(None); sock = c.socket(2, 2, 0); "
        "place = struct.pack('=HH4s8x', 2, socket.htons(53), bytes([192, 0, 2, 1])); "
        "assert c.sendto(sock, b'x', 1, 0, place, 16) == 1"
    )
    with pytest.raises(AssertionError, match="1 Udp:OutDatagrams by") as caught:
        alone(code=code)
    assert "socket." not in str(caught.value).partition(" == ")[0]


@pytest.mark.hostile
def test_no_command_that_needs_no_tensorflow_speaks_or_leaves_anything(
    alone, shared_brats_folder, tmp_path, config_path, model_path
):
    pytest.importorskip("matplotlib")
    data, out, c = shared_brats_folder, tmp_path / "out", ("--config", config_path)
    alone("check", data, *c)
    alone("inspect", data, "-o", out / "inspected", *c)
    alone("preprocess", data, "-o", out / "prepared", *c, "--workers", 2)
    alone("split", out / "prepared", "-o", out / "split", *c)
    alone("info", model_path)
    alone("predict", model_path, data, "-o", out / "seg", "--device", "cpu", "--picture")
    alone("predict", model_path, data, "-o", out / "auto")
    alone("evaluate", out / "seg", data, "-o", out / "report")
    case = "Case_001"
    scan, seg = data / case / f"{case}_flair.nii.gz", out / "seg" / f"{case}.nii.gz"
    alone("show", scan, seg, "-o", out / "shown.png")
    alone("info", out / "prepared", "--audit")
    alone("info", model_path, "--audit")
    shutil.copytree(out / "seg", tmp_path / "edited")
    edited = tmp_path / "edited" / f"{case}.nii.gz"
    image = nib.load(edited)
    voxels = np.zeros(image.shape, np.uint8)
    nib.save(nib.Nifti1Image(voxels, image.affine), edited)
    found = ("-o", out / "corrected", "--scans", data)
    alone("corrections", out / "seg", tmp_path / "edited", *found)
    alone("adopt", "monai", make_bundle(tmp_path / "bundle"), "-o", out / "adopted.onnx")


@pytest.mark.slow
@pytest.mark.hostile
@pytest.mark.train
def test_no_command_that_trains_speaks_or_leaves_anything(
    alone, shared_brats_folder, tmp_path, recipe
):
    pytest.importorskip("tensorflow")
    config = load_config("crops32").model_dump(mode="json")
    config |= {"recipe": recipe.model_dump(mode="json"), "model": {"depth": 1, "width": 4}}
    config["split"] = {"validation": 0.3, "test": 0.3}
    config["training"] = {"epochs": 1, "batch_size": 2, "steps_per_epoch": 1}
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for seed, file in enumerate(files):
        config["training"]["seed"] = seed
        file.write_text(yaml.safe_dump(config))
    out = tmp_path / "out"
    alone("preprocess", shared_brats_folder, "-o", out / "prepared", "--config", files[0])
    for file in files:
        alone("train", out / "prepared", "-o", out / file.stem, "--config", file, trains=True)
    alone("plan", shared_brats_folder, "-o", out / "plan.yaml", "--memory", "4GB", trains=True)
    alone("compare", out / "a", out / "b", "-o", out / "compared")
    alone("info", out / "a", "--audit", trains=True)
    folds = ("--config", files[0], "--folds", 2, "--fold", 1, "--validation", 0)
    alone("cross-validate", out / "prepared", "-o", out / "folds", *folds, trains=True)
    alone("export-onnx", out / "a", "-o", out / "model.onnx", trains=True)
    alone("predict", out / "model.onnx", shared_brats_folder, "-o", out / "seg")


# ---------------------------------------------------------------- no folder decides

OF_OTHERS = [
    pytest.param({"matplotlibrc": b"figure.facecolor: black\nlines.linewidth: 9"}, id="settings"),
    pytest.param({"matplotlibrc": b"\xff\xfe no text"}, id="damaged settings"),
    pytest.param({"matplotlibrc": b"no: such\nsetting"}, id="unknown settings"),
]  # fmt: skip


@pytest.mark.parametrize("files", OF_OTHERS)
def test_what_stands_in_the_working_folder_changes_nothing(
    files, tmp_path, shared_brats_folder, config_path
):
    pytest.importorskip("matplotlib")
    pictures = []
    for name, there in {"empty": {}, "full": files}.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in there.items():
            (folder / file).write_bytes(content)
        scan, seg = (
            shared_brats_folder / "Case_001" / f"Case_001_{m}.nii.gz" for m in ("t1", "seg")
        )
        words = ("show", scan, seg, "-o", tmp_path / f"{name}.png", "--config", config_path)
        done = subprocess.run(
            [COMMAND, *map(str, words)],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.hostile
def test_modules_in_the_working_folder_are_not_taken_by_workers(
    tmp_path, shared_brats_folder, config_path
):
    """Python looks there first when it is started with -c, as multiprocessing does."""
    for name in ("json", "random", "pickle", "struct", "signal", "tempfile", "numpy", "h5py"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    words = ("preprocess", shared_brats_folder, "-o", tmp_path / "prepared", "--workers", "2")
    done = subprocess.run(
        [COMMAND, *map(str, words), "--config", str(config_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_of_the_program_stay_its_own():
    pytest.importorskip("matplotlib")
    import matplotlib

    from vol3dseg.reporting.figures import drawing, new_figure

    @drawing
    def colour():
        return new_figure(1, 1).get_facecolor()

    with matplotlib.rc_context({"figure.facecolor": "black"}):
        assert colour() == (1.0, 1.0, 1.0, 1.0)
        assert matplotlib.rcParams["figure.facecolor"] == "black"
