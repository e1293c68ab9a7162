// Models that come and go, as Ollama's own client sees them. BATON_API is the server's address, BATON_MODEL a model that
// can be pulled.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.env.BATON_API });
const model = process.env.BATON_MODEL;
const names = async () => (await client.list()).models.map((listed) => listed.name);

test("a model is pulled, used, copied and deleted", async () => {
  let last = {};
  let completed = 0;
  for await (const part of await client.pull({ model, stream: true })) {
    last = part;
    completed = Math.max(completed, part.completed ?? 0);
  }
  assert.equal(last.status, "success");
  assert.ok(completed > 0);
  assert.deepEqual(await names(), ["tiny", model]);
  assert.equal((await client.pull({ model, stream: false })).status, "success");
  const answer = await client.generate({ model, prompt: "Hello", raw: true, options: { num_predict: 4 }, keep_alive: 0 });
  assert.equal(answer.done, true);
  await client.copy({ source: model, destination: "mine" });
  assert.deepEqual(await names(), ["tiny", model, "mine"]);
  assert.equal((await client.show({ model: "mine" })).details.format, "gguf");
  await client.delete({ model });
  for (let tries = 0; (await client.ps()).models.length > 1 && tries < 100; ++tries) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await client.delete({ model: "mine" });
  assert.deepEqual(await names(), ["tiny"]);
});

test("errors say what is wrong", async () => {
  await assert.rejects(client.pull({ model: "nothing:1b", stream: false }), /hf\.co\/OWNER\/REPO/);
  await assert.rejects(client.pull({ model: "/etc/passwd" }), /no path/);
  await assert.rejects(client.delete({ model: "nothing" }), /nothing/);
});
