"""The clients that people use, against a node of a cluster whose machines share the work, and of which one dies."""

import http.client
import json
import unittest

import npm
from cluster import ROOT
from test_chat import GOLDEN, TEMPLATE, with_template
from test_cluster import Processes, call, wait_for

# The node that is asked reads slowly: a chunk takes it about 30 ms, the others 3.
ASKED = ["--emulate-tflops", "0.003", "--emulate-gbps", "20"]
OTHERS = ["--emulate-tflops", "0.03", "--emulate-gbps", "20"]
FLAGS = ["--model-name", "tiny", "--parallel", "32"]
CONTEXT = 16384


class Clients(Processes):
    def setUp(self):
        super().setUp()
        with_template(GOLDEN, self.model, TEMPLATE)

    def get(self, machine, path):
        connection = http.client.HTTPConnection(machine.api.removeprefix("http://"), timeout=60)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def links(self, machine):
        """How many of its links it knows what they carry."""
        nodes = self.get(machine, "/api/cluster")["nodes"]
        return len(next(node for node in nodes if node["status"] == "self")["state"]["links"])

    def three(self):
        asked = self.machine("asked", *ASKED, *FLAGS, context=CONTEXT).up()
        others = []
        for name in ("one", "two"):
            other = self.machine(name, *OTHERS, *FLAGS, context=CONTEXT)
            joined = call("join", asked.must("token").strip(), "--data", other.data, "--name", name)
            self.assertEqual(joined.returncode, 0, joined.stderr)
            others.append(other.up())
        for other in others:
            wait_for(lambda: asked.status(other.name) == "alive", f"asked sees {other.name}", 10)
        wait_for(lambda: self.links(asked) == 2, "the links are measured", 60)
        return asked, *others

    def test_a_machine_may_die_while_many_streams_run(self):
        work = self.folder / "clients"
        npm.install(ROOT / "tests/clients", work)
        asked, one, _ = self.three()
        npm.run_tests(work, ["cluster/streams.test.js"], timeout_s=240, BATON_API=asked.api, BATON_VICTIM_PID=str(one.process.pid))
        rows = self.get(asked, "/api/plan")["answers"]
        shared = [row for row in rows if row["shape"] != "single"]
        self.assertGreater(len(shared), 0, rows)
        # And what any client asks of one node it may ask of this one, which has lost another.
        npm.run_tests(work, sorted(path.name for path in work.glob("*.test.js")), timeout_s=240, BATON_API=asked.api)


if __name__ == "__main__":
    unittest.main()
