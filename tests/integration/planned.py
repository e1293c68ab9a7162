"""Real 'baton up' processes that plan every request of their API anew, and how to ask them."""

import http.client
import json
import subprocess

from cluster import BATON, CHUNK, DEVICE, finish
from test_cluster import Processes, call, wait_for


class PlannedProcesses(Processes):
    def join(self, first, name, *flags, **place):
        """Another machine of the first's cluster, up."""
        machine = self.machine(name, *flags, **place)
        result = call("join", first.must("token").strip(), "--data", machine.data, "--name", name)
        self.assertEqual(result.returncode, 0, result.stderr)
        machine.up()
        return machine

    def wait_until_linked(self, machine, *peers):
        for peer in peers:
            wait_for(lambda: machine.status(peer) == "alive", f"{machine.name} sees {peer}", 30)
            # A measurement that fails is made again after half a minute.
            wait_for(lambda: self.linked(machine, peer), f"the link of {machine.name} and {peer} is measured", 90)

    def request(self, machine, method, path, body=None):
        connection = http.client.HTTPConnection(machine.api.removeprefix("http://"), timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = json.loads(response.read())
            return response.status, content
        finally:
            connection.close()

    def answer(self, machine, prompt, tokens=8):
        status, content = self.request(machine, "POST", "/v1/completions",
                                       {"model": "model", "prompt": prompt, "max_tokens": tokens, "temperature": 0})
        self.assertEqual(status, 200, content)
        return content

    def stream(self, machine, prompt, tokens):
        """An answer's pieces, as they come; the last says how it went."""
        connection = http.client.HTTPConnection(machine.api.removeprefix("http://"), timeout=60)
        try:
            connection.request("POST", "/v1/completions",
                               json.dumps({"model": "model", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            for line in response:
                event = line.decode().strip().removeprefix("data: ")
                if event and event != "[DONE]":
                    yield json.loads(event)["choices"][0]
        finally:
            connection.close()

    def run_command(self, prompt, tokens):
        return [BATON, "run", str(self.model), "--json", "--ignore-eos", "--tokens", ",".join(map(str, prompt)), "-n", str(tokens),
                "--threads", "1", "--chunk", str(CHUNK), *DEVICE]

    def text_alone(self, prompt, tokens):
        """What one machine writes by itself: how fast it is emulated to be makes no difference to the text."""
        return finish(subprocess.Popen([*self.run_command(prompt, tokens), "--plan", "prefill=local:0-8;decode=local:0-8"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))

    def ask(self, machine, prompt, tokens=8):
        return self.answer(machine, prompt, tokens)["choices"][0]["text"]

    def last(self, machine):
        return self.request(machine, "GET", "/api/plan")[1]["answers"][-1]

    def metrics(self, machine):
        connection = http.client.HTTPConnection(machine.api.removeprefix("http://"), timeout=60)
        try:
            connection.request("GET", "/metrics")
            lines = [line.split() for line in connection.getresponse().read().decode().splitlines() if not line.startswith("#")]
            return {line[0]: float(line[1]) for line in lines}
        finally:
            connection.close()

    def linked(self, machine, peer):
        """Whether what the link to the peer carries is known."""
        nodes = self.request(machine, "GET", "/api/cluster")[1]["nodes"]
        own = next(node for node in nodes if node["status"] == "self")
        other = next(node for node in nodes if node["name"] == peer)
        return any(link["peer"] == other["id"] for link in own["state"]["links"]) and other["state"]["rates"]["flops_per_second"] > 0
