"""Which norm a network should have, at equal minutes: batch norm or instance norm.

python -m benchmarks.trial_norms DATASET OUTPUT [--config NAME] [--width N] [--epochs N]
    [--folds 5] [--fold K]... [--seed S]... [--hours H]

A narrow and short version of a preset, or of a file, so that all norms are trained on all folds in
an hour; batch norm tells the minutes. See `benchmarks.trial_configs`, which this calls.
"""

from benchmarks.trial_configs import parser, trial
from vol3dseg.config import Config, load_config
from vol3dseg.config.parsing import parse_config

_NORMS = ("batch", "instance")


def norms(config: Config, width: int, epochs: int) -> dict[str, Config]:
    """Return a config with each norm."""
    found = {}
    for name in _NORMS:
        data = config.model_dump(mode="json")
        data["model"] |= {"width": width, "norm": name}
        data["training"]["epochs"] = epochs
        found[name] = parse_config(data, name)
    return found


if __name__ == "__main__":
    reading = parser(__doc__)
    reading.add_argument("--config", default="hippocampus")
    reading.add_argument("--width", type=int, default=16)
    reading.add_argument("--epochs", type=int, default=24)
    arguments = reading.parse_args()
    trial(norms(load_config(arguments.config), arguments.width, arguments.epochs), arguments)
