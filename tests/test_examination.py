"""What a file of a prepared case may hold: whole ones, odd ones, ones at the limit."""

import json
import math
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace

import h5py
import numpy as np
import pytest

from tests.test_foreign_store import ODD
from vol3dseg.config import Config, ModelConfig
from vol3dseg.preprocessing.examination import CaseFile, flaw, flaws
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess

pytestmark = pytest.mark.hostile


@pytest.fixture(scope="module")
def whole(shared_brats_folder, tmp_path_factory, recipe, labels):
    """A case as it is written, and what the index says of it."""
    folder = tmp_path_factory.mktemp("prepared")
    preprocess(
        shared_brats_folder,
        folder,
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    entry = load_index(folder).cases[1]
    path = str(folder / entry.file)
    return CaseFile(path, recipe.modalities, entry.shape, entry.source_shape, 7)


@pytest.fixture
def case(whole, tmp_path):
    return replace(whole, path=str(shutil.copy(whole.path, tmp_path / "case.h5")))


@contextmanager
def opened(case):
    with h5py.File(case.path, "r+") as file:
        yield file


def test_a_case_as_it_was_written(case):
    assert flaw(case) == ""


@pytest.mark.parametrize(("change", "message"), ODD)
def test_odd_files(change, message, case, tmp_path):
    other = tmp_path / "secret"
    other.write_bytes(b"hunter2:x:" * 100_000)
    with opened(case) as file:
        change(file, other)
    assert flaw(case).startswith(message)


def test_a_case_without_labels(case):
    with opened(case) as file:
        for name in ("label", "source_label", "patches"):
            del file[name]
    assert flaw(case).startswith("lacks an image or a label map")
    assert flaw(replace(case, columns=0)) == ""
    with opened(case) as file:
        file.create_dataset("patches/x", data=np.zeros((1, 7), int), fletcher32=True)
    assert flaw(replace(case, columns=0)).startswith("holds more than images")


def test_what_is_no_file_of_hdf5(case, tmp_path):
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    assert flaw(replace(case, path=str(tmp_path / "x.h5"))) == (
        "is damaged or not an HDF5 file (OSError)"
    )


def test_what_takes_all_memory(case, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("vol3dseg.preprocessing.examination._check_file", full)
    assert flaw(case) == "takes more memory than a prepared case"


# ---------------------------------------------------------------- at the limit


def nested(file, depth):
    """A group in a group in a group."""
    file.create_group("/".join("x" * depth))


def test_groups_in_groups(case):
    with opened(case) as file:
        nested(file, 8)
    assert flaw(case) == ""
    with opened(case) as file:
        nested(file, 9)
    assert flaw(case) == "holds more groups and datasets than a prepared case"


def test_ten_thousand_members(case):
    with opened(case) as file:
        there = []
        file.visit(there.append)
        empty = file.create_group("g0")
        for number in range(1, 10_000 - len(there)):
            file[f"g{number}"] = empty
    assert flaw(case) == ""
    with opened(case) as file:
        file.create_group("more")
    assert flaw(case) == "holds more groups and datasets than a prepared case"


def test_groups_have_no_attributes(case):
    with opened(case) as file:
        file["patches"].attrs["more"] = 1
    assert flaw(case) == "has other attributes than a prepared case"


@pytest.mark.parametrize("name", ["image/t1", "label", "source_label"])
def test_datasets_have_their_own(name, case):
    with opened(case) as file:
        file[name].attrs["more"] = 1
    assert flaw(case) == "has other attributes than a prepared case"
    with opened(case) as file:
        del file[name].attrs["more"]
    assert flaw(case) == ""


def test_tables_of_patches(case):
    for change, said in (
        (lambda table: table[:, :6], "holds a dataset of int64 of"),
        (lambda table: table.astype(np.int32), "holds a dataset of int32 of"),
    ):
        copy = replace(case, path=shutil.copy(case.path, f"{case.path}.copy"))
        with opened(copy) as file:
            name = next(iter(file["patches"]))
            table = change(file[f"patches/{name}"][()])
            del file[f"patches/{name}"]
            file.create_dataset(f"patches/{name}", data=table, fletcher32=True)
        assert flaw(copy).startswith(said)
    with opened(case) as file:
        file[f"patches/{next(iter(file['patches']))}"].attrs["more"] = 1
    assert flaw(case) == "has other attributes than a prepared case"


@pytest.mark.parametrize(("length", "fits"), [(2**20, True), (2**20 + 1, False)])
def test_the_longest_text(length, fits, case):
    with opened(case) as file:
        file.attrs["recipe"] = "x" * length
    assert (flaw(case) == "") is fits


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.array(["a", "b"], dtype=h5py.string_dtype()), id="two texts"),
        pytest.param(np.float64(1), id="a number"),
    ],
)
def test_texts_that_are_none(value, case):
    with opened(case) as file:
        file.attrs["box"] = value
    assert flaw(case) == "has an attribute that is not text where text is expected"


@pytest.mark.parametrize("name", ["grid", "source"])
def test_grids_that_are_none(name, case):
    for attribute, value in (
        (f"{name}_shape", np.ones(3, np.int32)),
        (f"{name}_shape", np.ones(4, np.int64)),
        (f"{name}_affine", np.eye(4, dtype=np.float32)),
        (f"{name}_affine", np.eye(3)),
    ):
        copy = replace(case, path=shutil.copy(case.path, f"{case.path}.copy"))
        with opened(copy) as file:
            file.attrs[attribute] = value
        assert flaw(copy) == "has an attribute of another type or shape than a prepared case"


def alone(path, shape, **facts):
    """A file of one image, with nothing in it."""
    with h5py.File(path, "w") as file:
        for name in ("case", "recipe", "box"):
            file.attrs[name] = ""
        for name in ("grid", "source"):
            file.attrs[f"{name}_shape"], file.attrs[f"{name}_affine"] = np.ones(3, int), np.eye(4)
        image = file.create_dataset("image/t1", shape, np.float32, **facts)
        image.attrs["box"] = ""
        yield image
    return


def test_as_much_as_a_file_can_hold(tmp_path):
    """1032 times its own size, as gzip packs zeros; a byte less, and a value is a mere claim."""
    path, shape = tmp_path / "x.h5", (64, 64, 1024)
    for image in alone(path, shape, chunks=(64, 64, 256), compression="gzip"):
        for start in range(0, 1024, 256):
            image.id.write_direct_chunk((0, 0, start), b"hardly anything")
    one = CaseFile(str(path), ("t1",), shape, (1, 1, 1), 0)
    least, size = math.ceil(math.prod(shape) * 4 / 1032), path.stat().st_size
    assert size < least
    with path.open("ab") as file:
        file.write(bytes(least - size))
    assert flaw(one) == ""
    with path.open("r+b") as file:
        file.truncate(least - 1)
    assert flaw(one) == "claims (64, 64, 1024) values, more than the file can hold"


@pytest.mark.parametrize(("side", "fits"), [(64, True), (65, False)])
def test_the_largest_portion(side, fits, tmp_path):
    """4 MB, which are unpacked at once."""
    path, shape = tmp_path / "x.h5", (128, 128, side)
    for image in alone(path, shape, chunks=shape, fletcher32=True):
        image[:] = np.random.default_rng(0).random(shape)
    assert math.prod(shape) * 4 == 2**22 * side // 64
    said = flaw(CaseFile(str(path), ("t1",), shape, (1, 1, 1), 0))
    assert said == ("" if fits else "stores voxels in other chunks than a prepared case")


def test_portions_that_are_not_all_there(tmp_path):
    path = tmp_path / "x.h5"
    for image in alone(path, (9, 8, 8), chunks=(4, 4, 4), fletcher32=True):
        image[:8] = 1  # of three portions along i, two
    one = CaseFile(str(path), ("t1",), (9, 8, 8), (1, 1, 1), 0)
    assert flaw(one) == "lacks some of its chunks"
    with h5py.File(path, "r+") as file:
        file["image/t1"][8] = 1
    assert flaw(one) == ""


# ---------------------------------------------------------------- the child


def test_no_files_no_child():
    assert flaws([], child=("no such program",)) == []


def test_each_file_has_its_answer(case, tmp_path):
    bad = replace(case, path=str(tmp_path / "none.h5"))
    damaged = "is damaged or not an HDF5 file (FileNotFoundError)"
    assert flaws([case, bad, case]) == ["", damaged, ""]


def test_a_child_that_says_more_than_it_is_asked(case):
    code = "import json; print(json.dumps('not ready'))"
    with pytest.raises(RuntimeError, match="the process that examines prepared cases"):
        flaws([case], child=(sys.executable, "-c", code))
    code = (
        "import json, sys; said = json.load(sys.stdin); print('\"ready\"'); "
        "print(json.dumps(str(said)))"
    )
    (said,) = flaws([case], seconds=3, child=(sys.executable, "-c", code))
    assert "'seconds': 3" in said
    assert json.dumps(case.path)[1:-1] in said


def child(code):
    """A process of this module in which something is otherwise."""
    begin = "from vol3dseg.preprocessing import examination\n"
    return sys.executable, "-P", "-c", f"{begin}{code}\nexamination._main()"


def test_a_file_that_ends_the_child_is_named_and_the_others_are_examined(case, tmp_path):
    fatal = replace(case, path=str(tmp_path / "fatal.h5"))
    dies = child(
        "import os\n"
        "plain = examination.flaw\n"
        "examination.flaw = lambda case: os._exit(7) if 'fatal' in case.path else plain(case)"
    )
    ends = "ends the process that examines it, or takes more than 5 s"
    assert flaws([case, fatal, case], 5.0, dies) == ["", ends, ""]
    assert flaws([fatal, fatal], 5.0, dies) == [ends, ends]


@pytest.mark.skipif(sys.platform == "win32", reason="no such files")
def test_a_file_that_is_never_read_to_its_end_is_named(case, tmp_path):
    os.mkfifo(tmp_path / "endless")
    endless = replace(case, path=str(tmp_path / "endless"))
    ends = "ends the process that examines it, or takes more than 1 s"
    assert flaws([case, endless, case], 1.0) == ["", ends, ""]


def test_many_seconds_for_each_file_are_seconds_for_all(case):
    assert flaws([case], 1000.0) == [""]


@pytest.mark.skipif(sys.platform != "linux", reason="counts address space")
def test_the_child_may_take_a_gigabyte_more_than_it_has(case):
    tells = child(
        "import resource\n"
        "from pathlib import Path\n"
        "def told(case):\n"
        "    has = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "    return f'{resource.getrlimit(resource.RLIMIT_AS)[0] - has}'\n"
        "examination.flaw = told"
    )
    (more,) = flaws([case], 5.0, tells)
    # A thread takes 72 MB of addresses: its watchdog, and another where coverage is measured.
    assert int(more) == pytest.approx(2**30, abs=2**28)
