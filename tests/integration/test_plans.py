import unittest

from cluster import Cluster


class Plans(unittest.TestCase):
    """Every shape of plan on three real processes: the text is the same wherever the work is done."""

    WEIGHTS = "f16"

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(cls.WEIGHTS).__enter__()
        cls.a = cls.cluster.node("A")
        cls.b = cls.cluster.node("B")
        cls.peers = ["--peer", cls.a.peer(), "--peer", cls.b.peer()]
        cls.alone = cls.cluster.run()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def check(self, shape, *flags):
        result = self.cluster.run(*self.peers, *flags)
        self.assertEqual(result["tokens"], self.alone["tokens"])
        self.assertEqual(result["shape"], shape)
        self.assertEqual(result["recoveries"], 0, result["stderr"])
        return result

    def test_disaggregated(self):
        result = self.check("disaggregated", "--prefill-on", "A")
        self.assertGreater(result["transfer"]["payload_bytes"], 0)

    def test_joint(self):
        self.check("joint", "--prefill-on", "A", "--split", "5")

    def test_relay(self):
        self.check("relay", "--plan", "prefill=A:0-3,B:3-6,local:6-8;decode=local:0-8")

    def test_pooled(self):
        self.check("pooled", "--plan", "prefill=A:0-4,local:4-8;decode=A:0-4,local:4-8")

    def test_pooled_over_three_with_the_local_node_first(self):
        self.check("pooled", "--plan", "prefill=local:0-2,A:2-5,B:5-8;decode=local:0-2,A:2-5,B:5-8")

    def test_a_peer_given_by_its_address_alone(self):
        result = self.cluster.run("--prefill-on", self.a.address)
        self.assertEqual(result["tokens"], self.alone["tokens"])

    def test_hidden_states_in_f16_are_close_enough_for_the_same_text(self):
        self.check("joint", "--prefill-on", "A", "--split", "5", "--hidden", "f16")

    def test_sampled_text_is_the_same_too(self):
        sampled = self.cluster.run("--temp", "1", "--seed", "3")
        split = self.cluster.run(*self.peers, "--prefill-on", "A", "--split", "4", "--temp", "1", "--seed", "3")
        self.assertEqual(split["tokens"], sampled["tokens"])


class PlansWithPackedWeights(Plans):
    """The same where each process packs copies of the weights while it starts: how far it has got changes nothing."""

    WEIGHTS = "q8_0"


if __name__ == "__main__":
    unittest.main()
