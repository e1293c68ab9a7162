"""Several models behind one 'baton up': loaded when they are asked for, unloaded for room and for want of use."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from cluster import BATON, DEVICE, Cluster, check_output, synth
from api_server import ApiServer
from gguf_file import GgufFile
from test_cluster import Processes, call, wait_for

# A step of a "slow" machine takes some 5 ms, so that an answer of 100 tokens can be caught at its work.
SLOW = ["--emulate-tflops", "0.0005", "--emulate-gbps", "0.1"]


class SeveralModels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.models = []
        for name, seed in (("alpha", 1), ("beta", 2), ("gamma", 3)):
            path = cls.cluster.folder / f"{name}.gguf"
            synth(path, "--seed", str(seed))
            cls.models.append(path)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def serve(self, *flags, models=None):
        first, *others = map(str, models or self.models)
        server = ApiServer(self.cluster, first, *others, "--ctx", "1024", *flags, name=None)
        self.addCleanup(server.__exit__)
        return server

    def complete(self, server, model, tokens=8, **body):
        return server.request("POST", "/v1/completions",
                              {"model": model, "prompt": [300, 301, 302], "max_tokens": tokens, "temperature": 0, **body})

    def text(self, server, model, tokens=8):
        status, _, answer = self.complete(server, model, tokens)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["model"], model)
        return answer["choices"][0]["text"]

    def loaded(self, server):
        status, _, answer = server.request("GET", "/api/ps")
        self.assertEqual(status, 200, answer)
        return {model["name"]: model for model in answer["models"]}

    def test_a_model_in_parts_is_listed_with_the_size_of_all(self):
        parts = GgufFile(self.models[0]).write_parts(self.cluster.folder / "parts.gguf")
        server = self.serve(models=parts[:1])
        listed, = server.request("GET", "/api/tags")[2]["models"]
        self.assertEqual(listed["size"], sum(part.stat().st_size for part in parts))
        in_parts = self.text(server, listed["name"])
        server.__exit__()
        self.assertEqual(in_parts, self.text(self.serve(), "alpha"))

    def bytes_of_one(self):
        """What a loaded model takes, each as much as the others."""
        if not hasattr(type(self), "_bytes"):
            server = self.serve()
            type(self)._bytes = self.loaded(server)["alpha"]["size"]
            server.__exit__()
        return type(self)._bytes

    def test_all_are_listed_and_the_first_is_loaded(self):
        server = self.serve()
        self.assertEqual([model["id"] for model in server.request("GET", "/v1/models")[2]["data"]], ["alpha", "beta", "gamma"])
        self.assertEqual([model["name"] for model in server.request("GET", "/api/tags")[2]["models"]], ["alpha", "beta", "gamma"])
        self.assertEqual(list(self.loaded(server)), ["alpha"])
        entry = self.loaded(server)["alpha"]
        self.assertGreater(entry["size"], 100_000)
        self.assertRegex(entry["digest"], "^[0-9a-f]{64}$")
        self.assertGreater(int(entry["expires_at"][:4]), 2100)
        status, _, answer = self.complete(server, "delta")
        self.assertEqual(status, 404)
        self.assertIn("'alpha', 'beta', 'gamma'", answer["error"]["message"])
        status, _, answer = server.request("POST", "/api/show", {"model": "beta"})
        self.assertEqual(status, 200, answer)

    def test_each_answers_as_it_does_alone(self):
        alone = {}
        for path in self.models:
            server = self.serve(models=[path])
            alone[path.stem] = self.text(server, path.stem, 24)
            server.__exit__()
        self.assertEqual(len(set(alone.values())), 3)
        server = self.serve(*SLOW)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            names = ["alpha", "beta", "gamma"] * 3
            together = list(pool.map(lambda name: self.text(server, name, 24), names))
        for name, text in zip(names, together):
            self.assertEqual(text, alone[name], name)
        self.assertEqual(sorted(self.loaded(server)), ["alpha", "beta", "gamma"])
        self.assertEqual(server.metric("baton_models_loaded"), 3)

    def test_they_go_when_nobody_uses_them(self):
        server = self.serve("--keep-alive", "3s")
        self.text(server, "beta")
        self.assertIn("beta", self.loaded(server))
        wait_for(lambda: not self.loaded(server), "all are unloaded", 30)
        self.text(server, "alpha")
        status, _, answer = server.request("POST", "/api/generate", {"model": "gamma", "prompt": "x", "raw": True, "stream": False,
                                                                     "keep_alive": -1, "options": {"num_predict": 2}})
        self.assertEqual(status, 200, answer)
        wait_for(lambda: list(self.loaded(server)) == ["gamma"], "only the one to be kept is there", 30)
        status, _, answer = server.request("POST", "/api/generate", {"model": "gamma", "prompt": "x", "raw": True, "stream": False,
                                                                     "keep_alive": "soon"})
        self.assertEqual((status, "keep_alive" in answer["error"]), (400, True), answer)

    def test_ollamas_clients_load_and_unload_without_a_text(self):
        server = self.serve()
        status, _, answer = server.request("POST", "/api/generate", {"model": "beta", "keep_alive": "10m"})
        self.assertEqual((status, answer["done_reason"], answer["done"]), (200, "load", True))
        self.assertIn("beta", self.loaded(server))
        status, _, answer = server.request("POST", "/api/chat", {"model": "beta", "messages": [], "keep_alive": 0})
        self.assertEqual((status, answer["done_reason"]), (200, "unload"))
        wait_for(lambda: "beta" not in self.loaded(server), "it is unloaded", 20)

    def test_vectors_come_from_the_model_that_is_named(self):
        server = self.serve()

        def ask(model):
            return server.request("POST", "/v1/embeddings", {"model": model, "input": [300, 301, 302]})

        vectors = {}
        for name in ("alpha", "beta"):
            status, _, answer = ask(name)
            self.assertEqual((status, answer.get("model")), (200, name), answer)
            vectors[name] = answer["data"][0]["embedding"]
        self.assertNotEqual(vectors["alpha"], vectors["beta"])
        self.assertEqual(sorted(self.loaded(server)), ["alpha", "beta"])
        self.assertEqual(ask("delta")[0], 404)
        status, _, answer = server.request("POST", "/api/embed", {"model": "beta", "input": "x", "keep_alive": 0})
        self.assertEqual(status, 200, answer)
        wait_for(lambda: "beta" not in self.loaded(server), "it is unloaded", 20)

    def test_room_goes_to_who_asks_and_nobody_fails(self):
        server = self.serve("--memory", str(int(self.bytes_of_one() * 1.5)), *SLOW)
        results = []

        def ask(name):
            for _ in range(3):
                results.append((name, self.complete(server, name, 20)))

        threads = [threading.Thread(target=ask, args=(name,)) for name in ("alpha", "beta", "gamma")]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.assertLessEqual(len(self.loaded(server)), 1)
            time.sleep(0.05)
        for name, (status, _, answer) in results:
            self.assertEqual(status, 200, (name, answer))
        self.assertEqual(len(results), 9)

    def test_one_that_is_too_large_says_so_and_the_rest_goes_on(self):
        large = self.cluster.folder / "large.gguf"
        check_output(["synth", str(large), "--embd", "64", "--layers", "8", "--heads", "4", "--kv-heads", "2", "--ff", "128",
                      "--vocab", "9000", "--type", "f16"])
        server = self.serve("--memory", str(int(self.bytes_of_one() * 1.5)), models=[self.models[0], large])
        status, headers, answer = self.complete(server, "large")
        self.assertEqual(status, 503, answer)
        self.assertIn("--memory", answer["error"]["message"])
        self.assertTrue(headers["Retry-After"])
        self.text(server, "alpha")
        self.assertEqual(list(self.loaded(server)), ["alpha"])

    def test_a_damaged_one_says_so_when_it_is_loaded(self):
        damaged = self.cluster.folder / "damaged.gguf"
        damaged.write_bytes(self.models[1].read_bytes())
        server = self.serve(models=[self.models[0], damaged])
        self.text(server, "damaged")
        self.assertEqual(server.request("POST", "/api/generate", {"model": "damaged", "keep_alive": 0})[0], 200)
        wait_for(lambda: "damaged" not in self.loaded(server), "it is unloaded", 20)
        self.text(server, "damaged")

    def test_a_digest_that_takes_long_holds_up_nobody(self):
        endless = self.cluster.folder / "endless.gguf"
        endless.write_bytes(self.models[1].read_bytes())
        # Behind the tensors is a hole, which takes no room, and hours to hash.
        os.truncate(endless, 1 << 40)
        server = self.serve(models=[self.models[0], endless, self.models[2]])
        with socket.create_connection(("127.0.0.1", server.port)) as waiting:
            body = json.dumps({"model": "endless", "prompt": [300], "max_tokens": 1})
            waiting.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            self.text(server, "gamma")
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(timeout=20), 0)

    def test_a_first_model_that_takes_long_can_be_interrupted(self):
        endless = self.cluster.folder / "endless-first.gguf"
        endless.write_bytes(self.models[1].read_bytes())
        os.truncate(endless, 1 << 40)
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen([BATON, "up", str(endless), "--home", str(self.cluster.home("interrupted")), "--api",
                                        "127.0.0.1:0", "--listen", "127.0.0.1:0", *DEVICE],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            with process:
                # So much it computes only where it hashes.
                wait_for(lambda: sum(int(ticks) for ticks in pathlib.Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]) > 40,
                         "it computes", 60)
                process.send_signal(number)
                self.assertEqual(process.wait(timeout=20), 130)
                self.assertEqual(process.stdout.read(), b"")

    def test_the_same_name_twice_is_refused_at_the_start(self):
        result = call("up", self.models[0], self.models[0], "--data", self.cluster.home("local"), "--api", "127.0.0.1:0",
                      "--listen", "127.0.0.1:0")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("two models are called 'alpha'", result.stderr)

    def test_memory_stays_the_same_over_many_loads(self):
        server = self.serve(models=self.models[:2])
        resident = []
        for _ in range(12):
            self.text(server, "beta")
            self.assertEqual(server.request("POST", "/api/generate", {"model": "beta", "keep_alive": 0})[0], 200)
            wait_for(lambda: "beta" not in self.loaded(server), "it is unloaded", 20)
            status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
            resident.append(int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]))
        # The first rounds fill what allocators and libraries keep.
        print(f"resident memory after each round, kB: {resident}", flush=True)
        self.assertLess(resident[-1] - resident[2], 2_000, resident)

    def test_it_ends_in_good_order_while_a_model_is_loaded(self):
        server = self.serve()
        connection = server.connect()
        connection.request("POST", "/v1/completions", json.dumps({"model": "beta", "prompt": [300], "max_tokens": 2}))
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(timeout=20), 0)
        try:
            self.assertIn(connection.getresponse().status, (200, 503))
        except (http.client.HTTPException, ConnectionError):
            pass  # it was cut off before it was read
        connection.close()


class ModelsOfACluster(Processes):
    def test_work_for_a_model_that_a_peer_has_not_loaded_stays_here(self):
        other = self.folder / "other.gguf"
        synth(other, "--seed", "9")
        mac = self.machine("mac", str(other))
        spark = self.machine("spark", str(other))
        mac.up()
        result = call("join", mac.must("token").strip(), "--data", spark.data, "--name", "spark")
        self.assertEqual(result.returncode, 0, result.stderr)
        spark.up()
        wait_for(lambda: mac.status("spark") == "alive", "mac sees spark", 30)

        def told():
            return {model["name"]: model for model in mac.nodes()["spark"]["state"]["models"]}

        wait_for(lambda: len(told()) == 2 and all(model["digest"] for model in told().values()), "spark tells of its models", 30)
        self.assertEqual({name: model["loaded"] for name, model in told().items()}, {"model": True, "other": False})
        self.assertGreater(told()["model"]["rates"]["prefill_tokens_per_s"], 0)

        def ask(machine, model):
            connection = http.client.HTTPConnection(machine.api.removeprefix("http://"), timeout=60)
            connection.request("POST", "/v1/completions", json.dumps({"model": model, "prompt": list(range(300, 340)),
                                                                      "max_tokens": 8, "temperature": 0}))
            response = connection.getresponse()
            answer = json.loads(response.read())
            connection.close()
            self.assertEqual(response.status, 200, answer)
            return answer["choices"][0]["text"]

        here = ask(mac, "other")
        # By hand it can be asked all the same: it refuses, and the text comes from here.
        mac.kill(signal.SIGTERM)
        mac.up("--prefill-on", "spark")
        self.assertEqual(ask(mac, "other"), here)
        self.assertIn("is not loaded here now", pathlib.Path(f"{mac.data}.log").read_text())
        # Once somebody has asked it there, it helps.
        ask(spark, "other")
        wait_for(lambda: told()["other"]["loaded"], "spark has loaded it", 30)
        self.assertEqual(ask(mac, "other"), here)


if __name__ == "__main__":
    unittest.main()
