"""A disk that is full is one error that says so, whichever file does not fit; and it goes on."""

import os
import subprocess
import sys

import pytest

from vol3dseg.preprocessing.index import load_index

# A limit on the size of files stands for the disk: what is larger is cut off with an error.
CODE = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from vol3dseg.cli.main import main
sys.argv[1:] = sys.argv[2:]
main()
"""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")


@pytest.fixture
def within():
    """Run the command line where no file may be larger than so many bytes."""

    def run(size, *words):
        command = [sys.executable, "-c", CODE, str(size), *map(str, words)]
        # Where it is measured, what is measured does not fit either.
        unmeasured = {n: value for n, value in os.environ.items() if not n.startswith("COVERAGE_")}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=unmeasured)

    return run


@pytest.mark.parametrize("workers", [1, 2])
def test_a_case_that_does_not_fit_ends_preprocess_in_one_line(
    workers, within, vol3dseg, brats_folder, config_path, tmp_path
):
    words = ("preprocess", brats_folder, "-o", tmp_path / "P", "-c", config_path, "-j", workers)
    done = within(20_000, *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/P/cases/Case_00")
    assert "cannot be written (File too large)" in line
    assert load_index(tmp_path / "P").cases == ()
    assert not list((tmp_path / "P" / "cases").glob("*"))
    again = vol3dseg(*words)
    assert again.returncode == 0, again.stderr
    assert len(load_index(tmp_path / "P").cases) == 3


def test_a_segmentation_that_does_not_fit_ends_predict_in_one_line(
    within, vol3dseg, brats_folder, model_path, tmp_path
):
    words = ("predict", model_path, brats_folder, "-o", tmp_path / "O", "--device", "cpu")
    done = within(20_000, *words, "--probabilities")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "cannot be written (File too large)" in line
    again = vol3dseg(*words, "--probabilities", "--resume")
    assert again.returncode == 0, again.stderr
    assert "3 cases segmented, 0 failed" in again.stdout
