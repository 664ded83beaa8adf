"""What a .keras archive may hold: a network of layers that only compute, and weights as they lie.

Keras names classes and functions in the JSON of a network, and unpacks what else it finds into a
temporary folder. Its safe mode refuses what has been misused so far; here stands what is allowed,
and all else is refused before Keras sees it. Nothing here needs TensorFlow.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vol3dseg.errors import RunError, reading
from vol3dseg.model.operators import quoted
from vol3dseg.schema import values_of_json

MEMBER = "vol3dseg-state.json"
RAW = "vol3dseg-raw-weights.npz"
AGAIN = "copy it again from where it was trained, or train in another folder"
WANTED = "a checkpoint of vol3dseg train"
DAMAGE = (OSError, ValueError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile)
_CONFIG = "config.json"
_MEMBERS = {"metadata.json", _CONFIG, "model.weights.h5", MEMBER, RAW}
_LARGEST = 2**26  # bytes of the JSON of a network; one of a thousand layers takes 600 kB
_PLACES = (  # in Keras, of what a network is made of; not of functions that fetch and save files
    *("keras", "keras.layers", "keras.src.layers", "keras.models", "keras.src.models"),
    *("keras.initializers", "keras.regularizers", "keras.constraints", "keras.activations"),
    *("keras.dtype_policies", "keras.src.dtype_policies", "keras.ops", "keras.src.ops"),
)
_BELOW = tuple(f"{place}." for place in _PLACES if place != "keras")
_REACHING = {  # layers that bring code, or read what stands elsewhere
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
}


def require_archive(path: Path) -> None:
    """Refuse what is missing, no .keras archive from end to end, or holds more than ours do."""
    with reading(path, RunError, expected=WANTED, remedy=AGAIN), path.open("rb") as file:
        whole, size = zipfile.is_zipfile(file), path.stat().st_size
    if not whole:
        raise RunError(
            f"damaged, not a whole .keras archive ({size} bytes)", where=path, remedy=AGAIN
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except DAMAGE as error:
        raise damaged(path, error) from error
    names, found = [member.filename for member in members], ""
    if more := sorted(set(names) - _MEMBERS):
        found = f"holds {quoted(more[0])}"
    elif len(set(names)) < len(names):
        found = "holds a member twice"
    elif any(member.compress_type != zipfile.ZIP_STORED for member in members):
        found = "holds compressed members"
    if found:
        raise RunError(found, where=path, expected=WANTED, remedy=AGAIN)


def read_network(path: Path, registered: Callable[[str], bool]) -> dict[str, Any]:
    """Return what a .keras file says of its network, without how it is compiled.

    `registered` tells whether the program that asks has a class or a function of this name for
    Keras. A RunError names another one that is none of Keras' layers that only compute.
    """
    require_archive(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_CONFIG) as member:
            said = values_of_json(member.read(_LARGEST))
    except (KeyError, *DAMAGE) as error:
        raise damaged(path, error) from error
    network = {**said, "compile_config": None} if isinstance(said, dict) else {}
    for name in _foreign(network, registered):
        raise RunError(
            f"its network asks for {quoted(name)}",
            where=path,
            expected="layers of Keras that only compute, or those of this program",
            remedy="if the network is one of your own, give it again, or register its layers with "
            "keras.saving.register_keras_serializable and import them first",
        )
    return network


def damaged(path: Path, error: Exception) -> RunError:
    """Return what is said of an archive that cannot be read."""
    return RunError(
        f"is damaged ({type(error).__name__})", where=path, expected=WANTED, remedy=AGAIN
    )


def _foreign(network: dict[str, Any], registered: Callable[[str], bool]) -> Iterator[str]:
    """Give the names of what is neither Keras' nor registered, wherever they stand."""
    waiting: list[Any] = [network]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
            if "class_name" in value and not _known(value, registered):
                kind, name = value["class_name"], value.get("config")
                yield f"{value.get('module')}.{name if kind == 'function' else kind}"
        elif isinstance(value, list):
            waiting += value


def _known(said: dict[str, Any], registered: Callable[[str], bool]) -> bool:
    kind, module = said["class_name"], str(said.get("module"))
    name = said.get("config") if kind == "function" else said.get("registered_name") or kind
    if not isinstance(kind, str) or not isinstance(name, str):
        return False
    if kind == "__keras_tensor__" or registered(name):
        return True
    theirs = module in _PLACES or module.startswith(_BELOW)
    return theirs and kind[:1].isupper() and kind not in _REACHING  # and so no function
