import ctypes
import os
import pathlib
import signal
import socket
import ssl
import time
import unittest

import cluster
from cluster import Cluster, Proxy, RunFailed, finish

CHUNKS = 5  # in which a stage is killed
# Of all the prompt: whoever is late by half a second harms it in its middle yet. It fits a node of 256 tokens.
LONG_PROMPT = cluster.prompt_of(14)
LONG_TEXT_TOKENS = 80  # of an answer that is harmed while it is written
# For each shape, which nodes there are: their share of the layers, and how many chunks later than the first they begin.
STAGES = {
    "disaggregated": {"A": (8 / 8, 0)},
    "joint": {"A": (5 / 8, 0)},
    "relay": {"A": (3 / 8, 0), "B": (3 / 8, 1)},
}


def plan_flags(shape):
    return {
        "disaggregated": ["--prefill-on", "A"],
        "joint": ["--prefill-on", "A", "--split", "5"],
        "relay": ["--plan", "prefill=A:0-3,B:3-6,local:6-8;decode=local:0-8"],
        "pooled": ["--plan", "prefill=A:0-4,local:4-8;decode=A:0-4,local:4-8"],
    }[shape]


def freeze_thread(pid, thread_name):
    """Stops one thread of a process while the others run on; gives a function that lets it go."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    seize, interrupt, detach = 0x4206, 0x4207, 17
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == thread_name:
            thread = int(task.name)
            if libc.ptrace(seize, thread, None, None) != 0 or libc.ptrace(interrupt, thread, None, None) != 0:
                raise OSError(ctypes.get_errno(), "cannot stop the thread")
            os.waitpid(thread, 0x40000000)
            return lambda: libc.ptrace(detach, thread, None, None)
    raise RuntimeError(f"no thread {thread_name}")


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.reference = cls.cluster.run()["tokens"]
        cls.long_reference = cls.cluster.run(tokens=LONG_PROMPT)["tokens"]

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def tearDown(self):
        for node in self.cluster.nodes:
            node.stop()
        self.cluster.nodes.clear()

    def peers(self, *nodes):
        return [flag for node in nodes for flag in ("--peer", node.peer())]

    def start(self, *nodes, shape="joint"):
        """A request that takes these nodes a second or more, once the first of them works for it."""
        process = self.cluster.start(*self.peers(*nodes), *plan_flags(shape), tokens=LONG_PROMPT)
        nodes[0].wait_for_log("request ")
        return process

    def check_recovered(self, result, reference=None, victims=("A",)):
        self.assertEqual(result["tokens"], reference or self.long_reference)
        self.assertEqual(result["recoveries"], 1, result["stderr"])
        # What is told is the plan that gave the answer, and what had gone wrong with the other.
        self.assertEqual(result["plan"], "prefill=local:0-8;decode=local:0-8")
        self.assertEqual(result["shape"], "single")
        failure, = result["failures"]
        self.assertIn(failure["peer"], victims)
        self.assertRegex(failure["address"], r"^127\.0\.0\.1:[0-9]+$")
        self.assertTrue(failure["reason"])
        self.assertIn(failure["peer"] + ":", failure["plan"])
        self.assertEqual(failure["salvaged_tokens"], result["salvaged_tokens"])
        self.assertIn(f"baton: {failure['peer']} at {failure['address']}: ", result["stderr"])
        if result["salvaged_tokens"]:
            self.assertIn(f"{result['salvaged_tokens']} of the {result['prompt_tokens']} prompt tokens are kept", result["stderr"])
        times = result["timings"]
        self.assertLessEqual(times["queue_s"], times["prefill_s"])
        self.assertLessEqual(times["prefill_s"], times["first_token_s"])

    def check_serves_on(self, node, within_s=5):
        """The node takes a request as large as all its cells: none is lost. Those of a receiver that went away without
        a word may still wait for it for a while, longer than the time that is given here."""
        deadline = time.monotonic() + within_s
        while True:
            result = self.cluster.run("--peer", node.peer(), "--prefill-on", node.name)
            self.assertEqual(result["tokens"], self.reference)
            if result["recoveries"] == 0 or time.monotonic() > deadline:
                break
        self.assertEqual(result["recoveries"], 0, result["stderr"])

    def kill_at(self, shape, victim, chunk):
        """Kills a stage in that chunk of its work, and gives what became of the request."""
        share, chunks_later = STAGES[shape][victim]
        nodes = {name: self.cluster.node(name, *cluster.SLOW) for name in STAGES[shape]}
        process = self.start(nodes[victim], *(node for name, node in nodes.items() if name != victim), shape=shape)
        time.sleep(cluster.CHUNK_S * share * (chunks_later + chunk + 0.4))
        nodes[victim].signal(signal.SIGKILL)
        result = finish(process)
        self.check_recovered(result, victims=(victim,))
        for name, node in nodes.items():
            if name != victim:
                self.check_serves_on(node)
        self.tearDown()
        return result

    def test_any_stage_killed_at_any_chunk(self):
        for shape, stages in STAGES.items():
            for victim in stages:
                for chunk in range(CHUNKS):
                    with self.subTest(shape=shape, victim=victim, chunk=chunk):
                        result = self.kill_at(shape, victim, chunk)
                if not result["salvaged_tokens"]:  # a busy machine had not come so far by then
                    result = self.kill_at(shape, victim, 2 * CHUNKS - 1)
                self.assertGreaterEqual(result["salvaged_tokens"], cluster.CHUNK, f"{shape}, {victim}")

    def test_a_stage_restarted_in_the_middle(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        time.sleep(0.3)
        a.signal(signal.SIGKILL)
        a.process.wait()
        self.cluster.node("A", *cluster.SLOW, port=a.port)
        self.check_recovered(finish(process))

    def test_a_stage_killed_while_it_decodes(self):
        a = self.cluster.node("A", "--emulate-tflops", "1", "--emulate-gbps", "0.01")
        reference = self.cluster.run(new_tokens=LONG_TEXT_TOKENS)["tokens"]
        process = self.cluster.start(*self.peers(a), *plan_flags("pooled"), "--deterministic", new_tokens=LONG_TEXT_TOKENS)
        a.wait_for_log("request ")
        # It reads for 0.2 s, and then writes for more than 2.
        time.sleep(1)
        a.signal(signal.SIGKILL)
        result = finish(process)
        self.check_recovered(result, reference)
        self.assertLess(result["timings"]["first_token_s"], result["failures"][0]["failed_s"])

    def test_the_receiver_killed(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        time.sleep(0.2)
        process.kill()
        process.communicate()
        self.check_serves_on(a, within_s=25)

    def test_ctrl_c(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        with self.assertRaises(RunFailed) as failed:
            finish(process)
        self.assertEqual(failed.exception.status, 130)
        self.assertLess(time.monotonic() - began, 5)
        self.check_serves_on(a)

    def test_a_stage_that_is_told_to_end(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                a = self.cluster.node("A", *cluster.SLOW)
                process = self.start(a)
                time.sleep(0.3)
                a.signal(number)
                self.assertEqual(a.process.wait(timeout=20), 0)
                result = finish(process)
                self.check_recovered(result)
                self.assertRegex(result["stderr"], "A at 127.0.0.1:[0-9]+: the node is shutting down")

    def test_a_node_that_is_told_to_end_says_goodbye_to_every_peer(self):
        a = self.cluster.node("A")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["baton/1"])
        context.load_cert_chain(self.cluster.home("local") / "identity.pem")
        with socket.create_connection(("127.0.0.1", a.port), timeout=10) as raw:
            # A connection that ends without TLS's own goodbye is an error to this socket.
            with context.wrap_socket(raw, suppress_ragged_eofs=False) as peer:
                self.assertTrue(peer.recv(4096))
                a.signal(signal.SIGTERM)
                while peer.recv(4096):
                    pass
            self.assertEqual(a.process.wait(timeout=20), 0)

    def test_a_node_that_is_told_to_end_does_not_wait_for_a_peer_that_hangs(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        process.send_signal(signal.SIGSTOP)
        a.signal(signal.SIGTERM)
        self.assertEqual(a.process.wait(timeout=10), 0)
        process.send_signal(signal.SIGCONT)
        self.check_recovered(finish(process))

    def check_proxied(self, fault):
        """The first connection is harmed in the middle of the slices; the transfer resumes on the next."""
        a = self.cluster.node("A", *cluster.SLOW)
        with Proxy(a.port, fault, after=60_000) as proxy:
            address = f"127.0.0.1:{proxy.port}#{a.fingerprint}"
            result = self.cluster.run("--peer", a.peer(address), "--prefill-on", "A")
            self.assertEqual(result["tokens"], self.reference)
            self.assertEqual(result["recoveries"], 0, result["stderr"])
            self.assertEqual(proxy.connections, 2)
        self.check_serves_on(a)

    def test_a_connection_cut_in_the_middle_of_a_slice_and_back(self):
        self.check_proxied("cut")

    def test_a_flipped_bit(self):
        self.check_proxied("flip")

    def test_a_short_stream(self):
        self.check_proxied("short")

    def test_a_connection_that_never_holds(self):
        a = self.cluster.node("A", *cluster.SLOW)
        with Proxy(a.port, "cut", after=10_000, again=True) as proxy:
            result = self.cluster.run("--peer", a.peer(f"127.0.0.1:{proxy.port}#{a.fingerprint}"), "--prefill-on", "A")
            self.assertEqual(result["tokens"], self.reference)

    def test_a_stalled_peer(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        time.sleep(0.2)
        a.signal(signal.SIGSTOP)
        began = time.monotonic()
        self.check_recovered(finish(process))
        self.assertLess(time.monotonic() - began, 15)
        a.signal(signal.SIGCONT)
        self.check_serves_on(a, within_s=25)

    def test_a_peer_stalled_for_a_moment(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        a.signal(signal.SIGSTOP)
        time.sleep(0.7)
        a.signal(signal.SIGCONT)
        result = finish(process)
        self.assertEqual(result["tokens"], self.long_reference)
        self.assertEqual(result["recoveries"], 0, result["stderr"])

    def test_a_receiver_that_stops_reading(self):
        a = self.cluster.node("A", *cluster.SLOW, context=512)
        process = self.start(a)
        process.send_signal(signal.SIGSTOP)
        self.check_serves_on(a)
        process.send_signal(signal.SIGCONT)
        self.assertEqual(finish(process)["tokens"], self.long_reference)

    def test_an_executor_frozen_while_its_network_thread_lives(self):
        a = self.cluster.node("A", *cluster.SLOW)
        process = self.start(a)
        time.sleep(0.1)
        thaw = freeze_thread(a.process.pid, "executor")
        began = time.monotonic()
        self.check_recovered(finish(process))
        self.assertLess(time.monotonic() - began, 20)
        thaw()
        self.check_serves_on(a)

    def test_a_peer_with_another_model(self):
        other = self.cluster.folder / "other.gguf"
        cluster.synth(other, "--seed", "9")
        a = self.cluster.node("A", model=other)
        with self.assertRaises(RunFailed) as failed:
            self.cluster.run(*self.peers(a), *plan_flags("disaggregated"))
        self.assertIn("another model", failed.exception.stderr)
        self.assertEqual(failed.exception.status, 2)

    def test_a_peer_with_another_key(self):
        a = self.cluster.node("A")
        wrong = a.address.split("#")[0] + "#" + "0" * 64
        with self.assertRaises(RunFailed) as failed:
            self.cluster.run("--peer", a.peer(wrong), "--prefill-on", "A")
        self.assertEqual(failed.exception.status, 8)
        self.check_serves_on(a)

    def test_a_peer_that_does_not_trust_us(self):
        a = self.cluster.node("A", trust=[])
        with self.assertRaises(RunFailed) as failed:
            self.cluster.run(*self.peers(a), *plan_flags("disaggregated"))
        self.assertEqual(failed.exception.status, 8)

    def test_a_peer_that_is_not_there(self):
        a = self.cluster.node("A")
        a.stop()
        self.check_recovered(self.cluster.run(*self.peers(a), *plan_flags("disaggregated")), self.reference)

    def test_a_peer_without_room(self):
        a = self.cluster.node("A", context=256)
        result = self.cluster.run(*self.peers(a), *plan_flags("disaggregated"), tokens=cluster.PROMPT + "," + ",".join(["301"] * 300))
        self.assertEqual(result["recoveries"], 1)
        # 380 prompt tokens and 12 new ones, in blocks of 256.
        self.assertIn("start the node with --ctx 512 or more", result["stderr"])


if __name__ == "__main__":
    unittest.main()
