"""'baton run' without a model file: it asks the node that 'baton up' runs with the same data folder."""

import os
import pty
import signal
import socket
import subprocess
import time
import unittest

from api_server import ApiServer, ServedModel
from cluster import BATON
from test_chat import SLOW, talk

SAME = ["--threads", "1", "--chunk", "16", "--device", "CPU"]


def exit_status(child, timeout_s):
    """None where it has to be killed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class ARunningNode(ServedModel):
    FLAGS = (*ServedModel.FLAGS, *SLOW)

    def run_baton(self, *arguments, home="local"):
        return subprocess.run([BATON, "run", *map(str, arguments), "--home", str(self.cluster.home(home))],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    def talk(self, *steps, predict="8"):
        return talk(self, ["run", "--home", self.cluster.home("local"), "-n", predict], *steps)

    def test_it_says_what_the_model_says_here(self):
        for prompt in (["-p", "Hello there"], ["--chat", "-p", "Why?"], ["--system", "Be kind.", "-p", "Why?", "--set", "quiet=true"],
                       ["--tokens", "300,301,302"]):
            there = self.run_baton(*prompt, "-n", "12")
            self.assertEqual(there.returncode, 0, there.stderr)
            here = self.run_baton(self.model, *prompt, "-n", "12", *SAME, home="other")
            self.assertEqual(here.returncode, 0, here.stderr)
            self.assertEqual(there.stdout.rstrip("\n"), here.stdout.rstrip("\n"), prompt)
            self.assertTrue(there.stdout.strip())

    def test_a_terminal_gets_a_dialogue(self):
        shown, status = self.talk((rb"> ", b"Why?\n"), (rb"\n> ", b'"""And\n'), (rb"\.\.\. ", b'then?"""\n'), (rb"\n> ", b"/bye\n"))
        self.assertEqual(status, 0, shown)
        self.assertIn(b"tiny, as the node that runs here has it", shown)

    def test_an_interrupt_ends_the_answer_and_not_the_dialogue(self):
        shown, status = self.talk((rb"> ", b"Why?\n"), (rb"Why\?\r\n.{20}", b"\x03"), (rb"\n> ", b"And then?\n"),
                                  (rb"then\?\r\n.{20}", b"\x03"), (rb"\n> ", b"/bye\n"), predict="3000")
        self.assertEqual(status, 0, shown)
        self.server.wait_for_metric("baton_answers_running", 0)

    def test_a_signal_ends_a_dialogue_whose_node_says_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with socket.create_server(("127.0.0.1", 0)) as silent:
                silent.settimeout(60)
                child, terminal = pty.fork()
                if child == 0:
                    # Whoever runs the tests in the background may have had it ignored.
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                    os.execv(BATON, [BATON, "run", "--api", f"127.0.0.1:{silent.getsockname()[1]}",
                                     "--home", str(self.cluster.home("local"))])
                asked, _ = silent.accept()
                with asked:
                    self.assertTrue(asked.recv(1))
                    os.kill(child, number)
                    self.assertEqual(exit_status(child, 10), 130, number)
                os.close(terminal)

    def test_what_a_question_fails_with_is_said_and_the_dialogue_goes_on(self):
        shown, status = self.talk((rb"> ", b"no\n"), (rb"never say no.*\n> ", b"Why?\n"), (rb"\n> ", b"/bye\n"))
        self.assertEqual(status, 0, shown)

    def test_a_model_that_it_has_not_is_named(self):
        result = self.run_baton("--model", "other", "-p", "x")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("it has 'tiny'", result.stderr)

    def test_what_only_a_model_file_can_do_is_refused(self):
        for flags in (["--device", "CPU"], ["--ctx", "512"], ["--json"], ["--prefill-on", "spark"], ["--repeat-penalty", "1.2"]):
            result = self.run_baton("-p", "x", *flags)
            self.assertEqual(result.returncode, 2, (flags, result.stderr))
            self.assertIn("needs a model file", result.stderr)

    def test_without_a_node_it_says_what_to_do(self):
        result = self.run_baton("-p", "x", home="nobody")
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("baton up MODEL", result.stderr)

    def test_the_note_of_a_node_that_was_killed_is_doubted(self):
        class Killed:
            home = staticmethod(lambda name: self.cluster.home("killed"))

        server = ApiServer(Killed, self.model)
        self.assertEqual(self.run_baton("-p", "x", "-n", "1", home="killed").returncode, 0)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.__exit__()
        result = self.run_baton("-p", "x", home="killed")
        self.assertEqual(result.returncode, 9, result.stderr)
        self.assertIn("may have been killed", result.stderr)
        server = ApiServer(Killed, self.model)
        server.__exit__()
        self.assertEqual(self.run_baton("-p", "x", home="killed").returncode, 3)


if __name__ == "__main__":
    unittest.main()
