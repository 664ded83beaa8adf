"""Runs side by side: reading run folders, naming runs, files and page."""

import csv
import io
import json
import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from vol3dseg.cli.compare import compare as compare_command
from vol3dseg.config import dump_config, load_config, parse_config
from vol3dseg.errors import ConfigError, MissingExtraError, OutputError, RunError
from vol3dseg.model.outputs import Softmax
from vol3dseg.reporting.comparison import comparison_tables
from vol3dseg.reporting.comparison.common_cases import compare
from vol3dseg.reporting.comparison.comparison_figures import (
    colour,
    draw_cases,
    draw_differences,
    line_style,
)
from vol3dseg.reporting.comparison.comparison_report import (
    comparison_markdown,
    notes_on_cases,
    write_comparison,
)
from vol3dseg.reporting.comparison.comparison_tables import (
    difference_table,
    pooled_table,
    probability,
    result_table,
)
from vol3dseg.reporting.comparison.hyperparameters import letter, run_names
from vol3dseg.reporting.comparison.runs import read_run
from vol3dseg.reporting.score_files import CASE_MEAN

BASE = load_config("demo").model_dump(mode="json")
SPLIT = {"train": ["t1", "t2"], "validation": ["v1", "v2", "v3"], "test": ["x1", "x2", "x3", "x4"]}
STRUCTURES = ("core", "rim", "whole")
HEAD = {"format": "vol3dseg.scores", "version": 3}
LABELS = {
    "classes": [
        {"name": name, "read": [value], "write": value}
        for value, name in enumerate(["background", "core", "rim"])
    ],
    "regions": {"whole": ["core", "rim"]},
}
LOG = {
    "epoch": [0, 1, 2],
    "loss": [1.0, 0.8, 0.7],
    "val_loss": [1.1, 0.7, 0.9],
    "val_dice": [0.2, 0.6, 0.5],
    "val_dice_core": [0.1, 0.5, 0.4],
    "val_dice_rim": [0.3, 0.7, ""],
}


def write_csv(path, heads, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        writer.writerows(rows)


def write_scores(folder, dice, rule="undefined", structures=STRUCTURES, judged="as read"):
    """Write what evaluate writes; `dice` maps a case to one value for each structure."""
    scores = {
        case: {
            name: {"dice": None if math.isnan(value) else value, "iou": 0.5}
            for name, value in zip(structures, values, strict=True)
        }
        for case, values in dice.items()
    }
    pooled = {"pooled_accuracy": 0.9, "pooled_dice": 0.7, "pooled_dice_core": None}
    references = dict.fromkeys(scores, judged)
    summary = {
        **HEAD, "empty_masks": {"rule": rule}, "pooled": pooled, "references": references,
        "scores": scores,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary))


def some_dice(ids, seed):
    rng = np.random.default_rng(seed)
    return {case: rng.uniform(0.3, 0.9, len(STRUCTURES)).round(6).tolist() for case in ids}


@pytest.fixture
def make_run(tmp_path, manifest):
    """Write a run folder as `vol3dseg train` leaves it, with scores of the validation part."""

    def make(name, noise=0, labels=LABELS, log=LOG, parts=("validation",), model=None, **training):
        data = {**BASE, "labels": labels, "model": {**BASE["model"], **(model or {})}}
        data["training"] = {**BASE["training"], "epochs": 3, **training}
        config, run = parse_config(data, name), tmp_path / name
        write_csv(run / "training.log", list(log), zip(*log.values(), strict=True))
        (run / "config.yaml").write_text(dump_config(config), "utf-8")
        (run / "split.json").write_text(json.dumps(SPLIT))
        (run / "manifest.json").write_text(manifest_of(config, manifest).model_dump_json())
        for number, part in enumerate(parts):
            write_scores(run / "scores" / part, some_dice(SPLIT[part], 10 * noise + number))
        return run

    return make


def manifest_of(config, manifest):
    """Turn the fixture `manifest` into that of a run by `config`."""
    recipe, training = config.model_recipe, config.training
    facts = {
        "data_fingerprint": "ab" * 32, "cases": {"train": 2, "validation": 3, "test": 4},
        "checkpoint": "best", "epoch": 2, "epochs": 3, "val_loss": 0.7, "seed": training.seed,
        "loss": training.loss, "optimizer": training.optimizer,
    }  # fmt: skip
    return manifest.model_copy(
        update={
            "recipe": recipe,
            "fingerprint": recipe.fingerprint,
            "labels": config.labels,
            "outputs": Softmax(classes=config.labels.names),
            "members": (manifest.members[0].model_copy(update=facts),),
        }
    )


def read(*folders):
    return [read_run(folder) for folder in folders]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


# Reading


def test_a_run_is_read_whole(make_run):
    run = read_run(make_run("a", parts=("validation", "test")))
    assert set(run.scores) == {"validation", "test"}
    assert run.scores_of("test").cases == ("x1", "x2", "x3", "x4")
    assert run.scores_of("test").structures == STRUCTURES
    assert run.scores_of("test").empty == "undefined"
    assert math.isnan(run.scores_of("test").pooled["pooled_dice_core"])
    assert run.curves["val_loss"] == (1.1, 0.7, 0.9)
    assert math.isnan(run.curves["val_dice_rim"][2])


SUMMARY = "scores/validation/summary.json"


def summary(found, **changes):
    """A summary.json of these scores, with other keys changed or, by None, left out."""
    whole = {
        **HEAD,
        "empty_masks": {"rule": "undefined"},
        "pooled": {},
        "references": {},
        "scores": found,
    }
    return json.dumps({key: value for key, value in (whole | changes).items() if value is not None})


def dice(value):
    return {"core": {"dice": value}}


DAMAGE = [
    ("config.yaml", None, r"a: not a run, it has no config\.yaml; .*vol3dseg train"),
    ("manifest.json", None, r"a: an unfinished run.*vol3dseg train PREPARED -o .*a --resume"),
    ("training.log", "", r"training\.log: holds no epoch"),
    ("training.log", None, r"training\.log: is missing"),
    ("training.log", "epoch,loss\n0,high\n", r"training\.log: is damaged .*'high'"),
    (SUMMARY, summary({"v1": dice(1.5)}), r"v1\.core\.dice: expected at most 1\.0, found 1\.5"),
    (SUMMARY, summary({"v1": dice("x")}), r"v1\.core\.dice: expected a number, found 'x'"),
    (SUMMARY, summary({"v1": {"core": {}}}), r"v1\.core\.dice is missing"),
    (SUMMARY, summary({"v1": dice(0.5), "v2": {"rim": {"dice": 1}}}),
     r"cases v1 and v2 have scores of \['core'\] and \['rim'\]; expected the same structures"),
    (SUMMARY, summary({}), r"scores: expected at least 1 entries"),
    (SUMMARY, summary({"v1": {}}), r"case v1 has no scores"),
    (SUMMARY, summary({"v1": dice(1)}, scores=None), r"scores is missing\).*evaluate the pred"),
    (SUMMARY, summary({"v1": dice(1)}, version=0), r"another version \(version: expected 3"),
    (SUMMARY, summary({"v1": dice(1)}, pooled=None), r"summary\.json: .*pooled is missing"),
    (SUMMARY, summary({"v1": dice(1)}, empty_masks={"rule": "zero"}), r"rule: expected 'und"),
    (SUMMARY, "{", r"summary\.json: is damaged .*evaluate the predictions again"),
    (SUMMARY, b"\xff\xfe", r"summary\.json: is damaged .*evaluate the predictions again"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), DAMAGE)
def test_damaged_runs_are_refused_with_the_remedy(name, content, message, make_run):
    run = make_run("a")
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=message) as error:
        read_run(run)
    assert "\n" not in str(error.value)


def test_scores_of_cases_of_another_part_are_refused(make_run):
    run = make_run("a")
    write_scores(run / "scores" / "validation", some_dice(["v1", "t2"], 0))
    with pytest.raises(RunError, match=r"validation: .* into the train part: t2; .*--split"):
        read_run(run)


def test_cases_of_another_data_set_may_be_judged(make_run):
    run = make_run("a")
    write_scores(run / "scores" / "test", some_dice(["external-1", "external-2"], 0))
    assert read_run(run).scores_of("test").cases == ("external-1", "external-2")


def test_a_bad_config_is_named(make_run):
    run = make_run("a")
    (run / "config.yaml").write_text("labls: {}")
    with pytest.raises(ConfigError, match=r"config\.yaml: .*'labls', did you mean 'labels'"):
        read_run(run)


# Which runs can be compared


def test_the_test_part_is_taken_where_all_have_it(make_run):
    both, one = ("validation", "test"), ("validation",)
    a, b, c = (read_run(make_run(n, parts=p)) for n, p in (("a", both), ("b", both), ("c", one)))
    assert compare([a, b]).part == "test"
    assert compare([a, c]).part == "validation"
    assert compare([a, b], "validation").part == "validation"
    with pytest.raises(
        RunError, match=r"c: has no scores of the test part; .*scores.test.summary\.json"
    ):
        compare([a, c], "test")


def test_without_scores_the_commands_that_make_them_are_named(make_run):
    runs = read(make_run("a", parts=("test",)), make_run("b", parts=("validation",)))
    with pytest.raises(RunError) as error:
        compare(runs)
    for part in ("test part: none of", "export-onnx", "--part test; vol3dseg evaluate", "--split"):
        assert part in str(error.value)


def test_the_commands_are_those_for_the_fewest_runs_and_can_be_pasted(make_run):
    runs = read(make_run("a"), make_run("b"), make_run("c d", parts=()))
    with pytest.raises(RunError, match=r"export-onnx '.*c d' .*--part validation; .*c d/scores'"):
        compare(runs)


def test_one_run_alone_or_twice_is_refused(make_run, monkeypatch, tmp_path):
    run = make_run("a")
    with pytest.raises(RunError, match=r"fewer than two runs \(none\)"):
        compare([])
    with pytest.raises(RunError, match=r"fewer than two runs \(.*a\)"):
        compare(read(run))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"^a: given twice \(also as .*a\)"):
        compare([read_run(run), read_run(run.relative_to(tmp_path))])


def test_other_label_sets_are_refused(make_run):
    classes = [*LABELS["classes"], {"name": "cyst", "read": [3], "write": 3}]
    other = make_run("b", labels={"classes": classes, "regions": LABELS["regions"]})
    with pytest.raises(RunError, match=r"different labels: classes: .*'rim'\] and .*'cyst', "):
        compare(read(make_run("a"), other))
    other = make_run("c", labels={**LABELS, "regions": {"whole": ["rim"]}})
    with pytest.raises(
        RunError, match=r"labels: regions.whole: \['core', 'rim'\] and \['rim'\]; compare"
    ):
        compare(read(make_run("a"), other))


def test_other_rules_for_empty_masks_are_refused(make_run):
    runs = [make_run("a"), make_run("b")]
    write_scores(runs[1] / "scores" / "validation", some_dice(SPLIT["validation"], 1), rule="one")
    with pytest.raises(RunError, match=r"empty masks: undefined and one; .*--empty"):
        compare(read(*runs))


def test_scores_of_other_structures_are_refused(make_run):
    runs = [make_run("a"), make_run("b")]
    path = runs[1] / SUMMARY
    path.write_text(path.read_text().replace('"rim"', '"edge"'))
    with pytest.raises(RunError, match=r"b.scores.validation: has scores of .*'edge'"):
        compare(read(*runs))


def test_only_common_cases_are_compared_and_it_is_said(make_run):
    runs = [make_run("a"), make_run("b", noise=1)]
    write_scores(runs[1] / "scores" / "validation", some_dice(["v3", "v1"], 1))
    comparison = compare(read(*runs))
    assert comparison.cases == ("v1", "v3")
    assert {d.cases for d in comparison.pairs[0].differences} == {2}
    assert {entry.statistics["core"].cases for entry in comparison.entries} == {2}
    text = comparison_markdown(comparison)
    assert "Only the 2 that all have are compared; left out: v2 (in A only)." in text
    assert "each run stands with all its own cases (A 3, B 2)" in text
    assert (
        "Run B was scored on 2 of the 3 cases of its validation part; without a score: v2" in text
    )
    assert "Run A was scored" not in text


def test_cases_of_no_part_are_said(make_run):
    runs = [make_run("a"), make_run("b")]
    for run, names in zip(runs, (["v1", "out"], ["out"]), strict=True):
        write_scores(run / "scores" / "validation", some_dice(names, 1))
    found, other = (entry for entry in compare(read(*runs)).entries)
    assert (found.of_no_part, found.without_score) == (("out",), ("v2", "v3"))
    notes = notes_on_cases(compare(read(*runs)))
    assert any(note.startswith("Run A was scored on what is in no part") for note in notes)
    assert any(note.startswith("Run A was scored on 1 of the 3") for note in notes)
    assert not any(note.startswith("Run B was scored on 0") for note in notes)
    assert other.of_no_part == ("out",)


def test_runs_without_a_common_case_are_refused(make_run):
    runs = [make_run("a"), make_run("b")]
    write_scores(runs[1] / "scores" / "validation", some_dice(["external"], 1))
    with pytest.raises(RunError, match=r"no case of the validation part in common: .*v1, v2, v3"):
        compare(read(*runs))


# Names


def names_of(make_run, *settings):
    return run_names([read_run(make_run(f"r{n}", **each)) for n, each in enumerate(settings)])


def test_runs_are_named_by_what_they_are(make_run):
    first = {
        "modalities": ["t1ce", "flair"], "loss": "cross_entropy", "optimizer": "adam",
        "batch_size": 1, "epochs": 50,
    }  # fmt: skip
    assert names_of(make_run, first, {"epochs": 1}) == (
        "t1ce + flair, cross-entropy, Adam, batch 1, 50 epochs",
        "flair + t1 + t1ce + t2, Dice + cross-entropy, AdamW, batch 8, 1 epoch",
    )


TAILS = [
    pytest.param([{"model": {"norm": "instance"}}, {}], ["instance norm", "batch norm"], id="norm"),
    pytest.param(
        [{"learning_rate": 0.01, "seed": 1}, {}],
        ["learning rate 0.01", "learning rate 0.003"],
        id="the rate is enough",
    ),
    pytest.param([{}, {"seed": 1}, {"seed": 2}], ["seed 0", "seed 1", "seed 2"], id="seeds"),
    pytest.param(
        [{"early_stopping": {"patience": 5}}, {}],
        ["early stopping patience 5", "early stopping patience none"],
        id="a section",
    ),
    pytest.param([{}, {}], ["r0", "r1"], id="folders"),
    pytest.param(
        [{}, {}, {"seed": 1}], ["seed 0, r0", "seed 0, r1", "seed 1, r2"], id="seeds, then folders"
    ),
]


@pytest.mark.parametrize(("settings", "tails"), TAILS)
def test_runs_of_one_name_are_told_apart(settings, tails, make_run):
    base = "flair + t1 + t1ce + t2, Dice + cross-entropy, AdamW, batch 8, 3 epochs"
    assert names_of(make_run, *settings) == tuple(f"{base}, {tail}" for tail in tails)


def test_even_folders_of_one_name_are_told_apart(make_run):
    names = run_names(read(make_run("here/run"), make_run("there/run")))
    assert names[0].endswith("here/run")
    assert names[1].endswith("there/run")


def test_letters_do_not_end():
    many = tuple(map(letter, range(703)))
    assert many[:2] + many[25:28] + many[-2:] == ("A", "B", "Z", "AA", "AB", "ZZ", "AAA")
    assert len(set(many)) == 703


def test_the_lines_of_24_runs_can_be_told_apart():
    assert len({(colour(n), line_style(n)) for n in range(24)}) == 24


# Tables


def test_hyper_parameters_that_differ_are_told_from_the_rest(make_run):
    runs = read(
        make_run("a", modalities=["t1"], augment=None),
        make_run("b", modalities=["t1ce"], seed=7),
    )
    parameters = {p.name: p for p in compare(runs).parameters}
    assert parameters["modalities"].values == ("t1", "t1ce")
    assert parameters["training.augment.flip_axes"].values == ("none", "i")
    assert parameters["training.seed"].values == ("0", "7")
    assert not parameters["recipe.normalisation.method"].differs  # one for all is one setting
    assert not parameters["training.loss"].differs
    assert "training.augment" not in parameters
    assert parameters["training.reduce_lr_on_plateau"].values == ("none", "none")


def test_hyper_parameters_stand_in_the_order_of_the_config(make_run):
    runs = read(make_run("a", augment=None), make_run("b"))
    names = [p.name for p in compare(runs).parameters]
    assert names[0] == "modalities"
    assert names.index("training.augment.gamma") < names.index("training.early_stopping")
    assert names.index("training.seed") < names.index("model.depth") < names.index("split.seed")


def test_best_is_bold_and_so_are_ties(make_run):
    runs = [make_run(name) for name in "abc"]
    for run, core in zip(runs, (0.5, 0.9, 0.9), strict=True):
        dice = {case: [core, math.nan, 0.25] for case in SPLIT["validation"]}
        write_scores(run / "scores" / "validation", dice)
    table = result_table(compare(read(*runs)))
    column = table.columns.index("core")
    assert {row for row, c in table.bold if c == column} == {1, 2}
    assert not {row for row, c in table.bold if c == table.columns.index("rim")}
    assert table.rows[0][column] == "0.5000 ± 0.0000 (3)"
    assert table.rows[0][table.columns.index("rim")] == "- (0)"


def test_where_less_is_better_the_least_is_bold(make_run, monkeypatch):
    runs = read(make_run("a"), make_run("b"))
    worse = replace(runs[1].scores["validation"], pooled={"pooled_accuracy": 0.95})
    comparison = compare([runs[0], replace(runs[1], scores={"validation": worse})])
    column = pooled_table(comparison).columns.index("pooled_accuracy")
    assert (1, column) in pooled_table(comparison).bold
    monkeypatch.setattr(comparison_tables, "_LOWER_IS_BETTER", {"pooled_accuracy"})
    assert (0, column) in pooled_table(comparison).bold


def test_means_of_classes_by_hand(make_run):
    runs = [make_run("a"), make_run("b")]
    for run in runs:
        dice = {"v1": [0.2, math.nan, 0.5], "v2": [0.4, 0.8, 0.5]}
        write_scores(run / "scores" / "validation", dice)
    (entry, _) = compare(read(*runs)).entries
    assert entry.mean_of_classes == pytest.approx((0.3 + 0.8) / 2)
    assert entry.statistics[CASE_MEAN].mean == pytest.approx((0.2 + 0.6) / 2)


def test_an_interval_that_excludes_zero_is_bold(make_run):
    runs = [make_run("a"), make_run("b")]
    for run, core, rim in zip(runs, (0.8, 0.5), ((0.1, 0.9), (0.9, 0.1)), strict=True):
        dice = {f"v{n}": [core + n / 100, rim[n % 2], 0.5] for n in (1, 2, 3)}
        write_scores(run / "scores" / "validation", dice)
    table = difference_table(compare(read(*runs)))
    assert [row[1] for n, row in enumerate(table.rows) if (n, 4) in table.bold] == ["core"]


@pytest.mark.parametrize(
    ("p", "text"), [(0.25, "0.2500"), (0.0001, "0.0001"), (2.34e-6, "2.3e-06"), (math.nan, "-")]
)
def test_p_is_shown_with_its_order_of_magnitude(p, text):
    assert probability(p) == text


# Files


def cells(line):
    return [cell.strip().strip("*") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables_of(text):
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    return [[dict(zip(cells(b[0]), cells(row), strict=True)) for row in b[2:]] for b in blocks]


def test_csv_and_markdown_say_the_same(make_run, tmp_path):
    runs = [make_run("a"), make_run("b", noise=1), make_run("c", noise=2, modalities=["t1"])]
    comparison = compare(read(*runs))
    write_comparison(tmp_path / "out", comparison)
    out = {path.name: path.read_text("utf-8") for path in (tmp_path / "out").glob("[!.]*")}
    assert set(out) == {
        "comparison.md", "comparison.csv", "differences.csv", "comparison.html",
    }  # fmt: skip
    _, parameters, results, pooled, differences, _ = tables_of(out["comparison.md"])
    rows = rows_of(out["comparison.csv"])
    assert [row["run"] for row in rows] == ["A", "B", "C"]
    for row, result, pool in zip(rows, results, pooled, strict=True):
        for name in STRUCTURES:
            mean, deviation = (f"{float(row[f'{name}: dice {k}']):.4f}" for k in ("mean", "std"))
            assert result[name] == f"{mean} ± {deviation} ({row[f'{name}: cases']})"
        assert result["mean of classes"] == f"{float(row['mean of classes: dice']):.4f}"
        assert pool["pooled_dice"] == f"{float(row['pooled_dice']):.4f}"
        assert (pool["pooled_dice_core"], row["pooled_dice_core"]) == ("-", "")
        for parameter in parameters:
            assert row[parameter["hyper-parameter"]] == parameter[row["run"]]
    found = rows_of(out["differences.csv"])
    assert len(found) == len(differences) == 3 * 3
    for row, shown in zip(found, differences, strict=True):
        assert (row["pair"].replace("-", "−"), row["structure"]) == (shown["runs"], shown["class"])
        assert float(shown["mean difference"].replace("−", "-")) == pytest.approx(
            float(row["mean_difference"]), abs=6e-5
        )
        assert shown["p (Holm)"] == f"{float(row['p_holm']):.4f}"
        assert shown["cases"] == row["n"]


def test_holm_is_over_the_whole_table(make_run):
    runs = [make_run(name, noise=n) for n, name in enumerate("abc")]
    found = [d for pair in compare(read(*runs)).pairs for d in pair.differences]
    smallest = min(found, key=lambda d: d.p)
    assert len(found) == 9
    assert smallest.p_holm == min(1, 9 * smallest.p)


def test_the_page_is_whole_and_quiet(make_run, browse, tmp_path):
    runs = read(make_run("a"), make_run("b", noise=1), make_run("c", noise=2, log={"epoch": [0]}))
    write_comparison(tmp_path, compare(runs))
    dom, console = browse(tmp_path / "comparison.html")
    assert not console
    assert dom.count("<img ") == 2 + 4  # cases, differences; val_loss, val_dice, core, rim
    assert dom.count("<details>") == 1
    for words in (
        "not comparable with scores per case",
        "excludes 0",
        "either Dice is undefined are left out",
        "spread between seeds",
        "best, epoch 2",
    ):
        assert words in dom


def test_many_pairs_are_folded_away(make_run, browse, tmp_path):
    runs = read(*(make_run(name, noise=n) for n, name in enumerate("abcde")))
    write_comparison(tmp_path, compare(runs))
    dom, console = browse(tmp_path / "comparison.html")
    assert "Table of all 10 pairs" in dom
    assert not console


HOSTILE = "<script>document.title='owned'</script>|$x_$ **b** `c` \"'&"


def test_hostile_names_are_inert(make_run, browse, tmp_path):
    evil = HOSTILE.replace("/", "")  # no folder may have a slash in its name
    labels = json.loads(json.dumps(LABELS).replace('"core"', json.dumps(HOSTILE)))
    runs = []
    for number in range(2):
        run = make_run(f"{number}{evil}", noise=number, labels=labels)
        part = run / "scores" / "validation"
        dice = some_dice(SPLIT["validation"], number)
        dice[f"{HOSTILE}{number}"] = [0.5, 0.5, 0.5]
        write_scores(part, dice, structures=(HOSTILE, "rim", "whole"))
        runs.append(run)
    write_comparison(tmp_path / "out", compare(read(*runs)))
    dom, console = browse(tmp_path / "out" / "comparison.html")
    assert not console
    assert "<title>2 runs on 3 cases" in dom
    assert "<script" not in dom
    text = (tmp_path / "out" / "comparison.md").read_text("utf-8")
    assert "\\<script\\>" in text
    assert not re.search(r"(?<!\\)<", text)
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({len(cells(line)) for line in block.splitlines()}) == 1


def test_runs_without_validation_patches_have_no_curves(make_run, browse, tmp_path):
    log = {"epoch": [0, 1], "loss": [1.0, 0.9]}
    write_comparison(tmp_path, compare(read(make_run("a", log=log), make_run("b", log=log))))
    dom, console = browse(tmp_path / "comparison.html")
    assert "No run has validation patches" in dom
    assert not console


def test_pages_are_the_same_every_time(make_run, tmp_path):
    runs = read(make_run("a"), make_run("b", noise=1))
    for name in ("one", "two"):
        write_comparison(tmp_path / name, compare(runs))
    for path in (tmp_path / "one").glob("[!.]*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_without_matplotlib_nothing_is_written(make_run, tmp_path, monkeypatch):
    comparison = compare(read(make_run("a"), make_run("b")))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*pip install 'vol3dseg\[report\]'"):
        write_comparison(tmp_path / "out", comparison)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(make_run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"comparison\.md: cannot be written"):
        write_comparison(tmp_path / "file", compare(read(make_run("a"), make_run("b"))))


def test_the_command(make_run, tmp_path):
    words = [str(make_run("a")), str(make_run("b", noise=1)), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(compare_command, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "2 runs on 3 cases of the validation part" in done.output
    assert "chosen on these cases" in done.output
    assert (tmp_path / "out" / "comparison.html").is_file()
    with pytest.raises(RunError, match="no scores of the test part"):
        CliRunner().invoke(compare_command, [*words, "--part", "test"], catch_exceptions=False)


def size_of(png):
    """Width and height of a PNG [pixels], as its header says."""
    return tuple(int.from_bytes(png[start : start + 4]) for start in (16, 20))


def test_pictures_of_many_classes_are_wrapped(make_run):
    names = [f"class {number} of many" for number in range(9)]
    classes = [{"name": "background", "read": [0], "write": 0}]
    classes += [{"name": n, "read": [v], "write": v} for v, n in enumerate(names, start=1)]
    runs = []
    for number in range(2):
        run = make_run(f"{number}", labels={"classes": classes}, parts=())
        scores = dict.fromkeys(("v1", "v2"), [0.5 + number / 10] * len(names))
        write_scores(run / "scores" / "validation", scores, structures=names)
        runs.append(run)
    comparison = compare(read(*runs))
    for draw in (draw_cases, draw_differences):
        assert size_of(draw(comparison))[0] <= 12 * 150


@pytest.mark.slow
def test_pictures_of_many_pairs_stay_within_what_browsers_show(make_run):
    comparison = compare(read(make_run("a"), make_run("b", noise=1)))
    many = replace(comparison, pairs=comparison.pairs * 900)
    assert 15_000 < max(size_of(draw_differences(many))) <= 16_000


def test_the_command_finds_a_place_that_cannot_be_written_before_it_compares(
    make_run, tmp_path, monkeypatch
):
    from vol3dseg.reporting.comparison import comparison_report as module

    monkeypatch.setattr(module, "compare", None)
    (tmp_path / "file").touch()
    words = [str(make_run("a")), str(make_run("b")), "-o", str(tmp_path / "file")]
    with pytest.raises(OutputError, match=r"file: cannot be written .*; expected a writable place"):
        CliRunner().invoke(compare_command, words, catch_exceptions=False)


def test_runs_that_were_judged_by_other_labels_of_the_same_cases_are_not_compared(make_run):
    first, second = make_run("a"), make_run("b", noise=1)
    write_scores(
        second / "scores" / "validation", some_dice(SPLIT["validation"], 3), judged="mended"
    )
    with pytest.raises(RunError, match=r"judged by different label maps of .*; expected the same"):
        compare([read_run(first), read_run(second)])
