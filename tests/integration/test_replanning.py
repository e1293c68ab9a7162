"""Machines that are lost in the middle of a request, that are new, or slower than they were: the planner finds its way
around. Real processes on emulated devices."""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import unittest

from cluster import CHUNK, finish
from planned import PlannedProcesses
from test_cluster import wait_for

# Reads a chunk in about 190 ms and writes a token in 3.
HUB = ["--emulate-tflops", "0.00005", "--emulate-gbps", "0.2"]
# Reads it in 38 ms and writes one in 35.
READER = ["--emulate-tflops", "0.00025", "--emulate-gbps", "0.018"]
# Writes a token in about 130 ms, and what writes one in 11.
SLOW_HUB = ["--emulate-tflops", "0.0005", "--emulate-gbps", "0.005"]
WRITER = ["--emulate-tflops", "0.0005", "--emulate-gbps", "0.06"]
# Reads one layer of a chunk no faster than what follows reads all of it, and writes as slowly as SLOW_HUB.
POOR_HUB = ["--emulate-tflops", "0.000005", "--emulate-gbps", "0.005"]
# Reads a chunk in about 190 ms, and writes a token in 11.
POOR_READER_WRITER = ["--emulate-tflops", "0.00005", "--emulate-gbps", "0.06"]
# 20 ms late.
LINK = ["--emulate-link", "0.05:20"]

LONG = [300 + (i * 37) % 90 for i in range(720)]
SHORT = LONG[:100]
WRITTEN = 40
MUCH_WRITTEN = 200  # by the WRITER in more than two seconds
CONTEXT = 2048


class Replanning(PlannedProcesses):
    def hub_and_two(self, hub_flags, helper_flags):
        """A machine that is asked, and two that would do better."""
        hub = self.machine("hub", *hub_flags, context=CONTEXT)
        hub.up()
        helpers = {name: self.join(hub, name, *helper_flags, context=CONTEXT) for name in ("north", "south")}
        self.wait_until_linked(hub, *helpers)
        return hub, helpers

    def at_work(self, helpers, phase):
        """The helper that is the last to work in a phase of the one request they were asked for, once it does."""
        def working():
            logs = [pathlib.Path(f"{helper.data}.log").read_text() for helper in helpers.values()]
            plans = re.findall(rf"request .*{phase}=([^;\n]*)", "\n".join(logs))
            return [name for stages in plans for name in re.findall(r"(\w+):", stages) if name in helpers]
        wait_for(working, f"somebody works for the request's {phase}", 60)
        return working()[-1]

    def check_went_on(self, failures, victim, helpers, prompt):
        self.assertEqual(failures[0]["peer"], victim)
        self.assertIn(f"{victim}:", failures[0]["plan"])
        survivor, = set(helpers) - {victim}
        self.assertIn(f"{survivor}:", failures[0]["replanned"])
        self.assertNotIn(f"{victim}:", failures[0]["replanned"])
        self.assertGreaterEqual(failures[0]["text_tokens"], len(prompt))
        self.assertLess(0, failures[0]["cost_s"])
        self.assertLess(failures[0]["failed_s"], failures[0]["next_token_s"])

    def check_answer(self, hub, course, victim, helpers, prompt):
        row = self.last(hub)
        self.assertTrue(row["recovered"], row)
        self.check_went_on(row["failures"], victim, helpers, prompt)
        self.assertTrue(course["recovered"])
        self.assertEqual(course["replans"][0]["lost"], victim)
        self.assertEqual(course["replans"][0]["replanned"], row["failures"][0]["replanned"])
        self.assertGreater(course["replans"][0]["cost_ms"], 0)
        return row["failures"][0]

    def test_a_third_machine_reads_on_where_one_died(self):
        hub, helpers = self.hub_and_two(HUB, READER)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            answer = threads.submit(self.answer, hub, LONG, WRITTEN)
            victim = self.at_work(helpers, "prefill")
            time.sleep(0.4)
            helpers[victim].kill()
            choice = answer.result()["choices"][0]
        failure = self.check_answer(hub, choice["baton"], victim, helpers, LONG)
        self.assertEqual(choice["text"], self.text_alone(LONG, WRITTEN)["text"])
        self.assertEqual(failure["text_tokens"], len(LONG))
        # What had come is neither read nor sent again.
        self.assertGreater(failure["salvaged_tokens"], 0, failure)

    def test_a_third_machine_writes_on_where_one_died(self):
        hub, helpers = self.hub_and_two(SLOW_HUB, WRITER)
        text = ""
        for place, choice in enumerate(self.stream(hub, SHORT, MUCH_WRITTEN)):
            if place == 5:
                victim = self.at_work(helpers, "decode")
                helpers[victim].kill()
            text += choice["text"]
        failure = self.check_answer(hub, choice["baton"], victim, helpers, SHORT)
        self.assertEqual(text, self.text_alone(SHORT, MUCH_WRITTEN)["text"])
        self.assertGreater(failure["text_tokens"], len(SHORT))
        self.assertRegex(failure["replanned"], "decode=(north|south):0-8$")

    def test_what_the_survivor_has_of_the_prompt_it_does_not_read_again(self):
        hub = self.machine("hub", *POOR_HUB, context=CONTEXT)
        hub.up()
        reader = self.join(hub, "reader", *READER, context=CONTEXT)
        self.join(hub, "writer", *POOR_READER_WRITER, context=CONTEXT)
        self.wait_until_linked(hub, "reader", "writer")
        # The link between the two as well.
        nodes = hub.nodes
        wait_for(lambda: any(link["peer"] == nodes()["writer"]["id"] for link in nodes()["reader"]["state"]["links"]),
                 "the reader's link to the writer is known", 90)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            answer = threads.submit(self.answer, hub, LONG, WRITTEN)
            log = pathlib.Path(f"{reader.data}.log")
            wait_for(lambda: re.search("request .*prefill=reader:.*decode=writer:0-8", log.read_text()), "the reader reads", 60)
            time.sleep(1)
            reader.kill()
            choice = answer.result()["choices"][0]
        row = self.last(hub)
        failure, = row["failures"]
        self.assertEqual(failure["peer"], "reader", failure)
        self.assertRegex(failure["replanned"], "writer:[0-9]-8;decode=writer:0-8$")
        self.assertNotIn("reader", failure["replanned"])
        self.assertEqual(failure["text_tokens"], len(LONG))
        # The reader's rows had gone to the writer, and to nobody else.
        self.assertGreater(failure["salvaged_tokens"], 4 * CHUNK, failure)
        self.assertEqual(choice["baton"]["replans"][0]["from_token"], failure["salvaged_tokens"])
        self.assertEqual(choice["text"], self.text_alone(LONG, WRITTEN)["text"])

    def test_run_says_what_was_planned_anew(self):
        hub, helpers = self.hub_and_two(HUB, READER)
        process = subprocess.Popen([*self.run_command(LONG, WRITTEN), "--data", str(hub.data), *HUB],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        victim = self.at_work(helpers, "prefill")
        time.sleep(0.4)
        helpers[victim].kill()
        result = finish(process)
        self.assertEqual(result["planned"]["by"], "planner")
        self.check_went_on(result["failures"], victim, helpers, LONG)
        self.assertEqual(result["plan"], result["failures"][-1]["replanned"])
        self.assertEqual(result["tokens"], self.text_alone(LONG, WRITTEN)["tokens"])


class ChangingMachines(PlannedProcesses):
    def turned(self, turn):
        """None begins like another: what is kept of a prompt is not read again."""
        return LONG[turn:turn + 180]

    def test_a_new_machine_is_used_for_the_next_request_and_a_slower_one_no_more(self):
        hub = self.machine("hub", *HUB, context=CONTEXT)
        hub.up()
        self.ask(hub, self.turned(0))
        self.assertEqual(self.last(hub)["shape"], "single")
        north = self.join(hub, "north", *READER, context=CONTEXT)
        self.wait_until_linked(hub, "north")
        self.ask(hub, self.turned(1))
        self.assertIn("north:0-", self.last(hub)["plan"])
        # The same machine comes back as one that reads a layer slower than the hub reads all, and has measured so.
        north.kill()
        north.flags = ["--emulate-tflops", "0.000005", "--emulate-gbps", "0.018"]
        north.up()
        self.wait_until_linked(hub, "north")
        self.ask(hub, self.turned(2))
        self.assertNotIn("north:", self.last(hub)["plan"])

    def test_a_machine_that_others_slow_down_is_planned_around(self):
        # What is little faster is not worth the link.
        hub = self.machine("hub", "--emulate-tflops", "0.0003", "--emulate-gbps", "0.2", *LINK, context=CONTEXT)
        hub.up()
        north = self.join(hub, "north", "--emulate-tflops", "0.001", "--emulate-gbps", "0.04", *LINK, context=CONTEXT)
        self.wait_until_linked(hub, "north")
        self.ask(hub, self.turned(0))
        self.assertIn("north:", self.last(hub)["plan"])
        over = threading.Event()

        def hinder():
            # It hardly gets to work, though often enough to be there.
            while not over.is_set():
                os.kill(north.process.pid, signal.SIGSTOP)
                time.sleep(0.4)
                os.kill(north.process.pid, signal.SIGCONT)
                time.sleep(0.04)

        hindering = threading.Thread(target=hinder)
        hindering.start()
        try:
            for turn in range(1, 60):
                self.ask(hub, self.turned(turn))
                if "north:" not in self.last(hub)["plan"]:
                    break
        finally:
            over.set()
            hindering.join()
        self.assertNotIn("north:", self.last(hub)["plan"], f"after {turn} requests")

    def test_a_measurement_can_be_made_anew(self):
        hub = self.machine("hub", *HUB)
        hub.up()
        hub.kill(signal.SIGTERM)
        rates = hub.data / "rates.json"
        known = json.loads(rates.read_text())
        quiet = known["rates"][0]["bytes_per_second"]
        # As if something else had kept it busy when it was measured.
        known["rates"][0]["bytes_per_second"] = quiet / 10
        rates.write_text(json.dumps(known))
        hub.up()
        self.assertAlmostEqual(hub.nodes()["hub"]["state"]["rates"]["bytes_per_second"], quiet / 10, delta=quiet / 100)
        hub.kill(signal.SIGTERM)
        hub.up("--measure")
        self.assertGreater(hub.nodes()["hub"]["state"]["rates"]["bytes_per_second"], quiet / 2)


class Conversations(PlannedProcesses):
    def keeps(self, machine, tokens):
        """Whether it keeps so many of ended requests, and nobody uses its other cells."""
        told = self.metrics(machine)
        return told["baton_kv_cells_free"] == told["baton_kv_cells"] and told["baton_kv_cells_kept"] >= tokens

    def test_a_machine_that_writes_for_another_knows_the_last_turn(self):
        hub = self.machine("hub", *SLOW_HUB, context=CONTEXT)
        hub.up()
        north = self.join(hub, "north", *WRITER, context=CONTEXT)
        self.wait_until_linked(hub, "north")
        text = list(SHORT)
        for turn in range(3):
            answer = self.answer(hub, text, 16)
            self.assertIn("decode=north:", self.last(hub)["plan"])
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            # All that was there before, but for a chunk.
            self.assertGreaterEqual(cached, (len(text) - 2 * CHUNK) * (turn > 0), self.last(hub))
            wait_for(lambda: self.keeps(north, len(text)), "the text is kept", 20)
            text += [310 + turn] * 10


if __name__ == "__main__":
    unittest.main()
