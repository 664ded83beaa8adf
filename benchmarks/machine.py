"""What the figures were measured on."""

import os
import platform
from pathlib import Path
from typing import Any

# What decides how fast a network can be on a processor.
_TELLING = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory [MB] and system; what is not known is left out."""
    facts: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "system": platform.platform(),
    }
    lines = _lines("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    if names:
        facts["processor"] = names[0]
        facts["has"] = [flag for flag in _TELLING if flag in flags]
    total = [line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    if total:
        facts["memory_mb"] = round(int(total[0]) / 1024)
    return facts


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
