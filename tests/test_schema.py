"""What is parsed from files: what is wrong is said in our words, never in Pydantic's."""

import re
from typing import Literal

import pytest
from pydantic import Field

from vol3dseg.errors import ConfigError, StoreError
from vol3dseg.schema import Frozen, parse_json, read_json


class Inner(Frozen):
    size: tuple[int, int]
    share: float = Field(default=0.5, gt=0, le=1)


class Outer(Frozen):
    kind: Literal["a", "b"] = "a"
    name: str = Field(default="x", min_length=1)
    inner: Inner | None = None
    flag: bool = False


WANTED = {"expected": "JSON of ours", "remedy": "write it again"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('{"kind": "c"}', "kind: expected 'a' or 'b', found 'c'", id="choice"),
        pytest.param('{"kin": "a"}', "unknown key 'kin', did you mean 'kind'?", id="key"),
        pytest.param(
            '{"inner": {"sz": 1}}', "inner.size is missing; unknown key 'inner.sz'", id="nested"
        ),
        pytest.param(
            '{"inner": {"size": [1, 1.5]}}',
            "inner.size.1: expected a whole number, found 1.5",
            id="number",
        ),
        pytest.param(
            '{"inner": {"size": 3}}', "inner.size: expected a list, found 3", id="no list"
        ),
        pytest.param(
            '{"inner": {"size": [1, 2], "share": 0}}',
            "inner.share: expected more than 0.0, found 0",
            id="bound",
        ),
        pytest.param("[1]", "expected a mapping, found [1]", id="other document"),
        pytest.param('{"flag": "no idea"}', "flag: expected true or false", id="flag"),
        pytest.param('{"name": ""}', "name: expected at least 1 characters", id="empty"),
        pytest.param("{", "not valid JSON", id="cut off"),
        pytest.param('{"name": ' + str([0] * 99) + "}", "...", id="long values are cut"),
    ],
)
def test_every_problem_in_our_words(text, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        parse_json(Outer, text, "x.json", ConfigError, **WANTED)
    message = str(caught.value)
    assert message.startswith("x.json: is damaged or of another version (")
    assert message.endswith("expected JSON of ours; write it again")
    assert "Input should" not in message
    assert len(message) < 300


def test_a_wrong_entry_is_not_said_to_be_missing_as_well():
    class Listed(Frozen):
        sizes: tuple[int, ...] = Field(min_length=1)

    with pytest.raises(ConfigError) as caught:
        parse_json(Listed, '{"sizes": ["x"]}', "x.json", ConfigError, **WANTED)
    assert "(sizes.0: expected a whole number, found 'x')" in str(caught.value)
    with pytest.raises(ConfigError, match="sizes: expected at least 1 entries"):
        parse_json(Listed, '{"sizes": []}', "x.json", ConfigError, **WANTED)


def test_what_is_valid_is_frozen(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"inner": {"size": [1, 2]}}')
    found = read_json(Outer, path, StoreError, **WANTED)
    assert found == Outer(inner=Inner(size=(1, 2)))
    with pytest.raises(ValueError, match="frozen"):
        found.kind = "b"


def test_a_missing_file(tmp_path):
    with pytest.raises(StoreError, match=r"x.json: is missing; expected JSON of ours; write it"):
        read_json(Outer, tmp_path / "x.json", StoreError, **WANTED)


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(StoreError, match=r"cannot be read .*; write it again"):
        read_json(Outer, tmp_path, StoreError, **WANTED)
