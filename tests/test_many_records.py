"""Records of many cases: packed until they are written, and a line for each."""

import json

from vol3dseg.many_records import PackedRecords, write_by_line
from vol3dseg.schema import Frozen


class Case(Frozen):
    name: str
    voxels: int


class Cases(Frozen):
    title: str
    cases: tuple[Case, ...] = ()


def packed(*cases):
    records = PackedRecords()
    for case in cases:
        records.add(case.name, case)
    return records


def test_records_come_back_as_they_were_in_the_order_asked_for():
    records = packed(Case(name="b", voxels=2), Case(name="ä", voxels=1), Case(name="b", voxels=3))
    assert len(records) == 2
    chosen = records.in_order(["ä", "c", "b"])
    assert [Case.model_validate_json(line) for line in chosen.values()] == [
        Case(name="ä", voxels=1),
        Case(name="b", voxels=3),
    ]


def test_each_case_is_a_line_and_the_whole_is_what_pydantic_would_write(tmp_path):
    whole = Cases(title="x", cases=(Case(name="a\nb", voxels=1), Case(name="ü", voxels=2)))
    lines = [case.model_dump_json() for case in whole.cases]
    write_by_line(tmp_path / "list.json", whole, "[]", lines)
    text = (tmp_path / "list.json").read_text("utf-8")
    assert Cases.model_validate_json(text) == whole
    assert [line.strip(" ,") for line in text.splitlines() if line.startswith("  ")] == lines


def test_no_cases_are_written_as_none(tmp_path):
    write_by_line(tmp_path / "list.json", Cases(title="x"), "[]", [])
    write_by_line(tmp_path / "mapping.json", Cases(title="x"), "{}", [])
    found = [json.loads((tmp_path / n).read_text("utf-8")) for n in ("list.json", "mapping.json")]
    assert found == [{"title": "x", "cases": []}, {"title": "x", "cases": {}}]
