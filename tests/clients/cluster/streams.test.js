// Thirty-two streams at once, by three clients, from a cluster that loses a machine meanwhile. BATON_API is the address of
// the node that is asked, BATON_VICTIM_PID another node's process, which ends here.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";

const address = process.env.BATON_API;
const openai = new OpenAI({ baseURL: address + "/v1", apiKey: "none", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: address, apiKey: "none", maxRetries: 0 });
const ollama = new Ollama({ host: address });
const tokens = 24;
const streams = 32;
// Long enough to be worth sharing, and none begins like another.
const ask = (number) => [{ role: "user", content: `${number} ` + `Tell me of the sea and number ${number}. `.repeat(12) }];

const clients = [
  async function* (messages) {
    const stream = await openai.chat.completions.create({ model: "tiny", messages, temperature: 0, max_tokens: tokens, stream: true });
    for await (const chunk of stream) yield chunk.choices[0]?.delta?.content ?? "";
  },
  async function* (messages) {
    for await (const event of anthropic.messages.stream({ model: "tiny", messages, temperature: 0, max_tokens: tokens })) {
      yield event.type === "content_block_delta" ? event.delta.text : "";
    }
  },
  async function* (messages) {
    const options = { temperature: 0, num_predict: tokens };
    for await (const part of await ollama.chat({ model: "tiny", messages, options, stream: true })) yield part.message.content;
  },
];

async function texts(onPiece) {
  return Promise.all(Array.from({ length: streams }, async (_, number) => {
    let text = "";
    for await (const piece of clients[number % clients.length](ask(number))) {
      text += piece;
      if (piece !== "") onPiece();
    }
    return text;
  }));
}

test("no stream is lost or changed where a machine is", async () => {
  let pieces = 0;
  const before = await texts(() => {
    // Some are written by now, others still read, elsewhere too.
    if (++pieces === 40) process.kill(Number(process.env.BATON_VICTIM_PID), "SIGKILL");
  });
  assert.ok(pieces > 40);
  assert.ok(before.every((text) => text.length > 0));
  assert.deepEqual(await texts(() => {}), before);
});
