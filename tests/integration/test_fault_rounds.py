"""The fault suite's short form: bench/faults/run goes on for longer."""

import os
import unittest

import fault_world
from fault_rounds import FAULTS, run_rounds


@unittest.skipUnless(fault_world.can_run(), "needs root, iproute2 and network namespaces")
class FaultRounds(unittest.TestCase):
    def test_answers_outlive_what_happens_to_the_other_machines(self):
        seed = int(os.environ.get("BATON_SEED", "1"))
        outcome = run_rounds(3, len(FAULTS), seed, "deterministic", lambda line: print(f"seed {seed}, {line}", flush=True))
        self.assertTrue(outcome.good(), (outcome.counts, outcome.problems[:20]))
        self.assertGreater(outcome.counts["same"], 20, outcome.counts)
        # By chance alone nothing would be shared, and nothing lost.
        self.assertGreater(outcome.shared, 0)


if __name__ == "__main__":
    unittest.main()
