"""Synthetic models that the benches share, in build/bench."""

import os
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build/bench"


def synthetic_model(baton, kind, name="1.1b", shape=("--preset", "1.1b")):
    """The file, made by `baton` where it is missing, and in the page cache as baton reads it from a disk: with large
    pages where the system has them, whoever wrote it and whoever reads it next."""
    path = FOLDER / f"synth-{name}-{kind}.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"making {path}", flush=True)
        partial = path.with_suffix(".partial")
        check(baton, "synth", "--force", partial, *shape, "--type", kind)
        os.replace(partial, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    check(baton, "bench", path, "-p", 0, "-n", 1, "-r", 1)
    return path


def check(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
