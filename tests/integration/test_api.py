import hashlib
import json
import pathlib
import select
import shutil
import socket
import subprocess
import threading
import time
import unittest

import npm
from api_server import ApiServer, ServedModel, status_of
from cluster import BATON, Cluster, where_it_was
from test_chat import GOLDEN, TEMPLATE, with_template

ROOT = pathlib.Path(__file__).resolve().parents[2]
HELLO = [{"role": "user", "content": "Hello there"}]


class Api(ServedModel):
    def chat(self, **body):
        status, _, answer = self.server.post("/v1/chat/completions", messages=HELLO, **{"temperature": 0, **body})
        self.assertEqual(status, 200, answer)
        return answer

    def text(self, **body):
        return self.chat(**body)["choices"][0]["message"]["content"]

    def test_an_answer_is_what_the_command_line_gives(self):
        run = subprocess.run([BATON, "run", str(self.model), "--chat", "-p", "Hello there", "-n", "24", "--home",
                              str(self.cluster.home("local")), "--threads", "1", "--chunk", "16", "--device", "CPU"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True)
        self.assertEqual(self.text(max_tokens=24), run.stdout.decode().removesuffix("\n"))

    def test_a_stream_is_the_whole_answer_in_pieces(self):
        whole = self.chat(max_tokens=24)
        events = self.server.events("/v1/chat/completions", messages=HELLO, temperature=0, max_tokens=24,
                                    stream_options={"include_usage": True})
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(event) for event in events[:-1]]
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
        self.assertEqual(text, whole["choices"][0]["message"]["content"])
        for usage in (chunks[-1]["usage"], whole["usage"]):
            del usage["prompt_tokens_details"]  # the second answer finds the first one's prompt
        self.assertEqual(chunks[-1]["usage"], whole["usage"])
        self.assertEqual(chunks[-2]["choices"][0]["finish_reason"], whole["choices"][0]["finish_reason"])
        self.assertEqual(len({chunk["id"] for chunk in chunks}), 1)

    def test_a_stop_text_is_never_given_out(self):
        text = self.text(max_tokens=48)
        # Five characters from the middle: they seldom lie on the border of tokens.
        stop = text[len(text) // 2:][:5]
        answer = self.chat(max_tokens=48, stop=["never in there", stop])
        self.assertEqual(answer["choices"][0]["message"]["content"], text[:text.index(stop)])
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        events = self.server.events("/v1/chat/completions", messages=HELLO, temperature=0, max_tokens=48, stop=stop)
        streamed = "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1])
        self.assertEqual(streamed, text[:text.index(stop)])

    def test_a_seed_draws_the_same_text_and_another_seed_another(self):
        drawn = [self.text(max_tokens=24, temperature=1, seed=seed) for seed in (1, 1, 2)]
        self.assertEqual(drawn[0], drawn[1])
        self.assertNotEqual(drawn[0], drawn[2])

    def test_several_choices_are_several_texts(self):
        answer = self.chat(n=3, max_tokens=12, temperature=1, seed=5)
        texts = [choice["message"]["content"] for choice in answer["choices"]]
        self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1, 2])
        self.assertGreater(len(set(texts)), 1)
        self.assertEqual(texts[0], self.text(max_tokens=12, temperature=1, seed=5))
        self.assertEqual(answer["usage"]["completion_tokens"], 36)

    def test_logprobs_are_those_of_the_tokens(self):
        answer = self.chat(max_tokens=8, logprobs=True, top_logprobs=3)
        content = answer["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), 8)
        for token in content:
            self.assertLessEqual(token["logprob"], 0)
            self.assertEqual(len(token["top_logprobs"]), 3)
            # Greedily the likeliest is taken.
            self.assertEqual(token["top_logprobs"][0]["logprob"], token["logprob"])
            self.assertEqual(sorted((top["logprob"] for top in token["top_logprobs"]), reverse=True),
                             [top["logprob"] for top in token["top_logprobs"]])
        raw = b"".join(bytes(token["bytes"]) for token in content)
        self.assertEqual(raw.decode(errors="replace"), answer["choices"][0]["message"]["content"])

    def test_a_bias_forbids_and_favours_tokens(self):
        body = {"prompt": "Hello", "max_tokens": 4, "temperature": 0}
        favoured = self.server.post("/v1/completions", **body, logit_bias={"50": 100})[2]["choices"][0]["text"]
        self.assertEqual(favoured, favoured[:len(favoured) // 4] * 4)
        forbidden = self.server.post("/v1/completions", **body, logit_bias={"50": -100})[2]["choices"][0]["text"]
        self.assertNotEqual(favoured, forbidden)

    def test_answers_at_once_are_the_answers_alone(self):
        prompts = [[{"role": "user", "content": f"Tell me about number {index} and {'more ' * index}"}] for index in range(6)]

        def ask(messages):
            return self.server.post("/v1/chat/completions", messages=messages, temperature=0, max_tokens=40)[2]

        alone = [ask(messages)["choices"][0]["message"]["content"] for messages in prompts]
        together = [None] * len(prompts)

        def run(index):
            together[index] = ask(prompts[index])["choices"][0]["message"]["content"]

        before = self.server.metric("baton_step_batches_total"), self.server.metric("baton_steps_total")
        threads = [threading.Thread(target=run, args=(index,)) for index in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)
        batches = self.server.metric("baton_step_batches_total") - before[0]
        steps = self.server.metric("baton_steps_total") - before[1]
        self.assertGreater(steps, batches, "no two streams shared a batch")

    def test_what_is_not_supported_is_refused_by_name(self):
        tool = {"type": "function", "function": {"name": "f"}}
        for body, param in (({"tools": [tool]}, "tools"), ({"temperature": 9}, "temperature"),
                            ({"response_format": {"type": "grammar"}}, "response_format.type"),
                            ({"frobnicate": 1}, "frobnicate"), ({"max_tokens": 100000}, "max_tokens"),
                            ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
                            ({"messages": []}, "messages"), ({"top_logprobs": 2}, "top_logprobs")):
            status, _, answer = self.server.post("/v1/chat/completions", **{"messages": HELLO, **body})
            self.assertEqual(status, 400, answer)
            self.assertEqual(answer["error"]["param"], param, answer)
            self.assertEqual(answer["error"]["type"], "invalid_request_error")
        status, _, answer = self.server.request("POST", "/v1/chat/completions", {"model": "gpt-9", "messages": HELLO})
        self.assertEqual((status, answer["error"]["param"]), (404, "model"))
        status, _, answer = self.server.post("/v1/completions", prompt="word " * 9000)
        self.assertEqual(status, 400)
        self.assertIn("8192", answer["error"]["message"])
        # The template's own refusal reaches the client.
        status, _, answer = self.server.post("/v1/chat/completions", messages=[{"role": "user", "content": "no"}])
        self.assertEqual(status, 400)
        self.assertIn("never say no", answer["error"]["message"])

    def test_errors_have_the_codes_that_clients_look_for(self):
        def code(path="/v1/chat/completions", **body):
            status, _, answer = self.server.request("POST", path, {"model": "tiny", "messages": HELLO, **body})
            return status, answer["error"]["code"]

        self.assertEqual(code(model="gpt-9"), (404, "model_not_found"))
        self.assertEqual(self.server.request("GET", "/v1/models/gpt-9")[2]["error"]["code"], "model_not_found")
        long = [{"role": "user", "content": "word " * 9000}]
        self.assertEqual(code(messages=long), (400, "context_length_exceeded"))
        self.assertEqual(code(max_tokens=8190), (400, "context_length_exceeded"))
        self.assertEqual(code(temperature=9), (400, "invalid_argument"))

    def test_asking_for_no_function_asks_for_nothing(self):
        for body in ({"tools": []}, {"tool_choice": "none"}, {"tools": [], "tool_choice": "auto"}):
            self.assertEqual(self.server.post("/v1/chat/completions", messages=HELLO, max_tokens=2, **body)[0], 200)

    def test_more_choices_than_places_wait_for_each_other(self):
        answer = self.chat(n=12, max_tokens=4, temperature=1)
        self.assertEqual([choice["index"] for choice in answer["choices"]], list(range(12)))

    def test_ollamas_command_line_finds_a_server(self):
        status, _, content = self.server.request("HEAD", "/")
        self.assertEqual((status, content), (200, b""))
        self.assertEqual(self.server.request("GET", "/")[0], 200)
        model = self.server.request("GET", "/api/tags")[2]["models"][0]
        self.assertEqual(model["digest"], hashlib.sha256(self.model.read_bytes()).hexdigest())
        self.assertEqual(model["details"]["quantization_level"], "F16")
        shown = self.server.post("/api/show")[2]
        self.assertEqual(shown["model_info"]["llama.context_length"], 2048)
        self.assertEqual(shown["model_info"]["llama.embedding_length"], 64)
        # So it asks for a model to be loaded.
        loaded = self.server.post("/api/generate")[2]
        self.assertEqual((loaded["done"], loaded["done_reason"], loaded["response"]), (True, "load", ""))
        loaded = self.server.post("/api/chat", messages=[])[2]
        self.assertEqual((loaded["done_reason"], loaded["message"]["content"]), ("load", ""))

    def test_an_answer_may_go_on_from_its_beginning(self):
        whole = self.server.post("/v1/messages", messages=HELLO, max_tokens=16, temperature=0)[2]["content"][0]["text"]
        begun = whole[:len(whole) // 2].rstrip()
        messages = [*HELLO, {"role": "assistant", "content": begun + " "}]
        status, _, answer = self.server.post("/v1/messages", messages=messages, max_tokens=6, temperature=0)
        self.assertEqual(status, 200, answer)
        # That is what the template makes of it, without an end of the turn.
        prompt = f"[user] Hello there[assistant] {begun}"
        expected = self.server.post("/v1/completions", prompt=prompt, max_tokens=6, temperature=0)[2]["choices"][0]["text"]
        self.assertEqual(answer["content"][0]["text"], expected)
        status, _, answer = self.server.post("/v1/messages", messages=[*HELLO, {"role": "assistant", "content": " "}],
                                             max_tokens=4)
        self.assertEqual(status, 400, answer)

    def test_a_model_that_does_not_think_is_not_asked_to(self):
        for path, body in (("/v1/chat/completions", {"reasoning_effort": "high"}), ("/api/chat", {"think": True}),
                           ("/v1/messages", {"max_tokens": 2, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
                           ("/v1/responses", {"reasoning": {"effort": "low"}, "input": "x"})):
            status, _, answer = self.server.post(path, **({} if "input" in body else {"messages": HELLO}), **body)
            self.assertEqual(status, 400, answer)
            self.assertIn("does not think", json.dumps(answer))
        self.assertEqual(self.server.post("/api/chat", messages=HELLO, think=False, stream=False,
                                          options={"num_predict": 2})[0], 200)

    def test_models_are_listed(self):
        status, _, answer = self.server.request("GET", "/v1/models")
        self.assertEqual((status, [model["id"] for model in answer["data"]]), (200, ["tiny"]))
        self.assertEqual(self.server.request("GET", "/v1/models/tiny")[2]["object"], "model")
        self.assertEqual(self.server.request("GET", "/v1/models/other")[0], 404)
        self.assertEqual(self.server.request("GET", "/v1/models/t%69n%79")[0], 200)
        self.assertEqual(self.server.request("GET", "/health")[2], {"status": "ok"})

    def test_a_client_that_goes_away_frees_its_slot(self):
        free = self.server.metric("baton_kv_cells_free")
        connection = self.server.connect()
        connection.request("POST", "/v1/chat/completions",
                           json.dumps({"model": "tiny", "messages": HELLO, "stream": True, "max_tokens": 6000}))
        response = connection.getresponse()
        response.read(64)
        self.assertEqual(self.server.metric("baton_answers_running"), 1)
        response.close()
        connection.close()
        self.server.wait_for_metric("baton_answers_running", 0)
        self.server.wait_for_metric("baton_kv_cells_free", free)
        self.assertIsNotNone(self.server.metric('baton_answers_failed_total{reason="cancelled"}'))

    def test_more_cells_than_there_are_make_a_queue_and_no_error(self):
        large = self.server.connect()
        large.request("POST", "/v1/completions",
                      json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 7000, "stream": True}))
        large.getresponse().read(16)

        def ask(results, index):
            results[index] = self.server.post("/v1/completions", prompt=f"Number {index}", max_tokens=3000, temperature=0,
                                              stop=[" ", "a", "e"])[0]

        results = [None] * 3
        threads = [threading.Thread(target=ask, args=(results, index)) for index in range(3)]
        for thread in threads:
            thread.start()
        self.server.wait_for_metric("baton_answers_waiting", 3)
        large.close()
        for thread in threads:
            thread.join()
        self.assertEqual(results, [200] * 3)


class SlowTemplates(unittest.TestCase):
    """A template may compute for seconds. Who does not need it does not wait."""

    SLOW = TEMPLATE + ("{% if rounds %}{% set n = namespace(i=0) %}{% for a in range(rounds) %}{% for b in range(rounds) %}"
                       "{% set n.i = n.i + a %}{% endfor %}{% endfor %}{% endif %}")

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "chat.gguf"
        with_template(GOLDEN, cls.model, cls.SLOW)
        cls.server = ApiServer(cls.cluster, cls.model, "--ctx", "2048", "--quiet")

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        cls.cluster.__exit__()

    def ask_slowly(self):
        connection = self.server.connect()
        connection.request("POST", "/v1/chat/completions",
                           json.dumps({"model": "tiny", "messages": HELLO, "max_tokens": 2,
                                       "chat_template_kwargs": {"rounds": 20_000}}))
        return connection

    @staticmethod
    def has_answer(connection):
        return bool(select.select([connection.sock], [], [], 0)[0])

    def test_others_are_answered_meanwhile(self):
        slow = self.ask_slowly()
        for _ in range(20):
            self.assertEqual(self.server.request("GET", "/health")[0], 200)
        self.assertFalse(self.has_answer(slow), "the template was not slow")
        self.assertEqual(slow.getresponse().status, 500)
        slow.close()

    def test_streams_go_on_meanwhile(self):
        stream = self.server.connect()
        stream.request("POST", "/v1/completions",
                       json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 400, "stream": True}))
        answer = stream.getresponse()
        answer.readline()
        slow = self.ask_slowly()
        self.assertTrue(answer.read().endswith(b"data: [DONE]\n\n"))
        self.assertFalse(self.has_answer(slow), "the stream ended behind the template")
        slow.close()
        stream.close()

    def test_who_has_gone_is_not_worked_for(self):
        begun = time.monotonic()
        self.ask_slowly().getresponse().read()
        one_s = time.monotonic() - begun
        gone = [self.ask_slowly() for _ in range(12)]
        for connection in gone:
            connection.close()
        begun = time.monotonic()
        self.assertEqual(self.server.post("/v1/chat/completions", messages=HELLO, max_tokens=2)[0], 200)
        # Only the one that had begun was waited for.
        self.assertLess(time.monotonic() - begun, 6 * one_s)


class Hostile(ServedModel):
    """Bytes that no client of good will sends. The server answers what it can, and goes on serving."""

    # A token takes some 20 ms, on any machine, so that an answer of many can be caught at its work.
    FLAGS = ("--ctx", "2048", "--parallel", "1", "--queue", "1", "--emulate-tflops", "1", "--emulate-gbps", "0.4", "--speculate", "off")

    def tearDown(self):
        self.assertEqual(self.server.request("GET", "/health")[0], 200)
        self.assertIsNone(self.server.process.poll())

    def test_what_is_not_http_is_refused(self):
        for data, expected in ((b"nonsense\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
                               (b"GET / HTTP/9.9\r\n\r\n", 505), (b"GET /health HTTP/1.1\r\nbad header\r\n\r\n", 400)):
            self.assertEqual(status_of(self.server.raw(data)), expected, data)

    def test_the_bodies_of_all_clients_have_a_limit_together(self):
        announced = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n"
        clients = [socket.create_connection(("127.0.0.1", self.server.port), timeout=30) for _ in range(128)]
        try:
            for client in clients:
                client.sendall(announced)
            deadline = time.monotonic() + 20
            while (status := status_of(self.server.raw(announced, half_close=True))) != 503:
                self.assertLess(time.monotonic(), deadline, status)
            small = self.server.post("/v1/completions", prompt="Hello", max_tokens=2)
            self.assertEqual(small[0], 503, small)
            self.assertGreater(int(small[1]["Retry-After"]), 0)
        finally:
            for client in clients:
                client.close()
        deadline = time.monotonic() + 20
        while self.server.post("/v1/completions", prompt="Hello", max_tokens=2)[0] == 503:
            self.assertLess(time.monotonic(), deadline)

    def test_headers_and_bodies_have_a_limit(self):
        long_header = b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"
        self.assertEqual(status_of(self.server.raw(long_header)), 431)
        announced = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
        self.assertEqual(status_of(self.server.raw(announced)), 413)
        endless = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n"
        self.assertIn(status_of(self.server.raw(endless + b"a" * 1000)), (400, 413))

    def test_two_lengths_are_refused(self):
        both = (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n")
        self.assertEqual(status_of(self.server.raw(both)), 400)

    def test_a_slow_header_is_not_waited_for(self):
        answer = self.server.raw(b"GET /health HTTP/1.1\r\nX: ", timeout_s=60)
        self.assertEqual(status_of(answer), 408)

    def test_a_body_that_ends_early_costs_nothing(self):
        self.assertIn(status_of(self.server.raw(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{", half_close=True)), (None, 400))

    def test_json_that_is_none_is_refused(self):
        for body in ("", "{", "[]", "null", "\xff", "[" * 10_000, '{"model":"tiny","prompt":"\\ud800"}'):
            status, _, answer = self.server.request("POST", "/v1/completions", body.encode("latin-1"))
            self.assertEqual(status, 400, body[:20])
            self.assertIn("error", answer)

    def test_wrong_ways_are_named(self):
        self.assertEqual(self.server.request("GET", "/nothing")[0], 404)
        status, headers, _ = self.server.request("GET", "/v1/completions")
        self.assertEqual((status, headers["Allow"]), (405, "POST"))

    def test_pages_of_other_origins_are_not_answered(self):
        self.assertEqual(self.server.request("GET", "/v1/models", headers={"Origin": "https://evil.example"})[0], 403)
        self.assertEqual(self.server.request("GET", "/v1/models", headers={"Host": "evil.example"})[0], 403)

    def test_requests_may_follow_each_other_at_once(self):
        one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.assertEqual(self.server.raw(one * 5 + last).count(b"HTTP/1.1 200 OK"), 6)

    def test_old_clients_get_a_stream_without_chunks(self):
        body = json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 4, "stream": True}).encode()
        answer = self.server.raw(b"POST /v1/completions HTTP/1.0\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
        self.assertNotIn(b"chunked", answer)
        self.assertTrue(answer.endswith(b"data: [DONE]\n\n"), answer[-100:])

    def test_many_idle_connections_do_not_stop_the_others(self):
        idle = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(100)]
        self.assertEqual(self.server.request("GET", "/health")[0], 200)
        for connection in idle:
            connection.close()

    def test_a_full_queue_says_when_to_come_back(self):
        def start():
            connection = self.server.connect()
            connection.request("POST", "/v1/completions",
                               json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 1500, "stream": True}))
            return connection

        running = start()
        self.server.wait_for_metric("baton_answers_running", 1)
        waiting = start()
        self.server.wait_for_metric("baton_answers_waiting", 1)
        status, headers, answer = self.server.post("/v1/completions", prompt="Hello", max_tokens=5)
        self.assertEqual(status, 429, answer)
        self.assertGreater(int(headers["Retry-After"]), 0)
        for connection in (running, waiting):
            connection.close()
        self.server.wait_for_metric("baton_answers_running", 0)
        self.assertEqual(self.server.post("/v1/completions", prompt="Hello", max_tokens=5)[0], 200)


class WithoutATemplate(unittest.TestCase):
    def test_an_answer_says_what_the_model_can_do(self):
        with Cluster() as machines, ApiServer(machines, GOLDEN, "--quiet") as server:
            for path, body in (("/v1/chat/completions", {}), ("/v1/messages", {"max_tokens": 4}), ("/api/chat", {"stream": False})):
                status, _, answer = server.post(path, messages=HELLO, **body)
                self.assertEqual(status, 400, answer)
                said = json.dumps(answer)
                self.assertIn("only continue a text, as POST /v1/completions does: the model has no chat template", said)
                # Neither a flag nor a path of that machine is any of the client's business.
                self.assertNotIn("--", said)
                self.assertNotIn(str(GOLDEN), said)
            self.assertEqual(server.post("/v1/completions", prompt="Hello", max_tokens=4)[0], 200)


class Doors(unittest.TestCase):
    def test_other_machines_need_a_key(self):
        with Cluster() as machines:
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            command = [BATON, "up", str(model), "--api", "0.0.0.0:0", "--listen", "127.0.0.1:0", "--home",
                       str(machines.home("local"))]
            refused = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertEqual(refused.returncode, 2, refused.stderr)
            self.assertIn("--api-key-file", refused.stderr)
            # Nothing was begun that would be left behind.
            nodes = subprocess.run([BATON, "nodes", "--home", str(machines.home("local"))], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, timeout=60)
            self.assertIn("belongs to no cluster", nodes.stderr)
            keys = machines.folder / "keys"
            keys.write_text("# who may ask\nthe-first-key-of-all\n")
            with ApiServer(machines, model, "--api-key-file", str(keys)) as server:
                self.assertEqual(server.request("GET", "/v1/models")[0], 401)
                self.assertEqual(server.request("GET", "/health")[0], 200)
                allowed = server.request("GET", "/v1/models", headers={"Authorization": "Bearer the-first-key-of-all"})
                self.assertEqual(allowed[0], 200)

    def test_keys_are_made_and_taken_back_while_it_runs(self):
        with Cluster() as machines:
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            home = machines.home("local")

            def key(*arguments):
                return subprocess.run([BATON, "key", *arguments, "--home", str(home)], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, timeout=60)

            made = key("create", "laptop")
            self.assertEqual(made.returncode, 0, made.stderr)
            first = made.stdout.strip()
            self.assertNotEqual(key("create", "laptop").returncode, 0)
            self.assertNotIn(first, (home / "api-keys").read_text())
            self.assertEqual((home / "api-keys").stat().st_mode & 0o777, 0o600)
            with ApiServer(machines, model, api="0.0.0.0:0") as server:

                def status(sent):
                    return server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {sent}"})[0]

                self.assertEqual([status(first), status("baton-" + "a" * 32)], [200, 401])
                second = key("create", "phone").stdout.strip()
                self.assertEqual(status(second), 200)
                self.assertRegex(key("ls").stdout, r"^.* laptop\n.* phone\n$")
                self.assertEqual(key("rm", "laptop").returncode, 0)
                self.assertEqual([status(first), status(second)], [401, 200])
                self.assertEqual(key("rm", "phone").returncode, 0)
                # No key at all is no open door.
                self.assertEqual(status(second), 401)
            self.assertNotEqual(key("rm", "nobody").returncode, 0)

    def test_pages_are_answered_whose_origin_is_named(self):
        with Cluster() as machines:
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            keys = machines.folder / "keys"
            keys.write_text("the-first-key-of-all\n")
            with ApiServer(machines, model, "--api-key-file", str(keys), "--allow-origin", "https://chat.example") as server:
                origin = {"Origin": "https://chat.example"}
                asked = {**origin, "Access-Control-Request-Method": "POST",
                         "Access-Control-Request-Headers": "authorization, content-type"}
                status, headers, _ = server.request("OPTIONS", "/v1/chat/completions", headers=asked)
                self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "https://chat.example"))
                self.assertEqual(headers["Access-Control-Allow-Headers"], "authorization, content-type")
                status, headers, _ = server.request("GET", "/v1/models", headers=origin)
                self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (401, "https://chat.example"))
                allowed = {**origin, "Authorization": "Bearer the-first-key-of-all"}
                self.assertEqual(server.request("GET", "/v1/models", headers=allowed)[0], 200)
                for other in ("https://evil.example", "null", "https://chat.example.evil"):
                    status, headers, _ = server.request("GET", "/v1/models", headers={**allowed, "Origin": other})
                    self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (403, None))
                    self.assertNotEqual(server.request("OPTIONS", "/v1/models", headers={**asked, "Origin": other})[0], 204)

    def test_a_second_port_answers_too(self):
        with Cluster() as machines, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            with where_it_was(lambda: ApiServer(machines, model, "--ollama-port", str(port))) as server:
                first = server.request("GET", "/api/tags")[2]
                server.port = port
                self.assertEqual(server.request("GET", "/api/tags")[2], first)

    def test_a_request_may_be_prefilled_elsewhere(self):
        with Cluster() as machines:
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            node = machines.node("A", model=model)
            body = {"messages": [{"role": "user", "content": "Tell me a long story about numbers"}], "temperature": 0,
                    "max_tokens": 20}
            with ApiServer(machines, model) as alone:
                expected = alone.post("/v1/chat/completions", **body)[2]["choices"][0]["message"]
            with ApiServer(machines, model, "--prefill-on", node.address) as server:
                status, _, answer = server.post("/v1/chat/completions", **body)
                self.assertEqual((status, answer["choices"][0]["message"]), (200, expected))
                self.assertEqual(server.metric("baton_prefill_pieces_total"), 0)
                node.stop()
                machines.nodes.remove(node)
                # The other node is gone: the answer is the same.
                status, _, answer = server.post("/v1/chat/completions", **body)
                self.assertEqual((status, answer["choices"][0]["message"]), (200, expected))

    def test_the_end_of_the_server_ends_its_answers(self):
        with Cluster() as machines:
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            with ApiServer(machines, model) as server:
                connection = server.connect()
                connection.request("POST", "/v1/completions",
                                   json.dumps({"model": "tiny", "prompt": "Hello", "max_tokens": 3000, "stream": True}))
                response = connection.getresponse()
                response.read(64)
                server.process.terminate()
                self.assertEqual(server.process.wait(timeout=20), 0)
                connection.close()


class Clients(unittest.TestCase):
    """The clients that people use, as they are published."""

    def test_the_clients_of_others(self):
        with Cluster() as machines:
            work = machines.folder / "clients"
            npm.install(ROOT / "tests/clients", work)
            model = machines.folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            with ApiServer(machines, model) as server:
                npm.run_tests(work, sorted(path.name for path in work.glob("*.test.js")), BATON_API=server.url)


if __name__ == "__main__":
    unittest.main()
