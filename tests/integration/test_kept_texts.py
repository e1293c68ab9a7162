"""Kept texts on disk (baton up --keep-on-disk): what a node finds again after it has ended, or was killed."""

import contextlib
import signal
import time
import unittest

from api_server import ApiServer
from cluster import Cluster
from test_chat import TEMPLATE, with_template
from test_cluster import call, wait_for

NEXT_QUESTION = {"role": "user", "content": "And the ships?"}


def question(subject):
    return {"role": "user", "content": f"Tell me about the {subject}, the wind above it and the birds between them. " * 12}


class KeptTexts(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster().__enter__()
        self.addCleanup(self.cluster.__exit__)
        self.model = self.cluster.folder / "chat.gguf"
        with_template(self.cluster.model, self.model, TEMPLATE)
        self.folder = self.cluster.home("local") / "kept-texts"

    def files(self):
        return sorted(self.folder.glob("*/*.kept"))

    @contextlib.contextmanager
    def served(self, *flags):
        with ApiServer(self.cluster, self.model, "--ctx", "4096", *flags) as server:
            yield server

    def chat(self, server, *messages):
        """The answer's text, its prompt's tokens, and those that were kept."""
        status, _, answer = server.post("/v1/chat/completions", messages=list(messages), temperature=0, max_tokens=24)
        self.assertEqual(status, 200, answer)
        usage = answer["usage"]
        return (answer["choices"][0]["message"]["content"], usage["prompt_tokens"],
                usage["prompt_tokens_details"]["cached_tokens"])

    def second_turn(self, first, answer):
        return [first, {"role": "assistant", "content": answer}, NEXT_QUESTION]

    def of_a_fresh_process(self, *messages):
        with self.served() as server:
            text, _, kept = self.chat(server, *messages)
            self.assertEqual(kept, 0)
            return text

    def test_a_conversation_goes_on_after_a_restart(self):
        first = question("sea")
        with self.served("--keep-on-disk", "1GB") as server:
            answer, first_tokens, kept = self.chat(server, first)
            self.assertEqual(kept, 0)
        self.assertEqual(len(self.files()), 1)
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.files()[0].stat().st_mode & 0o777, 0o600)
        turn = self.second_turn(first, answer)
        expected = self.of_a_fresh_process(*turn)
        with self.served("--keep-on-disk", "1GB") as server:
            text, tokens, kept = self.chat(server, *turn)
            self.assertGreaterEqual(kept, first_tokens)
            self.assertLess(kept, tokens)
            self.assertEqual(text, expected)
        told = call("doctor", "--home", self.cluster.home("local")).stdout
        self.assertIn("kept texts", told)
        with self.served("--keep-on-disk", "0") as server:
            self.assertFalse(self.folder.exists())
            self.assertEqual(self.chat(server, *turn)[2], 0)

    def test_texts_that_find_no_room_come_back(self):
        subjects = [question(name) for name in ("sea", "land", "sky", "ice", "moon", "city")]
        with self.served("--keep-on-disk", "1GB", "--quiet") as server:
            answers = [self.chat(server, first) for first in subjects]
            self.assertLess(4096, sum(tokens for _, tokens, _ in answers), "more than there is room for")
            turns = [self.second_turn(first, answer) for first, (answer, _, _) in zip(subjects, answers)]
            again = [self.chat(server, *turn) for turn in turns]
        for (_, first_tokens, _), (_, _, kept) in zip(answers, again):
            self.assertGreaterEqual(kept, first_tokens)
        self.assertEqual(again[0][0], self.of_a_fresh_process(*turns[0]))

    def test_a_node_killed_while_it_writes_loses_nothing_else(self):
        first = question("sea")
        with self.served("--keep-on-disk", "1GB") as server:
            answer, first_tokens, _ = self.chat(server, first)
        turn = self.second_turn(first, answer)
        expected = self.of_a_fresh_process(*turn)
        for round_number, delay_s in enumerate((0, 0.001, 0.003, 0.01, 0.03)):
            with self.served("--keep-on-disk", "1GB", "--quiet") as server:
                for subject in ("land", "sky", "ice"):
                    self.chat(server, question(f"{subject} of day {round_number}"))
                server.process.send_signal(signal.SIGTERM)
                time.sleep(delay_s)
                server.process.kill()
                server.process.wait()
        with self.served("--keep-on-disk", "1GB") as server:
            self.assertEqual(list(self.folder.glob("*/*.part")), [])
            text, _, kept = self.chat(server, *turn)
            self.assertGreaterEqual(kept, first_tokens)
            self.assertEqual(text, expected)
            self.assertEqual([line for line in server.log if "is removed" in line], [])

    def test_a_damaged_file_is_named_and_removed(self):
        first = question("sea")
        with self.served("--keep-on-disk", "1GB") as server:
            answer, _, _ = self.chat(server, first)
        turn = self.second_turn(first, answer)
        expected = self.of_a_fresh_process(*turn)
        file = self.files()[0]
        content = bytearray(file.read_bytes())
        content[-1000] ^= 4
        file.write_bytes(content)
        with self.served("--keep-on-disk", "1GB") as server:
            text, _, kept = self.chat(server, *turn)
            self.assertEqual((text, kept), (expected, 0))
            wait_for(lambda: any("is removed" in line and file.name in line for line in list(server.log)), "it is named", 20)

    def test_nothing_is_written_unless_it_is_asked_for(self):
        with self.served() as server:
            self.chat(server, question("sea"))
        self.assertFalse(self.folder.exists())


if __name__ == "__main__":
    unittest.main()
