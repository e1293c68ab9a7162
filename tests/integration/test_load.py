"""Many at once: idle connections, streams, readers that do not read, and thousands of requests."""

import json
import resource
import socket
import sys
import threading
import unittest

from api_server import ApiServer
from cluster import ROOT, Cluster
from test_chat import GOLDEN, TEMPLATE, with_template

sys.path[:0] = [str(ROOT / "bench/common"), str(ROOT / "bench/serve")]
from load import Load, Request  # noqa: E402
from memory import resident_mib  # noqa: E402

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
IDLE, STREAMS = 1000, 200
IDLE_KIB = 64  # at most, for each connection
# What an allocator keeps for later differs from moment to moment.
SETTLING_MIB = 8


class Many(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "chat.gguf"
        with_template(GOLDEN, cls.model, TEMPLATE)
        cls.server = ApiServer(cls.cluster, cls.model, "--ctx", "16384", "--quiet", "--parallel", str(STREAMS))

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        cls.cluster.__exit__()

    def memory(self):
        return resident_mib(self.server.process.pid)

    def answers(self, load):
        answers, _, _ = load.run()
        self.assertEqual([answer.fault for answer in answers if answer.fault], [])
        return answers

    def test_idle_connections_are_held(self):
        self.assertEqual(self.server.request("GET", "/health")[0], 200)
        before, connections = self.memory(), []
        try:
            for _ in range(IDLE):
                connections.append(socket.create_connection(("127.0.0.1", self.server.port), timeout=30))
                connections[-1].sendall(HEALTH)
                self.assertTrue(connections[-1].recv(4096).startswith(b"HTTP/1.1 200"))
            self.assertLess(self.memory() - before, SETTLING_MIB + IDLE * IDLE_KIB / 1024)
            # Who comes now is served, and they all are still there.
            self.assertEqual(self.server.post("/v1/completions", prompt="Hello", max_tokens=4)[0], 200)
            for connection in connections:
                connection.sendall(HEALTH)
                self.assertTrue(connection.recv(4096).startswith(b"HTTP/1.1 200"))
        finally:
            for connection in connections:
                connection.close()

    def test_many_streams_at_once_are_what_they_are_alone(self):
        prompts = [f"Hello number {number}" for number in range(STREAMS)]
        load = Load(self.server.port, "tiny")
        for prompt in prompts:
            load.at(0, Request(prompt, 24))
        texts = {answer.request.prompt: answer.text for answer in self.answers(load)}
        self.assertEqual(set(texts), set(prompts))
        for prompt in prompts[::40]:
            alone = Load(self.server.port, "tiny")
            alone.at(0, Request(prompt, 24))
            self.assertEqual(self.answers(alone)[0].text, texts[prompt])

    def test_who_does_not_read_stops_nobody(self):
        # With what else might have come, so that there is more of each answer than a socket's buffers take.
        body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 380, "temperature": 0, "stream": True,
                           "logprobs": 20, "logit_bias": {"2": -100}}).encode()
        slow = []
        for _ in range(8):
            client = socket.socket()
            # As little as the system allows, so that the server has to keep the rest.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            client.settimeout(60)
            client.connect(("127.0.0.1", self.server.port))
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" %
                           len(body) + body)
            slow.append(client)
        self.server.wait_for_metric("baton_answers_running", 8)
        # Others are served beside them, and they themselves are made to their end though nobody takes them.
        load = Load(self.server.port, "tiny")
        for number in range(16):
            load.at(0, Request(f"Hello {number}", 16))
        self.answers(load)
        self.server.wait_for_metric("baton_answers_running", 0, timeout_s=120)
        endings = []

        def read(client):
            answer = b""
            while block := client.recv(65536):
                answer += block
            endings.append(answer[-40:])

        readers = [threading.Thread(target=read, args=(client,)) for client in slow]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for client in slow:
            client.close()
        self.assertTrue(all(b"data: [DONE]" in ending for ending in endings), endings)

    def test_memory_stays_flat(self):
        def some(count, first):
            load, left = Load(self.server.port, "tiny"), list(range(first, first + count))

            def following(_=None):
                return Request(f"Hello number {left[0]}", 1 + left.pop(0) % 8) if left else None

            for _ in range(8):
                load.at(0, following(), following)
            self.answers(load)
            return self.memory()

        settled = some(500, 0)
        self.assertLess(some(1000, 500) - settled, SETTLING_MIB)


if __name__ == "__main__":
    unittest.main()
