// The API as OpenAI's own client sees it. BATON_API is the server's address.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BATON_API + "/v1", apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hello there" }];
const asked = { model: "tiny", messages, temperature: 0, max_tokens: 16 };

test("models are listed", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ["tiny"]);
});

test("a stream is the whole answer in pieces", async () => {
  const whole = await client.chat.completions.create(asked);
  assert.equal(whole.choices[0].message.role, "assistant");
  assert.equal(whole.usage.completion_tokens, 16);
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  // The second answer finds the first one's prompt.
  delete usage.prompt_tokens_details;
  delete whole.usage.prompt_tokens_details;
  assert.deepEqual(usage, whole.usage);
});

test("logprobs come with the tokens", async () => {
  const answer = await client.chat.completions.create({ ...asked, logprobs: true, top_logprobs: 2 });
  assert.equal(answer.choices[0].logprobs.content.length, 16);
  assert.equal(answer.choices[0].logprobs.content[0].top_logprobs.length, 2);
});

test("completions continue a text", async () => {
  const answer = await client.completions.create({ model: "tiny", prompt: "Hello", max_tokens: 8, echo: true });
  assert.ok(answer.choices[0].text.startsWith("Hello"));
});

test("errors have their class and name the parameter", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, temperature: 9 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
  await assert.rejects(client.chat.completions.create({ ...asked, model: "other" }), OpenAI.NotFoundError);
});

test("an answer may be given up", async () => {
  const stream = await client.chat.completions.create({ ...asked, max_tokens: 3000, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    stream.controller.abort();
    break;
  }
});

test("embeddings are floats, however they come", async () => {
  // The client asks for base64 by itself and unpacks it.
  const made = await client.embeddings.create({ model: "tiny", input: ["The sea", "Numbers"] });
  const floats = await client.embeddings.create({ model: "tiny", input: ["The sea"], encoding_format: "float" });
  assert.equal(made.data.length, 2);
  assert.equal(made.data[0].embedding.length, floats.data[0].embedding.length);
  for (const [index, value] of floats.data[0].embedding.entries()) {
    assert.ok(Math.abs(value - made.data[0].embedding[index]) < 1e-6);
  }
});

test("a response is made, whole and as a stream", async () => {
  const request = { model: "tiny", instructions: "Be kind.", input: "Hello there", temperature: 0, max_output_tokens: 16 };
  const whole = await client.responses.create(request);
  assert.equal(whole.status, "incomplete");
  assert.equal(whole.usage.output_tokens, 16);
  let text = "";
  let last = null;
  for await (const event of await client.responses.create({ ...request, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  assert.equal(text, whole.output_text);
  assert.equal(last.response.output[0].content[0].text, text);
});
