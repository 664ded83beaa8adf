"""What commands share: tables in the terminal, and files that text goes into, whatever it holds."""

import pytest

from vol3dseg.cli.options import show_table
from vol3dseg.errors import OutputError
from vol3dseg.files import require_writable, write_text

HOSTILE = [
    pytest.param("[/old] [a] :smile:", "[/old] [a] :smile:", id="markup"),
    pytest.param("scan\udcff", "scan\\udcff", id="a file name that is not UTF-8"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_tables_show_text_as_it_is(text, shown, capsys):
    show_table(f"title {text}", [f"column {text}"], [[f"cell {text}"]])
    printed = capsys.readouterr().out
    for place in ("title", "column", "cell"):
        assert f"{place} {shown}" in printed


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_any_text_can_be_written(text, shown, tmp_path):
    write_text(tmp_path / "x.txt", text)
    assert (tmp_path / "x.txt").read_text("utf-8") == shown


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    require_writable(tmp_path / "new" / "folder")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(
            OutputError, match=r"file.*cannot be written .*; expected a writable place"
        ):
            require_writable(place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
