"""YAML is read as plain values, and what is no plain value costs neither time nor memory."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vol3dseg.config import load_config
from vol3dseg.config.yaml_text import MOST_BYTES, values_of_yaml, yaml_of_values
from vol3dseg.errors import ConfigError

# PyYAML writes line breaks of other scripts as they are; no name of ours may hold one.
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x85\u2028\u2029"))
odd = st.sampled_from(
    ["1e3", "010", "no", "~", "", "<<", ".nan", "1:30", "2020-01-01", "0x1F", "="]
)
names = texts | odd
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | names
values = st.recursive(
    scalars | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_is_read_back(value):
    assert values_of_yaml(yaml_of_values(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1e-3", 1e-3, id="without a point"),
        pytest.param("[.5, 5., -1.5E+3, .inf]", [0.5, 5.0, -1500.0, float("inf")], id="floats"),
        pytest.param("[010, +7]", [10, 7], id="no octal"),
        pytest.param("[no, on, y]", ["no", "on", "y"], id="words"),
        pytest.param(
            "[1:30, 2020-01-01, 2020-13-45]", ["1:30", "2020-01-01", "2020-13-45"], id="times"
        ),
        pytest.param("[null, ~, '', ]", [None, None, ""], id="nothing"),
        pytest.param("", None, id="empty"),
        pytest.param("[&x {b: 1, c: 2}, *x]", [{"b": 1, "c": 2}] * 2, id="alias"),
        pytest.param(
            "[&x {b: 1, c: 2}, {<<: *x, c: 3}]", [{"b": 1, "c": 2}, {"b": 1, "c": 3}], id="merged"
        ),
    ],
)
def test_plain_values(text, value):
    assert values_of_yaml(text) == value


LAUGHS = "\n".join(
    ["a0: &a0 [ha]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
REFUSED = [
    pytest.param("a: 1\nb: 2\na: 3", "the key 'a' for the second time, line 3", id="key twice"),
    pytest.param("{1: a, 1: b}", "the key 1 for the second time", id="number twice"),
    pytest.param(LAUGHS, "more than 20000 values, with aliases (*name) written out", id="laughs"),
    pytest.param("a: &a [*a]", "an alias (*name) in what it stands for, line 1", id="itself"),
    pytest.param("[" * 50_000, "nested deeper than 32", id="brackets"),
    pytest.param("\n".join(" " * n + "-" for n in range(500)), "nested deeper", id="indented"),
    pytest.param("- " * 5000, "nested deeper", id="dashes"),
    pytest.param("{" * 5000, "nested deeper", id="braces"),
    pytest.param("a: " + "9" * 5000, "a number of 5000 characters, line 1", id="digits"),
    pytest.param("a: " + "9" * 50 + ".5", "a number of 52 characters", id="long float"),
    pytest.param("a: !!python/object/apply:os.getcwd []", "the tag", id="code"),
    pytest.param("a: !!set {b}", "the tag", id="set"),
    pytest.param("a: !own 1", "the tag !own, line 1", id="own tag"),
    pytest.param("a: !!int x", "'x' is no int, line 1", id="no int"),
    pytest.param("a: !!int ''", "'' is no int", id="empty int"),
    pytest.param("a: !!timestamp x", "the tag", id="no time"),
    pytest.param("? [a]\n: 1", "a key that is a list or mapping", id="list as key"),
    pytest.param("a: *b", "undefined alias", id="no anchor"),
    pytest.param("a: [", "expected the node content", id="cut off"),
    pytest.param("--- 1\n--- 2", "expected a single document", id="two documents"),
    pytest.param("a\0b", "special characters are not allowed", id="zero byte"),
]


@pytest.mark.hostile
@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_is_refused(text, said, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not valid YAML (")
    assert message.endswith("; mend it there")
    assert len(message) < 400 + len(str(path))


@pytest.mark.hostile
def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match=f"has {MOST_BYTES + 1} bytes; expected a config of at"):
        load_config(path)
