"""Every block of code in README and docs runs as it stands, in a folder with what it names.

What a block names is there before it runs, small; what it writes is not. A preset that is named is
a file of that name in the folder, which goes before the preset: it trains for two steps. A block
that cannot run here says why in a comment above it: `<!-- not run: why -->`.
"""

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tests.monai_bundles import make_bundle
from tests.nnunet_folders import make_cases, make_model
from vol3dseg.cli.main import cli
from vol3dseg.config import Config, load_config, parse_config
from vol3dseg.config.parsing import dump_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.formats import read_image
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.model.file_check import Standalone
from vol3dseg.model.model_file import with_manifest
from vol3dseg.space.geometry import Geometry

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MODALITIES = ("flair", "t1", "t1ce", "t2")
# What is made by a block of Python, and must not be there before.
MADE = {
    ("README.md", 1): ("prepared", "run", "model.onnx"),
    ("README.md", 5): ("run", "model.onnx"),
    ("docs/config.md", 5): ("run", "model.onnx"),
    ("docs/python.md", 3): ("model.onnx",),
}
FEWER = {"2000": "3"}  # numbers in a shell, where they are of work


@dataclass(frozen=True)
class Block:
    """A block of code, and the comment above it."""

    page: str
    number: int
    remark: str
    language: str
    text: str

    def __str__(self):
        return f"{self.page}-{self.number}-{self.language}"

    def names(self, name):
        return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.-])", self.text) is not None


BLOCKS = [
    Block(str(page.relative_to(ROOT)), number, *(found.group(n) or "" for n in (1, 2, 3)))
    for page in PAGES
    for number, found in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")), start=1)
]


def blocks(*languages):
    chosen = [block for block in BLOCKS if block.language in languages and not block.remark]
    return pytest.mark.parametrize("block", chosen, ids=str)


def test_no_block_is_passed_over():
    known = {"python", "sh", "yaml", "csv", "json", "text"}
    for block in BLOCKS:
        kind, _, what = block.remark.partition(" ")
        if kind == "run":
            assert block.page in (ROOT / what.removeprefix("by ")).read_text(encoding="utf-8")
        elif kind == "not":
            assert re.fullmatch("run: .{20,}", what), block
        else:
            assert not block.remark, block
            assert block.language in known, block
    assert sum(block.remark.startswith("not run") for block in BLOCKS) <= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_stands_in_fences(page):
    outside = BLOCK.sub("", page.read_text(encoding="utf-8"))
    assert not re.search(r"^```", outside, re.MULTILINE)
    assert not re.search(r"\n\n {4,}\S", outside)


# --- what is run ----------------------------------------------------------------------------------


def quick(preset):
    """A preset that takes seconds."""
    data = load_config(preset).model_dump(mode="json")
    data["recipe"]["patch_size"] = [16, 16, 16]
    data["split"] = {"validation": 0.2, "test": 0.15}
    data["model"] |= {"width": 2, "depth": 2, "norm": "batch"}
    data["training"] |= {"epochs": 1, "steps_per_epoch": 2, "batch_size": 1, "micro_batch": 1}
    data["training"]["deep_supervision"] = False
    return Config.model_validate(data)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, dicom_series, graph_of, manifest_of):
    """One of everything that the blocks name; in folders of their own what two pages call alike."""
    import keras

    import vol3dseg

    shelf, config = tmp_path_factory.mktemp("shelf"), quick("brats2020")
    make_phantoms(shelf / "DATASET", cases=8, seed=0, shape=(32, 36, 28))
    make_phantoms(shelf / "dataset", cases=2, seed=1, shape=(32, 36, 28))
    shutil.copytree(shelf / "DATASET", shelf / "BraTS2020_TrainingData")
    shutil.copytree(shelf / "dataset", shelf / "new_cases")
    for modality in MODALITIES:
        (scan,) = (shelf / "new_cases" / "Phantom_001").glob(f"*_{modality}.nii.gz")
        shutil.copy(scan, shelf / f"{modality}.nii.gz")
    for name in ("brats2020", "my.yaml", "config.yaml"):
        (shelf / name).write_text(dump_config(config))
    run, model = train_on(shelf / "DATASET", shelf, config)
    vol3dseg.predict(model, shelf / "new_cases", shelf / "predictions")
    shutil.copytree(run, shelf / "RUN")
    options = vol3dseg.PredictOptions(split=run / "split.json", parts=["test"])
    vol3dseg.predict(model, shelf / "DATASET", shelf / "tested", options)
    for name in ("iteration-1", "iteration-3", "iteration-4", "ours"):
        copy = shutil.copytree(run, shelf / "runs" / name)
        vol3dseg.evaluate(
            shelf / "tested", shelf / "DATASET", copy / "scores", split=copy / "split.json"
        )
    image = keras.Input((None, None, None, len(MODALITIES)))
    keras.Model(image, keras.layers.Conv3D(4, 1)(image)).save(shelf / "elsewhere.keras")
    recipe, own = config.recipe.select(["flair", "t1ce"]), shelf / "docs" / "own-data.md"
    dicom = shelf / "docs" / "dicom.md"
    make_patient(dicom / "patient", dicom_series)
    of_two = manifest_of(recipe, config.labels)
    (dicom / "model.onnx").write_bytes(with_manifest(graph_of(2, 4), of_two))
    (table,) = (b for b in BLOCKS if b.page == "docs/dicom.md" and "t1ce_series" in b.text)
    (dicom / "patients.csv").write_text(table.text)
    make_own_data(shelf / "DATASET", own)
    (own / "own.yaml").write_text(dump_config(quick("hippocampus")))
    train_on(own / "own_data", own, quick("hippocampus"))
    make_nnunet(shelf / "docs" / "adopt.md")
    make_bundle(shelf / "docs" / "adopt.md" / "BUNDLE")
    shutil.copytree(shelf / "docs" / "adopt.md", shelf / "docs" / "coming-from-nnunet.md")
    return shelf


def train_on(dataset, folder, config):
    """Make a prepared folder, a run and a model, and return the last two."""
    import vol3dseg

    run, model = folder / "run", folder / "model.onnx"
    vol3dseg.preprocess(dataset, folder / "prepared", config)
    vol3dseg.train(folder / "prepared", run, config)
    vol3dseg.export_onnx(run, model)
    return run, model


def make_own_data(phantoms, folder):
    """Images with label maps of the values 1 and 2 under the same names, and images without."""
    for case in find_cases(phantoms):
        array, grid = read_image(case.label)
        nifti.write(
            folder / "own_data" / "labels" / f"{case.id}.nii.gz",
            np.minimum(array, 2).astype(np.uint8),
            grid,
        )
        for name in ("own_data/images", "new_scans"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(case.images["t1"].path, folder / name / f"{case.id}.nii.gz")


def make_nnunet(folder):
    """A trained model of nnU-Net, scans, and label maps that stand for what it says of them."""
    import vol3dseg

    make_cases(folder / "imagesTs")
    shutil.copytree(make_model(folder / "trained"), folder / "MODEL_FOLDER")
    vol3dseg.adopt_nnunet(folder / "MODEL_FOLDER", folder / "adopted.onnx")
    vol3dseg.predict(folder / "adopted.onnx", folder / "imagesTs", folder / "nnunet_says")
    shutil.rmtree(folder / "trained")
    (folder / "adopted.onnx").unlink()


def make_patient(folder, dicom_series):
    """Three series in a folder: FLAIR, T1 after contrast, and a mask on their grid."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("FLAIR axial", "T1 post contrast", "Mask of edema"), start=1):
        array = rng.integers(1, 999, (16, 14, 12)).astype(np.int16)
        array = 2 * (array > 800).astype(np.int16) if name.startswith("Mask") else array
        tags = {"SeriesInstanceUID": f"1.2.3.{number}", "SeriesNumber": number}
        for k, part in enumerate(dicom_series(array, SeriesDescription=name, **tags)):
            part.save_as(folder / f"{number}-{k}.dcm", enforce_file_format=True)


@pytest.fixture
def stand(tmp_path, monkeypatch):
    """Stand in a folder that has what a block names."""

    def stand(block, shelf):
        words = shlex.split(block.text, comments=True) if block.language == "sh" else []
        written = {b for a, b in pairwise(words) if a in {"-o", "--table"}}
        written.update(MADE.get((block.page, block.number), ()))
        items = {path.name: path for path in shelf.iterdir() if path.name != "docs"}
        own = shelf / block.page
        items |= {path.name: path for path in own.iterdir()} if own.is_dir() else {}
        for path in items.values():
            named = block.names(path.name) or path.name.removesuffix(".nii.gz") in MODALITIES
            if named and path.name not in written:
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, tmp_path / path.name)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return stand


@pytest.mark.train
@blocks("python")
def test_python_runs(block, shelf, stand, capsys):
    folder = stand(block, shelf)
    names = {}
    exec(compile(block.text, str(block), "exec"), names)
    for name in MADE.get((block.page, block.number), ()):
        assert (folder / name).exists()
    if block.page == "docs/dicom.md":
        np.testing.assert_array_equal(names["again"].array, names["classes"])
        assert names["again"].counts()[2] == (names["array"] > 500).sum() > 0
    if block == BLOCKS[0]:
        assert names["segmentation"].geometry == names["volume"].geometry


@pytest.mark.train
@blocks("sh")
def test_shell_runs(block, shelf, stand):
    folder = stand(block, shelf)
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            ENTRIES[words[0]](words[1:], folder)


def run_ours(words, folder):
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for option, path in pairwise(words):
        assert option not in {"-o", "--table"} or (folder / path).exists()


def run_python(words, folder):
    command = [sys.executable, *(FEWER.get(word, word) for word in words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def plan_make(words, folder):
    """Let make plan what it would do."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def look_up_extras(words, folder):
    """See that what pip would install is ours, with extras that there are."""
    known = importlib.metadata.metadata("vol3dseg").get_all("Provides-Extra")
    command, wanted = words
    package, extras = re.fullmatch(r"(\w+)\[([\w,]+)\]", wanted).groups()
    assert (command, package) == ("install", "vol3dseg")
    assert set(extras.split(",")) <= set(known)


def make_key(words, folder):
    """Do what openssl does, which may not be here: a new key, or its public half."""
    serial = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    pem, form = serial.Encoding.PEM, serial.PublicFormat.SubjectPublicKeyInfo
    said = dict(pairwise(words))
    if words[0] == "ecparam":
        assert said["-name"] == "prime256v1"
        key, lock = ec.generate_private_key(ec.SECP256R1()), serial.NoEncryption()
        content = key.private_bytes(pem, serial.PrivateFormat.TraditionalOpenSSL, lock)
    else:
        key = serial.load_pem_private_key((folder / said["-in"]).read_bytes(), None)
        content = key.public_key().public_bytes(pem, form)
    (folder / said["-out"]).write_bytes(content)


ENTRIES = {
    "openssl": make_key,
    "vol3dseg": run_ours,
    "python": run_python,
    "make": plan_make,
    "pip": look_up_extras,
}


# --- what is read ---------------------------------------------------------------------------------


@blocks("yaml")
def test_configs_are_valid(block, tmp_path):
    """Whole ones as files; of a section, or an item of a list, in the place where it belongs."""
    said = yaml.safe_load(block.text)
    if "extends" in said:
        (tmp_path / "config.yaml").write_text(block.text)
        assert load_config(tmp_path / "config.yaml") != load_config(said["extends"])
        return
    whole = load_config("crops32").model_dump(mode="json")
    if isinstance(said, list):
        said = {"labels": {"classes": [whole["labels"]["classes"][0], *said]}}
    config = parse_config(whole | said, str(block))
    assert config.model_dump(mode="json") != whole


@blocks("csv", "json")
def test_tables_are_read_by_check(block, tmp_path, monkeypatch, dicom_series):
    if block.page == "docs/standalone.md":
        assert Standalone.model_validate_json(block.text).inputs == ("flair", "t1")
        return
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"ann/\w+\.nii\.gz", block.text):
        write_scan(tmp_path / name)
    if "patient" in block.text:
        pytest.importorskip("highdicom")
        make_patient(tmp_path / "patient", dicom_series)
        make_other(tmp_path / "other")
    table = f"cases.{block.language}"
    (tmp_path / table).write_text(block.text)
    done = CliRunner().invoke(cli, ["check", table, "-j", "1"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(find_cases(table)) == max(block.text.count("{"), block.text.count("\n") - 1)


def write_scan(path):
    """An image, a label map or two volumes, as the name says."""
    path.parent.mkdir(exist_ok=True)
    shape = (8, 9, 10, 2) if path.name.startswith("both") else (8, 9, 10)
    array = np.random.default_rng(len(path.name)).normal(500, 99, shape).astype(np.float32)
    if path.name.startswith("both"):
        array[0, 0, 0, 1] = np.nan
    if path.name.startswith("tumour"):
        array = (array > 500).astype(np.uint8)
    nifti.write(path, array, Geometry(shape[:3], np.eye(4)))


def make_other(folder):
    """A series, and a DICOM-SEG of one class on its grid."""
    from vol3dseg.formats.dicom.dicom_volume import DicomVolume
    from vol3dseg.formats.dicom.seg_writing import Algorithm, write_seg
    from vol3dseg.space.labels import Segmentation

    shutil.copytree(folder.parent / "patient", folder)
    for path in folder.iterdir():
        if not path.name.startswith("1-"):
            path.unlink()
    image = DicomVolume(folder, "FLAIR*")
    array, grid, _ = image.image()
    edema = 2 * (array > 800).astype(np.uint8)
    segmentation = Segmentation(edema, grid, load_config("brats2020").labels)
    path = folder.parent / "masks" / "other.dcm"
    path.parent.mkdir()
    write_seg(path, segmentation, image.series, Algorithm("expert", "1"))


@blocks("text")
def test_a_synopsis_names_options_that_there_are(block):
    for line in re.sub(r"\n {4,}", " ", block.text).splitlines():
        words = line.split()
        options = set(re.findall(r"--[a-z][\w-]*", line))
        if words[0] == "vol3dseg":
            done = CliRunner().invoke(cli, [words[1], "--help"])
            said = done.output
        elif words[0] == "python":
            command = [sys.executable, *words[1:3], "--help"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            said = done.stdout + done.stderr
        else:
            continue
        assert options
        assert options <= set(re.findall(r"--[a-z][\w-]*", said))
