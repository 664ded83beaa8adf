import copy

import pytest
import yaml

from vol3dseg.config import dump_config, load_config, parse_config, preset_names
from vol3dseg.errors import ConfigError

MINIMAL = {
    "labels": {
        "classes": [
            {"name": "background", "read": [0], "write": 0},
            {"name": "tumour", "read": [1], "write": 1},
        ]
    },
    "recipe": {
        "modalities": ["t1", "t2"],
        "normalisation": {"method": "zscore"},
        "patch_size": [32, 32, 32],
    },
}

NONE, ONE = MINIMAL["labels"]["classes"]


def changed(**sections):
    data = copy.deepcopy(MINIMAL)
    for section, values in sections.items():
        data[section] = {**data.get(section, {}), **values}
    return data


def test_presets_are_all_shipped():
    report = [f"report/iteration-{number}" for number in range(1, 5)]
    names = [
        "brats2020",
        "brats2023",
        "brats2024",
        "crops32",
        "demo",
        "fine-tune",
        "hippocampus",
        *report,
    ]
    assert preset_names() == names


# The table of the report: what its four iterations are, and all that they may differ in.
REPORT = {
    1: {"modalities": ("t1ce", "flair"), "epochs": 50, "batch_size": 1, "model_checkpoint": True},
    2: {"modalities": ("t1",), "epochs": 35, "batch_size": 32, "model_checkpoint": False},
    3: {"modalities": ("t1ce", "flair"), "epochs": 35, "batch_size": 16, "model_checkpoint": False},
    4: {"modalities": ("t1",), "epochs": 35, "batch_size": 1, "model_checkpoint": False},
}


@pytest.mark.parametrize("number", REPORT)
def test_the_reports_iterations_differ_in_its_table_alone(number):
    config, first = load_config(f"report/iteration-{number}"), load_config("report/iteration-1")
    table = REPORT[number]
    assert {key: getattr(config.training, key) for key in table} == table
    assert (config.training.optimizer, config.training.loss) == ("adam", "cross_entropy")
    assert config.training.early_stopping is not None
    assert config.training.reduce_lr_on_plateau is None
    rest = config.training.model_copy(update=REPORT[1])
    assert config.model_copy(update={"training": rest}) == first
    assert config.recipe == load_config("brats2020").recipe
    assert config.labels == load_config("brats2020").labels


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_come_back(name, tmp_path):
    config = load_config(name, lambda: load_config("crops32"))
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config
    assert load_config(str(tmp_path / "c.yaml")).recipe.fingerprint == config.recipe.fingerprint


def test_a_config_that_says_only_how_to_train_extends_that_of_the_data(tmp_path):
    data = load_config("hippocampus")
    config = load_config("fine-tune", lambda: data)
    assert (config.labels, config.recipe, config.model) == (data.labels, data.recipe, data.model)
    assert (config.training.epochs, config.training.grow_patch) == (20, None)
    assert config.training.augment == data.training.augment
    (tmp_path / "slow.yaml").write_text("extends: fine-tune\ntraining: {learning_rate: 1.0e-5}\n")
    slow = load_config(tmp_path / "slow.yaml", lambda: data)
    assert slow.differences(config) == "training.learning_rate: 1e-05 and 0.0001"
    with pytest.raises(ConfigError, match=r"preset fine-tune: says how to train.*prepared folder"):
        load_config("fine-tune")


@pytest.mark.parametrize("name", ["brats2020", "brats2023", "crops32", "demo"])
def test_brats_presets_name_classes_and_regions(name):
    labels = load_config(name).labels
    assert labels.names == ("background", "necrotic core", "edema", "enhancing")
    assert labels.regions == {
        "whole tumour": ("necrotic core", "edema", "enhancing"),
        "tumour core": ("necrotic core", "enhancing"),
        "enhancing tumour": ("enhancing",),
    }
    assert load_config(name).recipe.modalities == ("flair", "t1", "t1ce", "t2")


def test_brats2024_has_a_resection_cavity_that_is_no_tumour():
    config = load_config("brats2024")
    assert {label.name: (label.read, label.write) for label in config.labels.classes} == {
        "background": ((0,), 0),
        "non-enhancing tumour core": ((1,), 1),
        "surrounding FLAIR hyperintensity": ((2,), 2),
        "enhancing tissue": ((3,), 3),
        "resection cavity": ((4,), 4),
    }
    whole = set(config.labels.regions["whole tumour"])
    assert whole == set(config.labels.foreground) - {"resection cavity"}
    assert set(config.labels.regions["tumour core"]) == {
        "non-enhancing tumour core",
        "enhancing tissue",
    }
    assert config.labels.required == ()
    other = load_config("brats2023")
    assert config.model_copy(update={"labels": other.labels}) == other


def test_the_report_behind_brats2020():
    config = load_config("brats2020")
    assert config.labels.required == ("enhancing",)
    assert (config.split.validation, config.split.test) == (0.2, 0.15)
    plateau = config.training.reduce_lr_on_plateau
    assert plateau is not None
    assert (plateau.factor, plateau.patience, plateau.min_lr) == (0.2, 2, 1e-6)
    assert config.training.model_checkpoint


def test_one_normalisation_stands_for_all():
    recipe = parse_config(MINIMAL, "test").recipe
    assert set(recipe.normalisation) == {"t1", "t2"}


def test_a_model_of_a_subset():
    config = parse_config(changed(training={"modalities": ["t2"]}), "test")
    assert config.model_recipe == config.recipe.select(["t2"])
    assert config.model_recipe.fingerprint != config.recipe.fingerprint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(
            {**MINIMAL, "trainig": {}},
            "unknown key 'trainig', did you mean 'training'",
            id="section",
        ),
        pytest.param(
            changed(training={"epoch": 3}), "'training.epoch', did you mean 'epochs'", id="key"
        ),
        pytest.param(
            changed(training={"augment": {"flip_axis": ["i"]}}),
            "'training.augment.flip_axis', did you mean 'flip_axes'",
            id="optional section",
        ),
        pytest.param(
            changed(labels={"classes": [{"name": "background", "read": [0], "wirte": 0}]}),
            "'labels.classes.0.wirte', did you mean 'write'",
            id="in a list",
        ),
        pytest.param(
            changed(recipe={"normalisation": {"method": "zscore", "maks": "all"}}),
            r"maks', did you mean 'mask'",
            id="in a union",
        ),
        pytest.param(
            changed(model={"zzz": 1}),
            "unknown key 'model.zzz'; known: depth, width",
            id="nothing like it",
        ),
    ],
)
def test_unknown_keys_get_a_suggestion(data, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(data, "test")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param({}, "labels is missing; recipe is missing", id="empty"),
        pytest.param([1], "test: expected a mapping", id="a list"),
        pytest.param(None, "test: expected a mapping", id="nothing"),
        pytest.param(
            changed(training={"epochs": 0}),
            "training.epochs: expected at least 1, found 0",
            id="too small",
        ),
        pytest.param(changed(training={"epochs": "many"}), r"found 'many'", id="no number"),
        pytest.param(
            changed(training={"schedule": "cosine", "reduce_lr_on_plateau": {}}),
            "would both set the learning rate; keep one of them",
            id="schedule and plateau",
        ),
        pytest.param(
            changed(training={"warmup_epochs": 0.5, "reduce_lr_on_plateau": {}}),
            "reduce_lr_on_plateau and warmup_epochs: 0.5 would both set the learning rate",
            id="warm-up and plateau",
        ),
        pytest.param(
            changed(training={"warmup_epochs": 3.0, "epochs": 3}),
            "warmup_epochs 3 leave nothing of 3 epochs",
            id="only a warm-up",
        ),
        pytest.param(
            changed(training={"optimizer": "schedule_free_adamw", "schedule": "cosine"}),
            "and schedule is set; choose schedule: constant, or optimizer: adamw",
            id="schedule-free with a schedule",
        ),
        pytest.param(
            changed(training={"optimizer": "schedule_free_adamw", "reduce_lr_on_plateau": {}}),
            "and reduce_lr_on_plateau is set; choose reduce_lr_on_plateau: null",
            id="schedule-free with a plateau",
        ),
        pytest.param(
            changed(recipe={"patch_size": [32, 32, 20]}),
            r"patch_size \[32, 32, 20\] must be multiples of \[16, 16, 16\], what the strides of",
            id="patch does not halve",
        ),
        pytest.param(
            changed(
                model={"depth": 2, "strides": [[2, 2, 1], [2, 2, 4]]},
                recipe={"patch_size": [32, 32, 6]},
            ),
            r"patch_size \[32, 32, 6\] must be multiples of \[4, 4, 4\]",
            id="patch does not fit the strides",
        ),
        pytest.param(
            changed(model={"strides": [[2, 2, 2]]}),
            "strides has 1 entries and depth is 4",
            id="strides",
        ),
        pytest.param(
            changed(model={"depth": 1, "strides": [[1, 1, 1]]}),
            "make no level",
            id="a stride of one",
        ),
        pytest.param(
            changed(model={"depth": 1, "strides": [[2, 2, 0]]}),
            "model.strides.0.2: expected at least 1, found 0",
            id="no stride",
        ),
        pytest.param(
            changed(model={"depth": 1, "kernels": [[1, 3, 3]]}),
            "kernels has 1 entries and depth is 1; give one triple for the full grid and for each",
            id="kernels",
        ),
        pytest.param(
            changed(model={"depth": 1, "kernels": [[3, 3, 3], [1, 1, 1]]}),
            "see no neighbour",
            id="a kernel of one",
        ),
        pytest.param(
            changed(model={"depth": 1, "kernels": [[3, 3, 3], [3, 4, 3]]}),
            "model.kernels.1.1: 4 voxels have no middle; give an odd number",
            id="an even kernel",
        ),
        pytest.param(
            changed(model={"blocks": [1, 1, 1, 1, 1]}),
            "say encoder: residual, or blocks: null",
            id="blocks of a plain encoder",
        ),
        pytest.param(
            changed(model={"encoder": "residual", "blocks": [1, 1]}),
            "blocks has 2 entries and depth is 4",
            id="blocks",
        ),
        pytest.param(
            changed(model={"depth": 2}, training={"deep_supervision": True}),
            "deep_supervision needs model.depth 3 or more, found 2",
            id="no level to supervise",
        ),
        pytest.param(
            changed(training={"modalities": ["t3"]}),
            r"training.modalities \['t3'\] are not in recipe.modalities",
            id="unknown modality",
        ),
        pytest.param(
            changed(recipe={"normalisation": {"t1": {"method": "zscore"}}}),
            r"normalisation is given for \['t1'\]",
            id="modality without normalisation",
        ),
        pytest.param(
            changed(recipe={"spacing_mm": [1, 0, 1]}), "at least 1e-09, found 0", id="no spacing"
        ),
        pytest.param(
            changed(recipe={"modalities": ["t1", "t2", "t1"]}), "t1 is there twice", id="twice"
        ),
        pytest.param(
            changed(training={"modalities": ["t1", "t1"]}), "modalities: t1 is", id="seen twice"
        ),
        pytest.param(
            changed(labels={"classes": [{**NONE, "name": "Tumour"}, ONE]}),
            "classes would share the column dice_tumour of training.log",
            id="names alike",
        ),
        pytest.param(
            changed(labels={"classes": [NONE, {**ONE, "name": "a\nb"}]}),
            "has characters that nobody sees",
            id="name of two lines",
        ),
        pytest.param(
            changed(labels={"regions": {"r": []}}), "regions.r: expected at least 1", id="no region"
        ),
        pytest.param(
            changed(labels={"required": ["x"]}), r"unknown classes \['x'\]", id="no class"
        ),
    ],
)
def test_what_is_not_valid(data, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(data, "test")


def test_strides_of_a_network_for_thick_slices():
    strides = [[2, 2, 1], [2, 2, 2], [2, 2, 2]]
    model = {"depth": 3, "strides": strides}
    config = parse_config(changed(model=model, recipe={"patch_size": [32, 32, 12]}), "test")
    assert config.model.level_strides == ((2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert config.model.divisor == (8, 8, 4)
    assert load_config("crops32").model.level_strides == ((2, 2, 2),) * 3
    assert load_config("crops32").model.divisor == (8, 8, 8)
    assert parse_config(yaml.safe_load(dump_config(config)), "test") == config


def test_kernels_of_a_network_for_slices_that_are_far_apart():
    model = {"depth": 2, "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}
    config = parse_config(changed(model=model), "test")
    assert config.model.level_kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert load_config("crops32").model.level_kernels == ((3, 3, 3),) * 4
    assert parse_config(yaml.safe_load(dump_config(config)), "test") == config


def test_all_problems_at_once():
    data = changed(training={"epochs": 0, "batch_size": 0})
    with pytest.raises(ConfigError, match=r"test: training.epochs: .*; training.batch_size: "):
        parse_config(data, "test")


def test_unknown_preset_gets_a_suggestion():
    with pytest.raises(
        ConfigError, match=r"no preset 'hipocampus', did you mean 'hippocampus'.*demo"
    ):
        load_config("hipocampus")


def test_missing_file():
    with pytest.raises(ConfigError, match="no such config file"):
        load_config("nowhere.yaml")


def test_broken_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("labels: [")
    with pytest.raises(ConfigError, match=r"c.yaml: not valid YAML"):
        load_config(tmp_path / "c.yaml")


def test_yaml_cannot_build_objects(tmp_path):
    (tmp_path / "c.yaml").write_text("labels: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "c.yaml")


def test_numbers_with_an_exponent_stay_numbers(tmp_path):
    config = parse_config(changed(training={"learning_rate": 1e-5}), "test")
    assert yaml.safe_load(dump_config(config))["training"]["learning_rate"] == 1e-5


def write_yaml(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_config_may_extend_another(tmp_path):
    write_yaml(tmp_path / "base.yaml", "extends: crops32\ntraining: {epochs: 7, batch_size: 4}\n")
    child = write_yaml(
        tmp_path / "sub" / "child.yaml",
        "extends: ../base.yaml\ntraining: {epochs: 9, augment: null}\n"
        "recipe: {normalisation: {method: window, low: 0, high: 9}}\n",
    )
    config, preset = load_config(child), load_config("crops32")
    assert (config.training.epochs, config.training.batch_size) == (9, 4)
    assert config.training.augment is None
    assert config.training.schedule == preset.training.schedule
    assert config.labels == preset.labels
    # Another method brings its own settings: none of the old method's are left.
    assert {n.method for n in config.recipe.normalisation.values()} == {"window"}


def test_a_config_may_say_nothing_but_what_it_extends(tmp_path):
    write_yaml(tmp_path / "same.yaml", "extends: crops32\n")
    assert load_config(tmp_path / "same.yaml") == load_config("crops32")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("extends: a.yaml\n", r"a\.yaml: extends 'a\.yaml'; .*circle", id="circle"),
        pytest.param("extends: 3\n", r"a\.yaml: extends 3; expected the name", id="number"),
        pytest.param("extends: b.yaml\n", r"b\.yaml: no such config file", id="missing file"),
        pytest.param("extends: crops23\n", r"did you mean 'crops32'", id="missing preset"),
        pytest.param("extends: demo\nmodle: {}\n", r"did you mean 'model'", id="unknown key"),
    ],
)
def test_what_cannot_be_extended(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load_config(write_yaml(tmp_path / "a.yaml", text))


def test_a_micro_batch_must_divide_the_batch():
    with pytest.raises(ConfigError, match="micro_batch 3 must divide batch_size 8"):
        parse_config(changed(training={"batch_size": 8, "micro_batch": 3}), "test")


def test_what_one_config_takes_away_from_another(tmp_path):
    each = "{flair: {method: zscore}, t1: {method: window, low: 0, high: 9}}"
    text = (
        "extends: crops32\n"
        "labels:\n  classes:\n    - {name: background, read: [0], write: 0}\n"
        "    - {name: tumour, read: [1], write: 1}\n  regions: {}\n"
        f"recipe: {{modalities: [flair, t1], normalisation: {each}}}\n"
    )
    config = load_config(write_yaml(tmp_path / "a.yaml", text))
    assert config.labels.regions == {}
    assert [n.method for n in config.recipe.normalisation.values()] == ["zscore", "window"]
    again = write_yaml(
        tmp_path / "b.yaml", "extends: a.yaml\nrecipe:\n  normalisation: {method: zscore}\n"
    )
    assert {n.method for n in load_config(again).recipe.normalisation.values()} == {"zscore"}


def test_a_preset_does_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    before = load_config("crops32")
    write_yaml(tmp_path / "brats2020", "training: {epochs: 3}\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("crops32") == before


def test_differences_are_named_by_their_place():
    config = load_config("crops32")
    other = parse_config(
        {**config.model_dump(mode="json"), "model": {"depth": 4}, "split": {"seed": 4}}, "x"
    )
    assert config.differences(config) == ""
    assert config.differences(other) == (
        "split.seed: 0 and 4; model.depth: 3 and 4; model.width: 32 and 16"
    )


def test_an_open_micro_batch_is_that_of_the_run_before():
    config = load_config("crops32")
    assert config.resumes(config.chosen(micro_batch=2)).training.micro_batch == 2
    given = config.chosen(micro_batch=4, precision="float32")
    assert given.resumes(config.chosen(micro_batch=2, precision="bfloat16")) == given
    assert config.resumes(given) == given
