"""Machines in network namespaces of their own behind one switch, the load that they are under, and what is done to
them: killed, frozen, cut off, split into two halves, slowed down. Needs root, iproute2 and Linux."""

import ctypes
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from cluster import synth
from test_cluster import Machine, call, wait_for

# 'mac' writes fast and reads slowly, 'spark' the other way round, so that most prompts are worth sharing: a chunk takes
# about 120 and 25 ms, a step 3 and 16. What is shared takes long enough to be hit.
MAC = ["--emulate-tflops", "0.00008", "--emulate-gbps", "0.2"]
SPARK = ["--emulate-tflops", "0.0004", "--emulate-gbps", "0.04"]
PROMPT_TOKENS = (40, 220)
NEW_TOKENS = (4, 24)
CONTEXT = 4096
# A request that takes longer than this, a frozen coordinator's sleep apart, hangs.
HANG_S = 60
QUIET_S = 40  # a producer keeps the cells of a receiver that is gone for ten seconds, and a dial has its time too
CLONE_NEWNET = 0x40000000
CALIBRATION_PROMPTS = 24
TOP = 2  # of the tokens at each place, whose likelihoods are told


def run(*command, check=True):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done


def can_run():
    """Whether this machine lets us make network namespaces."""
    if not shutil.which("ip") or not shutil.which("tc") or os.geteuid() != 0:
        return False
    name = f"baton-{os.getpid()}-try"
    made = run("ip", "netns", "add", name, check=False).returncode == 0
    if made:
        run("ip", "netns", "delete", name)
    return made


def enter(namespace):
    """Moves the calling thread into the network namespace, for good."""
    with open(f"/run/netns/{namespace}", "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


class Network:
    """A switch, a second one for splits, and a cable to each machine."""

    def __init__(self, count):
        self.prefix = f"baton-{os.getpid()}"
        self.switch = f"{self.prefix}-switch"
        self.machines = [f"{self.prefix}-{number}" for number in range(count)]

    def __enter__(self):
        try:
            for name in (self.switch, *self.machines):
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
            for bridge in ("one", "other"):
                run("ip", "-n", self.switch, "link", "add", bridge, "type", "bridge")
                run("ip", "-n", self.switch, "link", "set", bridge, "up")
            for number, name in enumerate(self.machines):
                run("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", f"port{number}", "netns", self.switch)
                run("ip", "-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
                run("ip", "-n", name, "link", "set", "eth0", "up")
                run("ip", "-n", self.switch, "link", "set", f"port{number}", "master", "one")
                run("ip", "-n", self.switch, "link", "set", f"port{number}", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        for name in (*self.machines, self.switch):
            run("ip", "netns", "delete", name, check=False)

    def address(self, number):
        return f"10.78.0.{number + 1}"

    def cut(self, number):
        run("ip", "-n", self.switch, "link", "set", f"port{number}", "down")

    def heal(self, number):
        run("ip", "-n", self.switch, "link", "set", f"port{number}", "up")

    def split(self, numbers):
        for number in numbers:
            run("ip", "-n", self.switch, "link", "set", f"port{number}", "master", "other")

    def join(self, numbers):
        for number in numbers:
            run("ip", "-n", self.switch, "link", "set", f"port{number}", "master", "one")

    def slow(self, number, mbit):
        """What the machine sends; None: as fast as it goes."""
        tc = ["tc", "-n", self.machines[number], "qdisc"]
        if mbit is None:
            run(*tc, "del", "dev", "eth0", "root", check=False)
        else:
            run(*tc, "replace", "dev", "eth0", "root", "tbf", "rate", f"{mbit}mbit", "burst", "16kb", "latency", "200ms")


class Request:
    """What was asked of which machine, and what came back."""

    def __init__(self, machine, prompt, tokens):
        self.machine = machine
        self.prompt = prompt
        self.tokens = tokens
        self.seconds = 0.0
        self.text = None
        self.places = []  # of each token: (its text, its log-likelihood, the best two by text)
        self.outcome = "unknown"
        self.problem = ""


def complete(address, prompt, tokens, timeout_s):
    """Text and places of a completion by greedy choice."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        body = {"model": "model", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": TOP}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {content}")
        choice = content["choices"][0]
        scores = choice["logprobs"]
        return choice["text"], list(zip(scores["tokens"], scores["token_logprobs"], scores["top_logprobs"]))
    finally:
        connection.close()


class World:
    """Machines that have joined one cluster, a reference machine beside them that has no part in it, and the load. Use
    as a context. All that happens by chance follows from the seed, apart from the machines' own timing."""

    def __init__(self, count, seed, mode, log=lambda line: None):
        self.count = count
        self.random = random.Random(seed)
        self.mode = mode
        self.flags = ["--deterministic"] if mode == "deterministic" else []
        self.log = log
        self.requests = []
        self.lives = [0] * count  # how often a machine was started
        self.is_up = [True] * count
        self.asleep_s = [0.0] * count  # in all, while frozen
        self.threads = []
        self.paused = threading.Event()
        self.ended = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self):
        self.network = Network(self.count)
        self.network.__enter__()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-faults-"))
        self.machines = []
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        self.ended.set()
        for machine in self.machines:
            machine.kill()
        for thread in self.threads:
            thread.join(timeout=HANG_S + 5)
        self.network.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self):
        model = self.folder / "model.gguf"
        synth(model)
        self.reference = Machine(self.folder, model, "reference", "--no-measure", "m3ultra", *self.flags, context=CONTEXT)
        self.machines.append(self.reference)
        self.reference.up()
        self.bound = self._measure_bound(model)
        self.nodes = []
        for number, namespace in enumerate(self.network.machines):
            machine = Machine(self.folder, model, f"n{number}", *(SPARK if number % 2 else MAC), *self.flags, context=CONTEXT,
                              host=self.network.address(number), prefix=["ip", "netns", "exec", namespace])
            self.machines.append(machine)
            self.nodes.append(machine)
            if number > 0:
                token = self.nodes[0].must("token").strip()
                joined = call("join", token, "--data", machine.data, "--name", machine.name, prefix=machine.prefix)
                if joined.returncode != 0:
                    raise RuntimeError(joined.stderr)
            machine.up()
        # Losing the first must not lose the cluster.
        self.nodes[0].must("promote", self.nodes[1].name)
        self.wait_until_all_meet(30)
        wait_for(lambda: all(len(node["state"]["links"]) == self.count - 1 for node in self.nodes[0].nodes().values()),
                 "all links are measured", 60)

    def _measure_bound(self, model):
        """How far the best two tokens may lie apart where a text may part from the reference: twice the largest
        difference that the shape of a batch makes to a likelihood, chunks of one token against the usual ones."""
        steps = Machine(self.folder, model, "steps", "--no-measure", "m3ultra", context=CONTEXT, chunk=1)
        self.machines.append(steps)
        steps.up()
        largest = 0.0
        for _ in range(CALIBRATION_PROMPTS):
            prompt = [300 + self.random.randrange(90) for _ in range(self.random.randint(*PROMPT_TOKENS))]
            one, other = [complete(machine.api.removeprefix("http://"), prompt, NEW_TOKENS[1], HANG_S)[1]
                          for machine in (self.reference, steps)]
            for left, right in zip(one, other):
                if left[0] != right[0]:
                    break
                largest = max(largest, abs(left[1] - right[1]))
        steps.kill()
        return 2 * largest

    def wait_until_all_meet(self, timeout_s):
        """Seconds until every machine sees every other alive."""
        names = {machine.name for machine in self.nodes}

        def all_meet():
            for machine in self.nodes:
                seen = machine.nodes()
                if set(seen) != names or any(node["status"] not in ("alive", "self") for node in seen.values()):
                    return False
            return True

        return wait_for(all_meet, "all machines see each other", timeout_s)

    # The load.

    def begin_load(self, clients_each=2):
        for number in range(self.count):
            for _ in range(clients_each):
                thread = threading.Thread(target=self._ask_on, args=(number, random.Random(self.random.random())), daemon=True)
                thread.start()
                self.threads.append(thread)

    def _ask_on(self, number, chance):
        enter(self.network.machines[number])
        while not self.ended.is_set():
            # Who asks a machine that is not there is told so at once.
            if self.paused.is_set() or not self.is_up[number]:
                time.sleep(0.05)
                continue
            request = Request(number, [300 + chance.randrange(90) for _ in range(chance.randint(*PROMPT_TOKENS))],
                              chance.randint(*NEW_TOKENS))
            self._ask(request)
            with self.lock:
                self.requests.append(request)

    def _ask(self, request):
        machine = self.nodes[request.machine]
        life, slept = self.lives[request.machine], self.asleep_s[request.machine]
        began = time.monotonic()
        try:
            request.text, request.places = complete(machine.api.removeprefix("http://"), request.prompt, request.tokens, 2 * HANG_S)
            request.outcome = "finished"
        except (OSError, http.client.HTTPException, RuntimeError, ValueError) as error:
            request.problem = f"{type(error).__name__}: {error}"
            # A machine that was asked may die with what it was asked; nobody else may.
            lost = self.lives[request.machine] != life or machine.process is None or machine.process.poll() is not None
            request.outcome = "lost with its machine" if lost and not isinstance(error, TimeoutError) else "failed"
        request.seconds = time.monotonic() - began - (self.asleep_s[request.machine] - slept)
        if request.seconds > HANG_S:
            request.outcome = "hung"

    def fetch(self, number, path):
        """What a machine's API says there."""
        result = []

        def get():
            enter(self.network.machines[number])
            connection = http.client.HTTPConnection(self.nodes[number].api.removeprefix("http://"), timeout=10)
            try:
                connection.request("GET", path)
                result.append(connection.getresponse().read().decode())
            finally:
                connection.close()

        thread = threading.Thread(target=get)
        thread.start()
        thread.join()
        return result[0]

    def metrics(self, number):
        lines = [line.split() for line in self.fetch(number, "/metrics").splitlines() if not line.startswith("#")]
        return {line[0]: float(line[1]) for line in lines}

    def told(self, text):
        """How often any machine has said so, in all its lives."""
        return sum(pathlib.Path(f"{machine.data}.log").read_text().count(text) for machine in self.nodes)

    # What is done to them.

    def kill(self, number, how=signal.SIGKILL):
        self.is_up[number] = False
        self.lives[number] += 1
        self.nodes[number].kill(how)

    def start(self, number):
        self.nodes[number].up()
        self.is_up[number] = True

    def freeze(self, number, seconds):
        self.nodes[number].process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.asleep_s[number] += seconds
        self.nodes[number].process.send_signal(signal.SIGCONT)

    # What must hold afterwards.

    def memory_mib(self, number):
        for line in pathlib.Path(f"/proc/{self.nodes[number].process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def wait_until_quiet(self):
        """Stops the load, and waits until no machine has a transfer, and every cell is free again. Gives what is left
        where that does not come."""
        self.paused.set()
        left = {}

        def leftovers():
            left.clear()
            for number, machine in enumerate(self.nodes):
                transfers = machine.nodes()[machine.name]["state"]["load"]["transfers"]
                told = self.metrics(number)
                held = told["baton_kv_cells"] - told["baton_kv_cells_free"]
                running = told["baton_answers_running"] + told["baton_answers_waiting"]
                if transfers or held or running:
                    left[machine.name] = {"transfers": transfers, "cells": held, "answers": running}
            return not left

        try:
            wait_for(leftovers, "all is quiet", QUIET_S)
        except AssertionError:
            pass
        return dict(left)

    def judge(self):
        """Compares every finished text with what the reference machine says alone. Gives the counts, the largest
        difference of a likelihood where the text before was the same, and the worst gap at which texts parted."""
        counts = {"finished": 0, "same": 0, "near ties": 0, "wrong": 0, "lost with its machine": 0, "failed": 0, "hung": 0}
        largest, worst, problems = 0.0, 0.0, []
        with self.lock:
            requests, self.requests = self.requests, []
        for request in requests:
            counts[request.outcome] += 1
            if request.outcome in ("failed", "hung"):
                problems.append(f"n{request.machine}: {request.outcome} after {request.seconds:.1f} s: {request.problem}")
            if request.outcome != "finished":
                continue
            text, places = complete(self.reference.api.removeprefix("http://"), request.prompt, request.tokens, HANG_S)
            same = 0
            while same < min(len(places), len(request.places)) and places[same][0] == request.places[same][0]:
                largest = max(largest, abs(places[same][1] - request.places[same][1]))
                same += 1
            if text == request.text and same == len(places) == len(request.places):
                counts["same"] += 1
                continue
            if same < len(places):
                best = sorted(places[same][2].values(), reverse=True)
                gap = best[0] - best[1]
                worst = max(worst, gap)
            else:
                gap = float("inf")
            # Who is to be deterministic may part nowhere.
            if gap <= self.bound and self.mode != "deterministic":
                counts["near ties"] += 1
            else:
                counts["wrong"] += 1
                problems.append(f"n{request.machine}: parts from the reference at token {same} where its best two are {gap:.4f} apart")
        return counts, largest, worst, problems
