import json
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

import cluster
from cluster import BATON, Cluster
from gguf_file import GgufFile


def call(*arguments, **options):
    return subprocess.run([BATON, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **{"timeout": 60, **options})


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.model

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def test_run_prints_the_fields_of_its_json(self):
        result = self.cluster.run()
        self.assertEqual(len(result["tokens"]), cluster.NEW_TOKENS)
        self.assertEqual(result["prompt_tokens"], 5 * cluster.CHUNK)
        self.assertFalse(result["emulated"])
        self.assertEqual(result["plan"], "prefill=local:0-8;decode=local:0-8")
        for name in ("queue_s", "prefill_s", "exposed_transfer_s", "first_token_s", "decode_s", "total_s"):
            self.assertGreaterEqual(result["timings"][name], 0)
        self.assertGreater(result["timings"]["total_s"], result["timings"]["first_token_s"])

    def test_run_continues_a_text_and_a_file_alike(self):
        from_text = call("run", self.model, "-p", "Hello wörld", "-n", 8, "--home", self.cluster.home("local"))
        self.assertEqual(from_text.returncode, 0, from_text.stderr)
        path = self.cluster.folder / "prompt.txt"
        path.write_text("Hello wörld")
        from_file = call("run", self.model, "-f", path, "-n", 8, "--home", self.cluster.home("local"))
        self.assertEqual(from_file.stdout, from_text.stdout)
        self.assertTrue(from_text.stdout.strip())
        with open(path) as text:
            piped = subprocess.run(["sh", "-c", 'cat | "$@"', "sh", str(BATON), "run", str(self.model), "-f", "-", "-n", "8", "--home",
                                    str(self.cluster.home("local"))], stdin=text, capture_output=True, text=True, timeout=60)
        self.assertEqual(piped.stdout, from_text.stdout)

    def test_what_is_no_plain_file_is_written_through(self):
        with tempfile.TemporaryDirectory() as folder:
            target, link = pathlib.Path(folder) / "target", pathlib.Path(folder) / "link"
            target.write_bytes(b"old")
            link.symlink_to(target)
            self.assertEqual(call("logits", self.model, "--tokens", "1,2", "--out", link).returncode, 0)
            self.assertTrue(link.is_symlink())
            self.assertGreater(target.stat().st_size, 3)
            piped = subprocess.run(["sh", "-c", '"$@" | wc -c', "sh", str(BATON), "logits", str(self.model), "--tokens", "1,2",
                                    "--out", "/dev/stdout"], capture_output=True, text=True, timeout=60)
            self.assertEqual(int(piped.stdout), target.stat().st_size)
            self.assertIn("folder", call("logits", self.model, "--tokens", "1", "--out", folder).stderr)

    def test_synth_replaces_nothing_unasked(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "precious.gguf"
            path.write_bytes(b"precious")
            refused = call("synth", path, "--layers", 1)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("--force", refused.stderr)
            self.assertEqual(path.read_bytes(), b"precious")

    def small_model(self, name, vocabulary):
        path = self.cluster.folder / name
        made = call("synth", path, "--embd", 64, "--layers", 1, "--heads", 4, "--kv-heads", 2, "--ff", 64, "--vocab", vocabulary,
                    "--type", "f16")
        self.assertEqual(made.returncode, 0, made.stderr)
        return path

    def test_a_draft_model_changes_nothing_but_the_time(self):
        draft = self.small_model("draft.gguf", 400)
        node = self.cluster.node("A")
        for sampler in ([], ["--temp", "0.8", "--seed", "3", "--repeat-penalty", "1.1"]):
            plain = self.cluster.run("--speculate", "off", "--draft", draft, *sampler)
            self.assertEqual(plain["speculation"]["how"], "off")
            for flags in (["--draft", draft], ["--draft", self.model], ["--draft", draft, "--prefill-on", node.address]):
                drafted = self.cluster.run(*flags, *sampler)
                self.assertEqual(drafted["speculation"]["how"], "draft", drafted["speculation"])
                self.assertGreater(drafted["speculation"]["guessed_tokens"], 0)
                self.assertEqual(drafted["tokens"], plain["tokens"], flags)

    def test_a_draft_model_that_cannot_guess_is_refused_by_what_is_wrong(self):
        def refusal(*flags):
            result = call("run", self.model, "--tokens", "5,6,7", *flags, "--home", self.cluster.home("local"))
            self.assertEqual(result.returncode, 2, result.stderr)
            return result.stderr

        self.assertIn("only one of the two models has token 400", refusal("--draft", self.small_model("wide.gguf", 408)))
        self.assertIn("--draft FILE", refusal("--speculate", "draft"))
        self.assertIn("leave one of them out", refusal("--speculate", "lookup", "--draft", self.model))

    def test_run_without_a_prompt_says_how_to_give_one(self):
        result = call("run", self.model, "--home", self.cluster.home("local"), stdin=subprocess.DEVNULL)
        self.assertEqual(result.returncode, 2)
        self.assertIn("there is no prompt: give one with -p TEXT", result.stderr)

    def test_a_pipe_may_hold_the_prompt(self):
        def answer(*arguments, **given):
            result = subprocess.run([BATON, "run", self.model, "-n", "8", "--home", self.cluster.home("local"), *arguments],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **given)
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout

        expected = answer("-p", "hello")
        self.assertEqual(answer(input="hello"), expected)
        # As Node.js gives it to its children.
        ours, its = socket.socketpair()
        with ours, its:
            ours.sendall(b"hello")
            ours.shutdown(socket.SHUT_WR)
            self.assertEqual(answer(stdin=its), expected)

    def test_standard_input_that_is_closed_is_empty_and_one_that_fails_says_so(self):
        def run(stdin):
            return subprocess.run(["sh", "-c", f'"$@" {stdin}', "sh", str(BATON), "run", str(self.model), "--home",
                                   str(self.cluster.home("local"))], capture_output=True, text=True, timeout=60)

        for stdin in ("<&-", "</"):
            result = run(stdin)
            self.assertEqual(result.returncode, 2, (stdin, result.stderr))
            self.assertIn("there is no prompt", result.stderr)
        failed = run("0>/dev/null")
        self.assertEqual(failed.returncode, 6, failed.stderr)
        self.assertIn("standard input: cannot read", failed.stderr)

    def test_a_prompt_longer_than_the_models_context_is_refused_unless_ctx_asks_for_it(self):
        path = self.cluster.folder / "short.gguf"
        file = GgufFile(self.model)
        file.set("llama.context_length", 16)
        file.write(path)

        def run(tokens, *flags):
            return call("run", path, "-n", "4", "--tokens", ",".join(["300"] * tokens), "--home", self.cluster.home("local"), *flags)

        fits = run(12)
        self.assertEqual(fits.returncode, 0, fits.stderr)
        self.assertNotIn("nonsense", fits.stderr)
        refused = run(17)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("the prompt has 17 tokens, and the model was made for 16: shorten it, or give --ctx 21", refused.stderr)
        warned = run(17, "--ctx", "21")
        self.assertEqual(warned.returncode, 0, warned.stderr)
        self.assertTrue(warned.stderr.startswith("baton: the prompt has 17 tokens, and the model was made for 16 tokens; what "
                                                 "follows may be nonsense\n"), warned.stderr)

    def test_an_empty_prompt_is_an_error_wherever_it_comes_from(self):
        path = self.cluster.folder / "empty.txt"
        path.write_text("")
        for arguments in (("-p", ""), ("-f", path), ("--chat", "-p", "")):
            result = call("run", self.model, *arguments, "--home", self.cluster.home("local"))
            self.assertEqual(result.returncode, 2, arguments)
            self.assertIn("the prompt is empty", result.stderr)
            self.assertEqual(result.stdout, "")

    def test_a_seed_draws_the_same_text_again(self):
        first = self.cluster.run("--temp", "1.2", "--seed", "5")
        self.assertEqual(self.cluster.run("--temp", "1.2", "--seed", "5")["tokens"], first["tokens"])
        self.assertNotEqual(self.cluster.run("--temp", "1.2", "--seed", "6")["tokens"], first["tokens"])

    def test_id_is_stable_and_private(self):
        home = self.cluster.home("fresh")
        first = call("id", "--home", home).stdout
        self.assertEqual(len(first.strip()), 64)
        self.assertEqual(call("id", "--home", home).stdout, first)
        self.assertEqual(home.stat().st_mode & 0o777, 0o700)
        for path in home.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)

    def test_bench_reports_each_test(self):
        result = call("bench", self.model, "-p", "32,64", "-n", "8", "-t", "1", "-r", "1", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = json.loads(result.stdout)
        self.assertEqual([line["test"] for line in lines], ["pp32", "pp64", "tg8"])
        self.assertTrue(all(line["tokens_per_second"] > 0 for line in lines))
        self.assertTrue(all(line["repetitions"] == 1 and line["tokens_per_second_deviation"] == 0 for line in lines))
        self.assertTrue(all(line["threads"] == 1 and line["model"] == str(self.model) for line in lines))

    def test_bench_prints_a_table_for_people(self):
        for threads, word in ((1, "1 thread on CPU"), (2, "2 threads on CPU")):
            table = call("bench", self.model, "-p", "32", "-n", "0", "-t", threads, "-r", "2").stdout
            self.assertRegex(table, rf"^{self.model}: llama, 8 layers, [0-9.]+ [kM]B, mostly f16; {word}\n"
                                    r"pp32 +[0-9.]+ ± [0-9.]+ +tokens/s\n$")

    def plan(self, *arguments, status=0):
        result = call("plan", *arguments, "--json")
        self.assertEqual(result.returncode, status, result.stderr)
        return json.loads(result.stdout) if status == 0 else result.stderr

    def test_plan_weighs_machines_one_does_not_own(self):
        plan = self.plan("--model", "llama-3.1-8b-f16", "--devices", "spark,m3ultra", "--link", "10gbe")
        self.assertEqual(plan["chosen"], "joint")
        rows = {row["name"]: row for row in plan["plans"]}
        self.assertEqual(set(rows), {"spark", "m3ultra", "disaggregated", "joint", "pooled"})
        for row in rows.values():
            parts = row["queue_s"] + row["prefill_s"] + row["exposed_s"] + row["decode_s"]
            self.assertAlmostEqual(row["total_s"], parts, places=5)
            self.assertGreater(row["memory_bytes"], 16e9)
        # The published totals, https://blog.exolabs.net/nvidia-dgx-spark
        for name, seconds in (("spark", 4.34), ("m3ultra", 6.42), ("disaggregated", 2.32)):
            self.assertAlmostEqual(rows[name]["total_s"], seconds, delta=0.05 * seconds)
        self.assertEqual(rows["joint"]["split"], [26])
        self.assertEqual(rows["joint"]["codec"], "f16")
        self.assertIn("prefill=spark:0-26,m3ultra:26-32", rows["joint"]["plan"])

    def test_plan_measures_this_machine(self):
        plan = self.plan(self.model, "--prompt", "64", "--output", "4")
        self.assertEqual(plan["chosen"], "this")
        self.assertGreater(plan["plans"][0]["total_s"], 0)

    def test_plan_has_units_that_fit_a_small_model(self):
        result = call("plan", self.model, "--devices", "spark,m3ultra", "--prompt", "64", "--output", "4")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Predicted milliseconds.", result.stdout)
        self.assertIn(" MB  prefill=", result.stdout)
        self.assertNotIn("% longer", result.stdout)

    def test_plan_notes_a_prompt_longer_than_the_models_context(self):
        result = call("plan", "--model", "llama-3.1-8b-f16", "--devices", "spark,m3ultra", "--prompt", "200000")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("llama-3.1-8b-f16 was made for 131,072 tokens", result.stderr)

    def test_plan_says_why_and_what_does_not_fit(self):
        result = call("plan", "--model", "llama-3.1-70b-f16", "--devices", "spark,spark")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("* pooled", result.stdout)
        self.assertIn("spark2         does not fit alone", result.stdout)
        self.assertIn("no plan fits", self.plan("--model", "llama-3.1-70b-f16", "--devices", "spark", status=7))
        self.assertIn("'abacus'", self.plan("--model", "llama-3.1-8b-f16", "--devices", "abacus", status=3))
        self.assertIn("which model", self.plan("--devices", "spark", status=2))
        self.assertIn("'string'", self.plan("--model", "qwen3-8b-q8_0", "--devices", "spark", "--link", "string", status=2))

    def test_plan_finds_the_prompt_from_which_a_transfer_hides(self):
        found = self.plan("--model", "llama-3.1-8b-f16", "--devices", "spark,m3ultra", "--threshold")
        rows = {(row["link"], row["codec"]): row for row in found["thresholds"]}
        self.assertEqual(rows["10gbe", "f16"]["hidden_tokens"], 1)
        self.assertIsNone(rows["1gbe", "f16"]["hidden_tokens"])
        self.assertLess(rows["2.5gbe", "q8_0"]["hidden_tokens"], rows["2.5gbe", "f16"]["hidden_tokens"])

    def test_logits_are_one_row_of_floats_for_each_token(self):
        path = self.cluster.folder / "logits.f32"
        whole = call("logits", self.model, "--tokens", "300,301,302", "--out", path)
        self.assertEqual(whole.returncode, 0, whole.stderr)
        values = struct.unpack(f"<{3 * 400}f", path.read_bytes())
        self.assertGreater(max(values) - min(values), 1)
        call("logits", self.model, "--tokens", "300,301,302", "--chunk", "1", "--out", path)
        for one, other in zip(values, struct.unpack(f"<{3 * 400}f", path.read_bytes())):
            self.assertAlmostEqual(one, other, delta=0.05)

    def test_tokenize_takes_bytes_verbatim(self):
        path = self.cluster.folder / "text.bin"
        path.write_bytes(b"a\xff\n")
        tokens = json.loads(call("tokenize", self.model, "--file", path, "--json").stdout)
        self.assertEqual(tokens[-2:], [3 + 0xFF, 3 + 0x0A])

    def test_synth_makes_the_same_file_from_the_same_seed(self):
        paths = [self.cluster.folder / name for name in ("one.gguf", "two.gguf", "three.gguf")]
        cluster.synth(paths[0], "--seed", "3")
        cluster.synth(paths[1], "--seed", "3")
        cluster.synth(paths[2], "--seed", "4")
        self.assertEqual(paths[0].read_bytes(), paths[1].read_bytes())
        self.assertNotEqual(paths[0].read_bytes(), paths[2].read_bytes())

    def test_damaged_models_get_an_error_that_says_what_is_wrong(self):
        content = self.model.read_bytes()
        path = self.cluster.folder / "damaged.gguf"
        for damaged, text in ((content[:-1000], "download"), (b"not a model", "GGUF"), (content[:200], "damaged.gguf"),
                              (content[:100], "has 100 bytes, too few for the"), (b"", "is empty (0 bytes)"),
                              (content[:10_000], "at byte 10,000: it is cut short")):
            path.write_bytes(damaged)
            result = call("run", path, "-p", "x", "--home", self.cluster.home("local"))
            self.assertEqual(result.returncode, 5, result.stderr)
            self.assertIn(text, result.stderr)
        self.assertEqual(call("run", "/nonexistent.gguf", "-p", "x").returncode, 3)

    def test_wrong_arguments_are_named(self):
        for arguments, text in ((("run", self.model, "-p", "x", "--plan", "prefill=A:0-8;decode=local:0-8"), "'A'"),
                                (("run", self.model, "-p", "x", "--device", "abacus"), "CPU"),
                                (("run", self.model, "-p", "x", "--codec", "zip"), "zip"),
                                (("run", self.model, "-p", "x", "--cache-type", "f64"), "f64"),
                                (("run", self.model, "--tokens", "1,x"), "1,x"),
                                (("run", self.model, "--tokens", "1,400"), "400"),
                                (("run", self.model, "-p", "x", "--emulate-tflops", "1"), "--emulate-gbps"),
                                (("run", self.model, "-p", "x", "-n", "100", "--ctx", "50"), "--ctx"),
                                (("run", self.model, "-p", "x", "--prefill-on", "127.0.0.1:8771"), "host:port#fingerprint"),
                                (("run", self.model, "-p", "x", "--bogus"), "baton: the following argument was not expected: --bogus; see 'baton run --help'"),
                                (("run", self.model, "-p", "x", "-n", "0"), "baton: --predict: "),
                                (("run",), "no model file is given, and no node runs with this data folder"),
                                (("run", "--api", "here", "-p", "x"), "baton: --api: 'here' is not an address: the port is missing"),
                                (("up", self.model, "--advertise", "a:b"), "baton: --advertise: 'a:b'"),
                                (("up", self.model, "--api", "here"), "baton: --api: 'here'"),
                                (("up", self.model, "--listen", "here"), "baton: --listen: 'here'"),
                                (("node", self.model, "--listen", "here"), "baton: --listen: 'here'"),
                                (("node", self.model, "--trust", "abc"), "baton: --trust: 'abc'"),
                                (("synth", self.cluster.folder / "x.gguf", "--heads", "7", "--kv-heads", "7"), "--heads 7"),
                                (("synth", self.cluster.folder / "x.gguf", "--experts", "4"), "such as --experts-used 2"),
                                (("synth", self.cluster.folder / "x.gguf", "--type", "q99"), "q99")):
            result = call(*arguments, "--home", self.cluster.home("local")) if arguments[0] != "synth" else call(*arguments)
            self.assertNotEqual(result.returncode, 0, arguments)
            self.assertIn(text, result.stderr, arguments)
            self.assertTrue(result.stderr.startswith("baton: "), result.stderr)
            self.assertEqual(result.stdout, "", arguments)

    def test_a_command_that_does_not_exist_is_a_usage_error(self):
        for arguments, text in (((), "no command is given"), (("frob",), "there is no command 'frob'"),
                                (("--frob",), "--frob")):
            result = call(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertTrue(result.stderr.startswith("baton: ") and text in result.stderr, result.stderr)

    def test_the_name_alone_gets_a_short_introduction(self):
        shown = call().stderr
        for words in ("baton run model.gguf ", "baton up model.gguf ", "Commands: run up ", "'baton --help'"):
            self.assertIn(words, shown)
        self.assertLess(len(shown.splitlines()), 12)

    def test_more_threads_than_cores_are_warned_about(self):
        cores = len(os.sched_getaffinity(0))
        for threads, warnings in ((cores, 0), (cores + 1, 1)):
            result = call("run", self.model, "--tokens", "300", "-n", "1", "-t", threads, "--home", self.cluster.home("local"))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stderr.count(f"--threads {threads} are more than the {cores} core"), warnings, result.stderr)

    def test_an_interrupted_synth_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            making = subprocess.Popen([BATON, "synth", pathlib.Path(folder) / "x.gguf", "--type", "q8_0"],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            while not os.listdir(folder):
                self.assertIsNone(making.poll())
                time.sleep(0.001)
            making.send_signal(signal.SIGINT)
            _, said = making.communicate(timeout=60)
            self.assertEqual(making.returncode, 130, said)
            self.assertIn("cancelled", said)
            self.assertEqual(os.listdir(folder), [])

    def test_this_machine_is_no_peer_of_its_own(self):
        result = call("run", self.model, "-p", "x", "--home", self.cluster.home("local"), "--prefill-on",
                      f"127.0.0.1:8771#{self.cluster.local_fingerprint}")
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn("is this machine's own (", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_help_is_plain_and_begins_with_the_prompt(self):
        for command in ("run", "node", "bench", "synth", "tokenize", "logits", "demo"):
            page = call(command, "--help").stdout
            for notation in ("UINT", "FLOAT", "Excludes", "REQUIRED", "=512", "[1 - "):
                self.assertNotIn(notation, page, command)
            self.assertLessEqual(max(map(len, page.split("Example")[0].splitlines())), 100, command)
        page = call("run", "--help").stdout
        self.assertLess(page.index("--prompt"), min(page.index(flag) for flag in ("--predict", "--plan", "--device", "--json")))
        self.assertIn("--ctx N", page)
        self.assertIn("for all requests together (default: 16384)", call("node", "--help").stdout)

    def test_a_node_says_that_nobody_may_connect_and_runs_on(self):
        node = self.cluster.node("lonely", trust=())
        node.wait_for_log("nobody may connect to this node: start it with --trust")
        self.assertIsNone(node.process.poll())

    def test_an_address_in_use_is_an_error_of_the_system(self):
        node = self.cluster.node("first")
        result = call("node", self.model, "--listen", f"127.0.0.1:{node.port}", "--home", self.cluster.home("local"))
        self.assertEqual(result.returncode, 6, result.stderr)
        self.assertIn(f"127.0.0.1:{node.port}", result.stderr)

    def test_verbose_names_the_peers_their_layers_and_their_bytes(self):
        node = self.cluster.node("A")
        result = self.cluster.run("-v", "--peer", node.peer(), "--prefill-on", "A", "--split", "5")
        self.assertIn(f"A at 127.0.0.1:{node.port}: reads layers 0-5", result["stderr"])
        self.assertRegex(result["stderr"], r"A sent [0-9.]+ kB in [0-9]+ slices over 1 connection\b")
        self.assertEqual(result["transfer_from"]["A"], result["transfer"])

    def test_help_lists_the_exit_statuses(self):
        page = call("--help").stdout
        for line in ("0 done", "1 fault of baton", "2 wrong arguments", "8 refused", "130 interrupted"):
            self.assertRegex(page, rf"(?m)^ *{line}$")

    def test_help_man_page_and_completions_know_every_command(self):
        commands = ("run", "node", "id", "plan", "bench", "logits", "tokenize", "synth", "demo")
        for page in (call("--help").stdout, call("completion", "bash").stdout, call("completion", "zsh").stdout,
                     call("completion", "fish").stdout):
            for command in commands:
                self.assertIn(command, page)
        man = call("man").stdout
        for command in commands:
            self.assertIn(f".SH {command.upper()}", man)
            self.assertIn("xample", call(command, "--help").stdout)
        self.assertIn(".SS Other machines\n", man[:man.index(".SH UP")])
        self.assertEqual(subprocess.run(["bash", "-n"], input=call("completion", "bash").stdout, text=True).returncode, 0)

    def test_a_full_disk_is_an_error_and_leaves_no_half_file(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run(self.cluster.command(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertEqual(result.returncode, 6, result.stderr)

        def limit_files():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        with tempfile.TemporaryDirectory() as folder:
            result = call("synth", pathlib.Path(folder) / "x.gguf", "--embd", "64", "--layers", "8", "--heads", "4", "--kv-heads",
                          "2", "--ff", "128", "--vocab", "400", preexec_fn=limit_files)
            self.assertEqual(result.returncode, 6, result.stderr)
            self.assertEqual(os.listdir(folder), [])

    def test_demo_prints_its_rows_and_fails_where_they_are_invalid(self):
        result = call("demo", "--json", "--runs", "1", timeout=300)
        self.assertIn(result.returncode, (0, 7), result.stderr)
        demo = json.loads(result.stdout)
        self.assertEqual(result.returncode, 0 if demo["valid"] else 7, result.stderr)
        self.assertEqual(demo["valid"], not demo["invalid_because"])
        self.assertEqual("INVALID" in result.stderr, not demo["valid"])
        self.assertTrue(demo["emulated"])
        self.assertTrue(demo["identical"])
        self.assertLessEqual(demo["overlap"], 1)
        self.assertEqual([row["name"] for row in demo["rows"]],
                         ["spark", "m3ultra", "disaggregated", "joint", "relay", "relay-q8"])
        self.assertEqual(len(demo["joined"]), 2)
        planner = demo["planner"]
        self.assertIn("decode=local:0-32", planner["plan"])
        self.assertGreaterEqual({"single", "disaggregated", "joint", "relay"}, {planner["shape"]})
        self.assertLess(0, planner["predicted_s"])
        # It weighed at least every machine alone and what two of them can do.
        self.assertGreaterEqual(len(planner["weighed"]), 5)
        spark, m3ultra = demo["rows"][:2]
        for row in demo["rows"]:
            self.assertLess(0, row["prefill_s"])
            self.assertLessEqual(row["prefill_s"], row["ttft_s"])
            self.assertLess(row["ttft_s"] + row["decode_s"], row["total_s"] + 0.001)
            self.assertAlmostEqual(row["speedup"], m3ultra["total_s"] / row["total_s"])
            self.assertAlmostEqual(row["speedup_best_single"], spark["total_s"] / row["total_s"])
            # What disturbs a run makes it longer than predicted.
            if demo["valid"]:
                self.assertGreater(row["total_s"] / row["predicted_s"], 0.95)
                self.assertLess(row["total_s"] / row["predicted_s"], 1.5)

    def test_a_demo_that_is_interrupted_leaves_no_files(self):
        with tempfile.TemporaryDirectory() as folder:
            for awaited in ("baton-demo.*", "baton-demo.*/model.gguf"):
                process = subprocess.Popen([BATON, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                           env={**os.environ, "TMPDIR": folder})
                deadline = time.monotonic() + 60
                while not list(pathlib.Path(folder).glob(awaited)) and time.monotonic() < deadline:
                    time.sleep(0.002)
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)
                self.assertEqual(process.returncode, 130)
                self.assertEqual(os.listdir(folder), [], awaited)

    def test_an_emulated_device_is_labelled_and_keeps_its_pace(self):
        result = self.cluster.run(*cluster.SLOW)
        self.assertTrue(result["emulated"])
        self.assertGreater(result["timings"]["prefill_s"], 0.5)


if __name__ == "__main__":
    unittest.main()
