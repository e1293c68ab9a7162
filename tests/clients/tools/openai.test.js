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

test("the responses API calls a function, as a stream", async () => {
  const flat = tools.map((tool) => ({ type: "function", ...tool.function }));
  const request = { model: "tiny", input: "Hello there", tools: flat, tool_choice: "required", temperature: 2, max_output_tokens: 400 };
  const stream = client.responses.stream(request);
  const response = await stream.finalResponse();
  const call = response.output.find((item) => item.type === "function_call");
  assert.equal(call.name, "get_weather");
  assert.equal(typeof JSON.parse(call.arguments).city, "string");
  const input = [{ role: "user", content: "Hello there" }, ...response.output, { type: "function_call_output", call_id: call.call_id, output: "sunny" }];
  const next = await client.responses.create({ ...request, input, tool_choice: "none", max_output_tokens: 8 });
  assert.equal(next.output.at(-1).type, "message");
});
