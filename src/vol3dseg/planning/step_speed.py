"""How fast this machine trains, measured: steps of a network where TensorFlow is, or a product.

TensorFlow runs in a child process (`vol3dseg.training.speed_probe`), so that planning and the
worker processes that it starts stay without it.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from vol3dseg.config import Config
from vol3dseg.planning.network_size import flops_per_patch
from vol3dseg.planning.workload import Speed

# -P: nothing in the folder that a user happens to stand in may be taken for a module.
_CHILD = (sys.executable, "-P", "-m", "vol3dseg.training.speed_probe")
_SIDE = 1536  # of the matrices that are multiplied
_TIMES = 4
# A training step's arithmetic in a second over that of NumPy's product of matrices, both in
# float32: a U-Net of 16 filters on a quiet CPU with AVX-512. Units for bfloat16 about double it.
_OF_PRODUCT = 0.5
_LONGEST_S = 4.0  # that one measured step should take


class Measure(Protocol):
    """Tells how fast the network of a config is trained; `before` is what was known until then."""

    def __call__(self, config: Config, before: Speed | None = None) -> Speed:
        """Return the speed."""


@contextmanager
def measuring(child: tuple[str, ...] | None = None) -> Iterator[Measure]:
    """Give what measures speed; `child` is the process that does, None the usual one."""
    if child is None and find_spec("tensorflow") is None:
        yield lambda config, before=None: before or product_speed()
        return
    with _Probe(child or _CHILD) as probe:
        yield probe.speed


def product_speed() -> Speed:
    """Return what NumPy's product of two matrices makes likely."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    best = math.inf
    for _ in range(_TIMES):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    rate = _OF_PRODUCT * 2 * _SIDE**3 / best
    how = (
        f"{rate / 1e9:.0f} GFLOP/s, {_OF_PRODUCT} of NumPy's product of matrices, since TensorFlow "
        "was not there to be measured"
    )
    return Speed(rate, how=how)


@dataclass
class _Probe:
    """The child process, as long as it answers."""

    child: tuple[str, ...]
    process: Any = None
    folder: Any = None
    started: float = 0.0

    def __enter__(self) -> "_Probe":
        self.started = time.perf_counter()
        # What TensorFlow leaves in temporary files would stay there when it is killed.
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.folder.name)
        self.process = subprocess.Popen(  # noqa: S603 - this Python, a module of ours, no shell
            self.child, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=os.environ | places,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def speed(self, config: Config, before: Speed | None = None) -> Speed:
        """Return the speed of the child's steps; where it fails, `before`, or NumPy's."""
        asked = _shortened(config, before)
        answer = self._ask(asked)
        if answer is None:
            return before or product_speed()
        rate = asked.training.batch_size * flops_per_patch(asked) / answer["step_s"]
        sides = "x".join(map(str, asked.recipe.patch_size))
        how = (
            f"measured: {answer['step_s']:.3g} s for {asked.training.batch_size} patches of "
            f"{sides} voxels on {answer['device']} in {answer['precision']}, "
            f"{rate / 1e9:.0f} GFLOP/s"
        )
        start_s = answer["start_s"] + answer["first_s"]
        return Speed(rate, start_s, answer["program_mb"], answer["precision"], how)

    def _ask(self, config: Config) -> dict[str, Any] | None:
        try:
            self.process.stdin.write(config.model_dump_json() + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            return dict(json.loads(line)) if line else None
        except (OSError, ValueError):
            return None


def _shortened(config: Config, before: Speed | None) -> Config:
    """Return a config with so few patches in a batch that a step is short, by what is known."""
    batch = config.training.at_once
    if before is not None:
        batch = min(batch, int(_LONGEST_S * before.flops_per_s / flops_per_patch(config)))
    return config.chosen(batch_size=max(1, batch), micro_batch=None, steps_per_epoch=1)
