"""Configs as text: presets by name, YAML files, and what is said of a wrong one."""

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from vol3dseg.config.whole import Config
from vol3dseg.config.yaml_text import MOST_BYTES, values_of_yaml, yaml_of_values
from vol3dseg.errors import ConfigError, reading
from vol3dseg.schema import problems, suggestion
from vol3dseg.written import usable_path

_PRESETS = Path(str(resources.files("vol3dseg.configs")))
# A config may build on another; this many generations are more than anybody can follow.
_MOST_GENERATIONS = 8
_HOW_TO_TRAIN = {"split", "model", "training"}


def preset_names() -> list[str]:
    """Return the names of the shipped presets; one in a folder is named `folder/name`."""
    files = _PRESETS.rglob("*.yaml")
    return sorted(file.relative_to(_PRESETS).with_suffix("").as_posix() for file in files)


def load_config(config: Config | str | Path, rest: Callable[[], Config] | None = None) -> Config:
    """Read a preset by name, or a YAML file.

    A config that says `extends: NAME_OR_FILE` is that one with its own keys in their place; a file
    is looked for beside the one that names it. One without `labels` and `recipe` says only how to
    train, and extends `rest`.

    Parameters
    ----------
    config : str, Path or Config
        A path is what is a file, or ends in .yaml or .yml; a folder does not hide a preset. A
        config is returned as it is.
    rest : callable or None
        Returns the config of the data that are to be trained on, where these are known.

    Raises
    ------
    ConfigError
        There is no such preset or file, it is no YAML, or a key or value in it is not valid.
    """
    if isinstance(config, Config):
        return config
    data, source = _complete(str(config), Path(), _MOST_GENERATIONS)
    if isinstance(data, Mapping) and data and data.keys() <= _HOW_TO_TRAIN:
        if rest is None:
            raise ConfigError(
                "says how to train, and nothing of labels and recipe",
                where=source,
                expected="a whole config, or one that extends another",
                remedy="give it to vol3dseg train or cross-validate, which take the rest from the "
                "prepared folder",
            )
        data = _merged(rest().model_dump(mode="json"), data)
    return parse_config(data, source)


def _complete(name: str, folder: Path | None, generations: int) -> tuple[object, str]:
    """Return what a config says together with what it extends, and where it comes from."""
    data, source, beside = _read(name, folder)
    if not isinstance(data, Mapping) or "extends" not in data:
        return data, source
    own = dict(data)
    parent = own.pop("extends")
    if not isinstance(parent, str) or generations == 0:
        raise ConfigError(
            f"extends {parent!r}",
            where=source,
            expected="the name of a preset or a YAML file, at most "
            f"{_MOST_GENERATIONS} generations and no circle of configs that extend each other",
        )
    base, _ = _complete(parent, beside, generations - 1)
    return _merged(base, own) if own else base, source


def _merged(base: object, own: object) -> object:
    """Return `base` with the keys of `own` in their place, section by section.

    What names a method is one choice, and replaced as a whole: another's settings do not fit it. So
    is what an empty mapping stands for, or nothing could be taken away.
    """
    if not isinstance(base, Mapping) or not isinstance(own, Mapping) or not own:
        return own
    if "method" in base or "method" in own:
        return own
    return {**base, **{key: _merged(base.get(key), value) for key, value in own.items()}}


def _read(name: str, folder: Path | None) -> tuple[object, str, Path | None]:
    """Return the parsed YAML of a preset or file, its name for messages, and a file's folder.

    Without a folder only presets count: what they extend must not depend on where one stands.
    """
    path = usable_path((folder or Path()) / name, ConfigError)
    if folder is not None and path.is_file():
        return _yaml(path, str(path)), str(path), path.parent
    if path.suffix in {".yaml", ".yml"}:
        raise ConfigError(
            "no such config file", where=path, expected="a YAML file or a preset's name"
        )
    names = preset_names()
    if name not in names:
        guess = suggestion(name, names)
        raise ConfigError(f"no preset {name!r}{guess}", remedy=f"presets: {', '.join(names)}")
    return _yaml(_PRESETS / f"{name}.yaml", f"preset {name}"), f"preset {name}", None


def parse_config(data: object, source: str) -> Config:
    """Turn parsed YAML or JSON, which comes from `source`, into a `Config`.

    ConfigError: every problem at once, each with its place; an unknown key with a suggestion.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(problems(error, Config), where=source) from error


def dump_config(config: Config) -> str:
    """Return `config` as YAML that `load_config` reads back to an equal value."""
    return yaml_of_values(config.model_dump(mode="json"))


def _yaml(file: Path, source: str) -> object:
    with reading(source, ConfigError, expected="YAML", remedy="choose another file"):
        if (size := file.stat().st_size) > MOST_BYTES:
            wanted = f"a config of at most {MOST_BYTES} bytes"
            raise ConfigError(f"has {size} bytes", where=source, expected=wanted)
        content = file.read_bytes()
    try:
        return values_of_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError("not a text file in UTF-8", where=source, expected="YAML") from error
    except ValueError as error:  # it quotes the file, which may hold anything
        detail = "".join(c if c.isprintable() else "?" for c in str(error))
        raise ConfigError(
            f"not valid YAML ({detail})", where=source, remedy="mend it there"
        ) from error
