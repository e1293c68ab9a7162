"""A 'baton up' process and plain HTTP to it, for the integration tests of the API."""

import http.client
import json
import queue
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from cluster import BATON, START_TIMEOUT_S, Cluster
from test_chat import GOLDEN, TEMPLATE, with_template


class ApiServer:
    """Use as a context. `log` collects what it says. Without a name the models are called as their files are."""

    def __init__(self, cluster, model, *flags, name="tiny", api="127.0.0.1:0"):
        named = ["--model-name", name] if name else []
        command = [BATON, "up", str(model), *named, "--api", api, "--listen", "127.0.0.1:0",
                   "--home", str(cluster.home("local")), "--device", "CPU", "--threads", "1", "--chunk", "16", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = []
        log_reader = threading.Thread(target=self._read_log, daemon=True)
        log_reader.start()
        line = queue.Queue()
        threading.Thread(target=lambda: line.put(self.process.stdout.readline()), daemon=True).start()
        self.url = line.get(timeout=START_TIMEOUT_S).strip()
        if not self.url.startswith("http://"):
            self.__exit__()
            log_reader.join()
            raise RuntimeError(f"the server did not start: {''.join(self.log)}")
        self.port = int(self.url.rsplit(":", 1)[1])

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body: parsed where it is JSON."""
        connection = self.connect()
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            content = response.read()
            if response.getheader("Content-Type", "").startswith("application/json") and content:
                content = json.loads(content)
            return response.status, response.headers, content
        finally:
            connection.close()

    def post(self, path, **body):
        return self.request("POST", path, {"model": "tiny", **body})

    def events(self, path, **body):
        """The data of every server-sent event."""
        connection = self.connect()
        try:
            connection.request("POST", path, json.dumps({"model": "tiny", "stream": True, **body}))
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {response.read()}")
            assert response.getheader("Content-Type") == "text/event-stream", response.headers
            return [event.split("data: ", 1)[1] for event in response.read().decode().split("\n\n") if event]
        finally:
            connection.close()

    def metric(self, name):
        text = self.request("GET", "/metrics")[2].decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found[1]) if found else None

    def wait_for_metric(self, name, value, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while self.metric(name) != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} is {self.metric(name)} and not {value}")
            time.sleep(0.02)

    def raw(self, data, timeout_s=30, half_close=False):
        """What comes back for these bytes, until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as client:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while block := client.recv(65536):
                    answer += block
            except ConnectionResetError:
                pass
            return answer


def status_of(answer):
    found = re.match(rb"HTTP/1\.1 (\d+) ", answer)
    return int(found[1]) if found else None


class ServedModel(unittest.TestCase):
    """What the tests of a class share: a server whose model has a chat template."""

    FLAGS = ("--ctx", "8192")

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "chat.gguf"
        with_template(GOLDEN, cls.model, TEMPLATE)
        cls.server = ApiServer(cls.cluster, cls.model, "--quiet", *cls.FLAGS)

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        cls.cluster.__exit__()
