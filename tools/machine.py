"""Facts about this machine and this tree that belong beside every figure we publish."""

import datetime
import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def cpu_model():
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n"):
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        answer = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True,
                                check=False)
        if answer.stdout.strip():
            return answer.stdout.strip()
    return platform.machine()


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def memory_gib():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def commit():
    """The commit, with '+' where files differ from it; 'unknown' outside a repository."""
    git = ["git", "-C", str(ROOT), "-c", "safe.directory=*"]
    head = subprocess.run(git + ["rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return "unknown"
    # Results of a bench do not make the program another one.
    changed = subprocess.run(git + ["status", "--porcelain", "--untracked-files=no", "--", "src", "cmake",
                                    "CMakeLists.txt", "CMakePresets.json"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def date():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


def facts():
    """Columns in a fixed order, for the left of a CSV row."""
    return {"date": date(), "commit": commit(), "cpu": cpu_model(), "cores": cores(), "memory_gib": memory_gib(),
            "load_1m": round(os.getloadavg()[0], 2)}
