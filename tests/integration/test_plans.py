import json
import subprocess
import unittest

from cluster import CHUNK, LAYERS, PROMPT, ROOT, Cluster

TINY = ROOT / "tests/reference/tiny"


class Shapes:
    """Every shape of plan on three real processes: the text is the same wherever the work is done."""

    WEIGHTS = "f16"
    MODEL = None  # a reference model's name; by default a synthetic one
    LAYERS = LAYERS
    TOKENS = PROMPT
    TEMPERATURE = "1"

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls.WEIGHTS, cls.MODEL and TINY / f"{cls.MODEL}.gguf").__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        cls.a = cls.cluster.node("A")
        cls.b = cls.cluster.node("B")
        cls.peers = ["--peer", cls.a.peer(), "--peer", cls.b.peer()]
        cls.third = max(1, cls.LAYERS // 3)
        cls.alone = cls.run_plan()
        cls.sampled = cls.run_plan("--temp", cls.TEMPERATURE, "--seed", "3")

    @classmethod
    def run_plan(cls, *flags):
        return cls.cluster.run(*cls.peers, *flags, tokens=cls.TOKENS)

    def check(self, shape, *flags):
        """The most likely text, and one drawn at random: its tokens part where the logits do so by little."""
        result = self.run_plan(*flags)
        self.assertEqual(result["tokens"], self.alone["tokens"])
        self.assertEqual(result["shape"], shape)
        self.assertEqual(result["recoveries"], 0, result["stderr"])
        sampled = self.run_plan(*flags, "--temp", self.TEMPERATURE, "--seed", "3")
        self.assertEqual(sampled["tokens"], self.sampled["tokens"])
        return result

    def plan(self, prefill, decode):
        """Layers in thirds: {0} to {3}."""
        borders = [0, self.third, 2 * self.third, self.LAYERS]
        return ["--plan", f"prefill={prefill};decode={decode}".format(*borders)]

    def test_single(self):
        self.assertEqual(self.alone["shape"], "single")
        self.assertNotEqual(self.sampled["tokens"], self.alone["tokens"])

    def test_disaggregated(self):
        result = self.check("disaggregated", "--prefill-on", "A")
        self.assertGreater(result["transfer"]["payload_bytes"], 0)

    def test_joint(self):
        self.check("joint", "--prefill-on", "A", "--split", str(2 * self.third))

    def test_relay(self):
        self.check("relay", *self.plan("A:{0}-{1},B:{1}-{2},local:{2}-{3}", "local:{0}-{3}"))

    def test_pooled(self):
        self.check("pooled", *self.plan("A:{0}-{1},local:{1}-{3}", "A:{0}-{1},local:{1}-{3}"))

    def test_pooled_over_three_with_the_local_node_first(self):
        thirds = "local:{0}-{1},A:{1}-{2},B:{2}-{3}"
        self.check("pooled", *self.plan(thirds, thirds))


class Plans(Shapes, unittest.TestCase):
    def test_a_peer_given_by_its_address_alone(self):
        result = self.cluster.run("--prefill-on", self.a.address)
        self.assertEqual(result["tokens"], self.alone["tokens"])

    def test_hidden_states_in_f16_are_close_enough_for_the_same_text(self):
        result = self.run_plan("--prefill-on", "A", "--split", "5", "--hidden", "f16")
        self.assertEqual(result["tokens"], self.alone["tokens"])
        self.assertEqual(result["shape"], "joint")


class Distrust(unittest.TestCase):
    def test_stages_that_must_trust_each_other_are_named(self):
        with Cluster() as cluster:
            a = cluster.node("A", trust=[cluster.local_fingerprint])
            b = cluster.node("B")
            shown = subprocess.run(cluster.command("--peer", a.peer(), "--peer", b.peer(), "--plan",
                                                   "prefill=A:0-3,B:3-5,local:5-8;decode=local:0-8"),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60).stderr
            self.assertIn(f"B cannot reach A at 127.0.0.1:{a.port}: A does not trust B; start A with --trust "
                          f"{cluster.fingerprint('B')} too", shown)


class PlansWithPackedWeights(Plans):
    """The same where each process packs copies of the weights while it starts: how far it has got changes nothing."""

    WEIGHTS = "q8_0"


def reference_plans(name, layers):
    """The same with a reference model, whose random weights make every last bit matter, over several chunks."""
    prompt = json.loads((TINY / f"{name}.json").read_text(encoding="utf-8"))["prompt"]
    tokens = ",".join(map(str, (prompt * 5)[:5 * CHUNK]))
    return type("Shapes", (Shapes,), {"MODEL": name, "LAYERS": layers, "TOKENS": tokens})


class PlansOfWindows(reference_plans("gemma3", 7), unittest.TestCase):
    """Five layers that see a window of 8 tokens for each that sees all, norms before and after, two RoPEs."""

    TEMPERATURE = "20"  # its most likely token is the last one again, by far


class PlansOfExperts(reference_plans("gpt-oss", 3), unittest.TestCase):
    """Experts with biases, windows on every other layer, attention sinks."""


class PlansOfDenseAndSparseLayers(reference_plans("ernie4_5-moe", 3), unittest.TestCase):
    """A dense layer before sparse ones, with a shared expert: neighbouring stages differ in kind."""


if __name__ == "__main__":
    unittest.main()
