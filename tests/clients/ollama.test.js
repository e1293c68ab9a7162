// The API as Ollama's own client sees it. BATON_API is the server's address.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.env.BATON_API });
const options = { temperature: 0, num_predict: 12 };
const messages = [{ role: "user", content: "Hello there" }];

test("models are listed and shown", async () => {
  const { models } = await client.list();
  assert.deepEqual(models.map((model) => model.name), ["tiny"]);
  const shown = await client.show({ model: "tiny" });
  assert.ok(shown.template.includes("messages"));
});

test("a chat is answered, whole and as a stream", async () => {
  const whole = await client.chat({ model: "tiny", messages, options, stream: false });
  assert.equal(whole.done_reason, "length");
  assert.equal(whole.eval_count, 12);
  let text = "";
  for await (const part of await client.chat({ model: "tiny", messages, options, stream: true })) text += part.message.content;
  assert.equal(text, whole.message.content);
});

test("a text is continued", async () => {
  const answer = await client.generate({ model: "tiny", prompt: "Hello", raw: true, options, stream: false });
  assert.ok(answer.response.length > 0);
  assert.equal(answer.done, true);
});

test("texts are embedded", async () => {
  const { embeddings } = await client.embed({ model: "tiny", input: ["The sea", "Numbers"] });
  assert.equal(embeddings.length, 2);
  const { embedding } = await client.embeddings({ model: "tiny", prompt: "The sea" });
  assert.deepEqual(embedding, embeddings[0]);
});

test("errors say what is wrong", async () => {
  await assert.rejects(client.chat({ model: "other", messages, stream: false }), /not found/);
});
