"""The planner at work: real 'baton up' processes, two of them emulated as unlike machines, and one API."""

import signal
import statistics
import unittest

from cluster import LAYERS
from planned import PlannedProcesses
from test_cluster import call, wait_for

# 'mac' writes fast and reads slowly, 'spark' the other way round: a chunk takes about 190 and 19 ms, a step 3 and 16,
# so that the speed of the machine below hardly matters. The link carries a chunk's KV in 3 ms, 20 ms late.
MAC = ["--emulate-tflops", "0.00005", "--emulate-gbps", "0.2"]
SPARK = ["--emulate-tflops", "0.0005", "--emulate-gbps", "0.04"]
LINK = ["--emulate-link", "0.05:20"]

LONG = list(range(300, 390)) * 2
SHORT = [300, 301, 302]
CONTEXT = 2048


class PlannedByRequest(PlannedProcesses):
    def pair(self, *flags):
        """Both, once they know each other and their link. `self.alone` is what the first says to LONG by itself."""
        mac = self.machine("mac", *MAC, *LINK, *flags, context=CONTEXT)
        mac.up()
        self.alone = self.ask(mac, LONG)
        # A prompt that it still knows would not be worth sharing.
        mac.kill(signal.SIGTERM)
        mac.up()
        spark = self.machine("spark", *SPARK, *LINK, context=CONTEXT)
        result = call("join", mac.must("token").strip(), "--data", spark.data, "--name", "spark")
        self.assertEqual(result.returncode, 0, result.stderr)
        spark.up()
        self.wait_until_linked(mac, "spark")
        return mac, spark

    def test_a_long_prompt_is_shared_and_a_short_one_is_not(self):
        mac, spark = self.pair()
        status, weighed = self.request(mac, "POST", "/api/plan", {"prompt_tokens": len(LONG), "output_tokens": 8})
        self.assertEqual(status, 200, weighed)
        self.assertIn(weighed["chosen"], ("joint", "disaggregated"), weighed)
        self.assertIn("mac", [plan["name"] for plan in weighed["plans"]])
        shared = self.ask(mac, LONG)
        self.assertEqual(shared, self.alone)
        row = self.last(mac)
        self.assertIn(row["shape"], ("joint", "disaggregated"), row)
        self.assertIn("spark:0-", row["plan"])
        self.assertFalse(row["recovered"])
        # The other way round, what is kept makes a long prompt a short one.
        self.assertEqual(self.ask(mac, LONG), self.alone)
        self.assertEqual(self.last(mac)["shape"], "single")
        self.ask(mac, SHORT)
        self.assertEqual(self.last(mac)["plan"], f"prefill=local:0-{LAYERS};decode=local:0-{LAYERS}")
        # A machine that dies is planned on no more, and the one under way finishes without it.
        spark.kill()
        wait_for(lambda: mac.status("spark") == "down", "spark is down", 20)
        self.assertEqual(self.ask(mac, LONG), self.alone)
        row = self.last(mac)
        self.assertEqual((row["shape"], row["recovered"]), ("single", False))

    def test_an_answer_outlives_the_machine_that_was_planned_on(self):
        mac, spark = self.pair()
        # Who has been silent for a second before it is asked is not planned on: then once more, with a new text.
        for turn in range(5):
            prompt = LONG[turn:] + LONG[:turn]
            spark.process.send_signal(signal.SIGSTOP)
            text = self.ask(mac, prompt)
            row = self.last(mac)
            if row["recovered"] or row["shape"] != "single":
                break
            spark.process.send_signal(signal.SIGCONT)
            wait_for(lambda: mac.status("spark") == "alive", "mac sees spark", 30)
        self.assertTrue(row["recovered"], row)
        self.assertEqual(text, self.alone if turn == 0 else self.text_alone(prompt, 8)["text"])

    def test_what_was_predicted_comes_true(self):
        mac, spark = self.pair()
        errors, planning_ms = [], []
        for turn in range(12):
            # None begins like another: what is kept of a prompt is not read again.
            self.ask(mac, LONG[turn:] + LONG[:turn])
            row = self.last(mac)
            errors.append(abs(row["predicted_total_s"] / row["total_s"] - 1))
            planning_ms.append(row["planning_ms"])
        print(f"predicted against actual, median error of the last six: {statistics.median(errors[6:]):.1%}", flush=True)
        self.assertLess(statistics.median(errors[6:]), 0.4, errors)
        self.assertLess(statistics.median(planning_ms), 20, planning_ms)

    def test_rates_are_remembered_and_damage_is_measured_anew(self):
        mac = self.machine("mac", *MAC)
        mac.up()
        first = mac.nodes()["mac"]["state"]["rates"]
        self.assertGreater(first["prefill_tokens_per_s"], 0)
        mac.kill(signal.SIGTERM)
        mac.up()
        self.assertEqual(mac.nodes()["mac"]["state"]["rates"], first)
        mac.kill(signal.SIGTERM)
        (mac.data / "rates.json").write_text("{")
        mac.up()
        self.assertGreater(mac.nodes()["mac"]["state"]["rates"]["flops_per_second"], 0)

    def test_flags_fix_a_plan_and_a_profile_spares_the_measuring(self):
        mac, _ = self.pair("--no-measure", "m3ultra")
        self.assertFalse((mac.data / "rates.json").exists())
        self.assertGreater(mac.nodes()["mac"]["state"]["rates"]["bytes_per_second"], 1e11)
        mac.kill(signal.SIGTERM)
        mac.up("--prefill-on", "spark")
        wait_for(lambda: mac.status("spark") == "alive", "mac sees spark", 30)
        self.ask(mac, SHORT)
        status, shown = self.request(mac, "GET", "/api/plan")
        self.assertEqual((status, shown["by_request"], shown["answers"]), (200, False, []))

    def test_questions_that_make_no_sense_are_refused(self):
        mac = self.machine("mac", *MAC)
        mac.up()
        for body in ({}, {"prompt_tokens": 0}, {"prompt_tokens": 1 << 40}, {"prompt_tokens": 8, "planet": 1}, []):
            status, content = self.request(mac, "POST", "/api/plan", body)
            self.assertEqual(status, 400, content)
        status, content = self.request(mac, "POST", "/api/plan", {"prompt_tokens": 8})
        self.assertEqual((status, content["chosen"]), (200, "mac"), content)


if __name__ == "__main__":
    unittest.main()
