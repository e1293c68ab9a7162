"""A peer of another version, newer or older, in a process of its own: each side learns both versions, and goes on without
the other."""

import os
import ssl
import subprocess
import time
import unittest

import foreign_peer
from cluster import BATON, CHUNK, DEVICE, NEW_TOKENS, PROMPT, Cluster, finish
from foreign_peer import MEMBERSHIP, WORK, ForeignPeer
from planned import PlannedProcesses
from test_cluster import wait_for

# What this baton speaks, and those before and after it.
OURS = (1, 1)
OTHERS = {"newer": (2, 3), "older": (0, 0)}
# A connection, two greetings, and the time for saying goodbye.
AT_ONCE_S = 5


class OfOneRequest(unittest.TestCase):
    """Nodes that know each other by hand, and the protocol of work."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.reference = cls.cluster.run()["tokens"]
        cls.identity, cls.fingerprint = foreign_peer.make_identity(cls.cluster.folder / "stranger")

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def check_says_both(self, text, versions):
        self.assertIn(f"(stranger 7.3) speaks versions {versions[0]} to {versions[1]} of the protocol, "
                      f"this node {OURS[0]} to {OURS[1]}: update the older", text)

    def test_who_asks_one_is_told_and_goes_on_alone(self):
        for name, versions in OTHERS.items():
            with self.subTest(version=name):
                with ForeignPeer(self.identity, self.cluster.home("local") / "identity.pem", WORK, versions) as stranger:
                    peer = f"A=127.0.0.1:{stranger.port}#{self.fingerprint}"
                    began = time.monotonic()
                    result = self.cluster.run("--peer", peer, "--prefill-on", "A")
                    self.assertLess(time.monotonic() - began, AT_ONCE_S + result["timings"]["total_s"])
                self.assertEqual(result["tokens"], self.reference)
                failure, = result["failures"]
                self.assertEqual((failure["peer"], failure["error"]), ("A", "unsupported"))
                self.check_says_both(failure["reason"], versions)
                self.check_says_both(result["stderr"], versions)
                self.assertEqual(failure["replanned"], "prefill=local:0-8;decode=local:0-8")
                # It has heard what this side speaks, and nothing that it would not understand.
                self.assertFalse(stranger.failures)
                for frames in stranger.calls:
                    self.assertEqual([foreign_peer.versions_in(frame, WORK) for frame in frames], [OURS])
                self.assertTrue(stranger.calls)

    def test_whom_one_asks_tells_it_and_serves_on(self):
        a = self.cluster.node("A", trust=[self.cluster.local_fingerprint, self.fingerprint])
        try:
            for name, versions in OTHERS.items():
                with self.subTest(version=name):
                    began = time.monotonic()
                    frames = foreign_peer.call(a.port, self.identity, a.home / "identity.pem", WORK, versions)
                    self.assertLess(time.monotonic() - began, AT_ONCE_S)
                    self.assertEqual([foreign_peer.versions_in(frame, WORK) for frame in frames], [OURS])
                    self.check_says_both(a.wait_for_log("speaks versions"), versions)
                    result = self.cluster.run("--peer", a.peer(), "--prefill-on", "A")
                    self.assertEqual(result["tokens"], self.reference)
                    self.assertEqual(result["recoveries"], 0, result["stderr"])
        finally:
            a.stop()

    def test_another_name_of_the_protocol_is_refused_in_the_handshake(self):
        a = self.cluster.node("A", trust=[self.cluster.local_fingerprint, self.fingerprint])
        try:
            with self.assertRaisesRegex(ssl.SSLError, "(?i)no.application.protocol"):
                foreign_peer.call(a.port, self.identity, a.home / "identity.pem", "baton/2", OURS)
            self.assertEqual(self.cluster.run("--peer", a.peer(), "--prefill-on", "A")["recoveries"], 0)
        finally:
            a.stop()


class OfACluster(PlannedProcesses):
    """A member that was replaced by another version."""

    def check_is_shown(self, machine, versions):
        problem = (f"the peer speaks membership versions {versions[0]} to {versions[1]}, this baton version {OURS[1]}: "
                   "update the older one")
        # It is called every five seconds.
        wait_for(lambda: machine.nodes()["b"]["problem"] == problem, "b is seen to be of another version", 30)
        self.assertEqual(machine.status("b"), "incompatible")
        shown = next(line for line in machine.must("nodes").splitlines() if line.startswith("b "))
        self.assertIn("incompatible", shown)
        self.assertIn(f"versions {versions[0]} to {versions[1]}", machine.must("nodes"))

    def test_it_is_shown_as_such_and_not_used(self):
        a = self.machine("a")
        a.up()
        b = self.join(a, "b")
        wait_for(lambda: a.status("b") == "alive", "a sees b", 30)
        identity, port = b.data / "identity.pem", b.port
        b.kill()
        trusted = foreign_peer.certificate_shown(a.port, identity, MEMBERSHIP, a.address.split("#")[1], self.folder / "a.pem")
        prompt = [int(token) for token in PROMPT.split(",")]
        for name, versions in OTHERS.items():
            with self.subTest(version=name), ForeignPeer(identity, trusted, MEMBERSHIP, versions, port) as stranger:
                self.check_is_shown(a, versions)
                # Called, it says the same, and is told as much.
                frames = foreign_peer.call(a.port, identity, trusted, MEMBERSHIP, versions)
                self.assertEqual([foreign_peer.versions_in(frame, MEMBERSHIP) for frame in frames], [OURS])
                self.ask(a, prompt, NEW_TOKENS)
                self.assertEqual(self.last(a)["plan"], "prefill=local:0-8;decode=local:0-8")
                self.assertFalse(self.last(a)["recovered"])
                self.assertEqual(a.status("b"), "incompatible")
            self.assertTrue(stranger.calls)
            for frames in stranger.calls:
                self.assertEqual([foreign_peer.versions_in(frame, MEMBERSHIP) for frame in frames], [OURS])
        # Once it is of this version again, it is used as before.
        b.up()
        wait_for(lambda: a.status("b") == "alive", "a sees b", 30)
        self.assertEqual(a.run_on("b")["recoveries"], 0)


if __name__ == "__main__":
    unittest.main()
