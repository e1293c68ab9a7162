// Calls of functions as Anthropic's own client sees them. BATON_API is the server's address.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.BATON_API, apiKey: "none", maxRetries: 0 });
const input_schema = { type: "object", properties: { city: { type: "string", maxLength: 12 } }, required: ["city"], additionalProperties: false };
const asked = {
  model: "tiny", max_tokens: 400, temperature: 1, messages: [{ role: "user", content: "Hello there" }],
  tools: [{ name: "get_weather", description: "The weather", input_schema }],
  tool_choice: { type: "tool", name: "get_weather", disable_parallel_tool_use: true },
};

test("a function is called, and its result taken", async () => {
  const message = await client.messages.create(asked);
  assert.equal(message.stop_reason, "tool_use");
  const call = message.content.at(-1);
  assert.equal(call.type, "tool_use");
  assert.equal(typeof call.input.city, "string");
  const result = { type: "tool_result", tool_use_id: call.id, content: "sunny" };
  const messages = [...asked.messages, { role: "assistant", content: message.content }, { role: "user", content: [result] }];
  const next = await client.messages.create({ ...asked, tool_choice: { type: "none" }, max_tokens: 8, messages });
  assert.equal(next.content[0].type, "text");
  const count = await client.messages.countTokens({ model: asked.model, messages, tools: asked.tools });
  assert.ok(count.input_tokens > 10);
});

test("a stream is put together by the client", async () => {
  const message = await client.messages.stream(asked).finalMessage();
  assert.equal(message.stop_reason, "tool_use");
  assert.equal(message.content.at(-1).name, "get_weather");
  assert.equal(typeof message.content.at(-1).input.city, "string");
});
