"""Answers that must have a form: JSON, schemas and calls of functions. The model writes nonsense, so whatever is right
about an answer is the server's doing."""

import json
import unittest

import npm
from api_server import ApiServer
from cluster import ROOT, Cluster
from test_chat import GOLDEN, with_template

try:
    import jsonschema
except ImportError:
    jsonschema = None

HELLO = [{"role": "user", "content": "Hello there"}]
TEMPLATES = ROOT / "tests/reference/templates"
# Hot, so that every token that may come does come.
HOT = {"temperature": 2, "max_tokens": 300}
WEATHER = {"type": "object", "additionalProperties": False, "required": ["city", "days"],
           "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 14},
                          "unit": {"enum": ["C", "F"]}}}
CLOCK = {"type": "object", "properties": {"zone": {"type": "string", "enum": ["UTC", "CET"]}}, "required": ["zone"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Tells the weather", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "clock", "description": "Tells the time", "parameters": CLOCK}}]
# Lists of numbers and lists, as JSON has them.
NUMBERS = r"""
root ::= list
list ::= "[" ( item ("," " "? item)* )? "]"
item ::= [1-9] [0-9]{0,3} | list
"""
SCHEMAS = {
    "person": {"type": "object", "required": ["name", "age"],
               "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 20}, "age": {"type": "integer", "minimum": 0,
                              "maximum": 150}, "email": {"type": ["string", "null"], "maxLength": 8}}},
    "list": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 6},
    "tuple": {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["a", "b c", "\"\\"]}], "items": False, "minItems": 2},
    "nested": {"type": "object", "properties": {"rows": {"type": "array", "maxItems": 3, "items": {
        "type": "object", "properties": {"k": {"type": "string", "maxLength": 4}, "v": {"type": "number", "minimum": -1.5,
                                         "maximum": 99}}, "required": ["v"], "additionalProperties": False}}}, "required": ["rows"]},
    "union": {"anyOf": [{"type": "integer", "exclusiveMinimum": 9, "maximum": 105}, {"const": {"a": [1, None]}}, {"type": "null"}]},
    "either": {"oneOf": [{"type": "object", "properties": {"kind": {"const": "x"}, "n": {"type": "integer"}},
                          "required": ["kind", "n"], "additionalProperties": False},
                         {"type": "object", "properties": {"kind": {"const": "y"}}, "required": ["kind"]}]},
    "tree": {"$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"}, "children": {
        "type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}}, "required": ["value", "children"]}},
        "$ref": "#/$defs/node"},
    "others": {"type": "object", "properties": {"fixed": {"const": 1}}, "required": ["fixed"],
               "additionalProperties": {"type": "string", "maxLength": 3}},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2,4}-\\d{3}(\\.[a-z]+)?$"},
    "loose": {"type": "string", "pattern": "x\\d"},
    "moment": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}, "id": {
        "type": "string", "format": "uuid"}}, "required": ["at", "id"]},
    "anything": {},
}


def template(name):
    return (TEMPLATES / f"{name}.jinja").read_text()


class Forms(unittest.TestCase):
    name = "qwen25"
    # A model that may think goes on about nothing until its room is nearly used up.
    ends = ("tool_calls",)

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster().__enter__()
        cls.model = cls.cluster.folder / "tools.gguf"
        with_template(GOLDEN, cls.model, template(cls.name))
        cls.server = ApiServer(cls.cluster, cls.model, "--ctx", "8192", "--quiet")

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()
        cls.cluster.__exit__()

    def chat(self, **body):
        status, _, answer = self.server.post("/v1/chat/completions", **{"messages": HELLO, **HOT, **body})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]

    def stream(self, **body):
        """The message that the pieces of a stream add up to, and why it ended."""
        message = {}
        for event in self.server.events("/v1/chat/completions", **{"messages": HELLO, **HOT, **body})[:-1]:
            choice = json.loads(event)["choices"][0]
            for name in ("content", "reasoning_content"):
                if choice["delta"].get(name):
                    message[name] = message.get(name, "") + choice["delta"][name]
            for call in choice["delta"].get("tool_calls", []):
                self.assertEqual(call["index"], len(message.setdefault("tool_calls", [])))
                message["tool_calls"].append({name: call[name] for name in ("id", "type", "function")})
        return message, choice["finish_reason"]

    def check_calls(self, message, names=("get_weather", "clock")):
        self.assertTrue(message.get("tool_calls"), message)
        for call in message["tool_calls"]:
            self.assertIn(call["function"]["name"], names)
            schema = WEATHER if call["function"]["name"] == "get_weather" else CLOCK
            jsonschema.validate(json.loads(call["function"]["arguments"]), schema)


@unittest.skipIf(jsonschema is None, "python3-jsonschema is not installed: nothing can be held against a schema")
class Json(Forms):
    def test_every_answer_is_valid_by_its_schema(self):
        for name, schema in SCHEMAS.items():
            for seed in range(5):
                format = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
                choice = self.chat(response_format=format, seed=seed)
                with self.subTest(schema=name, seed=seed, answer=choice["message"]["content"]):
                    value = json.loads(choice["message"]["content"])
                    jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())

    def test_an_answer_is_whole_where_the_room_is_short(self):
        schema = {"type": "object", "properties": {"story": {"type": "string"}, "more": {"type": "array"}},
                  "required": ["story", "more"]}
        for most in (28, 40, 57):
            format = {"type": "json_schema", "json_schema": {"name": "story", "schema": schema}}
            choice = self.chat(response_format=format, max_tokens=most, seed=most)
            jsonschema.validate(json.loads(choice["message"]["content"]), schema)
            self.assertEqual(choice["finish_reason"], "length")

    def test_json_mode_writes_an_object(self):
        for seed in range(8):
            self.assertIsInstance(json.loads(self.chat(response_format={"type": "json_object"}, seed=seed)["message"]["content"]),
                                  dict)

    def test_greedy_answers_keep_to_the_form_too(self):
        choice = self.chat(response_format={"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMAS["person"]}},
                           temperature=0)
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMAS["person"])

    def test_several_answers_share_a_form(self):
        status, _, answer = self.server.post("/v1/chat/completions", messages=HELLO, **HOT, n=4, response_format={
            "type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMAS["list"]}})
        self.assertEqual(status, 200, answer)
        for choice in answer["choices"]:
            jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMAS["list"])

    def test_a_grammar_is_kept_to_wherever_it_is_asked_for(self):
        def check(text):
            def whole(value):
                return isinstance(value, int) or (isinstance(value, list) and all(whole(item) for item in value))

            self.assertTrue(text.startswith("[") and text.endswith("]"), text)
            self.assertTrue(whole(json.loads(text)), text)

        for seed in range(4):
            check(self.chat(grammar=NUMBERS, seed=seed)["message"]["content"])
            check(self.chat(structured_outputs={"grammar": NUMBERS}, seed=seed)["message"]["content"])
            status, _, answer = self.server.post("/v1/completions", prompt="Numbers:", grammar=NUMBERS, n=2, **HOT, seed=seed)
            self.assertEqual(status, 200, answer)
            for choice in answer["choices"]:
                check(choice["text"])
        self.assertIn(self.chat(grammar="root ::= \"yes\" | \"no\"", temperature=0)["message"]["content"], ("yes", "no"))

    def test_a_broken_grammar_says_where(self):
        status, _, answer = self.server.post("/v1/chat/completions", messages=HELLO, grammar="root ::= a\na ::= a \"x\"")
        self.assertEqual((status, answer["error"]["param"]), (400, "grammar"))
        self.assertIn("line 2: the rule 'a' begins with itself", answer["error"]["message"])

    def test_ollama_and_responses_take_schemas(self):
        status, _, answer = self.server.post("/api/chat", messages=HELLO, stream=False, format=SCHEMAS["person"],
                                             options={"temperature": 3, "num_predict": 400})
        self.assertEqual(status, 200, answer)
        jsonschema.validate(json.loads(answer["message"]["content"]), SCHEMAS["person"])
        status, _, answer = self.server.post("/api/generate", prompt="Hello", raw=True, stream=False, format="json",
                                             options={"num_predict": 300})
        self.assertIsInstance(json.loads(answer["response"]), dict)
        status, _, answer = self.server.post("/v1/responses", input="Hello", max_output_tokens=400, text={
            "format": {"type": "json_schema", "name": "tree", "schema": SCHEMAS["tree"]}})
        self.assertEqual(status, 200, answer)
        jsonschema.validate(json.loads(answer["output"][-1]["content"][0]["text"]), SCHEMAS["tree"])

    def test_what_is_not_supported_is_refused_by_name(self):
        def refused(**body):
            status, _, answer = self.server.post("/v1/chat/completions", messages=HELLO, **body)
            self.assertEqual(status, 400, answer)
            return answer["error"]["param"]

        def of(schema):
            return refused(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})

        at = "response_format.json_schema.schema"
        self.assertEqual(of({"type": "array", "uniqueItems": True}), f"{at}.uniqueItems")
        self.assertEqual(of({"type": "object", "properties": {"a": {"not": {}}}}), f"{at}.properties.a.not")
        self.assertEqual(of({"$ref": "#/nowhere"}), f"{at}.$ref")
        self.assertEqual(of(False), at)
        self.assertEqual(refused(response_format={"type": "grammar"}), "response_format.type")
        self.assertEqual(refused(grammar="root ::= root \"a\""), "grammar")
        self.assertEqual(refused(structured_outputs={"grammar": "root ::= ["}), "structured_outputs.grammar")
        self.assertEqual(refused(structured_outputs={"regex": "a+"}), "structured_outputs.regex")
        self.assertEqual(refused(grammar="root ::= \"a\"", response_format={"type": "json_object"}), "grammar")
        self.assertEqual(refused(tools=[{"type": "web_search"}]), "tools[0].type")
        self.assertEqual(refused(tools=[{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name")
        self.assertEqual(refused(tool_choice="required"), "tool_choice")
        self.assertEqual(refused(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "none"}}), "tool_choice")
        strict = {"name": "a", "strict": True, "parameters": {"type": "object", "minProperties": 1}}
        self.assertEqual(refused(tools=[{"type": "function", "function": strict}]), "tools[0].function.parameters.minProperties")


@unittest.skipIf(jsonschema is None, "python3-jsonschema is not installed: nothing can be held against a schema")
class Tools(Forms):
    def test_a_required_call_is_made(self):
        for seed in range(6):
            choice = self.chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, seed=seed)
            self.check_calls(choice["message"])
            self.assertEqual(len(choice["message"]["tool_calls"]), 1)
            self.assertIsNone(choice["message"]["content"])
            self.assertIn(choice["finish_reason"], self.ends)

    def test_a_named_function_is_called(self):
        for name in ("clock", "get_weather"):
            choice = self.chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": name}}, seed=3,
                               parallel_tool_calls=False)
            self.check_calls(choice["message"], (name,))

    def test_a_stream_carries_calls(self):
        body = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": 5}
        message, reason = self.stream(**body)
        self.check_calls(message)
        self.assertIn(reason, self.ends)
        whole = self.chat(**body)["message"]
        self.assertEqual([call["function"] for call in message["tool_calls"]], [call["function"] for call in whole["tool_calls"]])

    def test_without_a_choice_to_call_nothing_is_called(self):
        message = self.chat(tools=TOOLS, tool_choice="none", max_tokens=40)["message"]
        self.assertNotIn("tool_calls", message)

    def test_a_free_choice_is_answered(self):
        for seed in range(3):
            choice = self.chat(tools=TOOLS, seed=seed, max_tokens=80)
            if choice["message"].get("tool_calls"):
                self.check_calls(choice["message"])

    def test_results_go_back_to_the_model(self):
        call = self.chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)["message"]
        said = [*HELLO, call]
        answers = [{"role": "tool", "tool_call_id": one["id"], "content": "sunny"} for one in call["tool_calls"]]
        short = self.server.post("/v1/chat/completions", messages=HELLO, max_tokens=4)[2]["usage"]["prompt_tokens"]
        status, _, answer = self.server.post("/v1/chat/completions", messages=said + answers, max_tokens=4, tools=TOOLS)
        self.assertEqual(status, 200, answer)
        self.assertGreater(answer["usage"]["prompt_tokens"], short + 20)

    def test_anthropic_calls_and_takes_results(self):
        tools = [{"name": "get_weather", "description": "Tells the weather", "input_schema": WEATHER}]
        body = {"max_tokens": 300, "temperature": 1, "tools": tools,
                "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
        status, _, answer = self.server.post("/v1/messages", messages=HELLO, **body)
        self.assertEqual(status, 200, answer)
        self.assertIn(answer["stop_reason"], ("tool_use",) if self.ends == ("tool_calls",) else ("tool_use", "max_tokens"))
        call = answer["content"][-1]
        self.assertEqual((call["type"], call["name"]), ("tool_use", "get_weather"))
        jsonschema.validate(call["input"], WEATHER)
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "rain"}]}
        messages = [*HELLO, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [result]}]
        status, _, answer = self.server.post("/v1/messages", messages=messages, max_tokens=4, tools=tools)
        self.assertEqual(status, 200, answer)

    def test_responses_call_and_take_results(self):
        tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
        asked = {"input": "What is the weather?", "tools": tools, "tool_choice": {"type": "function", "name": "get_weather"},
                 "temperature": 2, "max_output_tokens": 300}
        status, _, answer = self.server.post("/v1/responses", **asked)
        self.assertEqual(status, 200, answer)
        calls = [item for item in answer["output"] if item["type"] == "function_call"]
        self.assertTrue(calls, answer)
        jsonschema.validate(json.loads(calls[0]["arguments"]), WEATHER)
        self.assertEqual(answer["tools"], tools)
        events = [json.loads(event) for event in self.server.events("/v1/responses", **asked)]
        self.assertEqual([event["sequence_number"] for event in events], list(range(len(events))))
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        self.assertEqual(events[-1]["response"]["output"], done)
        for item in done:
            if item["type"] != "function_call":
                continue
            deltas = [event["delta"] for event in events
                      if event["type"] == "response.function_call_arguments.delta" and event["item_id"] == item["id"]]
            self.assertEqual("".join(deltas), item["arguments"])
            jsonschema.validate(json.loads(item["arguments"]), WEATHER)
        # Clients that have read the arguments send back what they read.
        read = [{**item, "parsed_arguments": json.loads(item["arguments"])} if item["type"] == "function_call" else item
                for item in answer["output"]]
        history = [{"role": "user", "content": "What is the weather?"}, *read,
                   {"type": "function_call_output", "call_id": calls[0]["call_id"], "output": "rain"}]
        status, _, answer = self.server.post("/v1/responses", input=history, tools=tools, temperature=2, max_output_tokens=50)
        self.assertEqual(status, 200, answer)
        for body, param in (({"tools": [{"type": "web_search"}]}, "tools[0].type"),
                            ({"tools": tools, "tool_choice": {"type": "function", "name": "no"}}, "tool_choice"),
                            ({"input": [{"type": "computer_call"}]}, "input[0].type"),
                            ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id")):
            status, _, answer = self.server.post("/v1/responses", **{"input": "x", **body})
            self.assertEqual((status, answer["error"]["param"]), (400, param), answer)

    def test_ollama_makes_calls_of_a_free_choice_alone(self):
        status, _, answer = self.server.post("/api/chat", messages=HELLO, tools=TOOLS, stream=False, options={"num_predict": 40})
        self.assertEqual(status, 200, answer)
        call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {"zone": "UTC"}}}]}
        status, _, answer = self.server.post("/api/chat", stream=False, options={"num_predict": 4}, tools=TOOLS,
                                             messages=[*HELLO, call, {"role": "tool", "tool_name": "clock", "content": "noon"}])
        self.assertEqual(status, 200, answer)


class ThinkingTools(Tools):
    name = "qwen3"
    ends = ("tool_calls", "length")

    def test_thoughts_come_apart(self):
        # Where the form leaves room for thoughts they are in no content.
        for seed in range(4):
            choice = self.chat(response_format={"type": "json_object"}, seed=seed)
            json.loads(choice["message"]["content"])


    def test_every_api_can_switch_thinking_off(self):
        # So the template says that nothing is thought; what the model is told is in the number of its tokens.
        def prompt_tokens(path="/v1/chat/completions", **body):
            answer = self.server.post(path, messages=HELLO, **{"max_tokens": 2, **body})[2]
            usage = answer.get("usage", answer)
            return usage.get("prompt_tokens") or usage.get("prompt_eval_count") or (
                usage["input_tokens"] + usage["cache_read_input_tokens"])

        on, off = prompt_tokens(), prompt_tokens(chat_template_kwargs={"enable_thinking": False})
        self.assertNotEqual(on, off)
        self.assertEqual(prompt_tokens(reasoning_effort="none"), off)
        self.assertEqual(prompt_tokens(reasoning_effort="high"), on)
        messages = "/v1/messages"
        self.assertEqual(prompt_tokens(messages, thinking={"type": "disabled"}), off)
        self.assertEqual(prompt_tokens(messages, thinking={"type": "enabled", "budget_tokens": 1024}), on)
        ollama = {"stream": False, "max_tokens": None, "options": {"num_predict": 2}}
        self.assertEqual(prompt_tokens("/api/chat", think=False, **ollama), off)
        self.assertEqual(prompt_tokens("/api/chat", think=True, **ollama), on)


class LlamaTools(Tools):
    name = "llama3"


class MistralTools(Tools):
    name = "mistral"


class HarmonyTools(Tools):
    name = "gpt_oss"
    ends = ("tool_calls", "length")

    def test_thoughts_have_no_switch_but_an_amount(self):
        # Its template knows how much, and nothing else.
        status, _, answer = self.server.post("/api/chat", messages=HELLO, think=False, stream=False)
        self.assertEqual(status, 400, answer)
        self.assertIn("think", answer["error"])
        for effort in ("low", "medium", "high"):
            status, _, answer = self.server.post("/v1/chat/completions", messages=HELLO, reasoning_effort=effort, max_tokens=2)
            self.assertEqual(status, 200, answer)


class Clients(unittest.TestCase):
    """The clients that people use, as they are published."""

    def test_the_clients_of_others_read_the_calls(self):
        with Cluster() as machines:
            work = machines.folder / "clients"
            npm.install(ROOT / "tests/clients", work)
            model = machines.folder / "tools.gguf"
            with_template(GOLDEN, model, template("qwen25"))
            with ApiServer(machines, model, "--ctx", "8192") as server:
                npm.run_tests(work, sorted(path.relative_to(work) for path in work.glob("tools/*.test.js")),
                              BATON_API=server.url)


if __name__ == "__main__":
    unittest.main()
