"""Which config a run has: one that is given, its own when it is resumed, or that of its data."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vol3dseg.config import Config, load_config, parse_config
from vol3dseg.errors import ConfigError
from vol3dseg.preprocessing.index import load_index
from vol3dseg.training.training_state import LAST, longer_run, read_origin


def choose_config(
    prepared: Path,
    config: Config | str | Path | None = None,
    resumed: Path | None = None,
    changes: Mapping[str, object] | None = None,
) -> Config:
    """Return the config to train with.

    Without `config` it is that of the run `resumed`, or the one that `prepared` was made with,
    which a config that says only how to train extends.
    `changes` replace fields of its section `training`, except where they are None.
    """
    if isinstance(config, Config):
        chosen = config
    elif config is not None:
        chosen = load_config(config, lambda: load_index(prepared).config)
    elif resumed is not None and (last := _last_of(resumed)).is_file():
        chosen = read_origin(last).config
    else:
        chosen = load_index(prepared).config
    data = chosen.model_dump(mode="json")
    data["training"].update({k: v for k, v in (changes or {}).items() if v is not None})
    return parse_config(data, "the changed config")


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
