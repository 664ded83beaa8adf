"""What is parsed from files: what is wrong is said in our words, never in Pydantic's."""

import re
from typing import Annotated, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from vol3dseg.errors import ConfigError, StoreError
from vol3dseg.schema import (
    Amount,
    Count,
    Frozen,
    Millimetres,
    Name,
    Once,
    Positive,
    Real,
    Seed,
    Share,
    Side,
    differences,
    flat,
    parse_json,
    problems,
    quoted,
    read_json,
    suggestion,
    values_of_json,
)


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


# ---------------------------------------------------------------- numbers, at their ends

NUMBERS = [
    pytest.param(Count, [0, 2**53], [-1, 2**53 + 1, True, 1.0, "1"], id="Count"),
    pytest.param(Positive, [1, 2**53], [0, 2**53 + 1, True, 1.0], id="Positive"),
    pytest.param(Side, [1, 2**20], [0, 2**20 + 1, True, "1"], id="Side"),
    pytest.param(Seed, [0, 2**32 - 1], [-1, 2**32, False], id="Seed"),
    pytest.param(Real, [-3.4e38, 3.4e38, 1], [-3.5e38, 3.5e38, True, "1"], id="Real"),
    pytest.param(Amount, [0, 0.0, 3.4e38], [-1e-30, 3.5e38, True, "1"], id="Amount"),
    pytest.param(Share, [0, 1, 0.5], [-1e-30, 1.000001, True, "1"], id="Share"),
    pytest.param(Millimetres, [1e-9, 1e9], [0.9e-9, 1e9 + 0.5, 0, True, "1"], id="Millimetres"),
]


@pytest.mark.parametrize(("kind", "right", "wrong"), NUMBERS)
def test_numbers_have_ends(kind, right, wrong):
    checked = TypeAdapter(kind)
    for value in right:
        assert checked.validate_python(value) == value
    for value in wrong:
        with pytest.raises(ValidationError):
            checked.validate_python(value)


NAMES = [("", "at least 1"), ("x" * 256, "at most 255"), ("a\nb", "nobody sees"), (" \t", "nobody"),
         ("  ", "nobody sees"), ("\u202etxt", "nobody sees")]  # fmt: skip


@pytest.mark.parametrize(("name", "said"), NAMES)
def test_names_can_be_seen(name, said):
    checked = TypeAdapter(Name)
    assert checked.validate_python("x" * 255)
    assert checked.validate_python("größte Läsion") == "größte Läsion"
    with pytest.raises(ValidationError, match=said):
        checked.validate_python(name)


def test_a_name_stands_in_a_list_once():
    checked = TypeAdapter(Annotated[tuple[str, ...], Once])
    assert checked.validate_python(["a", "b"]) == ("a", "b")
    with pytest.raises(ValidationError, match="a is there twice"):
        checked.validate_python(["a", "b", "a"])


# ---------------------------------------------------------------- JSON


def test_the_longest_whole_number():
    assert values_of_json("9" * 30) == int("9" * 30)
    with pytest.raises(ValueError, match="a number of 31 digits"):
        values_of_json("9" * 31)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
        ("[" * 10**5, "nested too deep"),
        (b'"\xff"', "no text in UTF-8"),
        ('{\n"a": 1,\n}', "line 3"),
        ("", "Expecting value, line 1"),
    ],
)
def test_what_is_wrong_with_json_is_said_in_words(text, said):
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        values_of_json(text)
    assert type(caught.value) is ValueError


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.write(b'{"kind": "b"}' + b" " * 50)
    assert read_json(Outer, path, StoreError, **WANTED).kind == "b"
    with path.open("wb") as file:
        file.truncate(2**29 + 2**19)  # no byte of it is on the disk
    with pytest.raises(StoreError) as caught:
        read_json(Outer, path, StoreError, **WANTED)
    assert str(caught.value) == (
        f"{path}: has 512 MB; expected JSON of ours, of at most 512 MB; write it again"
    )


# ---------------------------------------------------------------- words


class Many(Frozen):
    numbers: dict[str, Count] = {}
    names: Annotated[tuple[str, ...], Field(min_length=2, max_length=3)] = ("a", "b")
    inner: Inner | dict[str, Inner] | None = None


def said_of(value, model=Many):
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return problems(caught.value, model)


def test_ten_problems_are_said_and_the_others_counted():
    ten = said_of({"numbers": {f"n{n}": -1 for n in range(10)}})
    assert ten.count("expected at least 0, found -1") == 10
    assert "more" not in ten
    assert said_of({"numbers": {f"n{n}": -1 for n in range(12)}}) == f"{ten}; and 2 more"


def test_long_values_are_cut():
    assert quoted("x" * 58) == repr("x" * 58)
    assert quoted("x" * 59) == repr("x" * 59)[:60] + "..."
    deep = []
    for _ in range(10**5):
        deep = [deep]
    assert quoted(deep) == "a list too large to be shown"
    assert quoted(10**5000) == "a int too large to be shown"


def test_a_key_that_cannot_be_shown_is_quoted():
    assert said_of({"numbers": {"a\x1b[31m": -1}}) == (
        r"numbers.'a\x1b[31m': expected at least 0, found -1"
    )
    assert said_of({"numbers": {"x" * 60: -1}}).startswith(f"numbers.{'x' * 60}: expected")
    assert said_of({"numbers": {"x" * 61: -1}}).startswith(f"numbers.'{'x' * 59}...: expected")


def test_keys_are_suggested_where_they_are_unknown():
    assert said_of({"nmes": []}) == "unknown key 'nmes', did you mean 'names'?"
    assert said_of({"zzz": 1}) == "unknown key 'zzz'; known: numbers, names, inner"
    assert suggestion("zzz", []) == ""
    with pytest.raises(ValidationError) as caught:
        Many.model_validate({"nmes": []})
    assert problems(caught.value) == "unknown key 'nmes'"


class Outermost(Frozen):
    outer: Outer
    others: tuple[Outer, ...] = ()
    by_name: dict[str, Inner] = {}


def test_keys_are_those_of_the_place():
    for value, said in (
        ({"outer": {"flga": 1}}, "unknown key 'outer.flga', did you mean 'flag'?"),
        ({"outer": {"inner": {"size": [1, 1], "shrae": 1}}},
         "unknown key 'outer.inner.shrae', did you mean 'share'?"),
        ({"outer": {}, "others": [{"knid": "a"}]},
         "unknown key 'others.0.knid', did you mean 'kind'?"),
        ({"outer": {}, "outre": 1}, "unknown key 'outre', did you mean 'outer'?"),
        ({"outer": {"zzzzz": 1}}, "unknown key 'outer.zzzzz'; known: kind, name, inner, flag"),
    ):  # fmt: skip
        assert said_of(value, Outermost) == said


def test_the_closest_key_is_suggested():
    assert suggestion("shape", ["shame", "shapes", "shapely"]) == ", did you mean 'shapes'?"


def test_what_a_check_of_ours_says_is_said_as_it_is():
    checked = TypeAdapter(Annotated[tuple[str, ...], Once])
    with pytest.raises(ValidationError) as caught:
        checked.validate_python(["a", "a"])
    assert problems(caught.value) == "a is there twice"


def test_numbers_of_files_are_finite():
    class Free(Frozen):
        value: float

    assert "value: expected a finite number, found inf" in said_of({"value": float("inf")}, Free)


def test_lists_that_are_too_short_or_too_long():
    assert said_of({"names": ["a"]}) == "names: expected at least 2 entries, found ['a']"
    assert said_of({"names": list("abcd")}) == (
        "names: expected at most 3 entries, found ['a', 'b', 'c', 'd']"
    )
    assert said_of({"names": [1]}) == "names.0: expected text, found 1"


def test_differences_are_named_by_their_place():
    ours = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "only": 4, "empty": {}}
    theirs = {"a": 1, "b": {"c": 5, "d": {"e": 3}}, "theirs": 6, "empty": {}}
    assert differences(ours, theirs) == "b.c: 2 and 5; only: 4 and None; theirs: None and 6"
    assert differences(ours, ours) == ""
    assert flat(ours) == {"a": 1, "b.c": 2, "b.d.e": 3, "only": 4, "empty": {}}
