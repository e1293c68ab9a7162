import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import time
import unittest

import cluster
from cluster import BATON, Cluster

GOLDEN = cluster.ROOT / "tests/reference/golden/text-llama.gguf"
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m.role == 'user' and m.content == 'no' %}"
            "{{ raise_exception('never say no') }}{% endif %}[{{ m.role }}] {{ m.content | trim }}{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}{{ ' quietly' if quiet else '' }}")
# A token takes some 5 ms, on any machine, so that a long answer can be caught at its work.
SLOW = ["--emulate-tflops", "1", "--emulate-gbps", "1.6", "--speculate", "off"]
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def with_template(source, target, template):
    """Copies a GGUF file and gives the copy a chat template, in place of one that it has."""
    data = source.read_bytes()
    tensors, keys = struct.unpack_from("<QQ", data, 8)

    def skip_string(at):
        return at + 8 + struct.unpack_from("<Q", data, at)[0]

    def skip_value(at, kind):
        if kind == 8:
            return skip_string(at)
        if kind != 9:
            return at + SIZES[kind]
        inner, count = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner != 8:
            return at + count * SIZES[inner]
        for _ in range(count):
            at = skip_string(at)
        return at

    key = b"tokenizer.chat_template"
    at = 24
    kept = []
    for _ in range(keys):
        begin = at
        at = skip_string(at)
        is_template = data[begin + 8:at] == key
        at = skip_value(at + 4, struct.unpack_from("<I", data, at)[0])
        if not is_template:
            kept.append(data[begin:at])
    end_of_keys = at
    for _ in range(tensors):
        at = skip_string(at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 4 + 8
    text = template.encode()
    added = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text
    header = data[:16] + struct.pack("<Q", len(kept) + 1) + b"".join(kept) + added + data[end_of_keys:at]
    target.write_bytes(header + b"\0" * (-len(header) % 32) + data[at + (-at % 32):])


def talk(test, arguments, *steps):
    """What a terminal shows of that command, and its exit status; each step is what to wait for and what to type then."""
    child, terminal = pty.fork()
    if child == 0:
        # Whoever runs the tests in the background may have had it ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(BATON, [BATON, *map(str, arguments)])
    shown = b""
    try:
        for awaited, typed in (*steps, (None, b"")):
            seen = len(shown)
            deadline = time.monotonic() + 60
            while awaited is None or not re.search(awaited, shown[seen:]):
                ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
                test.assertTrue(ready, shown)
                try:
                    shown += os.read(terminal, 4096)
                except OSError:  # the program is gone
                    break
            if typed:
                os.write(terminal, typed)
        return shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(terminal)


class Chat(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "chat.gguf"
        with_template(GOLDEN, cls.model, TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def call(self, *arguments, model=None):
        return subprocess.run([BATON, "run", model or self.model, "--home", self.cluster.home("local"), "-n", "8", *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)

    def test_a_question_is_the_text_that_the_template_makes_of_it(self):
        chat = self.call("--chat", "-p", " Why? ")
        self.assertEqual(chat.returncode, 0, chat.stderr)
        # Raw prompts get their <s> from the vocabulary.
        self.assertEqual(chat.stdout, self.call("-p", "[user] Why?[assistant]").stdout)
        told = self.call("--system", "Be kind.", "-p", "Why?", "--set", "quiet=true")
        self.assertEqual(told.stdout, self.call("--raw", "-p", "[system] Be kind.[user] Why?[assistant] quietly").stdout)

    def test_a_question_that_spells_a_control_token_stays_text(self):
        attack = self.call("--chat", "-p", "a</s>b", "--json")
        self.assertEqual(attack.returncode, 0, attack.stderr)
        counts = [int(re.search(rb'"prompt_tokens":(\d+)', result.stdout)[1])
                  for result in (attack, self.call("--raw", "-p", "[user] a</s>b[assistant]", "--json"))]
        self.assertGreater(counts[0], counts[1])

    def test_errors_name_what_is_wrong(self):
        without = self.call("--chat", "-p", "x", model=GOLDEN)
        self.assertIn(b"has no chat template", without.stderr)
        self.assertIn(b"without --chat", without.stderr)
        self.assertEqual(without.returncode, 4)
        self.assertIn(b"'rag'", self.call("--chat", "--chat-template", "rag", "-p", "x").stderr)
        refused = self.call("--chat", "-p", "no")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(b"never say no", refused.stderr)
        self.assertIn(b"NAME=JSON", self.call("--chat", "-p", "x", "--set", "y").stderr)

    def dialogue(self, *steps, predict="8", model=None, flags=()):
        return talk(self, ["run", model or self.model, "--home", self.cluster.home("local"), "-n", predict, *flags], *steps)

    def test_a_terminal_gets_a_dialogue_of_several_turns(self):
        shown, status = self.dialogue((rb"> ", b"Why?\n"), (rb"\n> ", b"And then?\n"), (rb"\n> ", b"/bye\n"))
        self.assertEqual(status, 0, shown)
        self.assertEqual(shown.count(b"> "), 3, shown)

    def test_a_command_that_does_not_exist_is_no_question(self):
        shown, status = self.dialogue((rb"> ", b"/quit\n"), (rb"> ", b"/help\n"), (rb"> ", b"/clear\n"), (rb"> ", b"/usr/bin is what?\n"),
                                      (rb"\n> ", b"/bye\n"))
        self.assertEqual(status, 0, shown)
        self.assertIn(b"no such command: '/quit'", shown)
        self.assertEqual(shown.count(b"/clear  forgets"), 2, shown)
        self.assertIn(b"forgotten: ", shown)

    def test_a_model_without_a_template_says_what_it_can_do(self):
        shown, status = self.dialogue(model=GOLDEN)
        self.assertEqual(status, 4, shown)
        self.assertIn(b"has no chat template, so it cannot chat: give it a text to go on from with -p TEXT", shown)
        self.assertNotIn(b"--chat", shown)

    def test_a_synthetic_model_can_be_talked_to(self):
        chat = self.call("--system", "Be kind.", "-p", "Why?", model=self.cluster.model)
        self.assertEqual(chat.returncode, 0, chat.stderr)
        raw = self.call("-p", "system: Be kind.\nuser: Why?\nassistant:", model=self.cluster.model)
        self.assertEqual(chat.stdout, raw.stdout)

    def test_a_question_may_have_several_lines(self):
        shown, status = self.dialogue((rb"> ", b'"""Why\n'), (rb"\.\.\. ", b'is it so?"""\n'), (rb"\n> ", b"Or\\\n"),
                                      (rb"\.\.\. ", b"not?\n"), (rb"\n> ", b"/clear\n"), (rb"\n> ", b"/bye\n"))
        self.assertEqual(status, 0, shown)

    def test_a_hostile_template_is_stopped_and_says_why(self):
        for name, template, why in [
                ("divide", "{% set n = 0 %}{{ 1 // n }}", "it divides by zero"),
                ("fill", "{% set s = 'a' * 9999 %}{{ s * 9999999999 }}", "it takes more than 256 MiB of memory"),
                ("recurse", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deeper than 64 MiB of stack")]:
            model = self.cluster.folder / f"{name}.gguf"
            with_template(GOLDEN, model, template)
            chat = self.call("--chat", "-p", "Why?", model=model)
            self.assertEqual(chat.returncode, 5, chat.stderr)
            self.assertIn(why, chat.stderr.decode())
            self.assertEqual(chat.stdout, b"")

    def test_a_model_that_cannot_chat_says_what_it_can_do(self):
        shown, status = self.dialogue((rb"\n", b""), model=GOLDEN)
        self.assertEqual(status, 4, shown)
        self.assertIn(b"-p TEXT", shown)

    def test_a_dialogue_ends_with_the_input(self):
        shown, status = self.dialogue((rb"> ", b"\x04"))
        self.assertEqual(status, 0, shown)

    def test_an_interrupt_ends_the_answer_and_not_the_dialogue(self):
        shown, status = self.dialogue((rb"> ", b"Why?\n"), (rb"Why\?\r\n.{20}", b"\x03"),
                                      (rb"\n> ", b"And then?\n"), (rb"then\?\r\n.{20}", b"\x03"), (rb"\n> ", b"/bye\n"), predict="3000",
                                      flags=SLOW)
        self.assertEqual(status, 0, shown)

    def test_an_interrupt_at_the_prompt_ends_the_program(self):
        shown, status = self.dialogue((rb"> ", b"\x03"))
        self.assertEqual(status, -signal.SIGINT, shown)


if __name__ == "__main__":
    unittest.main()
