// The API as Anthropic's own client sees it. BATON_API is the server's address.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.BATON_API, apiKey: "none", maxRetries: 0 });
const asked = { model: "tiny", max_tokens: 16, system: "Be kind.", messages: [{ role: "user", content: "Hello there" }] };

test("a message is answered", async () => {
  const message = await client.messages.create(asked);
  assert.equal(message.role, "assistant");
  assert.equal(message.content[0].type, "text");
  assert.equal(message.stop_reason, "max_tokens");
  assert.equal(message.usage.output_tokens, 16);
  const count = await client.messages.countTokens({ model: asked.model, system: asked.system, messages: asked.messages });
  assert.equal(count.input_tokens, message.usage.input_tokens + message.usage.cache_read_input_tokens);
});

test("a stream adds up to a message", async () => {
  let text = "";
  const stream = client.messages.stream(asked).on("text", (piece) => (text += piece));
  const message = await stream.finalMessage();
  assert.equal(message.content[0].text, text);
  assert.equal(message.stop_reason, "max_tokens");
  assert.equal(message.usage.output_tokens, 16);
});

test("errors have their class", async () => {
  await assert.rejects(client.messages.create({ ...asked, temperature: 3 }), Anthropic.BadRequestError);
  await assert.rejects(client.messages.create({ ...asked, model: "other" }), Anthropic.NotFoundError);
});
