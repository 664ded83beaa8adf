"""Dataset tables: what is read from them, what is said of wrong ones, the way there and back."""

import json
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.layouts.table import write_table
from vol3dseg.datasets.layouts.table_columns import all_columns
from vol3dseg.errors import DatasetError

FILES = ("a/t1.nii.gz", "a/t2.nii.gz", "a/seg.nii.gz", "b/t1.nii.gz", "b/t2.nii.gz")
GOOD = "id,t1,t2,label\na,a/t1.nii.gz,a/t2.nii.gz,a/seg.nii.gz\nb,b/t1.nii.gz,b/t2.nii.gz,\n"


@pytest.fixture
def table(tmp_path):
    """Write a table beside some empty files."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def write(content, name="cases.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content.encode(encoding))
        return path

    return write


def refusal(path):
    """Return what is said of a table, without its path and the remedy that all have."""
    with pytest.raises(DatasetError) as caught:
        find_cases(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ").removesuffix("; correct the table")


class TestReading:
    def test_one_row_a_case(self, table, tmp_path):
        first, second = find_cases(table(GOOD))
        assert first == Case(
            "a",
            "a",
            {m: ImageSource(tmp_path / f"a/{m}.nii.gz") for m in ("t1", "t2")},
            tmp_path / "a/seg.nii.gz",
        )
        assert second.label is None

    def test_what_needs_a_value(self, table, tmp_path):
        text = (
            "id,subject,t1,t1_volume,t1_nan,t2,t2_resample,label,label_resample\n"
            "a,Ann,a/t1.nii.gz,2,-1e3,a/t2.nii.gz,yes,a/seg.nii.gz,YES\n"
            "b,,b/t1.nii.gz,,,b/t2.nii.gz,no,,\n"
        )
        first, second = find_cases(table(text))
        t1 = tmp_path / "a/t1.nii.gz"
        assert first.subject == "Ann"
        assert first.images["t1"] == ImageSource(t1, channel=2, nan=-1000.0)
        assert first.images["t2"] == ImageSource(tmp_path / "a/t2.nii.gz", onto=first.images["t1"])
        assert first.label_resampled
        assert second.subject == "b"
        assert second.images["t2"] == ImageSource(tmp_path / "b/t2.nii.gz")

    def test_a_series_of_a_folder(self, table, tmp_path):
        (case,) = find_cases(table("id,t1,t1_series\nx,a,T1 post*\n"))
        assert case.images["t1"] == ImageSource(tmp_path / "a", series="T1 post*")
        (alone,) = find_cases(table("id,t1\nx,a\n"))
        assert alone.images["t1"] == ImageSource(tmp_path / "a")

    def test_a_label_map_that_is_a_series_of_a_folder(self, table, tmp_path):
        text = "id,subject,t1,label,label_series\nx,s,a/t1.nii.gz,a,Mask*\ny,s,a/t1.nii.gz,b,\n"
        first, second = find_cases(table(text))
        assert (first.label, first.label_series) == (tmp_path / "a", "Mask*")
        assert (second.label, second.label_series) == (tmp_path / "b", None)

    @pytest.mark.parametrize(
        ("content", "encoding"),
        [
            pytest.param(GOOD, "utf-8-sig", id="mark at the beginning"),
            pytest.param(GOOD.replace("\n", "\r\n"), "utf-8", id="lines of Windows"),
            pytest.param(GOOD.replace("\n", ",,\n"), "utf-8", id="empty columns at the end"),
            pytest.param(GOOD.replace(",", " , "), "utf-8", id="spaces around cells"),
            pytest.param(GOOD.replace("\nb", "\n,,,\n\nb"), "utf-8", id="empty rows"),
        ],
    )
    def test_as_spreadsheets_save_it(self, table, content, encoding):
        expected = find_cases(table(GOOD))
        assert find_cases(table(content, encoding=encoding)) == expected

    def test_json(self, table):
        expected = find_cases(table(GOOD))
        entries = [
            {"id": "b", "t1": "b/t1.nii.gz", "t2": "b/t2.nii.gz"},
            {"id": "a", "t1": "a/t1.nii.gz", "t2": "a/t2.nii.gz", "label": "a/seg.nii.gz"},
        ]
        assert find_cases(table(json.dumps(entries), "cases.JSON")) == expected

    def test_values_of_json(self, table):
        entry = {"id": 7, "t1": "a/t1.nii.gz", "t1_volume": 1, "t1_nan": 0, "t2": "a/t2.nii.gz"}
        (case,) = find_cases(table(json.dumps([{**entry, "t2_resample": True}]), "x.json"))
        assert case.id == "7"
        assert (case.images["t1"].channel, case.images["t1"].nan) == (1, 0.0)
        assert case.images["t2"].onto == case.images["t1"]

    def test_paths_may_lead_elsewhere(self, table, tmp_path):
        (tmp_path / "tables").mkdir()
        text = f"id,t1\nup,../a/t1.nii.gz\nwhole,{tmp_path}/b/t1.nii.gz\n"
        paths = [case.images["t1"].path for case in find_cases(table(text, "tables/x.csv"))]
        assert paths == [tmp_path / "a/t1.nii.gz", tmp_path / "b/t1.nii.gz"]

    @pytest.mark.parametrize(("kind", "number"), [("csv", 2), ("json", 1)])
    def test_the_examples_of_the_docs(self, tmp_path, kind, number):
        docs = (Path(__file__).parents[1] / "docs/datasets.md").read_text(encoding="utf-8")
        example = docs.split(f"```{kind}\n")[1].split("```")[0]
        for name in re.findall(r"ann/\w+\.nii\.gz", example):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / f"x.{kind}").write_text(example)
        cases = find_cases(tmp_path / f"x.{kind}")
        assert [case.id for case in cases] == ["Ann-2021", "Ann-2022"][:number]
        last = cases[-1].images
        assert (last["t1"].channel, last["t1"].nan) == (1, 0.0)
        assert kind == "json" or last["t2"].onto == last["flair"]

    def test_the_docs_list_every_column(self):
        docs = (Path(__file__).parents[1] / "docs/datasets.md").read_text(encoding="utf-8")
        listed = docs.split("| column | what it says |")[1].split("\n\n")[0].splitlines()[2:]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in listed]
        assert sorted(name for name, _, _ in rows) == sorted(
            f"`{column}`" for column in all_columns(["<modality>"])
        )
        assert all(says and empty for _, says, empty in rows)

    def test_its_name(self, table):
        assert layout_of(table(GOOD)).name == "table"


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(
                "id,t1\na,a/t1.nii.gz\na,b/t1.nii.gz\n", "row 3: id 'a' is that of row 2",
                id="id twice",
            ),
            pytest.param("id,t1\n,a/t1.nii.gz\n", "row 2: id is empty", id="no id"),
            pytest.param(
                "id,t1\n../a,a/t1.nii.gz\n",
                "row 2: id '../a' cannot name files: expected no slash, no dot at its beginning "
                "and nothing invisible",
                id="id that leads elsewhere",
            ),
            pytest.param(
                "id,t1\na,a/t1.nii.gz\nb,\n", "row 3: names no image; expected one of t1",
                id="no image",
            ),
            pytest.param(
                "id,t1,t2,t2_nan\na,a/t1.nii.gz,a/t2.nii.gz,\nb,b/t1.nii.gz,,0\n",
                "row 3: t2_nan: there is no image of t2", id="option of no image",
            ),
            pytest.param(
                "id,t1\na,a/t1.nii.gz\nb,c/t1.nii.gz\n", "row 3: t1: c/t1.nii.gz is not there",
                id="missing file",
            ),
            pytest.param(
                f"id,t1,label\na,a/t1.nii.gz,{os.devnull}\n",
                f"row 2: label: {os.devnull} is no file",
                id="neither file nor folder",
            ),
            pytest.param(
                f"id,t1,t2\na,{'x' * 300},a\0b\n",
                f"row 2: t1: {'x' * 300} is not there; row 2: t2: 'a\\x00b' is not there",
                id="text that names no file",
            ),
            pytest.param(
                "id,t1,label\na,a/t1.nii.gz,a/lab.nii.gz\n",
                "row 2: label: a/lab.nii.gz is not there",
                id="missing label",
            ),
            pytest.param(
                "id,t1,age\na,a/t1.nii.gz,54\nb,b/t1.nii.gz,61\n",
                "column 'age' names no file that is there, not even 54; paths are relative to the "
                "table, and what is no modality has no column",
                id="column of something else",
            ),
            pytest.param(
                "id,t1,t2\na,a/t1.nii.gz,\nb,b/t1.nii.gz,\n",
                "column 't2' names no file; paths are relative to the table, and what is no "
                "modality has no column",
                id="empty column",
            ),
            pytest.param(
                "id,t1,t1_volume\na,a/t1.nii.gz,-1\n",
                "row 2: t1_volume: found -1, expected a whole number from 0",
                id="volume",
            ),
            pytest.param(
                "id,t1,t1_nan\na,a/t1.nii.gz,nan\nb,b/t1.nii.gz,1e39\n",
                "row 2: t1_nan: found nan, expected a finite number; "
                "row 3: t1_nan: found 1e39, expected a finite number",
                id="replacement that is not finite",
            ),
            pytest.param(
                "id,t1,t2,t2_resample\na,a/t1.nii.gz,a/t2.nii.gz,maybe\n",
                "row 2: t2_resample: found maybe, expected yes or no",
                id="neither yes nor no",
            ),
            pytest.param(
                "id,t1,t1_resample\na,a/t1.nii.gz,yes\n",
                "row 2: t1_resample: t1 is the first modality, onto whose grid others are brought",
                id="resampled onto itself",
            ),
            pytest.param(
                "id,t1,label,label_resample\na,a/t1.nii.gz,,yes\n",
                "row 2: label_resample: there is no label map",
                id="no label to resample",
            ),
            pytest.param(
                "id,t1,label,label_series\na,a/t1.nii.gz,,7\n",
                "row 2: label_series: there is no label map",
                id="series of no label",
            ),
            pytest.param(
                "id,t1,label,label_serie\na,a/t1.nii.gz,a,7\n",
                "unknown column 'label_serie', did you mean 'label_series'?",
                id="misspelt series of the label",
            ),
            pytest.param(
                "id,t1\na,a/t1.nii.gz,x\n", "row 2: has 3 cells for 2 columns", id="long row"
            ),
            pytest.param(
                "id,t1,lable\na,a/t1.nii.gz,a/seg.nii.gz\n",
                "unknown column 'lable', did you mean 'label'?",
                id="misspelt column",
            ),
            pytest.param(
                "ID,t1\na,a/t1.nii.gz\n",
                "there is no column 'id'; unknown column 'ID', did you mean 'id'?",
                id="capitals",
            ),
            pytest.param(
                "id,t1,t1_volum\na,a/t1.nii.gz,0\n",
                "unknown column 't1_volum', did you mean 't1_volume'?",
                id="misspelt choice",
            ),
            pytest.param(
                "id,t1ce,t1c_nan\na,a/t1.nii.gz,0\n",
                "unknown column 't1c_nan': there is no modality 't1c', did you mean 't1ce_nan'?",
                id="choice of no modality",
            ),
            pytest.param(
                "id,t1,t1\na,a/t1.nii.gz,a/t2.nii.gz\n", "column 't1' is there twice",
                id="column twice",
            ),
            pytest.param(
                "id,t1,t2\na,a/t1.nii.gz,a/../a/t1.nii.gz\n",
                "row 2: t1 and t2 are the same image",
                id="image twice",
            ),
            pytest.param(
                "id,t1,label\na,a/t1.nii.gz,a/t1.nii.gz\n",
                "row 2: t1 and label are the same image",
                id="image as label",
            ),
            pytest.param(
                "id,t1\na,a/t1.nii.gz\nb,a/t1.nii.gz\n",
                "cases a and b have the same images, and need one subject",
                id="scan twice",
            ),
            pytest.param(
                "id,subject,t1,label\na,s,a/t1.nii.gz,a/seg.nii.gz\nb,s,a/t1.nii.gz,a/seg.nii.gz\n",
                "cases a and b are the same files",
                id="row twice",
            ),
            pytest.param(
                f"id,t1,t1_volume\na,a/t1.nii.gz,{'9' * 5000}\n",
                f"row 2: t1_volume: found '{'9' * 59}..., expected a whole number from 0",
                id="digits",
            ),
            pytest.param(
                "id,t1,,t2\na,a/t1.nii.gz,0,a/t2.nii.gz\n", "column 3 has no name", id="no name"
            ),
            pytest.param(
                "id,label\na,a/seg.nii.gz\n", "there is no column of a modality", id="no modality"
            ),
            pytest.param(
                "id;t1\na;a/t1.nii.gz\n",
                "there is no column 'id'; columns are not separated by commas",
                id="semicolons",
            ),
            pytest.param(
                "id,t1\n", "holds no cases; expected a header and a row for each case; add some",
                id="header only",
            ),
            pytest.param(
                "", "holds no cases; expected a header and a row for each case; add some",
                id="empty",
            ),
        ],
    )  # fmt: skip
    def test_csv(self, table, content, message):
        assert refusal(table(content)) == message

    def test_all_problems_at_once(self, table):
        text = (
            "id,t1,t2,t2_volume\na,a/t1.nii.gz,,x\na,a/t1.nii.gz,a/no.nii.gz,\nb/c,,b/t2.nii.gz,1\n"
        )
        assert refusal(table(text)).split("; ") == [
            "row 3: id 'a' is that of row 2",
            "row 2: t2_volume: found x, expected a whole number from 0",
            "row 3: t2: a/no.nii.gz is not there",
            "row 4: id 'b/c' cannot name files: expected no slash, no dot at its beginning and "
            "nothing invisible",
        ]

    def test_quotes_that_do_not_end(self, table):
        message = refusal(table('id,t1\na,"a/t1.nii.gz\n'))
        assert message == "not valid CSV (unexpected end of data); save the table again"

    def test_other_encodings(self, table):
        message = refusal(table("id,t1\nMüller,a/t1.nii.gz\n", encoding="latin-1"))
        assert message == "not a text in UTF-8; save the table as CSV UTF-8"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param("[", "not valid JSON (Expecting value, line 1); exp", id="cut off"),
            pytest.param("[" * 100_000, "not valid JSON", id="deep"),
            pytest.param("[]", "holds no cases; expected a list with an object for each case",
                         id="empty"),
            pytest.param('[{"id": "a", "id": "b"}]', "not valid JSON ('id' is there twice); "
                         "expected a list", id="key twice"),
            pytest.param('[{"id": "a", " id": "b", "t1": ""}]', "entry 1: a key is there twice",
                         id="spaces"),
            pytest.param('{"modality": {}}', "not a dataset table (it is no list); "
                         "expected a list with an object for each case; where it describes a "
                         "folder, give the folder", id="a description"),
            pytest.param('[{"id": "a"}, 3]', "not a dataset table (entry 2: expected a "
                         "mapping, found 3)",
                         id="no object"),
            pytest.param('[{"id": ["a"]}]', "not a dataset table (entry 1.id: expected text, a "
                         "number, true, false or null, found ['a'])", id="a list"),
            pytest.param('[{"id": "a", "t1": "x.nii"}]', "entry 1: t1: x.nii is not there",
                         id="missing file"),
        ],
    )  # fmt: skip
    def test_json(self, table, content, message):
        assert refusal(table(content, "cases.json")).startswith(message)


NAMES = st.text(string.ascii_letters + string.digits + " _-é.", min_size=1, max_size=12).filter(
    lambda name: name == name.strip() and not name.startswith(".")
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def cases_in(draw, folder):
    """Cases that have all modalities of each other, with files of any name and all choices."""
    modalities = draw(st.lists(st.sampled_from(["t1", "t2", "FLAIR", "t1_acq-x", "CT"]), min_size=1,
                               unique=True))  # fmt: skip
    ids = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    found = []
    for number, case_id in enumerate(sorted(ids)):
        images = {}
        for modality in modalities:
            onto = next(iter(images.values())) if images and draw(st.booleans()) else None
            images[modality] = ImageSource(
                folder / draw(NAMES) / f"{number}{draw(NAMES)}-{len(images)}.nii",
                channel=draw(st.none() | st.integers(0, 99)),
                nan=draw(st.none() | FLOATS),
                series=draw(st.none() | NAMES),
                onto=onto,
            )
        label = draw(st.none() | NAMES.map(lambda name: folder / name / "seg.nii.gz"))
        resampled = label is not None and draw(st.booleans())
        series = draw(st.none() | NAMES) if label else None
        found.append(Case(case_id, draw(NAMES), images, label, resampled, series))
    return found


class TestWriting:
    @given(data=st.data(), suffix=st.sampled_from([".csv", ".json"]), beside=st.booleans())
    def test_there_and_back(self, tmp_path_factory, data, suffix, beside):
        folder = Path(tmp_path_factory.mktemp("table"))
        cases = data.draw(cases_in(folder / "data"))
        for case in cases:
            for path in case.paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        table = folder / ("data" if beside else "elsewhere") / f"cases{suffix}"
        write_table(cases, table)
        assert find_cases(table) == cases

    def test_real_cases_of_other_layouts(self, shared_data, tmp_path):
        for name in ("brats", "hippocampus"):
            cases = find_cases(shared_data / name)
            write_table(cases, tmp_path / f"{name}.csv")
            again = find_cases(tmp_path / f"{name}.csv")
            assert [(c.id, c.subject) for c in again] == [(c.id, c.subject) for c in cases]
            for case, same in zip(cases, again, strict=True):
                assert list(same.images) == list(case.images)
                assert all(a.samefile(b) for a, b in zip(case.paths, same.paths, strict=True))

    def test_columns(self, table, tmp_path):
        write_table(find_cases(table(GOOD)), tmp_path / "again.csv")
        assert (tmp_path / "again.csv").read_text() == (
            "id,subject,t1,t2,label\n"
            "a,a,a/t1.nii.gz,a/t2.nii.gz,a/seg.nii.gz\n"
            "b,b,b/t1.nii.gz,b/t2.nii.gz,\n"
        )

    def test_what_is_missing_is_an_empty_cell(self, tmp_path):
        for name in ("t1", "t2", "other"):
            (tmp_path / f"{name}.nii").touch()
        whole = Case("a", "a", {m: ImageSource(tmp_path / f"{m}.nii") for m in ("t1", "t2")})
        lacking = Case("b", "b", {"t2": ImageSource(tmp_path / "other.nii")})
        write_table([whole, lacking], tmp_path / "x.csv")
        assert [case.images for case in find_cases(tmp_path / "x.csv")] == [
            whole.images,
            lacking.images,
        ]

    def test_links_in_folders(self, tmp_path):
        """A relative path is meant of the real folder of the table."""
        (tmp_path / "deep/er").mkdir(parents=True)
        (tmp_path / "t1.nii").touch()
        (tmp_path / "link").symlink_to(tmp_path / "deep/er")
        case = Case("a", "a", {"t1": ImageSource(tmp_path / "t1.nii")})
        write_table([case], tmp_path / "link/x.csv")
        for folder in ("link", "deep/er"):
            assert find_cases(tmp_path / folder / "x.csv") == [case]

    @pytest.mark.parametrize(
        ("case", "message"),
        [
            pytest.param(
                Case("a", "a", {"t1_nan": ImageSource(Path("x.nii"))}),
                "unknown column 't1_nan': there is no modality 't1'; there is no column of a "
                "modality; modality 't1_nan' cannot be the name of a column",
                id="modality like a choice",
            ),
            pytest.param(
                Case(" a", "a", {"t1": ImageSource(Path("x.nii"))}),
                "' a' cannot be kept as text",
                id="names that would be lost",
            ),
            pytest.param(
                Case("a\udc80", "a", {"t1": ImageSource(Path("x.nii"))}),
                "id 'a\\\\udc80' cannot name files",
                id="an id that is no text",
            ),
            pytest.param(
                Case(
                    "a", "a",
                    {
                        "t1": ImageSource(Path("x")),
                        "t2": ImageSource(Path("y"), onto=ImageSource(Path("z"))),
                    },
                ),
                "case a: t2 is resampled onto another image than t1",
                id="resampled onto something else",
            ),
        ],
    )  # fmt: skip
    def test_what_cannot_be_told(self, tmp_path, case, message):
        with pytest.raises(DatasetError) as caught:
            write_table([case], tmp_path / "x.csv")
        assert str(caught.value) == (
            f"{tmp_path / 'x.csv'}: {message}; rename them, or write the table by hand"
        )
        assert not (tmp_path / "x.csv").exists()

    def test_other_formats(self, tmp_path):
        with pytest.raises(DatasetError, match=r"x.xlsx: tables are written as CSV or JSON"):
            write_table([], tmp_path / "x.xlsx")
