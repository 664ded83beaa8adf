"""The comparison of training loops: its arithmetic, its table, who takes part."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.contestants.steps import noise, seconds_of
from benchmarks.measuring import Measured
from benchmarks.rows import Contestant
from benchmarks.training import BASELINES, contestants, whole_steps
from benchmarks.training_table import Loop, peaks, training_table
from benchmarks.workers import Reply, python_of
from vol3dseg.config import load_config

ROOT = Path(__file__).resolve().parents[1]
WORDS = argparse.Namespace(threads=2, steps=3, precision=["float32", "bfloat16"])


def loop(name, *step_s, precision="float32", fed=None, batch=2, gflop=3.0):
    rounds = [
        {"step_s": s, "gflop": gflop, "gflops": {"float32": 100.0, "bfloat16": 400.0}}
        | ({} if fed is None else {"fed_s": fed * s})
        for s in step_s
    ]
    return Loop(name, batch, precision, rounds)


def test_arithmetic_is_that_of_all_patches_of_a_step():
    assert loop("a", 0.5).gflops == 2 * 3.0 / 0.5
    assert loop("a", 0.5).of_peak == pytest.approx(12 / 100)
    assert loop("a", 0.5, precision="bfloat16").of_peak == pytest.approx(12 / 400)


def test_a_round_in_which_the_machine_was_slow_changes_no_ratio():
    slow = loop("a", 1.0, 10.0, 1.0, fed=1.03)
    assert slow.starvation == pytest.approx(1.03)
    assert slow.gflops == 2 * 3.0 / 1.0


def test_the_table_compares_within_rounds_and_names_who_is_missing():
    ours = loop("ours, float32", 1.0, 10.0, fed=1.1)
    theirs = loop("nnU-Net, float32", 2.0, 20.0)
    gone = Loop("MONAI, float32", 2, "float32", (), "there is no .bench/torch")
    lines = training_table("Title", [ours, theirs, gone], BASELINES).splitlines()
    assert "| ours, float32 | 5.500 | 0.36 | 2.00 | - | 3 | 3% | 1.10 |" in lines
    assert "| nnU-Net, float32 | 11.000 | 0.18 | 1.00 | - | 2 | 2% | - |" in lines
    assert lines[-1] == "- left out: MONAI, float32: there is no .bench/torch"
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "ours float32 100, ours bfloat16 400, nnU-Net float32 100" in peaks([ours, theirs, gone])


def test_a_contestant_is_held_against_matrices_of_its_precision():
    contestant = Contestant("ours, bfloat16", "nowhere", "m", {"precision": "bfloat16"})
    entry = Measured(contestant, replies=[Reply(1.0, None, loop("a", 0.5).rounds[0])])
    assert Loop.of(entry, 2).of_peak == pytest.approx(12 / 400)
    chosen = Contestant("ours, auto", "nowhere", "m", {"precision": "auto"})
    facts = {**loop("a", 0.5).rounds[0], "precision": "float32"}
    entry = Measured(chosen, replies=[Reply(1.0, None, facts)])
    assert Loop.of(entry, 2).of_peak == pytest.approx(12 / 100)
    absent = Loop.of(Measured(contestant, problem="gone"), 2)
    assert (absent.rounds, absent.problem) == ([], "gone")


@pytest.mark.parametrize("preset", ["hippocampus", "crops32"])
def test_all_train_a_network_of_the_same_size_on_the_same_batch(preset):
    config = load_config(preset)
    found = contestants(config, Path("prepared"), Path("config.yaml"), WORDS)
    assert set(BASELINES) <= {each.name for each in found}
    assert len({each.name for each in found}) == len(found) == 10
    for each in found:
        assert (ROOT / (each.path.replace(".", "/") + ".py")).is_file()
        assert json.loads(json.dumps(dict(each.settings))) == dict(each.settings)
    for each in found[2:]:
        shape = (config.training.batch_size, *config.recipe.patch_size)
        assert tuple(each.settings["shape"]) == (*shape, len(config.model_recipe.modalities))
        assert each.settings["widths"] == list(config.model.widths)
        levels = {len(each.settings[key]) for key in ("widths", "kernels", "strides")}
        assert levels == {config.model.depth + 1}


def test_ours_trains_whole_patches_in_the_environment_of_make_setup():
    config = whole_steps("hippocampus")
    assert config.training.grow_patch is None
    found = contestants(config, Path("p"), Path("c"), WORDS)[0]
    python = python_of(found.environment)
    assert python is None or python.resolve().parents[2] != ROOT / ".bench"


def test_noise_has_every_class_and_a_step_before_the_timed_ones():
    image, label = noise({"shape": [2, 4, 4, 4, 1], "classes": 3})
    assert image.shape == (2, 4, 4, 4, 1)
    assert set(label.ravel()) == {0, 1, 2}
    done = []
    assert seconds_of(lambda: done.append(1), 3) >= 0
    assert len(done) == 4
