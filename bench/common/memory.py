"""Memory that other processes hold, as Linux tells it."""

from pathlib import Path


def resident_mib(pid):
    """Of a process and its children; nothing where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return None
    own = next((int(line.split()[1]) / 1024 for line in status.split("\n") if line.startswith("VmRSS:")), 0)
    return own + sum(resident_mib(child) or 0 for child in children)
