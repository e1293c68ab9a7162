"""Two unlike machines of one cluster, emulated here by the demo's arithmetic (docs/demo.md): the scale model has 1/16
of the width, the prompt and the chunks of Llama-3.1-8B, and rates are scaled so that every phase takes as long."""

import contextlib
import http.client
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "handoff"))
from processes import BATON, first_line, json_of, output_of, running, wait_for  # noqa: E402

# TFLOPS and GB/s that the machines reach (src/plan/device_profiles.cpp).
MACHINES = {"spark": (90.0, 179.0), "m3ultra": (23.7, 606.0), "m4max": (16.4, 404.0), "strix-halo": (36.9, 212.0)}
# Who reads well, and who is asked and writes well.
PAIRS = [("spark", "m3ultra"), ("spark", "m4max"), ("strix-halo", "m3ultra")]
SCALE = 16
CHUNK = 512 // SCALE
# Of the reference's work to the scale model's, as docs/demo.md works them out.
FLOPS_RATIO, BYTES_RATIO, KV_RATIO = 4092.9, 838.2, 256.0
CONTEXT = 8192
DENSE = ["--embd", "256", "--layers", "32", "--heads", "4", "--kv-heads", "1", "--ff", "896", "--vocab", "512", "--type", "q4_0"]
SPARSE = ["--embd", "256", "--layers", "16", "--heads", "4", "--kv-heads", "1", "--ff", "448", "--experts", "8", "--experts-used",
          "2", "--vocab", "512", "--type", "q4_0"]


def synth(path, shape):
    with running([BATON, "synth", path, *shape]) as child:
        output_of(child, 120)
    return path


def prompt(tokens, seed):
    """Words of the synthetic vocabulary; no two seeds begin alike, so nothing of one is kept for another."""
    return [300 + (seed * 31 + (index + seed) * 2654435761) % 200 for index in range(tokens)]


class Pair:
    """The asked machine, called 'local' in plans, and the other. Use as a context."""

    def __init__(self, folder, model, reader, writer, link_gbit):
        self.folder = Path(folder)
        self.model = model
        self.names = (writer, reader)
        self.link_gbit = link_gbit
        self.urls = {}
        self.stacks = {}

    def __enter__(self):
        self.folder.mkdir()
        self.stack = contextlib.ExitStack()
        self.stack.__enter__()
        try:
            first, other = self.names
            self.start(first)
            token = self.command(first, "token").strip()
            self.command(other, "join", token, "--name", other)
            self.start(other)
            self.wait_until_measured()
        except BaseException:
            self.stack.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *unused):
        self.stack.__exit__(None, None, None)

    def flags(self, name):
        tflops, gbps = MACHINES[name]
        return ["--data", self.folder / name, "--device", "CPU", "--threads", "1", "--chunk", CHUNK, "--emulate-tflops",
                f"{tflops / FLOPS_RATIO:.9f}", "--emulate-gbps", f"{gbps / BYTES_RATIO:.9f}", "--emulate-link",
                f"{self.link_gbit / KV_RATIO:.9f}"]

    def start(self, name):
        node = self.stack.enter_context(contextlib.ExitStack())
        child = node.enter_context(running([BATON, "up", self.model, "--quiet", "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0",
                                            "--name", name, "--ctx", CONTEXT, *self.flags(name)]))
        self.urls[name] = first_line(child)
        self.stacks[name] = node

    def restart(self, name):
        self.stacks[name].close()
        self.start(name)
        self.wait_until_measured()

    def command(self, name, *arguments):
        with running([BATON, *arguments, "--data", self.folder / name]) as child:
            return output_of(child, 60)

    def wait_until_measured(self):
        def measured():
            nodes = json.loads(self.command(self.names[0], "nodes", "--json"))["nodes"]
            return len(nodes) == 2 and all(node["status"] in ("self", "alive") and node["state"]["links"] and
                                           node["state"]["rates"]["flops_per_second"] for node in nodes)

        wait_for(measured, 60, 0.25)

    def run(self, tokens, new_tokens, *plan):
        """The result of a `baton run` on the asked machine."""
        text = ",".join(map(str, tokens))
        return json_of([BATON, "run", self.model, "--json", "--ignore-eos", "--tokens", text, "-n", new_tokens,
                        *self.flags(self.names[0]), *plan])

    def local_plan(self, plan):
        """A weighed plan as --plan takes it."""
        return plan.replace(f"{self.names[0]}:", "local:")

    def ask(self, tokens, new_tokens):
        """One answer of the asked machine's API; the planner's row of it comes with planned()."""
        connection = http.client.HTTPConnection(self.urls[self.names[0]].removeprefix("http://"), timeout=120)
        with contextlib.closing(connection):
            body = {"model": Path(self.model).stem, "prompt": tokens, "max_tokens": new_tokens, "temperature": 0}
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = json.loads(response.read())
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {content}")
            return content

    def planned(self):
        """The latest answers' rows, by their prompts' lengths."""
        connection = http.client.HTTPConnection(self.urls[self.names[0]].removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/api/plan")
            return json.loads(connection.getresponse().read())["answers"]

    def wait_until_idle(self):
        """Queues are told twice a second."""
        time.sleep(1.2)
