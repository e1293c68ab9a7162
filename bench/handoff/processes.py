"""The programs under test: where they are, and children that never outlive the bench."""

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("BATON_BUILD", ROOT / "build/release")) / "bin"
BATON = BIN / "baton"
KV_WIRE = BIN / "kv_wire"


@contextlib.contextmanager
def running(command):
    """A child with its output on a pipe, killed at the end where it still runs. What it has to say goes to stderr."""
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def first_line(child, timeout_s=180):
    """The line with which a server says that it is ready."""
    ready, _, _ = select.select([child.stdout], [], [], timeout_s)
    line = child.stdout.readline().strip() if ready else ""
    if not line:
        raise RuntimeError(f"{child.args[0]} did not start")
    return line


def output_of(child, timeout_s, statuses=(0,)):
    """Everything a child prints until its end; RuntimeError where it ends with another status."""
    output, _ = child.communicate(timeout=timeout_s)
    if child.returncode not in statuses:
        raise RuntimeError(f"'{' '.join(map(str, child.args))[:300]} ...' ended with {child.returncode}")
    return output


def json_of(command, timeout_s=600, statuses=(0,)):
    with running(command) as child:
        return json.loads(output_of(child, timeout_s, statuses))


def wait_for(condition, timeout_s, interval_s=0.005):
    """Polls, as there is nothing to be told by; RuntimeError after the time."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("what the bench waited for did not happen")
        time.sleep(interval_s)


class Keys:
    """A folder of keys, one for each machine of the bench."""

    def __init__(self, folder, *names):
        self.homes = {name: Path(folder) / name for name in names}
        self.fingerprints = {}
        for name, home in self.homes.items():
            with running([BATON, "id", "--home", home]) as child:
                self.fingerprints[name] = output_of(child, 30).strip()


def temporary_folder():
    return tempfile.TemporaryDirectory(prefix="baton-bench-")
