"""Embeddings, reranking and filling in, over HTTP."""

import base64
import json
import math
import struct
import subprocess
import threading
import unittest

from api_server import ApiServer
from cluster import BATON, Cluster
from gguf_file import GgufFile
from test_chat import GOLDEN

WIDTH = 64
LAYERS = 4
HEAD_WIDTH = 16
CONTEXT = 1024
PAIR = "<s>{query} or {document}"


def dot(left, right):
    return sum(a * b for a, b in zip(left, right))


def as_qwen3(model):
    """The same weights as Qwen3 has them: its norms of queries and keys leave the numbers' size as it is."""
    model.rename_keys("llama.", "qwen3.")
    model.set("general.architecture", "qwen3")
    for layer in range(LAYERS):
        for name in ("attn_q_norm", "attn_k_norm"):
            model.set_floats(f"blk.{layer}.{name}.weight", (HEAD_WIDTH,), [1.0] * HEAD_WIDTH)
    # So that every row behind the norm has the length sqrt(WIDTH).
    model.set_floats("output_norm.weight", (WIDTH,), [1.0] * WIDTH)


class Served(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "model.gguf"
        model = GgufFile(GOLDEN)
        cls.change(model)
        model.write(cls.model)
        cls.server = ApiServer(cls.cluster, cls.model, "--ctx", str(CONTEXT), "--quiet")

    @classmethod
    def change(cls, model):
        pass

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        cls.cluster.__exit__()

    def embed(self, text, **body):
        status, _, answer = self.server.post("/v1/embeddings", input=text, **body)
        self.assertEqual(status, 200, answer)
        return [item["embedding"] for item in answer["data"]]

    def tokens(self, text):
        made = subprocess.run([BATON, "tokenize", str(self.model), "--text", text], stdout=subprocess.PIPE, check=True)
        return [int(word) for word in made.stdout.split()]

    def refused(self, path, **body):
        status, _, answer = self.server.post(path, **body)
        self.assertEqual(status, 400, answer)
        return answer["error"]


class Embeddings(Served):
    def test_a_vector_has_length_one_and_is_the_texts_own(self):
        first, second, again = self.embed(["The sea is deep", "Numbers", "The sea is deep"])
        self.assertEqual(len(first), WIDTH)
        self.assertAlmostEqual(dot(first, first), 1, places=5)
        self.assertEqual(first, again)
        self.assertEqual([second], self.embed("Numbers"))
        self.assertLess(dot(first, second), 0.999)

    def test_base64_holds_the_same_floats(self):
        floats = self.embed("The sea")[0]
        packed = base64.b64decode(self.embed("The sea", encoding_format="base64")[0])
        for value, expected in zip(struct.unpack(f"<{WIDTH}f", packed), floats):
            self.assertAlmostEqual(value, expected, places=6)

    def test_fewer_dimensions_are_the_first_ones(self):
        whole = self.embed("The sea")[0]
        short = self.embed("The sea", dimensions=8)[0]
        length = math.sqrt(dot(whole[:8], whole[:8]))
        for value, expected in zip(short, whole[:8]):
            self.assertAlmostEqual(value, expected / length, places=5)
        self.assertEqual(len(short), 8)

    def test_tokens_may_come_in_place_of_texts(self):
        ids = [1, *self.tokens("The sea is deep")]
        text = self.embed("The sea is deep")
        self.assertEqual(self.embed(ids), text)
        self.assertEqual(self.embed([ids, [1, 5]])[0], text[0])
        status, _, answer = self.server.post("/v1/embeddings", input=[ids, [1, 5]])
        self.assertEqual(answer["usage"]["prompt_tokens"], len(ids) + 2)

    def test_a_text_of_many_chunks_is_one_text(self):
        # The last token has seen the first: another beginning is another vector.
        long = "word " * 150
        first, second = self.embed(["One " + long, "Two " + long])
        self.assertNotEqual(first, second)

    def test_what_is_wrong_is_named(self):
        for body, param in (({}, "input"), ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": [5, "x"]}, "input"),
                            ({"input": ["a", ""]}, "input[1]"), ({"input": [10**9]}, "input"),
                            ({"input": "x", "dimensions": 65}, "dimensions"),
                            ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
                            ({"input": "x", "frobnicate": 1}, "frobnicate")):
            self.assertEqual(self.refused("/v1/embeddings", **body)["param"], param, body)
        long = self.refused("/v1/embeddings", input="word " * 2000)
        self.assertEqual(long["code"], "context_length_exceeded")

    def test_ollamas_clients_get_theirs(self):
        expected = self.embed(["The sea", "Numbers"])
        status, _, answer = self.server.post("/api/embed", input=["The sea", "Numbers"], keep_alive="5m")
        self.assertEqual((status, answer["embeddings"]), (200, expected))
        self.assertEqual(answer["model"], "tiny")
        self.assertGreater(answer["prompt_eval_count"], 2)
        status, _, answer = self.server.post("/api/embeddings", prompt="The sea")
        self.assertEqual((status, answer["embedding"]), (200, expected[0]))
        # What is too long is cut, as these clients expect, unless they say otherwise.
        status, _, answer = self.server.post("/api/embed", input="word " * 2000)
        self.assertEqual((status, answer["prompt_eval_count"]), (200, CONTEXT))
        self.assertEqual(self.server.post("/api/embed", input="word " * 2000, truncate=False)[0], 400)

    def test_streams_go_on_meanwhile(self):
        body = {"prompt": "Hello", "temperature": 0, "max_tokens": 200}
        alone = self.server.post("/v1/completions", **body)[2]["choices"][0]["text"]
        beside = []
        thread = threading.Thread(
            target=lambda: beside.append(self.server.post("/v1/completions", **body)[2]["choices"][0]["text"]))
        thread.start()
        vectors = self.embed(["word " * 100] * 4)
        thread.join()
        self.assertEqual(beside, [alone])
        self.assertEqual(vectors, self.embed("word " * 100) * 4)

    def test_nothing_is_left_behind(self):
        free = self.server.metric("baton_kv_cells_free")
        connection = self.server.connect()
        connection.request("POST", "/v1/embeddings", json.dumps({"model": "tiny", "input": ["word " * 150] * 500}))
        self.server.wait_for_metric("baton_kv_cells_free", free - 256)
        connection.close()
        self.server.wait_for_metric("baton_kv_cells_free", free)
        self.assertGreater(self.server.metric("baton_embedded_tokens_total"), 0)

    def test_a_model_that_is_no_reranker_says_what_is_needed(self):
        error = self.refused("/v1/rerank", query="sea", documents=["a"])
        self.assertIn("reranker", error["message"])

    def test_a_model_without_such_tokens_fills_nothing_in(self):
        self.assertEqual(self.refused("/v1/completions", prompt="a", suffix="b")["param"], "suffix")
        self.assertEqual(self.server.post("/api/generate", prompt="a", suffix="b", stream=False)[0], 400)


class MeanEmbeddings(Served):
    @classmethod
    def change(cls, model):
        as_qwen3(model)
        model.set("qwen3.pooling_type", 1)

    def test_the_vector_is_the_mean_of_the_rows(self):
        # Each prefix's last row is the text's row there, and all rows have the same length.
        ids = [1, *self.tokens("The sea is deep")]
        with self.subTest("of one token"):
            self.assertAlmostEqual(dot(self.embed([1])[0], self.embed([[1]])[0]), 1, places=5)
        copy = GgufFile(self.model)
        copy.set("qwen3.pooling_type", 3)
        last = self.cluster.folder / "last.gguf"
        copy.write(last)
        with Cluster() as other, ApiServer(other, last, "--ctx", str(CONTEXT), "--quiet") as server:
            answer = server.post("/v1/embeddings", input=[ids[:end] for end in range(1, len(ids) + 1)])[2]
        rows = [item["embedding"] for item in answer["data"]]
        mean = [sum(column) / len(rows) for column in zip(*rows)]
        length = math.sqrt(dot(mean, mean))
        for value, expected in zip(self.embed(ids)[0], mean):
            self.assertAlmostEqual(value, expected / length, places=2)


class Reranker(Served):
    weights = [math.sin(index) / 2 for index in range(WIDTH)]

    @classmethod
    def change(cls, model):
        as_qwen3(model)
        model.set("qwen3.pooling_type", 4)
        model.set("tokenizer.chat_template.rerank", PAIR)
        model.set_floats("cls.output.weight", (WIDTH, 2), [*cls.weights, *[0.0] * WIDTH])

    def test_documents_come_in_the_order_of_their_scores(self):
        documents = ["The sea is deep", "Numbers", {"text": "</s> is only text here"}, "Sand"]
        status, _, answer = self.server.post("/v1/rerank", query="What is the sea?", documents=documents,
                                             return_documents=True)
        self.assertEqual(status, 200, answer)
        results = answer["results"]
        self.assertEqual(sorted(result["index"] for result in results), [0, 1, 2, 3])
        scores = [result["relevance_score"] for result in results]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertGreater(len(set(scores)), 1)
        for result in results:
            document = documents[result["index"]]
            self.assertEqual(result["document"]["text"], document["text"] if isinstance(document, dict) else document)
        self.assertGreater(answer["usage"]["total_tokens"], 10)
        top = self.server.post("/v1/rerank", query="What is the sea?", documents=documents, top_n=2)[2]["results"]
        self.assertEqual([result["index"] for result in top], [result["index"] for result in results][:2])
        self.assertNotIn("document", top[0])

    def test_scores_are_the_heads(self):
        document = "The sea is deep"
        score = self.server.post("/v1/rerank", query="sea", documents=[document])[2]["results"][0]["relevance_score"]
        copy = GgufFile(self.model)
        copy.set("qwen3.pooling_type", 3)
        last = self.cluster.folder / "last.gguf"
        copy.write(last)
        text = PAIR.replace("<s>", "").format(query="sea", document=document)
        with Cluster() as other, ApiServer(other, last, "--ctx", str(CONTEXT), "--quiet") as server:
            row = server.post("/v1/embeddings", input=text)[2]["data"][0]["embedding"]
        logit = dot(self.weights, row) * math.sqrt(WIDTH)
        self.assertAlmostEqual(score, 1 / (1 + math.exp(-logit)), places=3)

    def test_what_is_wrong_is_named(self):
        for body, param in (({"documents": ["a"]}, "query"), ({"query": "a"}, "documents"),
                            ({"query": "a", "documents": []}, "documents"),
                            ({"query": "a", "documents": [1]}, "documents[0]"),
                            ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n")):
            self.assertEqual(self.refused("/v1/rerank", **body)["param"], param, body)
        self.assertIn("/v1/rerank", self.refused("/v1/embeddings", input="x")["message"])


class FillIn(Served):
    @classmethod
    def change(cls, model):
        for name, token in (("pre", 300), ("suf", 301), ("mid", 302)):
            model.set(f"tokenizer.ggml.fim_{name}_token_id", token)

    def test_a_text_is_filled_in_between_its_marks(self):
        before, behind = "def add(a, b):", "print(add(1, 2))"
        prompt = [1, 300, *self.tokens(before), 301, *self.tokens(behind), 302]
        options = {"temperature": 0, "max_tokens": 12}
        expected = self.server.post("/v1/completions", prompt=prompt, **options)[2]
        filled = self.server.post("/v1/completions", prompt=before, suffix=behind, **options)[2]
        self.assertEqual(filled["choices"][0]["text"], expected["choices"][0]["text"])
        self.assertEqual(filled["usage"]["prompt_tokens"], len(prompt))
        ollama = self.server.post("/api/generate", prompt=before, suffix=behind, stream=False,
                                  options={"temperature": 0, "num_predict": 12, "repeat_penalty": 1})[2]
        self.assertEqual(ollama["response"], expected["choices"][0]["text"])
        self.assertIn("insert", self.server.post("/api/show")[2]["capabilities"])
        self.assertEqual(self.refused("/v1/completions", prompt=["a"], suffix="b")["param"], "suffix")


if __name__ == "__main__":
    unittest.main()
