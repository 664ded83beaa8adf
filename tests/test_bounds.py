"""Every number in a file has bounds, and all that Pydantic finds wrong is said in our words."""

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError
from pydantic_core._pydantic_core import list_all_errors

import vol3dseg
from vol3dseg import export
from vol3dseg.config import load_config
from vol3dseg.errors import MissingExtraError, ModelError
from vol3dseg.schema import _WORDS, parse_json, problems

LARGE = 10**400
BAD_NUMBERS = [
    float("nan"),
    float("inf"),
    -float("inf"),
    1e300,
    -1e300,
    LARGE,
    -LARGE,
    True,
    "3",
    "x",
]
BAD_VALUES = [
    *BAD_NUMBERS, None, 0, -1, 1.5, 10**5000, "", "\ud800", b"\xff", [], [[]], {}, {"a": 1}, {1: 2},
    ["a"] * 50, [1] * 50, {str(n): n for n in range(50)}, object(),
]  # fmt: skip
# Of a network from elsewhere; nothing computes with it.
UNBOUND = {"Network.architecture"}
_BASES = "NormalisationStep|Definition"
MODEL = re.compile(rf"^class (?!{_BASES})(\w+)\((?:Frozen|BaseModel|{_BASES})\):", re.MULTILINE)


def models():
    """Yield all models as module and name."""
    packages = {package.__name__: Path(package.__file__).parent for package in (vol3dseg, export)}
    for package, root in packages.items():
        for file in sorted(root.rglob("*.py")):
            module = ".".join((package, *file.relative_to(root).with_suffix("").parts))
            for name in MODEL.findall(file.read_text(encoding="utf-8")):
                yield pytest.param((module, name), id=f"{file.stem}.{name}")


@pytest.fixture
def model(request):
    module, name = request.param
    try:
        return getattr(importlib.import_module(module), name)
    except MissingExtraError as error:
        pytest.skip(str(error))


def leaves(schema, wrap=lambda value: value):
    """Yield what holds one value, and how a value is put there; not what inner models hold."""
    kind = schema["type"]
    if kind in {"int", "float", "any"}:
        yield schema, wrap
    elif kind == "union":
        for choice in schema["choices"]:
            yield from leaves(choice[0] if isinstance(choice, tuple) else choice, wrap)
    elif kind in {"tuple", "list"}:
        items = schema["items_schema"]
        for item in items if isinstance(items, list) else [items]:
            yield from leaves(item, lambda v: wrap([v]))
    elif kind == "dict":
        yield from leaves(schema["values_schema"], lambda v: wrap({"a": v}))
    elif kind != "model" and "schema" in schema:
        yield from leaves(schema["schema"], wrap)


def fields(model):
    schema = model.__pydantic_core_schema__
    while schema["type"] != "model-fields":
        schema = schema["schema"]
    for name, field in schema["fields"].items():
        yield field.get("validation_alias", name), field["schema"]


def wrong(model, data):
    """Return what is said of data, and of which types that is; nothing where all is well."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        return problems(error, model), error.errors()
    return "", []


every_model = pytest.mark.parametrize("model", list(models()), indirect=True)


@every_model
def test_every_number_has_bounds(model):
    for name, schema in fields(model):
        for leaf, _ in leaves(schema):
            place = f"{model.__name__}.{name}"
            assert leaf["type"] != "any" or place in UNBOUND, place
            if leaf["type"] != "any":
                assert leaf.get("strict"), f"{place}: true would be a number"
                assert leaf.keys() & {"ge", "gt"}, f"{place} has no least"
                assert leaf.keys() & {"le", "lt"}, f"{place} has no largest"


@every_model
def test_the_narrower_bound_is_the_one_that_holds(model):
    """Pydantic lets a type overrule the field, where the field does not stand in Annotated."""
    for name, schema in fields(model):
        info = next(f for n, f in model.model_fields.items() if (f.alias or n) == name)
        for leaf, _ in leaves(schema):
            for bound in info.metadata:
                if isinstance(bound, Le):
                    assert leaf["le"] <= bound.le, name
                if isinstance(bound, Ge):
                    assert leaf["ge"] >= bound.ge, name


@every_model
def test_numbers_that_are_none(model):
    for name, schema in fields(model):
        for leaf, put in leaves(schema):
            for bad in BAD_NUMBERS if leaf["type"] != "any" else ():
                said, found = wrong(model, {name: put(bad)})
                assert any(error["loc"][0] == name for error in found), (name, bad)
                assert len(said) < 2000


@every_model
def test_all_that_is_found_has_words_of_ours(model):
    known = {*_WORDS, "value_error", "extra_forbidden"}
    wraps = [lambda v: v, lambda v: [v], lambda v: [[v]], lambda v: {"a": v}, lambda v: [{"a": v}]]
    for name, _ in fields(model):
        for bad in BAD_VALUES:
            for wrap in wraps:
                said, found = wrong(model, {name: wrap(bad)})
                types = {error["type"] for error in found}
                assert types <= known, (name, types - known)
                assert len(said) < 5000
                assert said.isprintable()
    for bad in BAD_VALUES:
        assert {error["type"] for error in wrong(model, bad)[1]} <= known


KINDS = {each["type"]: each for each in list_all_errors()}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_words_of_pydantic_get_out(kind):
    context = KINDS[kind].get("example_context")
    if kind == "value_error":
        context = {"error": ValueError("our own words")}
    line = {"type": kind, "loc": ("a", 1), "input": 7, "ctx": context or {}}
    error = ValidationError.from_exception_data("x", [line])
    said = problems(error)
    assert "a.1" in said
    assert (
        "our own words" in said if kind == "value_error" else error.errors()[0]["msg"] not in said
    )
    assert not {"Input", "should", "Unable", "Pydantic"} & set(said.split())


def test_no_model_is_passed_over():
    listed = {param.values[0] for param in models()}
    waiting, found = [BaseModel], set()
    while waiting:
        for each in waiting.pop().__subclasses__():
            waiting.append(each)
            if each.__module__.startswith("vol3dseg.") and not inspect.isabstract(each):
                found.add((each.__module__, each.__name__))
    assert len(found) > 20
    assert found <= {*listed, ("vol3dseg.schema", "Frozen")}


def places(data, place=()):
    yield place
    inside = (
        data if isinstance(data, dict) else range(len(data[:2])) if isinstance(data, list) else ()
    )
    for key in inside:
        yield from places(data[key], (*place, key))


def harmed(data, place, value):
    if not place:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[place[0]] = harmed(data[place[0]], place[1:], value)
    return copy


HARM = [
    float("nan"), 1e30, -1, 0, 1, 1.5, 10**29, True, None, "x", "", "\ud800", [], {}, [[]],
    {"a": 1}, [1, 2], ["a", "a"], {"method": []},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["config", "manifest", "record"])
def test_a_harmed_document_is_read_or_refused(kind, manifest, record):
    """Whatever stands wherever: what one field breaks must not end another's check."""
    document = {"config": load_config("demo"), "manifest": manifest, "record": record}[kind]
    data = json.loads(document.model_dump_json())
    said = []
    for place in places(data):
        for value in HARM:
            text = json.dumps(harmed(data, place, value))
            try:
                parse_json(type(document), text, "x", ModelError, expected="e", remedy="r")
            except ModelError as error:
                said.append(str(error))
    assert len(said) > 300
    assert [words for words in said if len(words) > 2000 or not words.isprintable()] == []
