"""The two programs: 'baton up', and llama.cpp's llama-server from the chroot of bench/peers."""

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / folder) for folder in ("common", "handoff")]
from processes import BATON, ROOT, first_line, running, temporary_folder  # noqa: E402

MODEL_NAME = "m"
START_TIMEOUT_S = 120
PEER = ROOT / "bench/peers/run"


class Server:
    def __init__(self, process, port):
        self.process = process
        self.port = port


@contextlib.contextmanager
def baton(model, threads, context_tokens, parallel, *flags):
    with temporary_folder() as home:
        command = [BATON, "up", model, "--quiet", "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--model-name",
                   MODEL_NAME, "--home", home, "-t", threads, "--ctx", context_tokens, "--parallel", parallel, *flags]
        with running(command) as process:
            yield Server(process, int(first_line(process).rsplit(":", 1)[1]))


@contextlib.contextmanager
def llama_server(model, threads, context_tokens, parallel):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    # All answers share the context, as baton's do.
    command = [PEER, "llama-server", "-m", model, "-t", threads, "-tb", threads, "-c", context_tokens, "-np", parallel,
               "--kv-unified", "--host", "127.0.0.1", "--port", port, "--alias", MODEL_NAME]
    log_path = ROOT / "build/bench/llama-server.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("w") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not is_ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"llama-server did not start; {log_path} says more")
                time.sleep(0.1)
            yield Server(process, port)
        finally:
            process.kill()
            process.wait()


def is_ready(port):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
    except OSError:
        return False
