"""Which config a run has: one that is given, its own when it is resumed, or that of its data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from vol3dseg.config import Config, ModelConfig, load_config, parse_config
from vol3dseg.errors import ConfigError
from vol3dseg.model.manifest import read_run_manifest
from vol3dseg.model.model_file import read_model
from vol3dseg.preprocessing.index import load_index
from vol3dseg.training.training_state import LAST, Origin, longer_run, read_origin


def choose_config(
    prepared: Path,
    config: Config | str | Path | None = None,
    resumed: Path | None = None,
    changes: Mapping[str, object] | None = None,
    parent: str | Path | None = None,
) -> Config:
    """Return the config to train with.

    Without `config` it is that of the run `resumed`, or the one that `prepared` was made with,
    which a config that says only how to train extends. In that the network is the one of `parent`,
    the model that a training starts from, where it is a U-Net of ours.
    `changes` replace fields of its section `training`, except where they are None.
    """
    last = None if resumed is None else _last_of(resumed)
    begun = read_origin(last) if last is not None and last.is_file() else None
    if isinstance(config, Config):
        chosen = config
    elif config is not None:
        chosen = load_config(config, lambda: _of_folder(prepared, parent, begun))
    elif begun is not None:
        chosen = begun.config
    else:
        chosen = _of_folder(prepared, parent, None)
    data = chosen.model_dump(mode="json")
    data["training"].update({k: v for k, v in (changes or {}).items() if v is not None})
    return parse_config(data, "the changed config")


def _of_folder(prepared: Path, parent: str | Path | None, begun: Origin | None) -> Config:
    """Return the config of a prepared folder, with the network of the model that is started from.

    A run that is `begun` goes on with its own.
    """
    config = load_index(prepared).config
    if begun is not None and begun.parent is not None:
        return config.model_copy(update={"model": begun.config.model})
    if parent is None:
        return config
    path = Path(parent)
    manifest = read_model(path).manifest if path.is_file() else read_run_manifest(path)
    try:
        model = ModelConfig.model_validate(manifest.network.architecture)
    except ValidationError:  # a network of its maker's own, which is refused where that matters
        return config
    return config.model_copy(update={"model": model})


def _last_of(run: Path) -> Path:
    """Return the last checkpoint of a run, which may be going on to more epochs."""
    longer = longer_run(run) / LAST
    return longer if longer.is_file() else run / LAST


def name_configs(configs: Sequence[str | Path]) -> dict[str, str | Path]:
    """Return configs by the name that their run folders will have: that of the file or preset."""
    names = [Path(config).stem for config in configs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"several configs are named {', '.join(twice)}",
            expected="a name each, since their run folders are named like them",
            remedy="rename the files",
        )
    return dict(zip(names, configs, strict=True))
