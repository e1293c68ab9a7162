"""GET /api/requests: what runs, waits and has ended, and DELETE, which cancels it."""

import contextlib
import json
import pathlib
import tempfile
import unittest

from api_server import ApiServer, ServedModel
from cluster import Cluster
from test_chat import GOLDEN, TEMPLATE, with_template
from test_cluster import wait_for

SECRET = "Nobody may ever read these words"
MOST_ENDED = 256


class Requests(ServedModel):
    FLAGS = ("--ctx", "8192", "--parallel", "1", "--queue", "64")

    def rows(self):
        status, headers, answer = self.server.request("GET", "/api/requests")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        return answer["requests"]

    def row(self, number):
        status, _, answer = self.server.request("GET", f"/api/requests/{number}")
        self.assertEqual(status, 200, answer)
        return answer

    def cancel(self, number):
        return self.server.request("DELETE", f"/api/requests/{number}")

    def newest(self):
        return self.rows()[-1]

    def begin(self, tokens=6000, **body):
        """A stream of an answer that takes long."""
        connection = self.server.connect()
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": "tiny", "messages": [{"role": "user", "content": SECRET}], "stream": True, "max_tokens": tokens, **body}))
        return connection

    def problem(self, method, path):
        status, headers, answer = self.server.request(method, path)
        self.assertEqual(headers["Content-Type"], "application/problem+json")
        problem = json.loads(answer)
        self.assertEqual(problem["status"], status)
        return problem

    def test_a_running_stream_is_seen_and_a_queued_one(self):
        running = self.begin()
        running.getresponse().read(64)
        wait_for(lambda: self.newest()["state"] == "decoding", "its first token", 10)
        first = self.newest()
        self.assertEqual((first["state"], first["model"], first["endpoint"], first["client"]),
                         ("decoding", "tiny", "/v1/chat/completions", "127.0.0.1"))
        self.assertEqual((first["shape"], first["most_new_tokens"]), ("single", 6000))
        self.assertGreater(first["prompt_tokens"], 5)
        self.assertGreater(first["first_token_s"], 0)
        # This node plans every request, also where it is alone.
        self.assertGreater(first["predicted_total_s"], 0)
        wait_for(lambda: self.row(first["id"])["new_tokens"] > first["new_tokens"], "more is written", 10)
        self.assertGreater(self.row(first["id"])["total_s"], first["total_s"])
        queued = self.begin(tokens=5)
        self.server.wait_for_metric("baton_answers_waiting", 1)
        second = self.newest()
        self.assertEqual((second["state"], second["new_tokens"]), ("queued", 0))
        self.assertNotIn("plan", second)
        wait_for(lambda: self.row(second["id"])["queue_s"] > second["queue_s"], "it waits", 10)
        running.close()
        self.assertEqual(queued.getresponse().read().decode().strip()[-6:], "[DONE]")
        ended = self.row(second["id"])
        self.assertEqual((ended["state"], ended["new_tokens"]), ("ended", 5))
        self.assertGreater(ended["queue_s"], 0)
        self.assertEqual(self.row(first["id"])["state"], "cancelled")
        # /api/plan reads the same book.
        planned = self.server.request("GET", "/api/plan")[2]["answers"][-1]
        self.assertEqual((planned["answer"], planned["total_s"]), (ended["id"], ended["total_s"]))

    def test_who_is_cancelled_stops_and_its_place_is_free(self):
        free = self.server.metric("baton_kv_cells_free")
        running = self.begin()
        response = running.getresponse()
        response.read(64)
        queued = self.begin(stream=False)
        self.server.wait_for_metric("baton_answers_waiting", 1)
        first, second = self.rows()[-2:]
        wait_for(lambda: self.row(first["id"])["new_tokens"] > 0, "its first token", 10)
        status, _, answer = self.cancel(second["id"])
        self.assertEqual((status, answer["state"], answer["error"]["code"]), (200, "cancelled", "cancelled"))
        refused = queued.getresponse()
        self.assertEqual(refused.status, 503)
        # Clients that ask again by themselves are told not to.
        self.assertEqual((refused.getheader("x-should-retry"), refused.getheader("Retry-After")), ("false", None))
        self.assertIn("cancelled", json.loads(refused.read())["error"]["message"])
        status, _, answer = self.cancel(first["id"])
        self.assertEqual((status, answer["state"]), (200, "cancelled"))
        self.assertGreater(answer["new_tokens"], 0)
        self.assertIn("somebody has cancelled the request", response.read().decode())
        self.server.wait_for_metric("baton_answers_running", 0)
        self.server.wait_for_metric("baton_kv_cells_free", free)
        self.assertEqual(self.row(first["id"])["new_tokens"], answer["new_tokens"])
        # What has ended stays as it ended.
        status, _, again = self.cancel(first["id"])
        self.assertEqual((status, again["new_tokens"]), (200, answer["new_tokens"]))

    def test_answers_to_one_request_end_together(self):
        several = self.begin(n=2)
        several.getresponse().read(64)
        first, second = self.rows()[-2:]
        self.assertEqual(first["request"], second["request"])
        self.assertEqual(first["request"], first["id"])
        self.assertEqual(self.cancel(second["id"])[0], 200)
        # The other ends, too, and says why.
        for row in (first, second):
            ended = self.row(row["id"])
            self.assertEqual((ended["state"], ended["error"]["message"]), ("cancelled", "somebody has cancelled the request"))

    def test_nobodys_words_are_told(self):
        status, _, answer = self.server.post("/v1/chat/completions", max_tokens=8,
                                             messages=[{"role": "user", "content": SECRET}])
        self.assertEqual(status, 200, answer)
        shown = json.dumps(self.rows())
        self.assertNotIn("Nobody", shown)
        self.assertNotIn(json.dumps(answer["choices"][0]["message"]["content"])[1:-1], shown)

    def test_so_many_that_ended_are_kept_and_no_more(self):
        for _ in range(MOST_ENDED // 32 + 1):
            status, _, answer = self.server.post("/v1/completions", prompt=[[300]] * 4, n=8, max_tokens=1)
            self.assertEqual(status, 200, answer)
        rows = self.rows()
        self.assertEqual(len(rows), MOST_ENDED)
        self.assertEqual({row["state"] for row in rows}, {"ended"})
        ids = [row["id"] for row in rows]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual(self.problem("GET", f"/api/requests/{ids[0] - 1}")["status"], 404)

    def test_what_is_unknown_is_a_problem(self):
        for path in ("/api/requests/999999999", "/api/requests/x", "/api/requests/-1", "/api/requests/7/tokens",
                     "/api/requests/99999999999999999999999"):
            for method in ("GET", "DELETE"):
                problem = self.problem(method, path)
                self.assertEqual((problem["type"], problem["title"], problem["status"], problem["code"]),
                                 ("about:blank", "Not Found", 404, "not_found"))
                self.assertIn(path.split("/", 3)[3], problem["detail"])
        self.assertEqual(self.problem("POST", "/api/requests")["status"], 405)
        self.assertEqual(self.problem("GET", "/api/requests/")["status"], 404)
        self.assertEqual(self.problem("POST", "/api/plan")["code"], "invalid_argument")


class Guarded(unittest.TestCase):
    def test_others_requests_are_seen_and_cancelled_by_whoever_may(self):
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            keys = folder / "keys"
            keys.write_text("a-key-of-some-length\n")
            model = folder / "chat.gguf"
            with_template(GOLDEN, model, TEMPLATE)
            headers = {"Authorization": "Bearer a-key-of-some-length"}
            for flags, expected in (((), 403), (("--api-models",), 200)):
                machines = stack.enter_context(Cluster())
                with ApiServer(machines, model, "--api-key-file", str(keys), *flags, api="0.0.0.0:0") as server:
                    done = server.request("POST", "/v1/completions", {"model": "tiny", "prompt": "x", "max_tokens": 2}, headers)
                    self.assertEqual(done[0], 200)
                    self.assertEqual(server.request("GET", "/api/requests")[0], 401)
                    row = server.request("GET", "/api/requests", headers=headers)[2]["requests"][-1]
                    self.assertTrue(row["client"].startswith("key "), row)
                    self.assertNotIn("a-key-of-some-length", json.dumps(row))
                    status, sent, answer = server.request("DELETE", f"/api/requests/{row['id']}", headers=headers)
                    self.assertEqual(status, expected, answer)
                    if expected == 403:
                        self.assertEqual(sent["Content-Type"], "application/problem+json")
                        self.assertIn("--api-models", json.loads(answer)["detail"])


if __name__ == "__main__":
    unittest.main()
