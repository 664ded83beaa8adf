"""A Keras model in a file, trained elsewhere: the front door of export, from a path.

A file that holds code (a Lambda layer) is refused: Keras' safe mode stays on.
"""

from collections.abc import Callable
from pathlib import Path

from vol3dseg.config import Config
from vol3dseg.errors import ModelError, RunError
from vol3dseg.export.to_onnx import export_onnx
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.signing_keys import Signer
from vol3dseg.training.checkpoints import load_checkpoint

_EXPECTED = "a .keras file with layers that Keras brings, or of vol3dseg's own"


def adopt_keras(
    path: Path,
    output: Path,
    description: Config,
    patches: Path,
    sign: Signer | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Load a .keras file, without running code in it, and export it as what it is described as.

    ModelError: it is missing, damaged, or has layers that cannot be loaded; the rest as in
    `export_onnx`, whose proof it must pass.
    """
    try:
        model = load_checkpoint(path)
    except RunError as error:
        remedy = "convert what is older with keras.saving; pass layers of your own to export_onnx"
        raise ModelError(error.found, where=path, expected=_EXPECTED, remedy=remedy) from error
    return export_onnx(model, output, description, patches=patches, sign=sign, progress=progress)
