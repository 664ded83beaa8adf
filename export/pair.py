"""The first network of a pair as a file of its own, ready to be put into that of the other."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vol3dseg.model.locating import Locating, Nothing
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.training.locator import found_in_words, read_found, require_pair


@dataclass(frozen=True, slots=True)
class FirstOfPair:
    """The network that finds where to look."""

    content: bytes  # of its file
    locating: Locating


def first_of_pair(
    run: Path,
    manifest: Manifest,
    nothing: Nothing,
    export: Callable[[Path, Path], Manifest],
    progress: Callable[[str], None],
) -> FirstOfPair:
    """Export a run of `train --locate`, proven as any other, for the network of a manifest."""
    found = read_found(run)
    require_pair(manifest, read_run_manifest(run), run)
    progress(f"{run.name}: {found_in_words(found)}")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "locator.onnx"
        export(run, file)
        content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return FirstOfPair(content, Locating(sha256=sha256, found=found, nothing=nothing))
