import csv
import itertools
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import HealthCheck, settings

from vol3dseg.config import Config, load_config
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.record import Record
from vol3dseg.model.manifest import Manifest, Network
from vol3dseg.model.model_file import with_manifest
from vol3dseg.model.outputs import Softmax
from vol3dseg.model.provenance import provenance
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.model.training_facts import TrainingFacts
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet
from vol3dseg.training.child_process import as_outcome

# What a shell starts in the background ignores Ctrl-C, and hands that down to its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first example pays for imports and caches. The database would leave files behind.
# The same examples in every run, so that a change is judged by itself and not by the day's draw;
# `pytest --hypothesis-profile search` draws many others.
_every = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("vol3dseg", _every, max_examples=25, derandomize=True)
settings.register_profile("search", _every, max_examples=500)
settings.load_profile("vol3dseg")

_SLICES = itertools.count(10_000)  # of one length each: a file's size must not depend on chance


# What is the same whether TensorFlow is there or not, and takes long: `make light` leaves it out.
_ANYWHERE = {
    *("test_adopt_nnunet", "test_apart", "test_auditing", "test_bench_evaluating"),
    *("test_bounds", "test_catalogue", "test_check", "test_dataset_commands"),
    *("test_determinism", "test_docs", "test_examination", "test_faults", "test_faulty_machine"),
    *("test_foreign_store", "test_full_disk", "test_fuzzing", "test_guard", "test_hostile_files"),
    *("test_hostile_models", "test_house", "test_inspect", "test_monai_proof", "test_names"),
    *("test_nnunet_home", "test_nnunet_models", "test_nnunet_prepare", "test_nnunet_proof"),
    *(
        "test_nnunet_tiling",
        "test_over_cases",
        "test_phantom",
        "test_plain_files",
        "test_real_data",
    ),
    *("test_replay", "test_rights", "test_scores_page", "test_standalone", "test_stopped"),
    *("test_store", "test_view", "test_withdrawal"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail if a test is skipped, as in CI")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Make a skipped test fail the run where everything that tests need must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if hasattr(session.config, "workerinput"):
        save_coverage()


def save_coverage() -> None:
    """Save what was measured in this process: a worker that needs ten seconds to end is killed."""
    coverage = sys.modules.get("coverage")
    if coverage and (measured := coverage.Coverage.current()):
        measured.stop()
        measured.save()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that train, which take longest: the others fill the gaps behind them."""
    items.sort(key=lambda item: item.get_closest_marker("train") is None)
    for item in items:
        if item.path.stem in _ANYWHERE:
            item.add_marker("anywhere")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real volumes that stands beside the repository, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: ../shared/data does not stand beside the repository")
    return folder


@pytest.fixture(scope="session")
def shared_nnunet() -> Path:
    """The folder of nnU-Net's models, cases and answers, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "nnunet"
    if not folder.is_dir():
        pytest.skip("no models of nnU-Net: ../shared/nnunet does not stand beside the repository")
    return folder


@pytest.fixture(scope="session")
def chromium():
    """The program that pages are tested in."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no headless browser: install chromium to test pages")
    return browser


@pytest.fixture(scope="session")
def browse(tmp_path_factory, chromium):
    """Open a page in headless Chromium; gives its DOM after scripts ran, and console messages."""

    def browse(path: Path, *options: str) -> tuple[str, list[str]]:
        profile = tmp_path_factory.mktemp("browser")
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", f"--user-data-dir={profile}", "--enable-logging=stderr",
                "--virtual-time-budget=5000", "--dump-dom", *options, path.resolve().as_uri(),
            ],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return browse


@pytest.fixture(scope="session")
def vol3dseg():
    """Run the command line in a process of its own, as a user does."""

    def run(*words):
        code = "from vol3dseg.cli.main import main; main()"
        command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def labels():
    """The four BraTS classes."""
    return load_config("crops32").labels


@pytest.fixture(scope="session")
def recipe():
    """Two modalities, small patches."""
    return Recipe(
        modalities=("flair", "t1"), normalisation={"method": "zscore"}, patch_size=(16, 16, 16)
    )


@pytest.fixture
def manifest(recipe, labels):
    """What a model of `recipe` says of itself."""
    return make_manifest(recipe, labels)


@pytest.fixture
def record(manifest):
    """What is said of a model before its first case."""
    return Record.of(manifest, Origin("nothing", "0" * 64, "nothing"))


@pytest.fixture(scope="session")
def manifest_of():
    """Return the manifest of a recipe and labels."""
    return make_manifest


@pytest.fixture(scope="session")
def graph_of():
    """Return what makes a tiny graph of so many channels and classes."""
    return make_graph


@pytest.fixture(scope="session")
def manifest_for():
    """Return the manifest of a network with these channels, classes, patch and divisor."""

    def make(channels, classes, patch_size, divisor):
        names = [f"m{n}" for n in range(channels)]
        recipe = Recipe(modalities=names, normalisation={"method": "zscore"}, patch_size=patch_size)
        labels = LabelSet(classes=[Label(name=f"c{n}", read=(n,), write=n) for n in range(classes)])
        manifest = make_manifest(recipe, labels)
        network = manifest.network.model_copy(update={"divisor": (divisor,) * 3})
        return manifest.model_copy(update={"network": network})

    return make


def make_manifest(recipe, labels):
    return Manifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint,
        labels=labels,
        network=Network(architecture={}, divisor=(4, 4, 4), receptive_field=(0, 0, 0), local=True),
        outputs=Softmax(classes=labels.names),
        tiling=Tiling.of(recipe.patch_size),
        members=(
            TrainingFacts(
                data_fingerprint="0" * 64,
                cases={"train": 1, "validation": 0, "test": 0},
                checkpoint="last",
                epoch=1,
                epochs=1,
                val_loss=None,
                seed=0,
                loss="dice",
                optimizer="adam",
                batch_size=2,
                micro_batch=2,
            ),
        ),
        provenance=provenance("numpy"),
    )


def make_graph(channels, classes):
    """A network of one 1x1x1 convolution: class c > 0 where the first modality is bright."""
    weights = np.zeros((classes, channels, 1, 1, 1), dtype=np.float32)
    weights[1:, 0] = 1 + np.arange(classes - 1, dtype=np.float32)[:, None, None, None]
    bias = -(np.arange(classes, dtype=np.float32) ** 2)
    dims = ["i", "j", "k"]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["image", "w", "b"], ["logits"]),
            onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("image", 1, ["n", channels, *dims])],
        [onnx.helper.make_tensor_value_info("probabilities", 1, ["n", classes, *dims])],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture(scope="session")
def small_unet():
    """Return what makes a U-Net of two levels."""
    return make_small_unet


def make_small_unet(rng, width=3, strides=(2, 2, 2)):
    """Two levels, random weights, no norm: outputs depend on 6 voxels each way, 3 at stride 1."""

    def conv(name, inputs, outputs, size):
        weights = rng.normal(0, 0.3, (outputs, inputs, size, size, size)).astype(np.float32)
        initializers.append(onnx.numpy_helper.from_array(weights, name))

    initializers = []
    conv("w0", 1, width, 3)
    conv("w1", width, width, 3)
    conv("w3", 2 * width, 4, 3)
    up = rng.normal(0, 0.3, (width, width, *strides)).astype(np.float32)
    initializers.append(onnx.numpy_helper.from_array(up, "w2"))
    pads = {"pads": [1] * 6}
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w0"], ["c0"], **pads),
        onnx.helper.make_node("LeakyRelu", ["c0"], ["a0"]),
        onnx.helper.make_node("MaxPool", ["a0"], ["p"], kernel_shape=strides, strides=strides),
        onnx.helper.make_node("Conv", ["p", "w1"], ["c1"], **pads),
        onnx.helper.make_node("ConvTranspose", ["c1", "w2"], ["u"], strides=strides),
        onnx.helper.make_node("Concat", ["a0", "u"], ["j"], axis=1),
        onnx.helper.make_node("Conv", ["j", "w3"], ["c3"], **pads),
        onnx.helper.make_node("Softmax", ["c3"], ["probabilities"], axis=1),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, 1, ["n", channels, "i", "j", "k"])
        for name, channels in (("image", 1), ("probabilities", 4))
    ]
    graph = onnx.helper.make_graph(nodes, "small", ends[:1], ends[1:], initializers)
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)


@pytest.fixture
def model_path(tmp_path, manifest):
    """An ONNX file with a manifest, made without TensorFlow."""
    graph = make_graph(len(manifest.recipe.modalities), len(manifest.labels.classes))
    path = tmp_path / "model.onnx"
    path.write_bytes(with_manifest(graph, manifest))
    return path


@pytest.fixture
def config_path(tmp_path, recipe):
    """A config for the small cases."""
    data = load_config("crops32").model_dump(mode="json")
    data["recipe"] = recipe.model_dump(mode="json")
    data["model"] = {"depth": 2}
    data["training"]["deep_supervision"] = False
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def members(session):
    """Return the processes of a session that are left."""
    found = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True)
    return found.stdout.split()


def trained_here(work, *arguments, threads=None, **named):
    """Stand for `apart`, where TensorFlow is loaded already."""
    return as_outcome(work, *arguments, **named)


def batches(image, label, size=None):
    """Return arrays as `train` feeds Keras; those of Keras itself are tuned (see `untuned`)."""
    import tensorflow as tf

    from vol3dseg.training.feed import untuned

    return untuned(tf.data.Dataset.from_tensor_slices((image, label)).batch(size or len(image)))


def small_config(recipe, model=None, split=None, **training):
    """Return a config of a network that trains in a second."""
    data = load_config("crops32").model_dump(mode="json")
    data["recipe"] = recipe if isinstance(recipe, dict) else recipe.model_dump(mode="json")
    data["split"] = {"validation": 0.3, "test": 0.0} | (split or {})
    data["model"] = {"depth": 1, "width": 4} | (model or {})
    data["training"] = {"epochs": 1, "batch_size": 2, "steps_per_epoch": 1} | training
    return Config.model_validate(data)


def log_of(run):
    """Return the rows of a run's log."""
    with (run / "training.log").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def brats_folder(tmp_path, shared_brats_folder):
    """The same cases as `shared_brats_folder`, for a test to change."""
    return shutil.copytree(shared_brats_folder, tmp_path / "brats")


@pytest.fixture(scope="session")
def shared_brats_folder(tmp_path_factory):
    """Three small cases in BraTS layout: oblique, with zeros around an ellipsoid, 4 = enhancing."""
    folder = tmp_path_factory.mktemp("shared") / "brats"
    for number in range(1, 4):
        write_case(folder, f"Case_{number:03d}", np.random.default_rng(number))
    return folder


def write_case(folder, name, rng, shape=(24, 20, 18), modalities=("flair", "t1")):
    axes = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = rng.uniform(-20, 20, 3)
    grid = Geometry(shape, affine)
    for modality in modalities:
        image = np.where(radius < 0.9, 200 + 100 * (radius < 0.5) + rng.normal(0, 20, shape), 0)
        nifti.write(folder / name / f"{name}_{modality}.nii.gz", image.astype(np.int16), grid)
    label = np.zeros(shape, dtype=np.uint8)
    for limit, value in ((0.5, 2), (0.35, 4), (0.2, 1)):
        label[radius < limit] = value
    nifti.write(folder / name / f"{name}_seg.nii.gz", label, grid)


@pytest.fixture(scope="session")
def dicom_slice():
    """Return what makes one slice of a DICOM series."""
    pytest.importorskip("pydicom")
    return make_dicom_slice


@pytest.fixture(scope="session")
def dicom_series():
    """Return what makes the slices of a straight DICOM series of an (i, j, k) array."""
    pytest.importorskip("pydicom")
    return make_dicom_series


def make_dicom_slice(
    stored, position=(0, 0, 0), orientation=(1, 0, 0, 0, 1, 0), spacing=(1, 1), **tags
):
    """A classic slice of (rows, columns) values of two bytes; tags by keyword, None takes away."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = MRImageStorage
    slice_.SOPInstanceUID = f"1.2.3.6.{next(_SLICES)}"
    slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
    values = {
        "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SeriesNumber": 7,
        "SeriesDescription": "T1 axial", "FrameOfReferenceUID": "1.2.3.5", "Modality": "MR",
        "PatientName": "DOE^JOHN", "PatientID": "4711", "PatientSex": "O",
        "Rows": stored.shape[0], "Columns": stored.shape[1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16,
        "HighBit": 15, "PixelRepresentation": int(stored.dtype.kind == "i"),
        "ImagePositionPatient": [_decimal(x) for x in position], "SliceThickness": 5,
        "ImageOrientationPatient": [_decimal(x) for x in orientation],
        "PixelSpacing": [_decimal(x) for x in spacing], "PixelData": stored.tobytes(),
    }  # fmt: skip
    for keyword, value in (values | tags).items():
        if value is not None:
            setattr(slice_, keyword, value)
    slice_["PixelData"].VR = "OW"
    return slice_


def _decimal(value):
    """A number in DICOM's sixteen characters."""
    return next(t for d in range(16, 0, -1) if len(t := f"{value:.{d}g}") <= 16)


def make_dicom_series(array, origin=(0, 0, 0), step=(0, 0, 2), **tags):
    return [
        make_dicom_slice(array[..., k].T, np.add(origin, np.multiply(step, k)), **tags)
        for k in range(array.shape[2])
    ]
