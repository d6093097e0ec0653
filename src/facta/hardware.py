"""Memory, processors and disk of the machine, as available to this process (limits of containers included)."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def memory_free() -> int | None:
    """Bytes that can still be allocated: the lesser of the machine's and the container's; None if unknown."""
    free = [value for value in (_meminfo(), *(_cgroup(*files) for files in _CGROUPS)) if value is not None]
    return min(free) if free else None


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:  # only free pages: a safe lower bound
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _cgroup(limit: str, used: str) -> int | None:
    try:
        return max(0, int(Path(limit).read_text()) - int(Path(used).read_text()) + _reclaimable(Path(used).parent))
    except (OSError, ValueError):  # no such controller, or "max"
        return None


def _reclaimable(controller: Path) -> int:
    """Bytes of the inactive file cache, which count as used but can be reclaimed."""
    try:
        values = dict(line.split() for line in (controller / "memory.stat").read_text().splitlines())
        return int(values.get("total_inactive_file", values.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


def memory_peak() -> int:
    """The most bytes that this process has held so far (resident)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def disk_free(path: str | Path) -> int:
    """Free bytes on the disk of `path`, which need not exist yet."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def human(size: float) -> str:
    """1536 -> '1.5 KB', in steps of 1,000."""
    units = ("bytes", "KB", "MB", "GB", "TB")
    step = 0
    while size >= 1000 and step < len(units) - 1:
        size, step = size / 1000, step + 1
    return f"{size:.0f} {units[step]}" if step == 0 or size >= 100 else f"{size:.1f} {units[step]}"
