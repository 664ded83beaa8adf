"""The code of README's first screen runs as it stands, on phantoms and for two short epochs."""

import re
from pathlib import Path

import pytest
import yaml

from vol3dseg.config import load_config
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.space.labels import Segmentation

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the code names: two data sets, and a config in the place of the preset."""
    folder = tmp_path_factory.mktemp("readme")
    make_phantoms(folder / "BraTS2020_TrainingData", cases=8, seed=0)
    make_phantoms(folder / "new_cases", cases=2, seed=1)
    data = load_config("demo").model_dump(mode="json")
    data["training"] |= {"epochs": 1, "steps_per_epoch": 2}
    data["model"] |= {"width": 2}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(data))
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Run a block of code in the folder and return its names."""
    monkeypatch.chdir(folder)

    def run(block, **names):
        exec(block.replace('config="brats2020"', 'config="tiny.yaml"'), names)
        return names

    return run


def test_the_first_block_trains_exports_and_segments(run, folder):
    names = run(BLOCKS[0])
    assert isinstance(names["segmentation"], Segmentation)
    assert names["segmentation"].geometry == names["volume"].geometry
    assert (folder / "model.onnx").is_file()


def test_the_second_block_brings_a_network(run, folder):
    for name in ("run", "model.onnx"):
        (folder / name).rename(folder / f"first-{name}")
    run(BLOCKS[1])
    assert (folder / "model.onnx").stat().st_size < (folder / "first-model.onnx").stat().st_size
