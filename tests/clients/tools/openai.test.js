// Calls of functions and forms as OpenAI's own client sees them. BATON_API is the server's address.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BATON_API + "/v1", apiKey: "none", maxRetries: 0 });
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 }, unit: { enum: ["C", "F"] } },
  required: ["city", "unit"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "get_weather", description: "The weather", parameters, strict: true } }];
const asked = {
  model: "tiny", messages: [{ role: "user", content: "Hello there" }], temperature: 2, max_tokens: 400, tools,
  tool_choice: "required", parallel_tool_calls: false,
};

function check(call) {
  assert.equal(call.type, "function");
  assert.equal(call.function.name, "get_weather");
  const { city, unit } = JSON.parse(call.function.arguments);
  assert.equal(typeof city, "string");
  assert.ok(["C", "F"].includes(unit));
}

test("a function is called, and its result taken", async () => {
  const answer = await client.chat.completions.create(asked);
  assert.equal(answer.choices[0].finish_reason, "tool_calls");
  const message = answer.choices[0].message;
  check(message.tool_calls[0]);
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
  const next = await client.chat.completions.create({
    ...asked, tool_choice: "none", max_tokens: 8, messages: [...asked.messages, message, result],
  });
  assert.equal(typeof next.choices[0].message.content, "string");
});

test("a stream is put together by the client", async () => {
  const stream = client.chat.completions.stream(asked);
  const message = await stream.finalMessage();
  check(message.tool_calls[0]);
});

test("the client runs the functions itself", async () => {
  const seen = [];
  const function_ = { name: "get_weather", description: "The weather", parameters, parse: JSON.parse, function: (given) => { seen.push(given); return "sunny"; } };
  const runner = client.chat.completions.runTools(
    { ...asked, tool_choice: { type: "function", function: { name: "get_weather" } }, tools: [{ type: "function", function: function_ }] });
  await runner.done();
  assert.equal(typeof seen[0].city, "string");
});

test("a schema gives its values", async () => {
  const answer = await client.chat.completions.create({
    model: "tiny", messages: asked.messages, temperature: 2, max_tokens: 400,
    response_format: { type: "json_schema", json_schema: { name: "place", schema: parameters, strict: true } },
  });
  assert.ok(["C", "F"].includes(JSON.parse(answer.choices[0].message.content).unit));
});
