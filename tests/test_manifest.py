"""What a manifest may say: sizes at their ends, and parts that must agree."""

import json

import pytest

from vol3dseg.errors import ModelError, RunError
from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.manifest import METADATA_KEY, Manifest, parse_manifest, read_run_manifest

ADOPTED = AdoptedFacts(framework="nnU-Net", checkpoint="x.pth", sha256="0" * 64)


@pytest.fixture
def changed(manifest):
    """Return a manifest as JSON with another value at a place."""

    def change(value, *place):
        said = owner = json.loads(manifest.model_dump_json())
        for key in place[:-1]:
            owner = owner[key]
        owner[place[-1]] = value
        return json.dumps(said)

    return change


def test_a_manifest_is_read_as_it_was_written(manifest):
    assert parse_manifest(manifest.model_dump_json(), "x.onnx") == manifest
    assert METADATA_KEY == "vol3dseg.manifest"


SIZES = [
    pytest.param(("network", "divisor"), [1, 4096, 4], [1, 4097, 4], "4096", id="divisor"),
    pytest.param(("network", "divisor"), [1, 1, 1], [0, 1, 1], "at least 1", id="no divisor"),
    pytest.param(("network", "receptive_field"), [0, 2**20, 0], [0, 2**20 + 1, 0], "1048576",
                 id="receptive field"),
    pytest.param(("tiling", "step"), [16, 16, 16], [17, 16, 16], "(17, 16, 16) apart", id="gaps"),
    pytest.param(("tiling", "step"), [16, 2, 16], [16, 1, 16], "(16, 1, 16) apart: a tenth of them",
                 id="crowded"),
    pytest.param(("optional",), ["t1"], ["t1", "t9"], "optional modalities ['t9'] are none of",
                 id="optional"),
    pytest.param(("training_axes",), "LPS", "LPX", "'LPX' are no axes", id="axes"),
    pytest.param(("fingerprint",), None, "0" * 64, "the recipe does not match its fingerprint",
                 id="fingerprint"),
    pytest.param(("version",), 6, 7, "version: expected 6, found 7", id="version"),
    pytest.param(("format",), "vol3dseg.manifest", "other", "format: expected 'vol3dseg.manifest'",
                 id="format"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "right", "wrong", "said"), SIZES)
def test_what_a_manifest_may_say(place, right, wrong, said, changed):
    if right is not None:
        assert parse_manifest(changed(right, *place), "x.onnx")
    with pytest.raises(ModelError) as caught:
        parse_manifest(changed(wrong, *place), "x.onnx")
    told = str(caught.value)
    assert told.startswith("x.onnx: is damaged or of another version (")
    assert said in told
    assert told.endswith("; write it anew with vol3dseg export-onnx")


def test_all_that_does_not_agree_is_said_at_once(manifest):
    said = json.loads(manifest.model_dump_json())
    said["fingerprint"], said["optional"], said["tiling"]["step"] = "0", ["t9"], [99, 1, 1]
    with pytest.raises(ModelError) as caught:
        parse_manifest(json.dumps(said), "x.onnx")
    for words in (
        "cannot be (99, 1, 1) apart",
        "does not match its fingerprint",
        "modalities ['t9']",
    ):
        assert words in str(caught.value)


def test_members_are_of_two_kinds(manifest, changed):
    trained = manifest.members[0]
    both = manifest.model_copy(update={"members": (trained, ADOPTED)})
    assert both.trained == (trained,)
    facts = json.loads(ADOPTED.model_dump_json())
    for given in (json.loads(changed([facts], "members"))["members"], [ADOPTED], [trained]):
        said = manifest.model_dump() | {"members": given}
        assert type(Manifest.model_validate(said).members[0]) is (
            type(trained) if given == [trained] else AdoptedFacts
        )
    facts["framework"] = 3
    with pytest.raises(ModelError, match=r"members\.0\.adopted\.framework: expected text, found 3"):
        parse_manifest(changed([facts], "members"), "x.onnx")


def test_what_a_scan_lacks(manifest):
    assert manifest.lacking({"t1", "t2"}) == ("flair",)
    assert manifest.lacking(["t1", "flair"]) == ()


def test_a_run_names_a_network_that_was_trained(manifest, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(manifest.model_dump_json())
    assert read_run_manifest(tmp_path) == manifest
    path.write_text(manifest.model_copy(update={"members": (ADOPTED,)}).model_dump_json())
    with pytest.raises(RunError) as caught:
        read_run_manifest(tmp_path)
    assert str(caught.value).startswith(f"{path}: names no network; expected what vol3dseg train")
    path.unlink()
    with pytest.raises(RunError, match=r"manifest\.json: is missing; .* train --resume"):
        read_run_manifest(tmp_path)
