"""What commands share: tables in the terminal, and files that text goes into, whatever it holds."""

import click
import pytest
from click.testing import CliRunner

from vol3dseg.cli.main import cli
from vol3dseg.cli.options import Once, show_table
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


def every_command(group=cli, words=()):
    """Commands with the words that call them, those of groups too."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from every_command(command, (*words, name))
        else:
            yield pytest.param((*words, name), command, id=" ".join((*words, name)))


@pytest.mark.parametrize(("words", "command"), list(every_command()))
def test_every_command_refuses_what_is_given_twice(words, command):
    assert isinstance(command, Once)
    output = {"demo": "--folder"}.get(words[0], "-o")
    if output not in {o for p in command.params for o in p.opts}:
        return
    found = CliRunner().invoke(cli, [*words, output, "a", output, "b"])
    assert found.exit_code == 2
    assert "is given twice; it takes one" in found.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param("train p -o r --config demo -c demo", "demo is given twice", id="config"),
        pytest.param("predict m a ./a -o o", "./a is given twice", id="path in two spellings"),
        pytest.param("predict m --image t1=a --image t1=a -o o", "t1=a is given twice", id="image"),
        pytest.param("predict m a -o o --part test --part test", "test is given twice", id="part"),
        pytest.param("compare r s r -o o", "r is given twice", id="run"),
        pytest.param("preprocess d -o o -c a -c b", "--config is given twice", id="one config"),
        pytest.param("preprocess d -o o --repair --repair", "--repair is given twice", id="flag"),
        pytest.param("info a b", "unexpected extra argument", id="one thing"),
    ],
)
def test_what_is_given_twice(words, said):
    found = CliRunner().invoke(cli, words.split())
    assert found.exit_code == 2
    assert said in found.output
    assert "Traceback" not in found.output
