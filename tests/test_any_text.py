"""Text files that hold anything: read, or refused in one line."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nibabel.nifti1 import header_dtype

from tests.fuzzing.promise import check_message, read_both_ways
from tests.fuzzing.samples import nifti_samples
from vol3dseg.config import load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import Vol3dSegError
from vol3dseg.formats import open_volume
from vol3dseg.inference.record import load_record
from vol3dseg.preprocessing.index import load_index


def read_or_refused(read, *words):
    """Read something; whatever is refused must be so by an error of one line."""
    try:
        read(*words)
    except Vol3dSegError as error:
        check_message(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one small image, which tables may name."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.nii").write_bytes(nifti_samples()[0].files["a.nii"])
    return folder


# ---------------------------------------------------------------- tables

COLUMNS = [
    "id", "subject", "flair", "t1", "label", "flair_volume", "t1_nan", "t1_resample", "t1_series",
    "label_resample", "label_series", "flair_vol",
]  # fmt: skip
CELLS = st.one_of(
    st.sampled_from(["", "a", "a.nii", "./a.nii", "yes", "no", "0", "-1", "nan", "1e400", "T1*"]),
    st.text(max_size=8),
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=4)


def csv_text(columns, rows):
    return "\n".join(",".join(line) for line in [columns, *rows])


@given(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6), ROWS)
def test_any_table_of_known_columns(folder, columns, rows):
    path = folder / "cases.csv"
    path.write_bytes(csv_text(columns, rows).encode(errors="surrogatepass"))
    read_or_refused(find_cases, path)


@given(st.one_of(st.text(), st.binary()), st.sampled_from(["cases.csv", "cases.json"]))
def test_any_table_at_all(folder, content, name):
    data = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    (folder / name).write_bytes(data)
    read_or_refused(find_cases, folder / name)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CELLS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(COLUMNS), inner)),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), VALUES), max_size=4))
def test_any_table_in_json(folder, rows):
    (folder / "cases.json").write_text(json.dumps(rows))
    read_or_refused(find_cases, folder / "cases.json")


# ---------------------------------------------------------------- files of ours

KEYS = st.sampled_from(
    ["format", "version", "cases", "labels", "classes", "recipe", "modalities", "extends", "split",
     "training", "channel_names", "modality", "train", "validation", "test", "file_ending"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(KEYS, inner)),
    max_leaves=9,
)
READERS = [
    pytest.param("index.json", lambda path: load_index(path.parent), id="index.json"),
    pytest.param("predictions.json", lambda path: load_record(path.parent), id="predictions.json"),
    pytest.param("split.json", read_split, id="split.json"),
    pytest.param("config.yaml", lambda path: load_config(str(path)), id="config"),
    pytest.param("dataset.json", lambda path: find_cases(path.parent), id="dataset.json"),
]


@pytest.mark.hostile
@pytest.mark.parametrize(("name", "read"), READERS)
@given(value=ANYTHING)
def test_any_json(tmp_path_factory, name, read, value):
    path = tmp_path_factory.mktemp("json") / name
    path.write_text(json.dumps(value))
    read_or_refused(read, path)


@pytest.mark.hostile
@pytest.mark.parametrize(("name", "read"), READERS)
@example(content="{\U00012544")  # YAML's own message quotes it
@given(content=st.one_of(st.binary(), st.text()))
def test_any_bytes(tmp_path_factory, name, read, content):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    )
    read_or_refused(read, path)


# ---------------------------------------------------------------- headers


def field_values(item):
    """Give anything that a field of a NIfTI header can hold."""
    if item.kind == "S":
        return st.binary(min_size=item.itemsize, max_size=item.itemsize)
    if item.kind == "f":
        return st.floats(width=32).map(lambda x: struct.pack("<f", x))
    limits = np.iinfo(item)
    near = st.integers(-2, 5)
    return st.one_of(near, st.integers(int(limits.min), int(limits.max))).map(
        lambda n: np.array(max(n, int(limits.min)), item).tobytes()
    )


@st.composite
def changes(draw):
    """Give where a header is changed, and what stands there then."""
    name = draw(st.sampled_from(header_dtype.names))
    base, offset = header_dtype.fields[name]
    item = base.subdtype[0] if base.subdtype else base
    number = draw(st.integers(0, base.itemsize // item.itemsize - 1))
    return offset + item.itemsize * number, draw(field_values(item))


@given(st.lists(changes(), min_size=1, max_size=4))
def test_any_header(folder, changed):
    content = bytearray(nifti_samples()[0].files["a.nii"])
    for place, stored in changed:
        content[place : place + len(stored)] = stored
    path = Path(folder) / "b.nii"
    path.write_bytes(content)
    read_or_refused(read_both_ways, open_volume, path)
