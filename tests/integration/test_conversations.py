import contextlib
import unittest

from api_server import ApiServer
from cluster import Cluster
from test_chat import with_template

# As models do that think aloud: of an earlier answer only what follows its reasoning is put into the prompt.
TEMPLATE = ("{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content.split('</think>')[-1] | trim }}{% endfor %}"
            "{% if add_generation_prompt %}[assistant]{% endif %}")
QUESTION = {"role": "user", "content": "Tell me about the sea, the wind above it and the birds that live between them"}
NEXT_QUESTION = {"role": "user", "content": "And the ships?"}


class Conversations(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "chat.gguf"
        with_template(cls.cluster.model, cls.model, TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    @contextlib.contextmanager
    def served(self, *flags):
        with ApiServer(self.cluster, self.model, "--ctx", "2048", "--quiet", *flags) as server:
            yield server

    def chat(self, server, *messages, **body):
        """The answer's text, its prompt's tokens, and those that were kept."""
        status, _, answer = server.post("/v1/chat/completions", messages=list(messages),
                                        **{"temperature": 0, "max_tokens": 24, **body})
        self.assertEqual(status, 200, answer)
        usage = answer["usage"]
        return (answer["choices"][0]["message"]["content"], usage["prompt_tokens"],
                usage["prompt_tokens_details"]["cached_tokens"])

    def of_a_fresh_process(self, *messages):
        with self.served() as server:
            text, _, kept = self.chat(server, *messages)
            self.assertEqual(kept, 0)
            return text

    def test_a_second_turn_reads_only_what_is_new(self):
        with self.served() as server:
            answer, first_tokens, kept = self.chat(server, QUESTION)
            self.assertEqual(kept, 0)
            turn = [QUESTION, {"role": "assistant", "content": answer}, NEXT_QUESTION]
            text, tokens, kept = self.chat(server, *turn)
            self.assertGreaterEqual(kept, first_tokens)
            self.assertLess(kept, tokens)
            self.assertEqual(server.metric("baton_prompt_tokens_cached_total"), kept)
            self.assertGreater(server.metric("baton_kv_cells_kept"), 0)
            self.assertEqual(server.metric("baton_kv_cells_free"), server.metric("baton_kv_cells"))
        self.assertEqual(text, self.of_a_fresh_process(*turn))

    def test_an_answer_without_its_reasoning_is_read_again(self):
        with self.served() as server:
            reasoning, first_tokens, _ = self.chat(server, QUESTION)
            turn = [QUESTION, {"role": "assistant", "content": reasoning + "</think>It is deep."}, NEXT_QUESTION]
            text, tokens, kept = self.chat(server, *turn)
            self.assertGreaterEqual(kept, first_tokens - 8, "the prompt before the answer")
            self.assertLess(kept, tokens - 8, "and not what follows the question")
        self.assertEqual(text, self.of_a_fresh_process(*turn))

    def test_two_nodes_send_only_what_is_new(self):
        node = self.cluster.node("A", model=self.model, context=2048)
        with self.served("--prefill-on", node.address) as server:
            answer, _, _ = self.chat(server, QUESTION)
            turn = [QUESTION, {"role": "assistant", "content": answer}, NEXT_QUESTION]
            text, tokens, kept = self.chat(server, *turn)
            self.assertGreater(kept, tokens // 2)
            again, _, kept = self.chat(server, *turn)
            self.assertGreater(kept, tokens * 3 // 4)
        self.assertEqual(text, self.of_a_fresh_process(*turn))
        self.assertEqual(again, text)

    def test_every_api_tells_what_was_kept(self):
        with self.served() as server:
            self.chat(server, QUESTION)
            message = server.post("/v1/messages", messages=[QUESTION], max_tokens=8, temperature=0)[2]["usage"]
            self.assertGreater(message["cache_read_input_tokens"], 0)
            self.assertEqual(message["input_tokens"], 1, "the last token of a prompt is always computed")
            response = server.post("/v1/responses", input=QUESTION["content"], max_output_tokens=16)[2]["usage"]
            self.assertEqual(response["input_tokens_details"]["cached_tokens"], response["input_tokens"] - 1)

    def test_kept_texts_make_room(self):
        with self.served() as server:
            for number in range(12):
                question = {"role": "user", "content": f"{number} is a number, is it not? " * 4}
                self.chat(server, question, max_tokens=300)
            text, _, kept = self.chat(server, question)
            self.assertGreater(kept, 0)


if __name__ == "__main__":
    unittest.main()
