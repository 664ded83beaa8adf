"""A training loop on torch, as a contestant: its steps on one batch, and torch's matrices."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contestants.protocol import Call
from benchmarks.contestants.steps import SIDE, best_gflops, seconds_of

PACKAGES = ("torch", "monai", "nnunetv2", "numpy")


def layout(settings: dict[str, Any]) -> torch.memory_format:
    """Return how images and weights lie in memory: torch's way, or the quicker one of oneDNN."""
    last = settings.get("channels_last", False)
    chosen: torch.memory_format = torch.channels_last_3d if last else torch.contiguous_format
    return chosen


def autocast(settings: dict[str, Any]) -> AbstractContextManager[None]:
    """Return what lets the forward pass choose bfloat16, if that is asked for."""
    low = settings["precision"] == "bfloat16"
    chosen: AbstractContextManager[None] = torch.autocast("cpu", torch.bfloat16, enabled=low)
    return chosen


def training_calls(step: Callable[[], object], settings: dict[str, Any]) -> dict[str, Call]:
    """Return the calls of a loop; settings : threads, steps of a round, shape of the batch."""
    counter = FlopCounterMode(display=False)
    with counter:  # forwards and backwards, convolutions and products alone
        step()
    gflop = counter.get_total_flops() / 1e9 / settings["shape"][0]

    def run() -> dict[str, Any]:
        a = torch.rand(SIDE, SIDE)
        b = a.bfloat16()
        return {
            "step_s": seconds_of(step, settings["steps"]),
            "gflop": gflop,
            "gflops": {
                "float32": best_gflops(lambda: a @ a),
                "bfloat16": best_gflops(lambda: b @ b),
            },
        }

    return {"run": run}
