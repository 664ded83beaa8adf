"""Which class each region paints: a rule by the label set alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vol3dseg.config import Config, load_config
from vol3dseg.errors import LabelError
from vol3dseg.model.outputs import Sigmoid
from vol3dseg.space.labels import Label, LabelSet
from vol3dseg.space.region_order import painted_classes


def labels_of(regions, classes="abcd"):
    names = ["background", *classes]
    return LabelSet(
        classes=[Label(name=name, read=(n,), write=n) for n, name in enumerate(names)],
        regions=regions,
    )


def test_the_regions_of_brats_in_any_order():
    labels = load_config("brats2020").labels
    expected = {
        "whole tumour": "edema", "tumour core": "necrotic core", "enhancing tumour": "enhancing"
    }  # fmt: skip
    assert list(painted_classes(labels).items()) == list(expected.items())
    turned = labels.model_copy(update={"regions": dict(reversed(labels.regions.items()))})
    assert list(painted_classes(turned).items()) == list(expected.items())


def test_regions_side_by_side_keep_their_order():
    assert list(painted_classes(labels_of({"x": ["b"], "y": ["a"]}, "ab"))) == ["x", "y"]


families = st.dictionaries(
    st.sampled_from("pqrstu"),
    st.sets(st.sampled_from("abcd"), min_size=1).map(sorted),
    min_size=1,
    max_size=5,
)


def require_classes_come_out(labels):
    """Outputs that are right about every region are painted as the right class."""
    outputs = Sigmoid.of(labels)
    truth = np.arange(len(labels.classes), dtype=np.uint8)
    inside = [np.isin(truth, labels.indices(r.members)).astype(np.float32) for r in outputs.regions]
    np.testing.assert_array_equal(outputs.decide(inside, labels), truth)
    np.testing.assert_array_equal(outputs.margin(np.array(inside)), 0.5)
    assert outputs.problems(labels) == []
    sizes = [len(region.members) for region in outputs.regions]
    assert sizes == sorted(sizes, reverse=True)


@given(regions=families)
def test_what_is_not_refused_tells_all_classes_apart(regions):
    labels = labels_of(regions)
    try:
        painted_classes(labels)
    except LabelError as error:
        assert "labels.regions: cannot be targets" in str(error)  # noqa: PT017
        return
    require_classes_come_out(labels)


@given(data=st.data(), order=st.permutations(range(4)))
def test_regions_inside_each_other_are_not_refused(data, order):
    """Each class with a region of its own and all that hang below it in a random tree."""
    parents = [data.draw(st.integers(-1, n - 1)) for n in range(4)]
    members = [{n} for n in range(4)]
    for child in reversed(range(4)):
        if parents[child] >= 0:
            members[parents[child]] |= members[child]
    regions = {f"of {n}": ["abcd"[m] for m in members[n]] for n in order}
    require_classes_come_out(labels_of(regions))
    assert painted_classes(labels_of(regions)) == {f"of {n}": "abcd"[n] for n in range(4)}


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        pytest.param({}, "there are none", id="none"),
        pytest.param({"r": ["a"]}, "'b' is in no region", id="a class in none"),
        pytest.param({"r": ["a", "b"]}, "a, b are in the same regions", id="two in one"),
        pytest.param(
            {"r": ["a", "b"], "s": ["a"], "t": ["b"]},
            "'r' has no class but those of smaller regions",
            id="nothing left",
        ),
        pytest.param({"r": ["a"], "s": ["a"], "t": ["b"]}, "r, s are the same", id="one twice"),
        pytest.param(
            {"r": ["background", "a"], "s": ["b"]}, "r has the background in it", id="background"
        ),
    ],
)
def test_regions_that_do_not_tell_classes_apart_are_refused(regions, message):
    with pytest.raises(LabelError, match=message) as caught:
        painted_classes(labels_of(regions, "ab"))
    assert "training.targets: classes" in str(caught.value)


def test_a_class_where_regions_overlap_is_refused():
    labels = labels_of({"r": ["a", "b"], "s": ["b", "c"]}, "abc")
    with pytest.raises(LabelError, match="'b' is where r, s overlap, none inside the other"):
        painted_classes(labels)


def changed(**training):
    data = load_config("brats2020").model_dump(mode="json")
    data["training"] |= training
    return data


def test_a_config_knows_its_outputs():
    assert Config.model_validate(changed()).targets[1:] == ("necrotic core", "edema", "enhancing")
    regions = Config.model_validate(changed(targets="regions"))
    assert regions.targets == ("whole tumour", "tumour core", "enhancing tumour")


@pytest.mark.parametrize(
    ("training", "labels", "message"),
    [
        pytest.param(
            {"targets": "regions"}, {"regions": {}}, "there are none", id="without regions"
        ),
        pytest.param(
            {"class_weights": {"oedema": 2}}, {}, r"names \['oedema'\], and targets", id="no class"
        ),
        pytest.param(
            {"targets": "regions", "class_weights": {"edema": 2}},
            {},
            r"class_weights names \['edema'\], and targets are \['whole tumour', 'tumour core'",
            id="a class where targets are regions",
        ),
        pytest.param({"class_weights": {"edema": 0}}, {}, "edema", id="nothing"),
        pytest.param(
            {"foreground_weights": {"background": 2}},
            {},
            r"foreground_weights names \['background'\], and foreground classes are \['necrotic",
            id="no foreground",
        ),
        pytest.param(
            {"targets": "regions"},
            {
                "regions": {
                    "Edema": ["necrotic core", "edema", "enhancing"],
                    "core": ["necrotic core", "enhancing"],
                    "enhancing": ["enhancing"],
                }
            },
            "would share the column dice_edema",
            id="named like a class that it is not",
        ),
    ],
)
def test_configs_that_are_refused(training, labels, message):
    data = changed(**training)
    data["labels"] |= labels
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(data)


def test_a_region_may_be_named_like_its_only_class():
    data = changed(targets="regions")
    data["labels"]["regions"]["enhancing"] = data["labels"]["regions"].pop("enhancing tumour")
    assert Config.model_validate(data).targets[-1] == "enhancing"
