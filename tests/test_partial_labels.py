"""Label maps in which nobody has looked for some classes: nothing is learned or said of those."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import small_config, write_case
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.label_classes import label_classes_cell, parse_label_classes
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.table import write_table
from vol3dseg.datasets.reading import read_case
from vol3dseg.errors import DatasetError, LabelError
from vol3dseg.evaluation.judging import Judging
from vol3dseg.evaluation.scoring import evaluate_case, summarise
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import open_cases
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet, Segmentation

GRID = Geometry((4, 3, 2), np.eye(4))
LABELS = LabelSet(
    classes=(
        Label(name="background", read=(0,), write=0),
        Label(name="kidney", read=(1,), write=1),
        Label(name="liver", read=(2,), write=2),
    ),
    regions={"organs": ("kidney", "liver")},
)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("edema", {"edema": ()}),
        (" left lung ;edema", {"left lung": (), "edema": ()}),
        ("1=kidney; 2=tumour", {"kidney": (1,), "tumour": (2,)}),
        ("1=kidney; 3=kidney; liver", {"kidney": (1, 3), "liver": ()}),
    ],
)
def test_a_cell_says_what_was_looked_for(cell, expected):
    assert parse_label_classes(cell) == expected
    assert parse_label_classes(label_classes_cell(expected)) == expected


@pytest.mark.parametrize("cell", ["", ";", "edema;", "=edema", "x=edema", "1=", "edema; edema"])
def test_a_cell_that_says_nothing_clear_is_refused(cell):
    with pytest.raises(ValueError):  # noqa: PT011 - the row says which cell it is
        parse_label_classes(cell)


@pytest.fixture
def table(brats_folder, tmp_path):
    """Write a table of the three cases with this column, and return its path."""

    def write(*cells):
        path = tmp_path / "cases.csv"
        path.unlink(missing_ok=True)
        write_table(find_cases(brats_folder), path)
        head, *rows = path.read_text().splitlines()
        lines = [f"{head},label_classes"]
        lines += [f"{row},{cell}" for row, cell in zip(rows, cells, strict=True)]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


class TestReading:
    def test_a_table_names_the_classes(self, table, labels, tmp_path):
        cases = find_cases(table("", "4=necrotic core; edema; 1=enhancing", ""))
        assert [case.annotated for case in cases] == [
            None, {"necrotic core": (4,), "edema": (), "enhancing": (1,)}, None
        ]  # fmt: skip
        _, plain = read_case(replace(cases[1], annotated=None), labels=labels)
        _, found = read_case(cases[1], labels=labels)
        names = labels.names
        swapped = {names.index("necrotic core"): names.index("enhancing")}
        swapped |= {value: key for key, value in swapped.items()}
        expected = np.vectorize(lambda value: swapped.get(value, value))(plain.array)
        np.testing.assert_array_equal(found.array, expected)
        assert found.unannotated == ()
        write_table(cases, tmp_path / "again.csv")
        assert [case.annotated for case in find_cases(tmp_path / "again.csv")] == [
            case.annotated for case in cases
        ]

    def test_what_is_there_and_not_named_is_refused(self, table, labels):
        cases = find_cases(table("edema", "", ""))
        with pytest.raises(
            LabelError, match=r"holds label values 1, 4.*expected those of label_classes"
        ):
            read_case(cases[0], labels=labels)

    def test_a_class_that_the_config_does_not_have_is_refused(self, table, labels):
        cases = find_cases(table("1=liver", "", ""))
        with pytest.raises(LabelError) as caught:
            read_case(cases[0], labels=labels)
        assert str(caught.value) == (
            "case Case_001: label_classes names liver, which is no class of the config; expected "
            "classes of necrotic core, edema, enhancing; correct it, or add the class to "
            "labels.classes"
        )

    def test_a_table_with_a_wrong_cell_is_refused(self, table):
        with pytest.raises(DatasetError, match="row 3: label_classes: found =edema, expected"):
            find_cases(table("", "=edema", ""))

    def test_a_folder_has_them_beside_its_cases(self, brats_folder):
        beside = brats_folder / "label_classes.csv"
        beside.write_text("id,label_classes\nCase_002,edema; 1=necrotic core\nCase_003,\n")
        found = [case.annotated for case in find_cases(brats_folder)]
        assert found == [None, {"edema": (), "necrotic core": (1,)}, None]

    @pytest.mark.parametrize("head", ["id,classes", "case,label_classes", "id", ""])
    def test_a_file_beside_without_its_columns_is_refused(self, brats_folder, head):
        (brats_folder / "label_classes.csv").write_text(f"{head}\nCase_002,edema\n")
        with pytest.raises(DatasetError, match="expected the columns id and label_classes"):
            find_cases(brats_folder)

    def test_spaces_and_short_rows_do_no_harm(self, brats_folder):
        beside = brats_folder / "label_classes.csv"
        beside.write_text("id , label_classes\nCase_002, edema\nCase_003\n")
        assert [c.annotated for c in find_cases(brats_folder)] == [None, {"edema": ()}, None]

    def test_a_file_beside_is_refused_with_all_that_is_wrong(self, brats_folder):
        beside = brats_folder / "label_classes.csv"
        beside.write_text(
            "id,label_classes\nCase_009,edema\nCase_001,x=y\nCase_002,a\nCase_002,b\n"
        )
        with pytest.raises(DatasetError) as caught:
            find_cases(brats_folder)
        for said in (
            "row 2: there is no case 'Case_009'", "row 3: found x=y", "row 5: case Case_002 is"
        ):  # fmt: skip
            assert said in str(caught.value)


def scored(reference, prediction, unannotated=(), **options):
    maps = (np.array(each, np.uint8).reshape(GRID.shape) for each in (reference, prediction))
    truth, found = (Segmentation(each, GRID, LABELS) for each in maps)
    return evaluate_case("one", replace(truth, unannotated=unannotated), found, Judging(**options))


class TestScores:
    reference = [1] * 6 + [0] * 18
    prediction = [1] * 4 + [0] * 2 + [2] * 8 + [1] * 2 + [0] * 8

    @pytest.mark.parametrize("empty", ["undefined", "one"])
    def test_a_class_that_was_not_looked_for_has_none(self, empty):
        found = scored(self.reference, self.prediction, ("liver",), empty=empty)
        whole = scored(self.reference, self.prediction, empty=empty)
        assert found.structures["kidney"] == whole.structures["kidney"]
        assert found.structures["kidney"]["dice"] == pytest.approx(8 / 12)
        for name in ("liver", "organs"):
            values = found.structures[name]
            assert all(math.isnan(v) for key, v in values.items() if key != "prediction_ml")
        assert (found.unannotated, found.ignored_ml) == (("liver",), 0)
        assert found.reference != whole.reference

    def test_background_that_may_be_of_it_is_in_no_pooled_score(self):
        found = scored(self.reference, self.prediction, ("liver",))
        assert found.matrix.tolist() == [[8, 2, 0], [2, 4, 0], [0, 0, 0]]

    def test_means_rest_on_the_cases_that_know(self):
        cases = [
            scored(self.reference, self.prediction, ("liver",)),
            scored([2] * 12 + [0] * 12, [2] * 6 + [0] * 18),
        ]
        summary = summarise(cases)
        assert summary.statistics["liver"]["dice"].cases == 1
        assert summary.mean_dice("liver") == pytest.approx(12 / 18)
        assert summary.statistics["kidney"]["dice"].cases == 1

    def test_the_report_says_so(self, table, brats_folder, labels, tmp_path):
        cases = find_cases(brats_folder)
        for case in cases:
            (tmp_path / "made" / f"{case.id}.nii.gz").parent.mkdir(exist_ok=True)
            (tmp_path / "made" / f"{case.id}.nii.gz").write_bytes(case.label.read_bytes())
        references = table("1=necrotic core; 4=edema; 2=edema", "", "")
        evaluate(tmp_path / "made", references, tmp_path / "report", config="crops32")
        text = (tmp_path / "report" / "summary.md").read_text()
        assert "Nobody has looked for enhancing in 1 of 3 references: its scores" in text
        row = next(line for line in text.splitlines() if line.startswith("| enhancing |"))
        assert row.split("|")[2].strip() == "2"


class TestPreparing:
    def test_the_folder_knows(self, table, tmp_path, recipe):
        config = small_config(recipe, modality_dropout={})
        path = table("1=necrotic core; 4=edema; 2=edema", "", "")
        index = preprocess(path, tmp_path / "prepared", config)
        assert [entry.unannotated for entry in index.cases] == [("enhancing",), (), ()]
        assert index.incomplete == ("in 1 of 3 nobody has looked for enhancing",)
        assert "enhancing" not in index.cases[0].volumes_ml
        stored = open_cases(tmp_path / "prepared", index, ["Case_001"], recipe.modalities)
        assert stored["Case_001"].reference(config.labels).unannotated == ("enhancing",)

    def test_another_cell_is_another_case(self, table, tmp_path, recipe):
        config = small_config(recipe)
        before = preprocess(table("", "", ""), tmp_path / "prepared", config)
        after = preprocess(
            table("1=necrotic core; 2=edema; 4=edema", "", ""), tmp_path / "prepared", config
        )
        assert before.cases[0] != after.cases[0]
        assert before.cases[1] == after.cases[1]

    def test_a_required_class_is_required_of_those_who_looked(self, brats_folder, tmp_path, recipe):
        data = small_config(recipe).model_dump(mode="json")
        data["labels"]["required"] = ["enhancing"]
        config = type(small_config(recipe)).model_validate(data)
        (brats_folder / "label_classes.csv").write_text(
            "id,label_classes\nCase_001,1=necrotic core; 2=edema; 4=edema\n"
        )
        assert preprocess(brats_folder, tmp_path / "prepared", config).left_out == {}


def test_a_plan_refuses_values_that_mean_something_else_from_case_to_case(table, tmp_path):
    from vol3dseg.planning.make_plan import plan

    with pytest.raises(DatasetError, match="1 cases have values of their own: Case_001"):
        plan(table("1=necrotic core; 2=edema; 4=edema", "", ""), tmp_path / "plan.yaml")


def test_options_of_no_label_map_are_refused(tmp_path):
    (tmp_path / "t1.nii").touch()
    case = Case("a", "a", {"t1": ImageSource(tmp_path / "t1.nii")})
    write_table([case], tmp_path / "x.csv")
    path = tmp_path / "x.csv"
    head, row = path.read_text().splitlines()
    path.write_text(f"{head},label_classes\n{row},edema\n")
    with pytest.raises(DatasetError, match="row 2: label_classes: there is no label map"):
        find_cases(path)


@pytest.mark.train
class TestLearning:
    """Of three classes and the background, the third was not looked for in some cases."""

    PARTIAL = ((2,),)
    MAYBE = 254  # background, or the third

    @pytest.fixture(autouse=True)
    def _needs(self):
        pytest.importorskip("tensorflow")

    def probabilities(self, shape=(1, 5, 1, 1), classes=3):
        rng = np.random.default_rng(3)
        found = rng.dirichlet([1.0] * classes, shape).astype(np.float32)
        return found, np.log(found)

    def test_background_may_be_what_nobody_looked_for(self):
        from vol3dseg.training.named_loss import NamedLoss

        p, logits = self.probabilities()
        label = np.array([self.MAYBE, 1, self.MAYBE, 0, 255], np.uint8).reshape(1, 5, 1, 1)
        p = p.reshape(5, 3)
        expected = -np.log([p[0, 0] + p[0, 2], p[1, 1], p[2, 0] + p[2, 2], p[3, 0]])
        found = float(NamedLoss("cross_entropy", partial=self.PARTIAL)(label, logits))
        assert found == pytest.approx(expected.mean(), rel=1e-5)
        weights = (1.0, 2.0, 5.0)
        found = float(NamedLoss("cross_entropy", weights, partial=self.PARTIAL)(label, logits))
        assert found == pytest.approx(np.average(expected, weights=[1, 2, 1, 1]), rel=1e-5)
        found = float(NamedLoss("focal", partial=self.PARTIAL)(label, logits))
        assert found == pytest.approx(np.mean((1 - np.exp(-expected)) ** 2 * expected), rel=1e-5)
        # Of the second class four voxels are known, of the third two.
        second = (2 * p[1, 1] + 1) / (p[:4, 1].sum() + 1 + 1)
        third = 1 / (p[1, 2] + p[3, 2] + 1)
        found = float(NamedLoss("dice", partial=self.PARTIAL)(label, logits))
        assert found == pytest.approx(1 - (second + third) / 2, rel=1e-5)

    @pytest.mark.parametrize("name", ["cross_entropy", "dice", "dice_cross_entropy", "focal"])
    def test_where_all_were_looked_for_it_is_the_same(self, name):
        from vol3dseg.training.named_loss import NamedLoss

        _, logits = self.probabilities()
        label = np.array([0, 1, 2, 0, 255], np.uint8).reshape(1, 5, 1, 1)
        plain, partial = NamedLoss(name), NamedLoss(name, partial=self.PARTIAL)
        assert float(partial(label, logits)) == pytest.approx(float(plain(label, logits)), rel=1e-6)

    @pytest.mark.parametrize("name", ["cross_entropy", "dice_cross_entropy", "focal"])
    def test_a_class_that_may_be_there_has_no_gradient_against_it(self, name):
        import tensorflow as tf

        from vol3dseg.training.named_loss import NamedLoss

        logits = tf.constant([[5.0, -4.0, 5.0]])[:, None, None, None]
        label = np.full((1, 1, 1, 1), self.MAYBE, np.uint8)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = NamedLoss(name, partial=self.PARTIAL)(label, logits)
        gradient = np.asarray(tape.gradient(loss, logits)).ravel()
        assert np.isfinite(gradient).all()
        assert gradient[0] == pytest.approx(gradient[2], abs=1e-7)
        assert gradient[2] <= 0 < gradient[1]
        extreme = np.array([-1e3, 0, -2e3], np.float32).reshape(1, 1, 1, 1, 3)
        assert np.isfinite(float(NamedLoss(name, partial=self.PARTIAL)(label, extreme)))

    @pytest.mark.parametrize("name", ["cross_entropy", "dice", "dice_cross_entropy", "focal"])
    def test_a_region_with_it_is_not_judged_there(self, name):
        from vol3dseg.training.named_loss import NamedLoss

        members = ((1,), (1, 2))
        logits = np.random.default_rng(0).normal(size=(1, 3, 1, 1, 2)).astype(np.float32)
        label = np.array([self.MAYBE, 1, 0], np.uint8).reshape(1, 3, 1, 1)
        loss = NamedLoss(name, None, members, self.PARTIAL)
        found = float(loss(label, logits))
        logits[0, 0, 0, 0, 1] = 7  # of the second region, where nobody has looked
        assert float(loss(label, logits)) == pytest.approx(found, rel=1e-6)
        logits[0, 0, 0, 0, 0] = 7
        assert float(loss(label, logits)) > found

    def test_metrics_do_not_count_what_may_be_right(self):
        from vol3dseg.training.metrics import ConfusionMetrics

        label = np.array([self.MAYBE, self.MAYBE, self.MAYBE, 1, 255]).reshape(1, 5, 1, 1)
        taken = np.array([2, 1, 0, 1, 1])
        metric = ConfusionMetrics(["background", "a", "b"], partial=self.PARTIAL)
        metric.update_state(label, np.eye(3, dtype=np.float32)[taken].reshape(1, 5, 1, 1, 3))
        assert np.asarray(metric.matrix).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 0]]
        again = ConfusionMetrics.from_config(metric.get_config())
        assert again.partial == self.PARTIAL

    def test_a_training_on_two_data_sets(self, brats_folder, tmp_path, recipe):
        """One knows enhancing tumour, and the other calls its classes by other values."""
        import vol3dseg
        from vol3dseg.training.data import open_data

        for number in (4, 5):
            write_case(brats_folder, f"Case_{number:03d}", np.random.default_rng(number))
        (brats_folder / "label_classes.csv").write_text(
            "id,label_classes\n"
            + "".join(f"Case_00{n},1=necrotic core; 2=edema; 4=edema\n" for n in (1, 2, 3))
        )
        config = small_config(recipe, precision="float32", epochs=2, deep_supervision=False)
        prepared = tmp_path / "prepared"
        preprocess(brats_folder, prepared, config)
        data = open_data(prepared, config)
        assert data.partial == ((3,),)
        every = {**data.training, **data.validation}
        case, whole = every["Case_001"], every["Case_005"]
        assert (case.background, whole.background) == (self.MAYBE, 0)
        from vol3dseg.space.box import Box

        box = Box.at((-4, 0, 0), (16, 16, 16))
        label = case.read(box)[1]
        assert set(np.unique(label)) <= {0, 1, 2, self.MAYBE}
        assert not label[:4].any()  # beyond the scan there is nothing
        said = []
        made = vol3dseg.train(prepared, tmp_path / "run", config, progress=said.append)
        assert "note: in 3 of 5 nobody has looked for enhancing" in said
        assert made.validation is not None
        with pytest.raises(vol3dseg.errors.RunError, match="a loss of your own"):
            vol3dseg.train(prepared, tmp_path / "own", config, loss=lambda label, logits: 0.0)
