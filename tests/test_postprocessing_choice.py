"""The choice of post-processing by held-out cases, and the counts that it is made by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vol3dseg.errors import EvaluationError
from vol3dseg.evaluation.component_moves import moves_of
from vol3dseg.evaluation.overlap import confusion
from vol3dseg.model.components import postprocess
from vol3dseg.model.postprocessing import FillHoles, KeepLargest, RemoveSmall, members_of
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import IGNORED, Label, LabelSet, Segmentation

LABELS = LabelSet(
    classes=[Label(name=n, read=(v,), write=v) for v, n in enumerate(["air", "rim", "core"])],
    regions={"whole": ["rim", "core"]},
)
STEPS = [
    KeepLargest(of="rim", becomes="air"),
    KeepLargest(of="whole", becomes="air"),
    RemoveSmall(of="core", volume_ml=0.003, becomes="rim"),
    RemoveSmall(of="whole", volume_ml=0.005, becomes="air"),
    FillHoles(of="rim", becomes="rim"),
    FillHoles(of="whole", becomes="core"),
]
SIDE = 24
GRID = Geometry((SIDE,) * 3, np.eye(4))


def maps(*values):
    shape = st.shared(st.tuples(*[st.integers(1, 6)] * 3), key="shape")
    return shape.flatmap(lambda s: arrays(np.uint8, s, elements=st.sampled_from(values)))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.kind} {step.of}")
@given(reference=maps(0, 1, 2, IGNORED), prediction=maps(0, 0, 1, 2))
def test_counted_moves_are_those_of_the_step(step, reference, prediction):
    """The matrix after a step, by counting, is that of the map after the step."""
    members = members_of(step.of, LABELS)
    kind = "holes" if step.kind == "fill_holes" else "components"
    moves = moves_of(kind, reference, prediction, members)
    before = confusion(reference, prediction, 3)
    found = moves.applied(before, moves.chosen_by(step, 0.001), LABELS.index(step.becomes))
    done = prediction.copy()
    postprocess(Segmentation(done, Geometry(done.shape, np.eye(4)), LABELS), [step])
    np.testing.assert_array_equal(found, confusion(reference, done, 3))


def test_false_components_are_those_in_which_the_reference_has_nothing():
    prediction = np.array([1, 1, 0, 1, 0, 1, 1, 1, 0, 2], dtype=np.uint8)[:, None, None]
    reference = np.array([0, 1, 0, 2, 0, 0, 0, 0, 0, 2], dtype=np.uint8)[:, None, None]
    assert moves_of("components", reference, prediction, (1,)).false_sizes((1,)).tolist() == [1, 3]
    both = moves_of("components", reference, prediction, (1, 2)).false_sizes((1, 2))
    assert both.tolist() == [3]


# --- the choice -----------------------------------------------------------------------------------


def ball(centre, radius):
    axes = np.indices((SIDE,) * 3)
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) <= radius**2


def made(spoil, count=12):
    """Cases of a core in a rim, predicted as they are but for what `spoil` does to them."""
    cases = []
    for number in range(count):
        reference = np.zeros((SIDE,) * 3, dtype=np.uint8)
        reference[ball((9, 9, 9), 6 + number % 2)] = 1
        reference[ball((9, 9, 9), 3)] = 2
        prediction = reference.copy()
        spoil(number, prediction)
        truth, found = (Segmentation(a, GRID, LABELS) for a in (reference, prediction))
        cases.append((f"case_{number}", truth, found))
    return cases


def far_blob(number, prediction):
    prediction[ball((20, 20, 20), 1 + number % 2)] = 1


def chosen(cases, **options):
    said = []
    found = choose(cases, LABELS, progress=said.append, **options)
    return found, said


def choose(*args, **options):
    pytest.importorskip("scipy")
    from vol3dseg.training.postprocessing_choice import choose_postprocessing

    return choose_postprocessing(*args, **options)


def test_a_false_blob_far_away_is_removed():
    cases = made(far_blob)
    found, said = chosen(cases)
    assert found.steps == (KeepLargest(of="rim", becomes="air"),)
    (gain,) = found.gains
    assert gain.cases == found.cases == 12
    assert 0 < gain.low <= gain.rise <= gain.high
    assert gain.after - gain.before == pytest.approx(gain.rise)
    assert found.before["rim"] == pytest.approx(gain.before)
    assert found.before["rim"] < found.after["rim"] == 1
    assert found.before["whole"] < found.after["whole"] == 1
    assert said == [f"post-processing: {gain}"]


def test_a_blob_of_what_nobody_has_looked_for_may_be_right():
    cases = [(n, replace(t, unannotated=("rim",)), f) for n, t, f in made(far_blob)]
    found, _ = chosen(cases)
    assert found.steps == ()
    assert found.before == found.after
    assert found.before["rim"] == found.before["core"] == 1


def test_nothing_is_chosen_where_nothing_helps():
    found, said = chosen(made(lambda number, prediction: None))
    assert found.steps == ()
    assert found.before == found.after == {"rim": 1, "core": 1, "whole": 1}
    assert "none" in said[0]


def test_a_step_that_would_hurt_is_not_chosen():
    """Two true pieces: to keep one is wrong, though there are false blobs; by size they go."""
    pairs = []
    for case_id, truth, found in made(far_blob):
        for each in (truth, found):
            each.array[ball((9, 9, 20), 3)] = 1
        pairs.append((case_id, truth, found))
    steps = chosen(pairs)[0].steps
    assert [step.kind for step in steps] == ["remove_small"]
    assert 0.019 < steps[0].volume_ml < 0.09  # the larger blobs have 33 voxels, true pieces 123


def test_a_rise_in_few_cases_is_no_rise():
    def spoil(number, prediction):
        if number < 2:
            far_blob(number, prediction)

    assert chosen(made(spoil, count=40))[0].steps == ()


@pytest.mark.parametrize("count", [4, 5])
def test_a_few_cases_are_no_evidence(count):
    assert len(chosen(made(far_blob, count))[0].steps) == (count >= 5)


def test_a_region_with_the_background_in_it_is_left_alone():
    regions = {"whole": ["rim", "core"], "not core": ["air", "rim"]}
    labels = LABELS.model_copy(update={"regions": regions})
    found = choose(made(far_blob), labels)
    assert [step.of for step in found.steps] == ["rim"]
    assert set(found.after) == {"rim", "core", "whole", "not core"}


def test_an_empty_prediction_is_a_case_like_others():
    def spoil(number, prediction):
        far_blob(number, prediction)
        if number > 9:
            prediction[:] = 0

    found, _ = chosen(made(spoil))
    assert [step.of for step in found.steps] == ["rim"]
    assert found.gains[0].cases == 10


def test_cases_of_one_subject_are_one_witness():
    cases = made(far_blob)
    alone = chosen(cases, subjects={case_id: "one" for case_id, *_ in cases})
    assert alone[0].steps == ()


def test_no_other_class_may_lose():
    """A far blob of rim whose core is true: without it the region would lose."""
    pairs = made(far_blob)
    for number, (_, truth, found) in enumerate(pairs):
        truth.array[ball((20, 20, 20), 1 + number % 2)] = 2
        found.array[ball((20, 20, 20), 1 + number % 2)] = 1
    steps = chosen(pairs)[0].steps
    assert KeepLargest(of="rim", becomes="air") not in steps
    assert steps == (KeepLargest(of="rim", becomes="core"),)


def test_a_false_find_counts_where_the_structure_is_not():
    pairs = made(lambda number, prediction: None)
    for _, truth, found in pairs[:8]:
        truth.array[truth.array == 2] = 1
        found.array[found.array == 2] = 1
        found.array[9, 9, 9] = 2
    found, _ = chosen(pairs)
    (gain,) = found.gains
    assert gain.step.kind == "remove_small"
    assert (gain.step.of, gain.step.becomes) == ("core", "rim")
    assert gain.cases == 8
    assert found.after["core"] == 1


def test_holes_are_filled_where_that_helps():
    def spoil(number, prediction):
        prediction[8:10, 8:10, 8:10] = 0

    found, _ = chosen(made(spoil))
    assert [(step.kind, step.of) for step in found.steps] == [("fill_holes", "core")]


def test_one_step_after_another():
    def spoil(number, prediction):
        far_blob(number, prediction)
        prediction[8:10, 8:10, 8:10] = 0

    found, said = chosen(made(spoil))
    assert {(s.kind, s.of) for s in found.steps} == {
        ("fill_holes", "core"),
        ("keep_largest", "rim"),
    }
    assert len(said) == 2
    assert set(found.after.values()) == {1}


def test_cases_are_gone_through_one_at_a_time():
    class Read:
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield from made(far_blob)

    cases = Read()
    assert len(choose(cases, LABELS).steps) == 1
    assert cases.passes == 2


def test_without_cases_there_is_no_choice():
    with pytest.raises(EvaluationError, match="no held-out cases"):
        choose([], LABELS)
