"""A cluster of real processes: nodes join, see each other die and come back, and cut off who is revoked."""

import json
import math
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

from cluster import BATON, CHUNK, DEVICE, NEW_TOKENS, PROMPT, check_output, finish, synth, where_it_was

START_TIMEOUT_S = 60
# How soon the others know what has become of a machine, and how often a busy machine may miss that.
SOON_S = 3
ATTEMPTS = 3
LONG_S = 30  # after which nothing more is waited for


def call(*arguments, prefix=()):
    return subprocess.run([*prefix, BATON, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)


class Machine:
    """A data folder, and the node that runs with it."""

    def __init__(self, folder, model, name, *flags, host="127.0.0.1", prefix=(), context=256, chunk=CHUNK):
        self.context = context
        self.chunk = chunk
        self.host = host
        self.prefix = list(prefix)  # a command that runs the rest somewhere else
        self.model = model
        self.name = name
        self.data = folder / name
        self.flags = [*flags]
        self.process = None
        self.port = 0

    def up(self, *flags):
        return where_it_was(lambda: self._up(*flags))

    def _up(self, *flags):
        command = [*self.prefix, BATON, "up", str(self.model), "--api", "127.0.0.1:0", "--listen", f"{self.host}:{self.port}", "--data", str(self.data),
                   "--name", self.name, "--threads", "1", "--chunk", str(self.chunk), "--ctx", str(self.context), *DEVICE, *self.flags, *flags]
        self.log = open(f"{self.data}.log", "a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.api = self.process.stdout.readline().strip()
        self.address = self.process.stdout.readline().strip()
        if "#" not in self.address:
            self.kill()
            raise RuntimeError(f"{self.name} did not start: {pathlib.Path(f'{self.data}.log').read_text()}")
        self.port = int(self.address.split("#")[0].rsplit(":", 1)[1])
        return self

    def baton(self, *arguments):
        return call(*arguments, "--data", self.data, prefix=self.prefix)

    def must(self, *arguments):
        result = self.baton(*arguments)
        if result.returncode != 0:
            raise RuntimeError(f"{self.name}: {arguments}: {result.stderr}")
        return result.stdout

    def nodes(self):
        return {node["name"]: node for node in json.loads(self.must("nodes", "--json"))["nodes"]}

    def status(self, name):
        return self.nodes().get(name, {"status": "none"})["status"]

    def run_on(self, peer):
        return finish(subprocess.Popen(
            [*self.prefix, BATON, "run", str(self.model), "--json", "--ignore-eos", "--tokens", PROMPT, "-n", str(NEW_TOKENS),
             "--threads", "1", "--chunk", str(CHUNK), "--data", str(self.data), *DEVICE, "--prefill-on", peer],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))

    def kill(self, number=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        if self.process:
            self.process.wait()
            self.process.stdout.close()
            self.log.close()
            self.process = None


def wait_for(condition, what, timeout_s):
    """Waits until the condition holds, and gives the seconds that it took."""
    start = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - start
        if time.monotonic() - start > timeout_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)


def soonest(*steps, within_s=SOON_S):
    """Takes the steps one after the other, each (what is done, what is waited for, its name); all of them again where one
    of those waits was long, since this machine may have been busy. The shortest wait of each counts."""
    best = [math.inf] * len(steps)
    for _ in range(ATTEMPTS):
        for number, (act, condition, what) in enumerate(steps):
            act()
            best[number] = min(best[number], wait_for(condition, what, LONG_S))
        if max(best) <= within_s:
            return
    raise AssertionError(f"not within {within_s} s in {ATTEMPTS} attempts: {[step[2] for step in steps]}: {best}")


class Processes(unittest.TestCase):
    """What the tests share: machines that are gone afterwards."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-cluster-test-"))
        self.model = self.folder / "model.gguf"
        synth(self.model)
        self.machines = []

    def tearDown(self):
        for machine in self.machines:
            machine.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def machine(self, name, *flags, **place):
        machine = Machine(self.folder, self.model, name, *flags, **place)
        self.machines.append(machine)
        return machine

    def cluster(self, *names, flags=()):
        """The first begins the cluster, the others join it; all see each other."""
        first, *others = [self.machine(name, *flags) for name in names]
        first.up()
        for other in others:
            result = call("join", first.must("token").strip(), "--data", other.data, "--name", other.name)
            self.assertEqual(result.returncode, 0, result.stderr)
            other.up()
        everyone = [first, *others]
        for one in everyone:
            for other in everyone:
                if one is not other:
                    wait_for(lambda: one.status(other.name) == "alive", f"{one.name} sees {other.name}", 30)
        return everyone


class ClusterOfProcesses(Processes):
    def test_a_node_joins_and_works_by_its_name(self):
        a, b = self.cluster("a", "b")
        self.assertEqual(a.nodes()["a"]["role"], "admin")
        self.assertEqual(a.nodes()["b"]["role"], "member")
        self.assertEqual(b.nodes()["a"]["state"]["models"][0]["name"], "model")
        alone = finish(subprocess.Popen(
            [BATON, "run", str(self.model), "--json", "--ignore-eos", "--tokens", PROMPT, "-n", str(NEW_TOKENS), "--threads", "1",
             "--chunk", str(CHUNK), "--data", str(b.data), *DEVICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        result = b.run_on("a")
        self.assertEqual(result["shape"], "disaggregated", result["stderr"])
        self.assertEqual(result["recoveries"], 0, result["stderr"])
        self.assertEqual(result["tokens"], alone["tokens"])
        unknown = b.baton("run", self.model, "--tokens", "300", "--prefill-on", "nobody", *DEVICE)
        self.assertEqual(unknown.returncode, 2)
        self.assertIn("'nobody'", unknown.stderr)

    def test_a_token_serves_once_and_only_whole(self):
        a, = self.cluster("a")
        token = a.must("token").strip()
        damaged = call("join", token[:-3], "--data", self.folder / "x")
        self.assertEqual(damaged.returncode, 2)
        self.assertIn("token", damaged.stderr)
        self.assertEqual(call("join", token, "--data", self.folder / "b", "--name", "b").returncode, 0)
        again = call("join", token, "--data", self.folder / "c", "--name", "c")
        self.assertEqual(again.returncode, 8, again.stderr)
        self.assertNotIn("c", a.nodes())
        expired = a.must("token", "--lifetime", "1").strip()
        time.sleep(2.2)
        self.assertEqual(call("join", expired, "--data", self.folder / "d", "--name", "d").returncode, 8)

    def test_either_end_lost_while_joining_costs_nothing(self):
        a, = self.cluster("a")
        token = a.must("token").strip()
        for victim in ("the one that joins", "the one that lets it in"):
            with self.subTest(victim=victim):
                a.process.send_signal(signal.SIGSTOP)
                data = self.folder / "b"
                joining = subprocess.Popen([BATON, "join", token, "--data", data, "--name", "b"], stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, text=True)
                time.sleep(0.5)
                if victim == "the one that joins":
                    joining.kill()
                    a.process.send_signal(signal.SIGCONT)
                else:
                    a.kill()
                _, said = joining.communicate(timeout=30)
                self.assertNotEqual(joining.returncode, 0)
                if victim == "the one that lets it in":
                    self.assertIn("baton: ", said)
                    a.up()
                self.assertEqual(set(a.nodes()), {"a"})
        # The token was not used.
        joined = call("join", token, "--data", data, "--name", "b")
        self.assertEqual(joined.returncode, 0, joined.stderr)
        self.assertEqual(set(a.nodes()), {"a", "b"})

    def test_a_killed_node_is_seen_to_die_and_to_come_back(self):
        a, b = self.cluster("a", "b")
        identity = a.nodes()["b"]["id"]
        soonest((b.kill, lambda: a.status("b") == "down", "b is down"),
                (b.up, lambda: a.status("b") == "alive", "b is back"))
        self.assertEqual(a.nodes()["b"]["id"], identity)

    def test_a_silent_node_is_suspected_and_dropped_and_taken_back(self):
        a, b = self.cluster("a", "b")
        seen = set()
        soonest((lambda: b.process.send_signal(signal.SIGSTOP), lambda: seen.add(a.status("b")) or a.status("b") == "down", "b is down"),
                (lambda: b.process.send_signal(signal.SIGCONT), lambda: a.status("b") == "alive", "b is back"),
                (lambda: None, lambda: b.status("a") == "alive", "b sees a"))
        self.assertIn("suspected", seen)

    def test_a_revoked_node_is_cut_off_also_by_whom_it_was_apart_from(self):
        a, b, c = self.cluster("a", "b", "c")
        b.kill()
        a.must("revoke", "c")
        wait_for(lambda: c.process.poll() is not None, "c ends", 20)
        self.assertEqual(c.process.returncode, 8)
        self.assertNotIn("c", a.nodes())
        refused = c.baton("run", self.model, "--tokens", "300", "-n", "1", "--ignore-eos", "--prefill-on", "a", *DEVICE)
        self.assertNotEqual(refused.returncode, 0)
        b.up()
        wait_for(lambda: "c" not in b.nodes(), "b hears of it", 20)
        again = c.baton("up", self.model, "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", *DEVICE)
        self.assertEqual(again.returncode, 8)
        self.assertIn("revoked", again.stderr)

    def test_the_first_nodes_end_is_not_the_clusters(self):
        life = ("--certificate-life", "5")
        a, b, c = self.cluster("a", "b", "c", flags=life)
        refused = b.baton("token")
        self.assertEqual(refused.returncode, 8)
        a.must("promote", "b")
        wait_for(lambda: c.nodes()["b"]["role"] == "admin", "c hears of it", 20)
        a.kill()
        shutil.rmtree(a.data)
        time.sleep(11)
        self.assertEqual(c.run_on("b")["recoveries"], 0)
        d = self.machine("d", *life)
        joined = call("join", b.must("token").strip(), "--data", d.data, "--name", "d")
        self.assertEqual(joined.returncode, 0, joined.stderr)
        d.up()
        wait_for(lambda: c.status("d") == "alive", "c sees d", 30)
        b.must("revoke", "a")
        wait_for(lambda: "a" not in c.nodes(), "a is out", 20)
        self.assertEqual(d.run_on("c")["recoveries"], 0)

    def test_leaving_is_said_and_needs_another_admin(self):
        a, b = self.cluster("a", "b")
        self.assertEqual(a.baton("leave").returncode, 8)
        b.must("leave")
        wait_for(lambda: "b" not in a.nodes(), "b has left", 20)
        wait_for(lambda: b.process.poll() is not None, "b ends", 20)
        nodes = b.baton("nodes")
        self.assertEqual(nodes.returncode, 3)
        self.assertIn("belongs to no cluster", nodes.stderr)

    def test_the_only_node_of_a_cluster_may_leave_it_running_or_not(self):
        a, = self.cluster("a")
        a.must("leave")
        wait_for(lambda: a.process.poll() is not None, "a ends", 20)
        self.assertIn("belongs to no cluster", a.baton("nodes").stderr)
        self.assertEqual(a.baton("leave").returncode, 3)
        b = self.machine("b").up()
        b.kill()
        self.assertEqual(b.baton("nodes").returncode, 0)
        b.must("leave")
        self.assertIn("belongs to no cluster", b.baton("nodes").stderr)

    def test_who_is_not_alone_and_does_not_run_cannot_leave(self):
        a, b = self.cluster("a", "b")
        b.kill()
        refused = b.baton("leave")
        self.assertEqual(refused.returncode, 9, refused.stderr)
        self.assertIn("let an admin revoke this node", refused.stderr)
        self.assertEqual(b.baton("nodes").returncode, 0)

    def test_where_it_cannot_listen_it_begins_nothing(self):
        a = self.machine("a")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            free = "127.0.0.1:0"
            for places in ((address, free), (free, address), (free, free, "--ollama-port", address.split(":")[1])):
                api, listen, *more = places
                result = call("up", self.model, "--api", api, "--listen", listen, *more, "--data", a.data, *DEVICE)
                self.assertEqual(result.returncode, 6, result.stderr)
                self.assertIn(f"cannot listen at {address}", result.stderr)
                self.assertIn("choose another port", result.stderr)
                self.assertEqual(a.baton("nodes").returncode, 3)
        # Two of its own.
        same = call("up", self.model, "--api", address, "--listen", address, "--data", a.data, *DEVICE)
        self.assertEqual(same.returncode, 6, same.stderr)
        self.assertEqual(a.baton("nodes").returncode, 3)

    def test_nodes_are_listed_where_they_listen(self):
        a, b, c = self.cluster("a", "b", "c")
        for machine in (a, b, c):
            wait_for(lambda: {node["status"] for node in machine.nodes().values()} == {"self", "alive"}, "all are there", 10)
            seen = {name: node["address"] for name, node in machine.nodes().items()}
            self.assertEqual(seen, {other.name: other.address.split("#")[0] for other in (a, b, c)})

    def test_a_plan_that_names_this_machine_says_so(self):
        a, = self.cluster("a")
        result = call("run", self.model, "--tokens", PROMPT, "-n", "1", "--data", a.data, *DEVICE, "--prefill-on", "a")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("--prefill-on 'a' is this machine itself", result.stderr)

    def test_a_stranger_is_refused_before_it_says_anything(self):
        a, = self.cluster("a")
        stranger = call("run", self.model, "--tokens", "300", "-n", "1", "--ignore-eos", "--data", self.folder / "stranger", *DEVICE,
                        "--prefill-on", a.address)
        self.assertEqual(stranger.returncode, 8, stranger.stderr)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["baton-cluster/1"])
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(socket.create_connection(("127.0.0.1", a.port))) as connection:
                connection.sendall(b"\x01\x00\x00\x00\x07")
                if connection.recv(1) == b"":
                    raise ConnectionError
        self.assertEqual(a.status("a"), "self")

    def test_one_folder_runs_one_node(self):
        a, = self.cluster("a")
        second = a.baton("up", self.model, "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", *DEVICE)
        self.assertEqual(second.returncode, 7)
        self.assertIn("runs with this folder already", second.stderr)


def ip(*arguments):
    return subprocess.run(["ip", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


class Split(Processes):
    """Two machines in network namespaces of their own, and a cable that can be pulled."""

    def setUp(self):
        super().setUp()
        self.names = [f"baton-{os.getpid()}-{end}" for end in "ab"]
        if not (shutil.which("ip") and os.geteuid() == 0 and all(ip("netns", "add", name) for name in self.names)):
            self.skipTest("needs root and network namespaces")
        left, right = self.names
        ip("link", "add", "cable", "netns", left, "type", "veth", "peer", "name", "cable", "netns", right)
        for number, name in enumerate(self.names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")

    def tearDown(self):
        super().tearDown()
        for name in self.names:
            ip("netns", "delete", name)

    def cable(self, state):
        ip("-n", self.names[0], "link", "set", "cable", state)

    def test_a_split_is_seen_and_heals_and_both_sides_agree(self):
        a, b = [self.machine(name, host=f"10.77.0.{number}", prefix=["ip", "netns", "exec", space])
                for number, (name, space) in enumerate(zip("ab", self.names), 1)]
        a.up()
        joined = call("join", a.must("token").strip(), "--data", b.data, "--name", "b", prefix=b.prefix)
        self.assertEqual(joined.returncode, 0, joined.stderr)
        b.up()
        wait_for(lambda: a.status("b") == "alive" and b.status("a") == "alive", "they meet", 30)
        a.must("promote", "b")
        wait_for(lambda: b.nodes()["b"]["role"] == "admin", "b hears of it", 20)
        guests = {"c": a, "d": b, "e": b}

        def let_in_and_heal():
            # Meanwhile each side lets somebody in; one of them is thrown out again.
            for guest, side in list(guests.items()):
                result = call("join", side.must("token").strip(), "--data", self.folder / guest, "--name", guest, prefix=side.prefix)
                self.assertEqual(result.returncode, 0, result.stderr)
            if guests:
                b.must("revoke", "e")
            guests.clear()
            self.cable("up")

        soonest((lambda: self.cable("down"), lambda: a.status("b") == "down", "a misses b"),
                (lambda: None, lambda: b.status("a") == "down", "b misses a"),
                (let_in_and_heal, lambda: a.status("b") == "alive", "they meet again"), within_s=4)
        wait_for(lambda: set(a.nodes()) == set(b.nodes()) == {"a", "b", "c", "d"}, "they agree", 20)


if __name__ == "__main__":
    unittest.main()
