"""On what figures were measured: processor, system, versions. Nothing that names a host or a place."""

import platform
import re
from pathlib import Path
from typing import Any

import torch

from secateur._version import __version__


def environment() -> dict[str, Any]:
    """Processor, accelerator, system and versions."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "processor": found[1] if found else platform.processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of ours, torch and Python."""
    return {"secateur": __version__, "torch": torch.__version__, "python": platform.python_version()}
