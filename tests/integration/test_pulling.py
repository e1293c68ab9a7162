"""Models by name: pulled from a hub that misbehaves, from a URL, and from another node; listed, named and removed."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from cluster import BATON, DEVICE, check_output, synth
from hub_server import Fault, Hub, make_certificate
from test_cluster import Processes, call, wait_for

REPOSITORY = "owner/tiny-GGUF"
FILE = "tiny-F16.gguf"
NAME = f"hf.co/{REPOSITORY}:F16"


class Machine:
    """A data folder and the environment of its commands, without anybody's own caches and settings."""

    def __init__(self, folder, **environment):
        self.folder = pathlib.Path(folder)
        self.models = self.folder / "data" / "models"
        kept = {key: value for key, value in os.environ.items()
                if not key.startswith(("HF_", "OLLAMA_", "BATON_")) and "proxy" not in key.lower()}
        self.environment = {**kept, "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"), **environment}

    def start(self, *arguments, **environment):
        return subprocess.Popen([BATON, *map(str, arguments), "--data", self.folder / "data"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env={**self.environment, **environment})

    def call(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def list(self):
        return json.loads(self.call("ls", "--json").stdout)

    def parts(self):
        return sorted(self.models.glob("partial/*/*.part"))


class ModelTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix="baton-models-test-"))
        synth(cls.shared / "model.gguf")
        cls.content = (cls.shared / "model.gguf").read_bytes()
        cls.digest = hashlib.sha256(cls.content).hexdigest()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared, ignore_errors=True)

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="baton-models-test-", dir=self.shared)
        self.hub = Hub().__enter__()
        self.addCleanup(self.hub.__exit__)
        self.hub.add(REPOSITORY, FILE, self.content)
        self.machine = Machine(self.folder, HF_ENDPOINT=self.hub.endpoint())

    def pull(self, name=NAME, **environment):
        return self.machine.call("pull", name, **environment)

    def must_pull(self, name=NAME, **environment):
        result = self.pull(name, **environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def assert_is_here(self, name=NAME):
        models = {model["name"]: model for model in self.machine.list()}
        self.assertIn(name, models)
        self.assertEqual(models[name]["digest"], self.digest)
        self.assertEqual(pathlib.Path(models[name]["files"][0]).read_bytes(), self.content)
        self.assertEqual(self.machine.parts(), [])


class Pulls(ModelTest):
    def test_a_model_is_pulled_listed_used_and_removed(self):
        self.assertEqual(self.machine.list(), [])
        result = self.must_pull("hf.co/" + REPOSITORY)
        self.assertIn(f"pulling hf.co/{REPOSITORY} from {NAME}", result.stderr)
        self.assert_is_here()
        self.assertEqual(self.hub.downloads(), [None])
        self.must_pull()  # is here already
        self.assertEqual(len(self.hub.downloads()), 1)
        self.assertEqual((self.machine.models.stat().st_mode & 0o777), 0o700)
        run = self.machine.call("run", NAME, "-p", "Hello", "-n", 4, "--json", *DEVICE)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(len(json.loads(run.stdout)["tokens"]), 4)
        by_digest = subprocess.run([BATON, "tokenize", self.digest[:12], "--text", "Hello"], text=True, capture_output=True,
                                   env={**self.machine.environment, "BATON_HOME": str(self.machine.folder / "data")})
        self.assertEqual(by_digest.returncode, 0, by_digest.stderr)
        self.assertEqual(self.machine.call("cp", NAME, "mine").returncode, 0)
        self.assertEqual(self.machine.call("rm", NAME).returncode, 0)
        self.assertEqual([model["name"] for model in self.machine.list()], ["mine"])
        self.assertEqual(self.machine.call("rm", "mine").returncode, 0)
        self.assertEqual(self.machine.list(), [])
        self.assertEqual(list(self.machine.models.glob("**/*.gguf")), [])
        gone = self.machine.call("rm", "mine")
        self.assertEqual(gone.returncode, 3)
        self.assertIn("baton ls", gone.stderr)

    def test_run_pulls_by_itself(self):
        run = self.machine.call("run", NAME, "-p", "Hello", "-n", 2, "--json", *DEVICE)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("pulling", run.stderr)
        self.assertEqual(len(json.loads(run.stdout)["tokens"]), 2)
        self.assert_is_here()

    def test_a_short_name_leads_to_its_repository(self):
        self.hub.add("Qwen/Qwen3-8B-GGUF", "Qwen3-8B-Q8_0.gguf", self.content)
        self.hub.add("Qwen/Qwen3-8B-GGUF", "Qwen3-8B-BF16.gguf", self.content + b"more")
        self.must_pull("qwen3")
        self.assert_is_here("qwen3:8b")
        self.assertEqual(self.machine.list()[0]["source"], "hf.co/Qwen/Qwen3-8B-GGUF:Q8_0")
        unknown = self.pull("qwen3:9000b")
        self.assertEqual(unknown.returncode, 3)
        self.assertIn("qwen3:8b", unknown.stderr)
        other = self.pull("qwen3:8b-q2_k")
        self.assertEqual(other.returncode, 3)
        self.assertIn("BF16", other.stderr)

    def test_a_long_list_comes_in_pages(self):
        for number in range(9):
            self.hub.add(REPOSITORY, f"a{number}.txt", b"x")
        self.hub.page_size = 3
        self.must_pull()
        self.assertEqual(len([path for _, path, _ in self.hub.requests if path.startswith("/api/")]), 4)

    def test_the_parts_of_a_split_model_come_together(self):
        # Parts by their names, as the hub lists them; each holds a model of its own, which the digest does not mind.
        for number in (1, 2):
            self.hub.add("owner/split", f"Q8_0/m-Q8_0-0000{number}-of-00002.gguf", self.content)
        self.must_pull("hf.co/owner/split")
        files = [pathlib.Path(name).name for name in self.machine.list()[0]["files"]]
        self.assertEqual(files, ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"])
        self.assertNotEqual(self.machine.list()[0]["digest"], self.digest)

    def test_a_url_is_pulled_and_verified_by_what_its_redirect_says(self):
        url = f"{self.hub.endpoint()}/{REPOSITORY}/resolve/main/{FILE}"
        self.hub.faults.append(Fault(flip=True))
        wrong = self.pull(url)
        self.assertEqual(wrong.returncode, 5, wrong.stderr)
        self.must_pull(url)
        self.assert_is_here("tiny-F16")
        # One that is no model is not kept.
        self.hub.add("owner/page", "x.gguf", b"<html>not a model</html>" * 100)
        bad = self.pull(f"{self.hub.endpoint()}/storage/owner/page/x.gguf")
        self.assertEqual(bad.returncode, 5, bad.stderr)
        self.assertIn("thrown away", bad.stderr)
        self.assertEqual(len(self.machine.list()), 1)


class Nothing(ModelTest):
    def test_an_empty_list_says_how_to_get_a_model(self):
        listed = self.machine.call("ls")
        self.assertEqual((listed.returncode, listed.stdout), (0, ""), listed.stderr)
        self.assertIn("baton pull", listed.stderr)


class Faults(ModelTest):
    def test_a_cut_download_goes_on_where_it_broke(self):
        self.hub.faults += [Fault(cut_after=100_000), Fault(cut_after=50_000)]
        self.must_pull()
        self.assert_is_here()
        first, *others = self.hub.downloads()
        self.assertIsNone(first)
        self.assertEqual(others, ["bytes=100000-", "bytes=150000-"])

    def test_a_busy_or_broken_server_is_asked_again(self):
        self.hub.faults += [Fault(status=429, headers={"Retry-After": "1"}), Fault(status=503)]
        self.must_pull()
        self.assertEqual(len(self.hub.downloads()), 3)

    def test_a_wrong_checksum_is_found_and_nothing_kept(self):
        self.hub.faults.append(Fault(flip=True))
        wrong = self.pull()
        self.assertEqual(wrong.returncode, 5, wrong.stderr)
        self.assertIn("SHA-256", wrong.stderr)
        self.assertEqual(self.machine.parts(), [])
        self.assertEqual(self.machine.list(), [])
        self.must_pull()
        self.assert_is_here()

    def test_a_server_that_lies_about_the_length_is_found_out(self):
        self.hub.faults.append(Fault(length=len(self.content) + 1000))
        long = self.pull()
        self.assertEqual(long.returncode, 5, long.stderr)
        self.hub.faults.append(Fault(length=len(self.content) - 1000))
        short = self.pull()
        self.assertEqual(short.returncode, 5, short.stderr)

    def test_a_list_that_lies_is_found_out(self):
        self.hub.listed[(REPOSITORY, FILE)] = {"oid": "1" * 64}
        wrong = self.pull()
        self.assertEqual(wrong.returncode, 5, wrong.stderr)
        self.hub.listed[(REPOSITORY, FILE)] = {"size": 10**15}
        large = self.pull()
        self.assertEqual(large.returncode, 6, large.stderr)
        self.assertIn("GB more are needed", large.stderr)
        self.assertEqual(len(self.hub.downloads()), 1)

    def test_what_is_not_there_or_not_for_everybody_is_said(self):
        missing = self.pull("hf.co/owner/absent")
        self.assertEqual(missing.returncode, 8, missing.stderr)
        self.assertIn("HF_TOKEN", missing.stderr)
        self.hub.faults.append(Fault(status=404))
        gone = self.pull()
        self.assertEqual(gone.returncode, 3, gone.stderr)
        no_hub = self.pull(HF_ENDPOINT="http://127.0.0.1:9")
        self.assertEqual(no_hub.returncode, 9, no_hub.stderr)

    def test_the_token_goes_to_the_hub_alone(self):
        self.hub.private[REPOSITORY] = "secret"
        refused = self.pull()
        self.assertEqual(refused.returncode, 8)
        wrong = self.pull(HF_TOKEN="another")
        self.assertEqual(wrong.returncode, 8)
        self.must_pull(HF_TOKEN="secret")
        self.assertEqual(self.hub.tokens("/owner/")[-1], "Bearer secret")
        self.assertEqual(self.hub.tokens("/storage/"), [None])  # which has another name

    def test_an_interrupted_pull_goes_on(self):
        self.hub.bytes_per_second = 150_000
        process = self.machine.start("pull", NAME)
        wait_for(lambda: any(part.stat().st_size > 50_000 for part in self.machine.parts()), "some has come", 20)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130, stderr)
        self.assertIn("goes on from there", stderr)
        here = self.machine.parts()[0].stat().st_size
        self.hub.bytes_per_second = None
        self.must_pull()
        self.assert_is_here()
        self.assertEqual(self.hub.downloads()[-1], f"bytes={here}-")

    def test_a_killed_pull_goes_on_and_two_do_not_meet(self):
        self.hub.bytes_per_second = 150_000
        process = self.machine.start("pull", NAME)
        wait_for(lambda: any(part.stat().st_size > 50_000 for part in self.machine.parts()), "some has come", 20)
        second = self.pull()
        self.assertEqual(second.returncode, 7, second.stderr)
        process.kill()
        process.communicate()
        self.hub.bytes_per_second = None
        self.must_pull()
        self.assert_is_here()
        self.assertIsNotNone(self.hub.downloads()[-1])

    def test_a_damaged_part_is_noticed(self):
        self.hub.faults += [Fault(cut_after=100_000)] + [Fault(status=404)]
        self.pull()
        part = self.machine.parts()[0]
        damaged = bytearray(part.read_bytes())
        damaged[50_000] ^= 1
        part.write_bytes(damaged)
        self.assertEqual(self.pull().returncode, 5)
        self.must_pull()
        self.assert_is_here()


class Secure(ModelTest):
    def setUp(self):
        super().setUp()
        if not shutil.which("openssl"):
            self.skipTest("needs the openssl program")
        certificate = make_certificate(self.folder, "localhost", "hub.test")
        self.secure = Hub(tls=certificate).__enter__()
        self.addCleanup(self.secure.__exit__)
        self.secure.add(REPOSITORY, FILE, self.content)
        self.roots = {"SSL_CERT_FILE": str(certificate[0])}

    def test_a_certificate_is_checked_by_its_root_and_its_name(self):
        stranger = self.pull(HF_ENDPOINT=self.secure.endpoint("localhost"))
        self.assertEqual(stranger.returncode, 8, stranger.stderr)
        self.assertIn("certificate", stranger.stderr)
        other_name = self.pull(HF_ENDPOINT=self.secure.endpoint("127.0.0.1"), **self.roots)
        self.assertEqual(other_name.returncode, 8, other_name.stderr)
        self.must_pull(HF_ENDPOINT=self.secure.endpoint("localhost"), **self.roots)
        self.assert_is_here()

    def test_a_redirect_to_plain_http_is_not_followed(self):
        self.secure.scheme = "http"  # in the redirects that it gives
        refused = self.pull(HF_ENDPOINT=f"https://localhost:{self.secure.port}", **self.roots)
        self.assertEqual(refused.returncode, 8, refused.stderr)
        self.assertIn("not secure", refused.stderr)

    def test_proxies_are_used_and_left_out(self):
        self.secure.storage_host = "hub.test"
        endpoint = {"HF_ENDPOINT": self.secure.endpoint("hub.test"), **self.roots}
        proxy = self.hub.endpoint()
        self.must_pull(https_proxy=proxy, **endpoint)
        self.assert_is_here()
        tunnels = [path for method, path, _ in self.hub.requests if method == "CONNECT"]
        self.assertEqual(set(tunnels), {f"hub.test:{self.secure.port}"})
        self.machine.call("rm", NAME)
        direct = self.pull(https_proxy=proxy, no_proxy=".test", **endpoint)
        self.assertEqual(direct.returncode, 9, direct.stderr)  # there is no such host
        self.hub.storage_host = "hub.test"
        plain = self.pull(http_proxy=proxy, HF_ENDPOINT=f"http://hub.test:{self.hub.port}")
        self.assertEqual(plain.returncode, 0, plain.stderr)


class Found(ModelTest):
    def test_models_of_other_programs_are_used_where_they_are(self):
        ollama = pathlib.Path(self.folder) / "ollama"
        (ollama / "blobs").mkdir(parents=True)
        blob = ollama / "blobs" / f"sha256-{self.digest}"
        blob.write_bytes(self.content)
        manifest = ollama / "manifests/registry.ollama.ai/library/tiny/latest"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model",
                                                    "digest": f"sha256:{self.digest}", "size": len(self.content)}]}))
        self.machine.environment["OLLAMA_MODELS"] = str(ollama)
        self.assertEqual([(model["name"], model["origin"]) for model in self.machine.list()], [("tiny:latest", "ollama")])
        run = self.machine.call("run", "tiny", "-p", "Hello", "-n", 2, "--json", *DEVICE)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.hub.requests, [])
        refused = self.machine.call("rm", "tiny")
        self.assertEqual(refused.returncode, 8)
        self.assertIn("ollama", refused.stderr)
        # Nothing was left there.
        self.assertEqual(sorted(path.name for path in ollama.glob("**/*") if path.is_file()), ["latest", blob.name])

    def test_the_doctor_tells_what_it_sees(self):
        result = self.machine.call("doctor", "--json")
        findings = json.loads(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout)
        checks = {finding["check"] for finding in findings}
        self.assertLessEqual({"version", "backend", "memory", "disk", "discovery", "cluster"}, checks)
        for finding in findings:
            self.assertIn(finding["verdict"], ("ok", "warning", "problem"))
            self.assertTrue(finding["message"])
        text = self.machine.call("doctor")
        self.assertIn("backend: computes on", text.stdout)


class BetweenNodes(Processes):
    def fetch(self, machine, *arguments):
        return subprocess.Popen([BATON, "pull", *arguments, "--data", machine.data], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HOME": str(self.folder / machine.name)})

    def finish(self, process):
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, stderr)
        return stdout

    def listed(self, machine):
        return {model["name"]: model for model in json.loads(machine.must("ls", "--json"))}

    def test_a_node_gets_a_model_from_the_one_that_has_it(self):
        a, b = self.cluster("a", "b")
        digest = hashlib.sha256(self.model.read_bytes()).hexdigest()
        # As a's API calls it, and as its file is called.
        self.finish(self.fetch(b, "a/model"))
        self.finish(self.fetch(b, "model.gguf", "--from", "a"))
        model = self.listed(b)["model"]
        self.assertEqual(model["digest"], digest)
        self.assertEqual(model["source"], "node a")
        self.assertEqual(pathlib.Path(model["files"][0]).read_bytes(), self.model.read_bytes())
        # What lies in a node's own store has its name there, and any member that has it will do.
        b.must("cp", "model", "tiny:1b")
        self.finish(self.fetch(a, "tiny:1b"))
        self.assertEqual(self.listed(a)["tiny:1b"]["digest"], digest)
        self.finish(self.fetch(a, digest[:16], "--from", "b"))
        absent = self.fetch(b, "a/absent")
        _, stderr = absent.communicate(timeout=60)
        self.assertEqual(absent.returncode, 3, stderr)
        # No file is given that is no model of the node's.
        secret = self.folder / "secret.gguf"
        secret.write_bytes(self.model.read_bytes())
        for name in (str(secret), "../secret.gguf", "secret.gguf"):
            refused = self.fetch(b, name, "--from", "a")
            _, stderr = refused.communicate(timeout=60)
            self.assertIn(refused.returncode, (2, 3), stderr)
        # A node that is to serve it gets it by itself.
        b.must("rm", "model", "tiny:1b")
        self.assertEqual(self.listed(b), {})
        b.kill()
        b.model = "tiny:1b"
        b.up()
        self.assertEqual(self.listed(b)["tiny:1b"]["source"], "node a")
        wait_for(lambda: a.status("b") == "alive", "b is back", 10)
        a.kill()
        doctor = b.baton("doctor", "--json")
        wait_for(lambda: b.status("a") == "down", "a is down", 10)
        doctor = b.baton("doctor", "--json")
        self.assertIn("a is down", doctor.stdout)

    def test_a_node_ends_while_it_looks_at_what_is_asked_for(self):
        endless = self.folder / "endless.gguf"
        synth(endless, "--seed", "7")
        # Behind the tensors is a hole, which takes no room, and hours to hash.
        os.truncate(endless, 1 << 40)
        a = self.machine("a", str(endless)).up()
        b = self.machine("b")
        self.assertEqual(call("join", a.must("token").strip(), "--data", b.data, "--name", "b").returncode, 0)
        asked = self.fetch(b, "a/endless")
        time.sleep(1)
        self.assertIsNone(asked.poll())
        begun = time.monotonic()
        a.process.terminate()
        self.assertEqual(a.process.wait(timeout=10), 0)
        self.assertLess(time.monotonic() - begun, 5)
        asked.kill()
        asked.communicate()

    def test_a_stranger_gets_nothing(self):
        a, = self.cluster("a")
        stranger = self.machine("stranger")
        stranger.up()
        own = json.loads(stranger.must("nodes", "--json"))["nodes"][0]["name"]
        self.assertEqual(own, "stranger")
        asked = self.fetch(stranger, "model.gguf", "--from", "a")
        _, stderr = asked.communicate(timeout=60)
        self.assertEqual(asked.returncode, 3, stderr)

    def test_a_broken_fetch_goes_on_after_either_end_was_killed(self):
        check_output(["synth", str(self.model), "--embd", "256", "--layers", "8", "--heads", "4", "--kv-heads", "2", "--ff", "1024",
                      "--vocab", "4000", "--type", "f16", "--force"])
        size = self.model.stat().st_size
        self.assertGreater(size, 10_000_000)
        a, b = self.cluster("a", "b", flags=("--emulate-link", "0.03"))
        part = lambda: max((path.stat().st_size for path in b.data.glob("models/partial/*/*.part")), default=0)
        killed = self.fetch(b, "model.gguf", "--from", "a")
        wait_for(lambda: part() > size // 10, "some has come", 30)
        killed.kill()
        killed.communicate()
        before = part()
        self.assertLess(before, size)
        again = self.fetch(b, "model.gguf", "--from", "a")
        wait_for(lambda: part() > before, "it goes on", 30)
        a.kill()
        a.up()
        self.finish(again)
        self.assertEqual(pathlib.Path(self.listed(b)["model"]["files"][0]).read_bytes(), self.model.read_bytes())


if __name__ == "__main__":
    unittest.main()
