import pathlib
import signal
import time
import unittest

import cluster
from cluster import Cluster, finish

MODEL = pathlib.Path(__file__).resolve().parents[1] / "reference" / "tiny" / "gemma3.gguf"
CHUNKS = 50
PROMPT = ",".join(str(4 + (i * 37 + i * i // 7) % 90) for i in range(CHUNKS * cluster.CHUNK))
# On this device the prompt takes about 2 s.
SLOW = ["--emulate-tflops", "0.00015", "--emulate-gbps", "100"]
PREFILL_S = 2.0
# Room for one sequence's windows: 512 rows where the prompt has 800.
NODE = {"context": 1024}


class WindowCluster(Cluster):
    def __enter__(self):
        super().__enter__()
        self.model = MODEL
        return self

    def node(self, name, *flags, **options):
        return super().node(name, "--sequences", "1", *flags, **NODE, **options)

    def command(self, *flags, **options):
        # A hot sampler, so that the smallest difference in logits would change the text.
        # The model was made for 256 tokens, and says so; reading more of them is what is tested here.
        return super().command("--temp", "20", "--seed", "3", "--deterministic", "--ctx", "1024", *flags, tokens=PROMPT,
                               new_tokens=40)


class Windows(unittest.TestCase):
    """A model whose layers see 8 tokens back, but for every sixth, and a prompt of 800 tokens."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = WindowCluster().__enter__()
        cls.reference = cls.cluster.run()["tokens"]

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def tearDown(self):
        for node in self.cluster.nodes:
            node.stop()
        self.cluster.nodes.clear()

    def test_every_plan_gives_the_same_text(self):
        self.assertGreater(len(set(self.reference)), 10, "a text that says nothing tests nothing")
        a = self.cluster.node("A")
        b = self.cluster.node("B")
        peers = ["--peer", a.peer(), "--peer", b.peer()]
        for plan in [
            "prefill=A:0-7;decode=local:0-7",
            "prefill=A:0-5,local:5-7;decode=local:0-7",
            "prefill=A:0-2,B:2-5,local:5-7;decode=local:0-7",
            "prefill=A:0-4,local:4-7;decode=A:0-4,local:4-7",
            "prefill=local:0-3,A:3-7;decode=local:0-3,A:3-7",
            "prefill=A:0-7;decode=B:0-7",
            "prefill=A:0-2,B:2-7;decode=B:0-4,local:4-7",
        ]:
            with self.subTest(plan=plan):
                result = self.cluster.run(*peers, "--plan", plan)
                self.assertEqual(result["tokens"], self.reference)
                self.assertEqual(result["recoveries"], 0, result["stderr"])

    def kill_in_the_middle(self, *link):
        a = self.cluster.node("A", *SLOW, *link)
        process = self.cluster.start("--peer", a.peer(), "--prefill-on", "A")
        a.wait_for_log("request ")
        time.sleep(PREFILL_S / 2)
        a.signal(signal.SIGKILL)
        result = finish(process)
        self.assertEqual(result["tokens"], self.reference)
        self.assertEqual(result["recoveries"], 1, result["stderr"])
        return result["salvaged_tokens"]

    def test_what_was_sent_on_a_link_with_slack_is_salvaged(self):
        salvaged = self.kill_in_the_middle()
        self.assertGreater(salvaged, 2 * cluster.CHUNK)

    def test_what_was_dropped_on_a_busy_link_is_computed_again(self):
        # Too slow for all that is computed, so windows go first.
        salvaged = self.kill_in_the_middle("--emulate-link", "0.0004")
        self.assertLessEqual(salvaged, 2 * cluster.CHUNK)

    def test_a_busy_link_carries_only_the_last_windows(self):
        a = self.cluster.node("A")
        fast = self.cluster.run("--peer", a.peer(), "--prefill-on", "A")["transfer"]
        a.stop()
        a = self.cluster.node("A", "--emulate-link", "0.002")
        result = self.cluster.run("--peer", a.peer(), "--prefill-on", "A")
        self.assertEqual(result["tokens"], self.reference)
        self.assertEqual(result["recoveries"], 0, result["stderr"])
        slow = result["transfer"]
        self.assertLess(slow["payload_bytes"], fast["payload_bytes"] / 2)


if __name__ == "__main__":
    unittest.main()
