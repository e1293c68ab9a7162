"""Models that come and go by Ollama's API of a running 'baton up': pulled from a hub, copied, listed, used and deleted."""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import pathlib
import tempfile
import time
import unittest
from unittest import mock

import npm
from api_server import ApiServer
from cluster import ROOT, Cluster, check_output, synth
from hub_server import Fault, Hub
from test_cluster import Processes, call, wait_for

REPOSITORY = "owner/tiny-GGUF"
NAME = f"hf.co/{REPOSITORY}:F16"
COPY = "hf.co/other/copy-GGUF"  # the same file in another repository
SLOW_BYTES_PER_S = 150_000
OWN_ENVIRONMENT = dict(os.environ)


class Served(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        pulled = cls.cluster.folder / "pulled.gguf"
        synth(pulled, "--seed", "7")
        cls.content = pulled.read_bytes()
        cls.digest = hashlib.sha256(cls.content).hexdigest()

    def setUp(self):
        self.hub = Hub().__enter__()
        self.addCleanup(self.hub.__exit__)
        self.hub.add(REPOSITORY, "tiny-F16.gguf", self.content)
        # The folder of its models; no other program's are found, and no proxy is asked.
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.cluster.folder))
        kept = {key: value for key, value in os.environ.items()
                if not key.startswith(("HF_", "OLLAMA_")) and "proxy" not in key.lower()}
        environment = {**kept, "HOME": str(self.folder), "HF_ENDPOINT": self.hub.endpoint(), "BATON_MODELS": str(self.folder / "models")}
        patched = mock.patch.dict(os.environ, environment, clear=True)
        patched.start()
        self.addCleanup(patched.stop)

    def serve(self, *flags, model=None, name="tiny", api="127.0.0.1:0"):
        server = ApiServer(self.cluster, model or self.cluster.model, "--ctx", "1024", *flags, name=name, api=api)
        self.addCleanup(server.__exit__)
        return server

    def change(self, server, method, path, **body):
        status, _, answer = server.request(method, path, body)
        return status, answer

    def pull(self, server, name=NAME, **body):
        status, answer = self.change(server, "POST", "/api/pull", model=name, stream=False, **body)
        self.assertEqual((status, answer), (200, {"status": "success"}))

    def lines(self, server, **body):
        connection = server.connect()
        with contextlib.closing(connection):
            connection.request("POST", "/api/pull", json.dumps(body))
            response = connection.getresponse()
            self.assertEqual((response.status, response.getheader("Content-Type")), (200, "application/x-ndjson"))
            return [json.loads(line) for line in response.read().splitlines()]

    def names(self, server):
        tags = [model["name"] for model in server.request("GET", "/api/tags")[2]["models"]]
        self.assertEqual(tags, [model["id"] for model in server.request("GET", "/v1/models")[2]["data"]])
        return tags

    def text(self, server, model):
        status, _, answer = server.request("POST", "/v1/completions", {"model": model, "prompt": [300, 301], "max_tokens": 4,
                                                                      "temperature": 0})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["text"]

    def unload(self, server, model):
        status, _, answer = server.request("POST", "/api/generate", {"model": model, "keep_alive": 0})
        self.assertEqual(status, 200, answer)
        wait_for(lambda: len(server.request("GET", "/api/ps")[2]["models"]) < 2, "it is unloaded", 10)

    def files(self):
        return sorted(path.name for path in self.folder.glob("models/**/*.gguf"))

    def part(self):
        return next(self.folder.glob("models/partial/*/*.part"), None)


class Changes(Served):
    def test_a_model_is_pulled_used_copied_and_deleted(self):
        server = self.serve()
        lines = self.lines(server, model=NAME)
        self.assertEqual(lines[0], {"status": "pulling manifest"})
        self.assertEqual([line["status"] for line in lines[-3:]], ["verifying sha256 digest", "writing manifest", "success"])
        bars = [line for line in lines if "total" in line]
        self.assertEqual({(line["status"], line["digest"], line["total"]) for line in bars},
                         {(f"pulling {self.digest[:12]}", f"sha256:{self.digest}", len(self.content))})
        self.assertEqual(bars[-1]["completed"], len(self.content))
        self.assertEqual(self.names(server), ["tiny", NAME])
        entry = server.request("GET", "/api/tags")[2]["models"][1]
        wait_for(lambda: server.request("GET", "/api/tags")[2]["models"][1]["digest"] == self.digest, "its digest is known", 10)
        self.assertEqual(entry["size"], len(self.content))
        text = self.text(server, NAME)
        self.assertEqual(self.text(server, f"hf.co/{REPOSITORY}"), text)
        self.assertEqual(self.change(server, "POST", "/api/show", model=NAME)[0], 200)
        # What is here is pulled again at once.
        self.pull(server)
        self.assertEqual(len(self.hub.downloads()), 1)
        self.assertEqual(self.change(server, "POST", "/api/copy", source=NAME, destination="mine"), (200, b""))
        self.assertEqual(self.names(server), ["tiny", NAME, "mine"])
        for name in ("mine", "mine:latest"):
            status, _, answer = server.request("POST", "/api/generate", {"model": name, "prompt": "x", "raw": True, "stream": False,
                                                                         "options": {"num_predict": 2}})
            self.assertEqual(status, 200, answer)
        # One of its names may go while it is loaded, the last may not.
        self.assertEqual(self.change(server, "DELETE", "/api/delete", model=NAME)[0], 200)
        self.assertEqual(self.names(server), ["tiny", "mine"])
        # It is called so from now on, and no longer as it came.
        for path, body in (("/v1/completions", {"prompt": [300], "max_tokens": 2}),
                           ("/api/generate", {"prompt": "x", "raw": True, "stream": False, "options": {"num_predict": 2}}),
                           ("/api/generate", {"prompt": ""}), ("/v1/embeddings", {"input": "x"})):
            status, _, answer = server.request("POST", path, {"model": "mine:latest", **body})
            self.assertEqual((status, answer["model"]), (200, "mine"), answer)
        self.assertEqual(server.request("GET", "/api/requests")[2]["requests"][-1]["model"], "mine")
        status, _, answer = server.request("POST", "/v1/completions", {"model": NAME, "prompt": "x"})
        self.assertEqual((status, answer["error"]["param"]), (404, "model"))
        status, answer = self.change(server, "DELETE", "/api/delete", name="mine")
        self.assertEqual(status, 409, answer)
        self.assertIn("keep_alive", answer["error"])
        self.assertEqual(self.files(), ["tiny-F16.gguf"])
        self.unload(server, "mine")
        self.assertEqual(self.change(server, "DELETE", "/api/delete", name="mine")[0], 200)
        self.assertEqual((self.names(server), self.files()), (["tiny"], []))
        self.assertEqual(self.change(server, "POST", "/api/show", model="mine")[0], 404)
        self.assertEqual(self.change(server, "DELETE", "/api/delete", name="mine")[0], 404)
        # And it may come again.
        self.pull(server)
        self.assertEqual(self.text(server, NAME), text)

    def test_what_the_node_was_started_with_stays(self):
        check_output(["pull", NAME, "--data", str(self.cluster.home("local"))])
        check_output(["cp", NAME, "other", "--data", str(self.cluster.home("local"))])
        server = self.serve(model=NAME, name=None)
        self.assertEqual(self.names(server), [NAME])
        text = self.text(server, NAME)
        status, answer = self.change(server, "DELETE", "/api/delete", model=NAME)
        self.assertEqual(status, 409, answer)
        self.assertIn("started with", answer["error"])
        # Named otherwise, or by its digest, it is the same model.
        self.assertEqual(self.change(server, "DELETE", "/api/delete", model=self.digest[:16])[0], 409)
        self.assertEqual(self.change(server, "DELETE", "/api/delete", model="other")[0], 200)
        self.assertEqual(self.files(), ["tiny-F16.gguf"])
        self.assertEqual(self.text(server, NAME), text)
        server.__exit__()
        by_file = self.serve()
        for method, path, body in (("DELETE", "/api/delete", {"model": "tiny"}),
                                   ("POST", "/api/copy", {"source": "tiny", "destination": "mine"})):
            status, answer = self.change(by_file, method, path, **body)
            self.assertEqual(status, 403, answer)
            self.assertIn("outside the model folder", answer["error"])
        self.pull(by_file)
        taken = self.change(by_file, "POST", "/api/copy", source=NAME, destination="tiny")
        self.assertEqual(taken[0], 409, taken)

    def test_deleting_an_alias_leaves_the_model(self):
        server = self.serve()
        self.pull(server)
        for copied, deleted in (("mine", "mine:latest"), ("mine:latest", "mine"), ("mine", "MINE")):
            self.assertEqual(self.change(server, "POST", "/api/copy", source=NAME, destination=copied), (200, b""))
            self.assertEqual(self.names(server), ["tiny", NAME, copied])
            self.assertEqual(self.change(server, "DELETE", "/api/delete", model=deleted), (200, b""))
            self.assertEqual((self.names(server), self.files()), (["tiny", NAME], ["tiny-F16.gguf"]))
        self.assertEqual(self.change(server, "POST", "/api/copy", source=NAME, destination="mine"), (200, b""))
        status, answer = self.change(server, "DELETE", "/api/delete", model=f"hf.co/{REPOSITORY}")
        self.assertEqual(status, 400, answer)
        self.assertIn(NAME, answer["error"])
        self.assertIn("mine", answer["error"])
        self.assertEqual((self.names(server), self.files()), (["tiny", NAME, "mine"], ["tiny-F16.gguf"]))

    def test_what_was_pulled_is_served_by_the_name_it_was_pulled_by(self):
        repository = "Qwen/Qwen3-8B-GGUF"
        self.hub.add(repository, "Qwen3-8B-F16.gguf", self.content)
        server = self.serve()
        self.pull(server, f"hf.co/{repository}")
        text = self.text(server, f"hf.co/{repository}")
        # No model is called so yet, but the store understands it, and so do the models that are served.
        self.assertEqual(self.text(server, "qwen3:8b"), text)
        self.assertEqual(self.change(server, "POST", "/api/copy", source="qwen3:8b", destination="mine"), (200, b""))
        self.assertEqual(self.change(server, "DELETE", "/api/delete", model=f"hf.co/{repository}:F16"), (200, b""))
        status, answer = self.change(server, "DELETE", "/api/delete", model="qwen3:8b")
        self.assertEqual(status, 404, answer)
        self.assertIn("'mine'", answer["error"])
        self.assertEqual(self.names(server), ["tiny", "mine"])
        for name, called in (("qwen3:8b", "qwen3:8b"), (f"hf.co/{repository}", f"hf.co/{repository}:F16")):
            self.pull(server, name)
            self.assertIn(called, self.names(server))
            self.assertEqual(self.text(server, name), text)
        self.assertEqual(len(self.hub.downloads()), 1)

    def test_what_was_said_with_a_model_goes_with_it(self):
        kept = self.cluster.home("local") / "kept-texts"
        others = kept / hashlib.sha256(b"another model").hexdigest() / "x.kept"
        for is_served in (True, False):
            server = self.serve()
            self.pull(server)
            if not is_served:
                server.__exit__()
                server = self.serve()
            for file in (kept / self.digest / "x.kept", others):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"private")
            self.assertEqual(self.change(server, "DELETE", "/api/delete", model=NAME), (200, b""))
            self.assertEqual([path.name for path in kept.iterdir()], [others.parent.name], is_served)
            server.__exit__()

    def test_what_cannot_be_deleted_is_served_still(self):
        server = self.serve()
        self.pull(server)
        with open(self.folder / "models" / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status, answer = self.change(server, "DELETE", "/api/delete", model=NAME)
        self.assertGreaterEqual(status, 500, answer)
        self.assertIn(".lock", answer["error"])
        self.assertEqual((self.names(server), self.files()), (["tiny", NAME], ["tiny-F16.gguf"]))
        self.text(server, NAME)

    def test_other_programs_models_are_used_and_left_alone(self):
        blobs = self.folder / "ollama" / "blobs"
        blobs.mkdir(parents=True)
        blob = blobs / f"sha256-{self.digest}"
        blob.write_bytes(self.content)
        manifest = self.folder / "ollama/manifests/registry.ollama.ai/library/foreign/latest"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model",
                                                    "digest": f"sha256:{self.digest}", "size": len(self.content)}]}))
        with mock.patch.dict(os.environ, {"OLLAMA_MODELS": str(self.folder / "ollama")}):
            server = self.serve()
        self.pull(server, "foreign")
        self.assertEqual(self.hub.requests, [])
        self.text(server, "foreign")
        status, answer = self.change(server, "DELETE", "/api/delete", model="foreign")
        self.assertEqual(status, 403, answer)
        self.assertIn("another program", answer["error"])
        self.assertEqual(self.change(server, "POST", "/api/copy", source="foreign", destination="mine")[0], 403)
        self.assertTrue(blob.exists())

    def test_only_models_can_be_named(self):
        server = self.serve()
        secret = self.folder / "secret.gguf"
        secret.write_bytes(self.content)
        for name in (str(secret), "secret.gguf", "../secret", f"{self.hub.endpoint()}/storage/{REPOSITORY}/tiny-F16.gguf", ""):
            for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete")):
                status, answer = self.change(server, method, path, model=name)
                self.assertEqual(status, 400, (name, answer))
            self.assertEqual(self.change(server, "POST", "/api/copy", source=name, destination="mine")[0], 400)
        self.assertEqual(self.hub.requests, [])
        self.assertEqual(self.change(server, "POST", "/api/pull", model=NAME, insecure=True)[0], 400)
        status, answer = self.change(server, "POST", "/api/pull", model="nothing:1b", stream=False)
        self.assertEqual(status, 404, answer)
        self.assertIn("hf.co/OWNER/REPO", answer["error"])
        self.assertEqual(self.change(server, "POST", "/api/pull", model="a" * 5000)[0], 400)
        self.assertEqual(self.change(server, "GET", "/api/pull")[0], 405)
        self.assertEqual(self.change(server, "POST", "/api/delete", model=NAME)[0], 405)

    def test_a_pull_that_fails_says_why(self):
        server = self.serve()
        self.hub.faults.append(Fault(flip=True))
        lines = self.lines(server, name=NAME)
        self.assertIn("SHA-256", lines[-1]["error"])
        self.hub.private[REPOSITORY] = "secret"
        status, answer = self.change(server, "POST", "/api/pull", model=NAME, stream=False)
        self.assertEqual(status, 403, answer)
        self.assertIn("HF_TOKEN", answer["error"])
        self.assertEqual(self.names(server), ["tiny"])


class Interrupted(Served):
    def begin(self, server, name=NAME):
        """A stream of which something has come; closing it is the client going away."""
        connection = server.connect()
        connection.request("POST", "/api/pull", json.dumps({"model": name}))
        response = connection.getresponse()
        self.assertEqual(response.status, 200)
        while json.loads(response.readline()).get("completed", 0) < 50_000:
            pass
        return connection, response

    def leave(self, connection, response):
        response.close()
        connection.close()

    def test_a_client_that_goes_away_stops_its_pull_and_the_next_goes_on(self):
        server = self.serve()
        self.hub.bytes_per_second = SLOW_BYTES_PER_S
        self.leave(*self.begin(server))
        sizes = [-1]

        def has_stopped():
            time.sleep(0.5)  # in which some pieces of a pull that goes on would come
            sizes.append(self.part().stat().st_size)
            return sizes[-1] == sizes[-2]

        wait_for(has_stopped, "the pull stops", 20)
        size = sizes[-1]
        self.assertLess(size, len(self.content))
        self.hub.bytes_per_second = None
        self.pull(server)
        self.assertEqual(self.hub.downloads()[-1], f"bytes={size}-")
        self.assertEqual(self.names(server), ["tiny", NAME])

    def test_two_clients_share_a_pull_and_others_are_answered_meanwhile(self):
        server = self.serve()
        self.hub.bytes_per_second = SLOW_BYTES_PER_S
        first = self.begin(server)
        second = self.begin(server)
        self.leave(*first)
        self.text(server, "tiny")
        self.hub.bytes_per_second = None
        rest = [json.loads(line) for line in second[1].read().splitlines()]
        second[0].close()
        self.assertEqual(rest[-1], {"status": "success"})
        self.assertEqual(len(self.hub.downloads()), 1)

    @contextlib.contextmanager
    def begun_by_two_names(self):
        """A server, a pull that is slow, and one of the same model by another name that waits for it."""
        self.hub.add("other/copy-GGUF", "copy-F16.gguf", self.content)
        server = self.serve()
        self.hub.bytes_per_second = SLOW_BYTES_PER_S
        first = self.begin(server)
        connection = server.connect()
        with contextlib.closing(connection):
            connection.request("POST", "/api/pull", json.dumps({"model": COPY}))
            second = connection.getresponse()
            while json.loads(second.readline())["status"] != "trying again soon: the same model is being pulled already":
                pass
            yield server, first, second

    def test_one_model_by_two_names_comes_once(self):
        with self.begun_by_two_names() as (server, first, second):
            self.hub.bytes_per_second = None
            self.assertEqual(json.loads(second.read().splitlines()[-1]), {"status": "success"})
            self.assertEqual(json.loads(first[1].read().splitlines()[-1]), {"status": "success"})
            first[0].close()
        self.assertEqual(len(self.hub.downloads()), 1)
        self.assertEqual(sorted(self.names(server)), [f"{COPY}:F16", NAME, "tiny"])
        self.assertEqual(self.files(), ["tiny-F16.gguf"])
        self.assertEqual(list(self.folder.glob("models/partial/*")), [])

    def test_who_waits_for_anothers_pull_goes_on_where_that_stops(self):
        with self.begun_by_two_names() as (server, first, second):
            self.leave(*first)
            self.assertEqual(json.loads(second.read().splitlines()[-1]), {"status": "success"})
        self.assertEqual(self.names(server), ["tiny", f"{COPY}:F16"])

    def test_a_pull_and_a_deletion_at_once_leave_all_of_it_or_nothing(self):
        server = self.serve()
        for number in range(12):
            with contextlib.ExitStack() as stack:
                pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(3))
                begun = [pool.submit(self.change, server, "POST", "/api/pull", model=NAME, stream=False)]
                time.sleep(number * 0.02)
                begun.append(pool.submit(self.change, server, "DELETE", "/api/delete", model=NAME))
                begun.append(pool.submit(self.change, server, "POST", "/api/copy", source=NAME, destination="mine"))
                pulled, deleted, copied = [one.result() for one in begun]
            # What was deleted as soon as it had come says so.
            self.assertIn(pulled[0], (200, 404), pulled)
            self.assertIn(deleted[0], (200, 404), deleted)
            self.assertIn(copied[0], (200, 404), copied)
            names = self.names(server)
            self.assertEqual(self.files(), ["tiny-F16.gguf"] if len(names) > 1 else [], (names, pulled, deleted, copied))
            for name in names[1:]:
                self.text(server, name)
                self.unload(server, name)
                self.assertEqual(self.change(server, "DELETE", "/api/delete", model=name)[0], 200)
        self.assertEqual((self.names(server), self.files()), (["tiny"], []))

    def test_so_many_at_once_and_no_more(self):
        self.hub.bytes_per_second = SLOW_BYTES_PER_S
        for number in range(5):
            self.hub.add(f"owner/m{number}-GGUF", f"m{number}-F16.gguf", self.content + bytes([number]))
        server = self.serve()
        streams = [self.begin(server, f"hf.co/owner/m{number}-GGUF") for number in range(4)]
        status, headers, answer = server.request("POST", "/api/pull", {"model": "hf.co/owner/m4-GGUF"})
        self.assertEqual(status, 429, answer)
        self.assertTrue(headers["Retry-After"])
        for stream in streams:
            self.leave(*stream)
        self.hub.bytes_per_second = None
        wait_for(lambda: self.change(server, "POST", "/api/pull", model="hf.co/owner/m4-GGUF", stream=False)[0] == 200,
                 "there is room again", 20)

    def test_the_server_ends_soon_with_a_pull_under_way(self):
        server = self.serve()
        self.hub.bytes_per_second = SLOW_BYTES_PER_S / 4
        connection = server.connect()
        connection.request("POST", "/api/pull", json.dumps({"model": NAME}))
        wait_for(lambda: self.part() is not None, "it has begun", 20)
        server.process.terminate()
        self.assertEqual(server.process.wait(timeout=20), 0)
        self.assertIsNotNone(self.part())
        connection.close()


class Guarded(Served):
    def test_an_api_that_others_reach_needs_more_than_a_key(self):
        keys = self.folder / "keys"
        keys.write_text("a-key-of-some-length\n")
        headers = {"Authorization": "Bearer a-key-of-some-length"}
        for flags, expected in (((), 403), (("--api-models",), 200)):
            with self.serve("--api-key-file", str(keys), *flags, api="0.0.0.0:0") as server:
                self.assertEqual(server.request("POST", "/api/pull", {"model": NAME, "stream": False})[0], 401)
                status, _, answer = server.request("POST", "/api/pull", {"model": NAME, "stream": False}, headers)
                self.assertEqual(status, expected, answer)
                self.assertEqual(server.request("GET", "/api/tags", headers=headers)[0], 200)
                # The body's model is not looked at where it may not be deleted.
                status, _, answer = server.request("DELETE", "/api/delete", {"model": NAME}, headers)
                self.assertEqual(status, expected, answer)

    def test_a_page_of_another_origin_may_ask_and_not_change(self):
        server = self.serve("--allow-origin", "https://chat.example")
        headers = {"Origin": "https://chat.example"}
        self.assertEqual(server.request("GET", "/api/tags", headers=headers)[0], 200)
        self.assertEqual(server.request("POST", "/api/pull", {"model": NAME}, headers)[0], 403)
        self.assertEqual(self.hub.requests, [])


class Clients(Served):
    def test_ollamas_own_client(self):
        work = self.folder / "clients"
        with mock.patch.dict(os.environ, OWN_ENVIRONMENT):  # by whose proxy and cache packages come
            npm.install(ROOT / "tests/clients", work)
        server = self.serve()
        npm.run_tests(work, ["models/ollama.test.js"], BATON_API=server.url, BATON_MODEL=NAME)


class BetweenNodes(Processes):
    def test_a_members_model_is_pulled_by_its_name_there(self):
        a, = self.cluster("a")
        other = self.folder / "other.gguf"
        synth(other, "--seed", "7")
        b = self.machine("b")
        b.model = other
        result = call("join", a.must("token").strip(), "--data", b.data, "--name", "b")
        self.assertEqual(result.returncode, 0, result.stderr)
        b.up()
        wait_for(lambda: b.status("a") == "alive", "b sees a", 10)
        for path, body in (("/api/pull", {"model": "a/model", "stream": False}),
                           ("/v1/completions", {"model": "model", "prompt": [300, 301], "max_tokens": 4})):
            connection = http.client.HTTPConnection("127.0.0.1", int(b.api.rsplit(":", 1)[1]), timeout=60)
            with contextlib.closing(connection):
                connection.request("POST", path, json.dumps(body))
                response = connection.getresponse()
                self.assertEqual(response.status, 200, response.read())
        self.assertEqual([(model["name"], model["source"]) for model in json.loads(b.must("ls", "--json"))], [("model", "node a")])

    def test_another_programs_model_that_was_pulled_is_offered_to_members(self):
        content = pathlib.Path(self.folder / "other.gguf")
        synth(content, "--seed", "7")
        blobs = self.folder / "ollama" / "blobs"
        blobs.mkdir(parents=True)
        digest = hashlib.sha256(content.read_bytes()).hexdigest()
        (blobs / f"sha256-{digest}").write_bytes(content.read_bytes())
        manifest = self.folder / "ollama/manifests/registry.ollama.ai/library/foreign/latest"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model",
                                                    "digest": f"sha256:{digest}", "size": content.stat().st_size}]}))
        with mock.patch.dict(os.environ, {"OLLAMA_MODELS": str(self.folder / "ollama")}):
            a, = self.cluster("a")
        b = self.machine("b")
        self.assertEqual(call("join", a.must("token").strip(), "--data", b.data, "--name", "b").returncode, 0)
        # Nobody asked for it yet, and it is none of this node's.
        self.assertEqual(b.baton("pull", "a/foreign").returncode, 3)
        connection = http.client.HTTPConnection("127.0.0.1", int(a.api.rsplit(":", 1)[1]), timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/api/pull", json.dumps({"model": "foreign", "stream": False}))
            response = connection.getresponse()
            self.assertEqual(response.status, 200, response.read())
        b.must("pull", "a/foreign")
        self.assertEqual([model["digest"] for model in json.loads(b.must("ls", "--json"))], [digest])

    def test_a_pull_takes_no_name_from_another_model(self):
        a, = self.cluster("a")
        other = self.folder / "other" / "model.gguf"
        other.parent.mkdir()
        synth(other, "--seed", "7")
        b = self.machine("b")
        b.model = other
        result = call("join", a.must("token").strip(), "--data", b.data, "--name", "b")
        self.assertEqual(result.returncode, 0, result.stderr)
        b.up()
        wait_for(lambda: b.status("a") == "alive", "b sees a", 10)
        connection = http.client.HTTPConnection("127.0.0.1", int(b.api.rsplit(":", 1)[1]), timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/api/pull", json.dumps({"model": "a/model", "stream": False}))
            response = connection.getresponse()
            answer = response.read()
        self.assertEqual(response.status, 409, answer)
        self.assertIn(b"'model'", answer)
        self.assertEqual(json.loads(b.must("ls", "--json")), [])


if __name__ == "__main__":
    unittest.main()
