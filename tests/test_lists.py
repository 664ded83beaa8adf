"""The list of a folder: what is ours in it, what is not, and lists that are none of ours."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from vol3dseg.errors import ConfigError, OutputError
from vol3dseg.files import write_text
from vol3dseg.written import (
    LIST_NAME,
    add_to_list,
    adopt,
    is_ours,
    list_again,
    reporting,
    require_ours,
    sha256_file,
    usable_path,
)

DIGEST = hashlib.sha256(b"text").hexdigest()
FILES = {"a": DIGEST, "b": DIGEST}


@pytest.fixture
def copied(tmp_path):
    """Files of ours in a folder that has no list."""
    for name in FILES:
        (tmp_path / name).write_text("text")
    return tmp_path


def lines(folder):
    """Without the title."""
    return (folder / LIST_NAME).read_text().splitlines()[1:]


def test_a_list_is_as_sha256sum_has_it(copied):
    assert sha256_file(copied / "a") == DIGEST
    add_to_list(copied, {"a": DIGEST})
    add_to_list(copied, {"b": DIGEST})
    assert (copied / LIST_NAME).read_text() == (
        f"# What vol3dseg has written here; it replaces and removes nothing else.\n{DIGEST}  a\n"
        f"{DIGEST}  b\n"
    )


def test_what_cannot_be_read_is_said(copied, monkeypatch):
    adopt(copied, FILES)

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    assert is_ours(copied / "a")
    monkeypatch.setattr("vol3dseg.written.sha256_file", forbidden)
    with pytest.raises(OutputError, match=r"cannot be read \(Permission denied\)"):
        is_ours(copied / "a")


def test_a_file_under_another_name_is_not_ours(copied):
    adopt(copied, {"a": DIGEST})
    assert [is_ours(copied / name) for name in ("a", "b", "none")] == [True, False, False]
    (copied / "a").write_text("other")
    assert not is_ours(copied / "a")


# ---------------------------------------------------------------- folders without a list


def test_a_folder_without_a_list_is_adopted(copied):
    adopt(copied, {})
    assert not (copied / LIST_NAME).exists()
    adopt(copied, FILES)
    assert all(map(is_ours, (copied / "a", copied / "b")))


def test_a_folder_with_a_list_is_not(copied):
    add_to_list(copied, {"a": DIGEST})
    adopt(copied, FILES)
    assert not is_ours(copied / "b")
    (copied / LIST_NAME).unlink()
    (copied / LIST_NAME).symlink_to("nowhere")
    adopt(copied, FILES)
    assert (copied / LIST_NAME).is_symlink()


def test_no_folder_is_no_folder(tmp_path):
    adopt(tmp_path / "none", FILES)
    list_again(tmp_path / "none", FILES)
    assert list(tmp_path.iterdir()) == []


def test_what_a_list_lost_is_added_once(copied):
    add_to_list(copied, {"a": DIGEST})
    for _ in range(2):
        list_again(copied, FILES)
        assert lines(copied) == [f"{DIGEST}  a", f"{DIGEST}  b"]


# ---------------------------------------------------------------- what is refused


def test_all_that_is_not_ours_is_named_at_once(tmp_path):
    paths = [tmp_path / place for place in ("one/a", "one/b", "one/ours", "two/c")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    add_to_list(tmp_path / "one", {"ours": DIGEST})
    require_ours([tmp_path / "one" / "ours", tmp_path / "one" / "none"])
    with pytest.raises(OutputError) as caught:
        require_ours(paths[:3], doing="would remove")
    assert caught.value.where == str(tmp_path / "one")
    assert "would remove a, b, which vol3dseg did not write" in str(caught.value)
    with pytest.raises(OutputError) as caught:
        require_ours(paths)
    assert caught.value.where == ""
    assert f"would replace {paths[0]}, {paths[1]}, {paths[3]}, which" in str(caught.value)


FOREIGN = [
    pytest.param(lambda path: path.write_text("mine"), id="text of somebody else"),
    pytest.param(lambda path: path.write_text(f"{DIGEST}  a\n"), id="without our title"),
    pytest.param(lambda path: path.mkdir(), id="a folder"),
    pytest.param(lambda path: path.symlink_to("nowhere"), id="a dangling link"),
    pytest.param(os.mkfifo, id="a pipe"),
]


@pytest.mark.parametrize("make", FOREIGN)
def test_a_list_of_somebody_else_is_left_alone(make, copied):
    place = copied / LIST_NAME
    make(place)
    for refused in (
        lambda: require_ours([copied / "new"]),
        lambda: add_to_list(copied, FILES),
        lambda: list_again(copied, FILES),
        lambda: is_ours(copied / "a"),
        lambda: write_text(copied / "new", "text"),
    ):
        with pytest.raises(OutputError) as caught:
            refused()
        assert str(caught.value).startswith(f"{place}: is not of vol3dseg; expected its list of")
    assert not (copied / "new").exists()


def test_a_link_to_a_list_of_ours_is_none(copied):
    add_to_list(copied, FILES)
    (copied / LIST_NAME).rename(copied / "list")
    (copied / LIST_NAME).symlink_to("list")
    with pytest.raises(OutputError, match="is not of vol3dseg"):
        is_ours(copied / "a")


def test_a_list_that_is_just_begun_is_ours(copied):
    (copied / LIST_NAME).touch()
    require_ours([copied / "new"])
    add_to_list(copied, FILES)
    assert is_ours(copied / "a")


def test_only_errors_of_the_system_are_reported(tmp_path):
    for raised in (OSError("of a library"), OutputError("of ours"), KeyError()):
        with pytest.raises(type(raised)) as caught, reporting(tmp_path):
            raise raised
        assert caught.value is raised
    with pytest.raises(OutputError) as caught, reporting(tmp_path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{tmp_path}: cannot be written (No space left on device); expected a writable place with "
        "room; make room there, or choose another"
    )


@pytest.mark.parametrize("text", ["", "a/../b", "absent/" * 20, "x" * 255])
def test_what_is_there_or_may_be_there_is_a_path(text, tmp_path):
    assert usable_path(tmp_path / text, ConfigError) == tmp_path / text
    assert usable_path(text, ConfigError) == Path(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x" * 256, "File name too long"),
        ("a\0b", "no name holds NUL"),
        ("loop/x", "Too many level"),
    ],
)
def test_what_no_system_takes_is_no_path(text, said, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(
        ConfigError, match=rf"cannot be the name of a file or folder \({said}"
    ) as no:
        usable_path(tmp_path / text, ConfigError)
    assert "\0" not in str(no.value)


@pytest.mark.parametrize("named", [None, "/another"])
def test_an_error_of_reading_names_the_file(named, tmp_path, monkeypatch):
    """The system's own does not where a file is open by then."""
    (tmp_path / "a").touch()

    def broken(file, name):
        raise OSError(errno.EIO, "Input/output error", *filter(None, [named]))

    monkeypatch.setattr(hashlib, "file_digest", broken)
    with pytest.raises(OSError, match="Input/output error") as caught:
        sha256_file(tmp_path / "a")
    assert caught.value.filename == (named or str(tmp_path / "a"))


def test_a_link_is_not_ours_even_to_a_file_of_ours(copied):
    (copied / "link").symlink_to("a")
    add_to_list(copied, FILES | {"link": DIGEST, "folder": DIGEST, "pipe": DIGEST})
    (copied / "folder").mkdir()
    os.mkfifo(copied / "pipe")  # whoever opens it waits
    assert [is_ours(copied / name) for name in ("a", "link", "folder", "pipe")] == [
        True, False, False, False
    ]  # fmt: skip
