"""What stands in an ONNX file beside its network, and for what of that the file is refused."""

import hashlib
import json

import onnx
import pytest

from tests.conftest import make_graph, make_manifest
from vol3dseg.errors import ModelError
from vol3dseg.model.file_check import STANDALONE_KEY, file_faults, open_file
from vol3dseg.model.locating import LABELS, Found, Locating
from vol3dseg.model.model_file import describe, read_model, with_manifest
from vol3dseg.recipe import Recipe

CALL = {
    "version": 1,
    "inputs": ["image"],
    "axes": "RAS",
    "output": "labels",
    "values": {"background": 0, "tumour": 255},
}


def faults(content, path, allow_standalone=False):
    return [str(fault) for fault in file_faults(open_file(content, path), path, allow_standalone)]


@pytest.fixture
def changed(model_path):
    """Return the bytes of a sound model after a change to its graph."""

    def write(change):
        model = onnx.load(model_path)
        change(model)
        return model.SerializeToString()

    return write


def called(call):
    def change(model):
        said = call if isinstance(call, str) else json.dumps(call)
        onnx.helper.set_model_props(model, metadata(model) | {STANDALONE_KEY: said})

    return change


def metadata(model):
    return {prop.key: prop.value for prop in model.metadata_props}


class TestStandalone:
    def test_is_no_network_alone(self, changed, model_path):
        (fault,) = faults(changed(called(CALL)), model_path)
        assert "a standalone graph, from raw intensities to labels" in fault

    def test_is_let_through_where_it_is_asked_for(self, changed, model_path):
        content = changed(called(CALL))
        assert faults(content, model_path, allow_standalone=True) == []
        assert open_file(content, model_path).standalone(model_path).values["tumour"] == 255

    def test_is_read_only_where_it_is_asked_for(self, changed, model_path):
        model_path.write_bytes(changed(called(CALL)))
        with pytest.raises(ModelError, match="a standalone graph"):
            read_model(model_path)
        call = read_model(model_path, allow_standalone=True).standalone
        assert (call.output, call.inputs) == ("labels", ("image",))
        assert describe(model_path).kind == "standalone model, from raw intensities to labels"

    def test_a_network_alone_is_let_through_there_too(self, model_path):
        assert faults(model_path.read_bytes(), model_path, allow_standalone=True) == []

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"version": 0}, "version: expected 1, found 0"),
            ({"version": 2}, "version: expected 1, found 2"),
            ({"values": {"tumour": 256}}, "values.tumour: expected at most 255, found 256"),
            ({"axes": "LPS"}, "axes: expected 'RAS', found 'LPS'"),
        ],
        ids=str,
    )
    def test_what_it_says_of_itself_is_checked(self, changed, model_path, change, said):
        (fault,) = faults(changed(called(CALL | change)), model_path, allow_standalone=True)
        assert said in fault
        assert f"metadata '{STANDALONE_KEY}'" in fault

    def test_its_operators_are_checked_and_both_are_said(self, changed, model_path):
        def change(model):
            called("no JSON")(model)
            model.graph.node.append(onnx.helper.make_node("Loop", ["image"], ["x"]))

        first, second = faults(changed(change), model_path, allow_standalone=True)
        assert "uses the operators 'Loop'" in first
        assert "not valid JSON" in second


@pytest.mark.parametrize(
    "field",
    [{"data_location": onnx.TensorProto.EXTERNAL}, {"external_data": [{"key": "location"}]}],
    ids=str,
)
def test_numbers_in_another_file_are_refused_by_either_word(changed, model_path, field):
    def change(model):
        model.graph.initializer[0].MergeFrom(onnx.TensorProto(**field))

    found = faults(changed(change), model_path)
    assert found[0] == f"{model_path}: tensor 'w' is kept in another file; expected one file"


class TestLocator:
    @pytest.fixture
    def pair(self, tmp_path, labels):
        """Return the bytes of a pair whose first network was changed, and what it is called."""
        fine = Recipe(
            modalities=("mr",), normalisation={"method": "zscore", "mask": "all"}, crop="none",
            patch_size=(16, 16, 16),
        )  # fmt: skip
        coarse = fine.model_copy(update={"spacing_mm": (3.0, 3.0, 3.0)})

        def write(change=lambda model: None):
            first = onnx.load_from_string(
                with_manifest(make_graph(1, 2), make_manifest(coarse, LABELS))
            )
            change(first)
            inner = first.SerializeToString()
            found = Found(margin_mm=4.0, cases=3, missed=0, share=0.1)
            locating = Locating(
                sha256=hashlib.sha256(inner).hexdigest(), found=found, nothing="whole"
            )
            manifest = make_manifest(fine, labels).model_copy(update={"locating": locating})
            return with_manifest(make_graph(1, 4), manifest, locator=inner)

        return write

    def test_a_sound_one_is_let_through(self, pair, model_path):
        assert faults(pair(), model_path) == []
        model_path.write_bytes(pair())
        found, model = describe(model_path), read_model(model_path)
        assert found.kind == "model, with one that finds where to look"
        assert found.facts["bytes"] == len(model.content) + len(model.locator.content)
        model_path.write_bytes(model.content)
        assert "vol3dseg.replay" not in metadata(onnx.load(model_path))

    def test_what_is_wrong_with_it_is_said_once(self, pair, model_path):
        def loop(model):
            model.graph.node.append(onnx.helper.make_node("Loop", ["image"], ["x"]))
            del model.metadata_props[:]

        first, second = faults(pair(loop), model_path)
        assert "without the metadata 'vol3dseg.manifest'" in first
        assert "uses the operators 'Loop'" in second

    def test_it_may_not_be_standalone(self, pair, model_path):
        for allowed in (False, True):
            (fault,) = faults(pair(called(CALL)), model_path, allow_standalone=allowed)
            assert "a standalone graph" in fault
