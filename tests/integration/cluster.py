"""Real baton processes for the integration tests: a small model, nodes on loopback ports, a proxy that misbehaves."""

import errno
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATON = os.environ.get("BATON", str(ROOT / "build/release/bin/baton"))

LAYERS = 8
CHUNK = 16


def prompt_of(chunks):
    return ",".join(str(300 + (i * 37) % 90) for i in range(chunks * CHUNK))


PROMPT = prompt_of(5)
NEW_TOKENS = 12
# Where nothing else is said: most tests compare texts that are the same to the last bit on one kind of device only.
DEVICE = ["--device", "CPU"]
START_TIMEOUT_S = 60
RUN_TIMEOUT_S = 60

# On the device that SLOW emulates a chunk takes about 0.2 s through all layers, on any machine: long enough to hit.
SLOW = ["--emulate-tflops", "0.000054", "--emulate-gbps", "100"]
CHUNK_S = 0.2


def on_a_device(flags):
    return list(flags) if "--device" in flags else [*DEVICE, *flags]


def where_it_was(start):
    """What `start` gives, which listens again at a port that was let go of; meanwhile another program may have taken it
    for one of its connections."""
    for patience in (2, 1, 0):
        try:
            return start()
        except (RuntimeError, OSError) as error:
            is_taken = "cannot listen at" in str(error) or getattr(error, "errno", None) == errno.EADDRINUSE
            if not (is_taken and patience):
                raise
            time.sleep(1)


class Node:
    """A 'baton node' process. `log` collects what it says."""

    def __init__(self, cluster, name, flags=(), model=None, trust=(), context=256, port=0):
        self.home = cluster.home(name)
        self.name = name
        command = [BATON, "node", str(model or cluster.model), "--listen", f"127.0.0.1:{port}", "--home", str(self.home),
                   "--threads", "1", "--chunk", str(CHUNK), "--ctx", str(context), *on_a_device(flags)]
        for fingerprint in trust:
            command += ["--trust", fingerprint]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        self.log = []
        self.log_reader = threading.Thread(target=self._read_log, daemon=True)
        self.log_reader.start()
        self.address = self._first_line()

    def _first_line(self):
        result = queue.Queue()
        threading.Thread(target=lambda: result.put(self.process.stdout.readline()), daemon=True).start()
        line = result.get(timeout=START_TIMEOUT_S).strip()
        if "#" not in line:
            self.stop()
            raise RuntimeError(f"node {self.name} did not start: {''.join(self.log)}")
        return line

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            self.lines.put(line)

    def wait_for_log(self, pattern, timeout_s=30):
        """Waits for a line of the log; lines seen before do not count twice."""
        deadline = time.monotonic() + timeout_s
        while True:
            line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if re.search(pattern, line):
                return line

    @property
    def port(self):
        return int(self.address.split("#")[0].rsplit(":", 1)[1])

    @property
    def fingerprint(self):
        return self.address.split("#")[1]

    def peer(self, address=None):
        return f"{self.name}={address or self.address}"

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        self.log_reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


class Cluster:
    """A folder with keys and a model, a synthetic one unless `model` is given, and the nodes that run on it. Use as a
    context."""

    def __init__(self, weights="f16", model=None):
        self.weights = weights
        self.given_model = model

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-test-"))
        self.model = self.folder / "model.gguf"
        if self.given_model:
            shutil.copy(self.given_model, self.model)
        else:
            synth(self.model, weights=self.weights)
        self.nodes = []
        self.local_fingerprint = self.fingerprint("local")
        return self

    def __exit__(self, *unused):
        for node in self.nodes:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def home(self, name):
        return self.folder / f"key-{name}"

    def fingerprint(self, name):
        return check_output(["id", "--home", str(self.home(name))]).strip()

    def node(self, name, *flags, model=None, trust=None, context=256, port=0):
        """Starts a node that trusts the local machine and every name used in these tests."""
        if trust is None:
            trust = [self.local_fingerprint] + [self.fingerprint(other) for other in ("A", "B") if other != name]
        node = where_it_was(lambda: Node(self, name, flags, model, trust, context, port))
        self.nodes.append(node)
        return node

    def command(self, *flags, tokens=PROMPT, new_tokens=NEW_TOKENS):
        return [BATON, "run", str(self.model), "--json", "--ignore-eos", "--tokens", tokens, "-n", str(new_tokens), "--threads",
                "1", "--chunk", str(CHUNK), "--home", str(self.home("local")), *on_a_device(flags)]

    def start(self, *flags, **options):
        return subprocess.Popen(self.command(*flags, **options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *flags, timeout_s=RUN_TIMEOUT_S, **options):
        """The result's JSON; raises RunFailed where baton reports an error."""
        return finish(self.start(*flags, **options), timeout_s)


class RunFailed(Exception):
    def __init__(self, status, stderr):
        super().__init__(f"status {status}: {stderr}")
        self.status = status
        self.stderr = stderr


def finish(process, timeout_s=RUN_TIMEOUT_S):
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    if process.returncode != 0:
        raise RunFailed(process.returncode, stderr)
    result = json.loads(stdout)
    result["stderr"] = stderr
    return result


def check_output(arguments):
    return subprocess.run([BATON, *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=RUN_TIMEOUT_S).stdout


def synth(path, *flags, weights="f16"):
    check_output(["synth", str(path), "--embd", "64", "--layers", str(LAYERS), "--heads", "4", "--kv-heads", "2", "--ff", "128",
                  "--vocab", "400", "--type", weights, *flags])


class Proxy:
    """Forwards connections to a node, and harms the first as told: `after` bytes towards the client, then `fault`:
    'cut' closes it, 'short' ends the stream in good order, 'flip' turns one bit over. Later connections are forwarded
    untouched, unless `again` is set."""

    def __init__(self, port, fault, after, again=False):
        self.port_behind = port
        self.fault = fault
        self.after = after
        self.again = again
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for open_socket in [self.listener, *self.sockets]:
            open_socket.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port_behind))
            harmful = self.connections == 0 or self.again
            self.connections += 1
            self.sockets += [client, server]
            threading.Thread(target=self._forward, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._forward, args=(server, client, self.fault if harmful else None), daemon=True).start()

    def _forward(self, source, target, fault):
        passed = 0
        try:
            while True:
                block = source.recv(4096)
                if not block:
                    target.shutdown(socket.SHUT_WR)
                    return
                if fault and passed + len(block) > self.after:
                    keep = max(0, self.after - passed)
                    if fault == "flip":
                        block = block[:keep] + bytes([block[keep] ^ 1]) + block[keep + 1:]
                        fault = None
                    else:
                        target.sendall(block[:keep])
                        if fault == "short":
                            target.shutdown(socket.SHUT_WR)
                        for end in (source, target):
                            end.close()
                        return
                passed += len(block)
                target.sendall(block)
        except OSError:
            for end in (source, target):
                end.close()
