// Forms and calls of functions as Ollama's own client sees them. BATON_API is the server's address.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.env.BATON_API });
const options = { temperature: 2, num_predict: 300 };
const messages = [{ role: "user", content: "Hello there" }];
const format = { type: "object", properties: { city: { type: "string", maxLength: 9 } }, required: ["city"], additionalProperties: false };

test("a schema gives its values", async () => {
  const answer = await client.chat({ model: "tiny", messages, options, format, stream: false });
  assert.equal(typeof JSON.parse(answer.message.content).city, "string");
  const any = await client.generate({ model: "tiny", prompt: "Hello", options, format: "json", stream: false });
  assert.equal(typeof JSON.parse(any.response), "object");
});

test("functions are offered and their results taken", async () => {
  const tools = [{ type: "function", function: { name: "get_weather", description: "The weather", parameters: format } }];
  const call = { role: "assistant", content: "", tool_calls: [{ function: { name: "get_weather", arguments: { city: "Rome" } } }] };
  const said = [...messages, call, { role: "tool", tool_name: "get_weather", content: "sunny" }];
  const answer = await client.chat({ model: "tiny", messages: said, tools, options: { num_predict: 8 }, stream: false });
  assert.equal(answer.message.role, "assistant");
  const shown = await client.show({ model: "tiny" });
  assert.ok(shown.capabilities.includes("tools"));
});
