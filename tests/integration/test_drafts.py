"""A draft model on another node: the text is the same, whatever becomes of that node."""

import signal
import time
import unittest

from api_server import ApiServer
from cluster import ROOT, Cluster, RunFailed, finish

# A step takes about 30 ms on any machine, so that guesses gain time and there is time to do harm.
SLOW_STEPS = ["--speculate", "draft", "--emulate-tflops", "1", "--emulate-gbps", "0.02"]
# About 45 ms: then the text takes 0.7 s with guesses, for harm that may come late.
SLOWER_STEPS = ["--speculate", "draft", "--emulate-tflops", "1", "--emulate-gbps", "0.015"]
NEW_TOKENS = 100

# A small model with a vocabulary.
GOLDEN = ROOT / "tests/reference/golden/text-llama.gguf"


class DraftsElsewhere(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster().__enter__()
        self.addCleanup(self.cluster.__exit__)

    def node(self):
        return self.cluster.node("A", "--draft", str(self.cluster.model))

    def plain(self, *flags, tokens=NEW_TOKENS):
        return self.cluster.run("--speculate", "off", *flags, new_tokens=tokens)["tokens"]

    def start(self, node, *flags, steps=SLOW_STEPS, tokens=NEW_TOKENS):
        return self.cluster.start(*steps, "--draft-on", node.address, *flags, new_tokens=tokens)

    def test_it_changes_nothing_but_the_time(self):
        node = self.node()
        for sampler in ([], ["--temp", "0.8", "--seed", "3", "--repeat-penalty", "1.1"]):
            plain = self.plain(*sampler)
            for flags in ([], ["--prefill-on", node.address]):
                # A node that is late with a guess is asked less, and the machine may stall it.
                for _ in range(3):
                    drafted = finish(self.start(node, *flags, *sampler))
                    self.assertEqual(drafted["tokens"], plain, flags)
                    guesses = drafted["speculation"]
                    self.assertEqual((guesses["how"], guesses["where"]), ("draft", "peer"))
                    if guesses["right_tokens"] > NEW_TOKENS // 4:
                        break
                self.assertGreater(guesses["right_tokens"], NEW_TOKENS // 4, guesses)

    def test_the_text_goes_on_where_the_node_is_killed_or_stopped(self):
        plain = self.plain()
        for harm in (signal.SIGKILL, signal.SIGSTOP):
            node = self.node()
            running = self.start(node, "--prefill-on", node.address, steps=SLOWER_STEPS)
            node.wait_for_log("guesses at")
            time.sleep(0.1)
            node.signal(harm)
            drafted = finish(running)
            self.assertEqual(drafted["tokens"], plain, harm)
            self.assertEqual(drafted["speculation"]["how"], "draft")
            self.assertIn("peer", drafted["speculation"]["why"], harm)
            self.assertEqual(drafted["recoveries"], 0)
            node.stop()

    def test_a_node_without_a_draft_model_says_so(self):
        node = self.cluster.node("A")
        drafted = finish(self.start(node, tokens=12))
        self.assertEqual(drafted["tokens"], self.plain(tokens=12))
        self.assertIn("no draft model", drafted["speculation"]["why"])
        self.assertEqual(drafted["speculation"]["checks"], 0)

    def test_a_peer_that_is_none_is_refused_by_its_flag(self):
        for flags, message in ((["--draft-on", "nobody"], "--draft-on 'nobody'"),
                               (["--draft-on", f"127.0.0.1:1#{self.cluster.local_fingerprint}"], "is this machine's own ("),
                               (["--speculate", "lookup", "--draft-on", f"127.0.0.1:1#{'ab' * 32}"], "leave one of them out")):
            with self.assertRaises(RunFailed) as failure:
                self.cluster.run(*flags)
            self.assertIn(message, failure.exception.stderr)
            self.assertEqual(failure.exception.status, 2)

    def test_a_server_may_let_another_node_guess(self):
        with Cluster(model=GOLDEN) as machines:
            node = machines.node("A", "--draft", str(machines.model), context=1024)
            body = {"prompt": "Tell me a long story about numbers", "temperature": 0, "max_tokens": 200}
            texts = []
            for flags in (["--speculate", "off"], ["--speculate", "draft", "--draft-on", node.address],
                          ["--speculate", "draft", "--draft", machines.model]):
                with ApiServer(machines, machines.model, "--ctx", "1024", *map(str, flags)) as server:
                    status, _, answer = server.post("/v1/completions", **body)
                    self.assertEqual(status, 200, answer)
                    texts.append(answer["choices"][0]["text"])
            self.assertEqual(texts[1:], [texts[0]] * 2)
            node.wait_for_log("guesses at")


if __name__ == "__main__":
    unittest.main()
