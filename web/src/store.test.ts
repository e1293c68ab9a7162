import { expect, test } from "vitest";
import { load, type Message, save } from "./store";

function storage(fails = false): Storage {
  const values = new Map<string, string>();
  return {
    get length() { return values.size; },
    clear: () => values.clear(),
    key: (index) => [...values.keys()][index] ?? null,
    getItem: (key) => values.get(key) ?? null,
    removeItem: (key) => values.delete(key),
    setItem: (key, value) => {
      if (fails) throw new DOMException("full", "QuotaExceededError");
      values.set(key, value);
    },
  };
}

test("a conversation is kept", () => {
  const kept = storage();
  const messages: Message[] = [{ role: "user", content: "a" }, { role: "assistant", content: "b", reasoning: "", broken: "stopped" }];
  expect(save(kept, messages)).toBe(true);
  expect(load(kept)).toEqual(messages);
});

test("what cannot be read counts for nothing", () => {
  for (const damaged of ["{", "{}", "null", '[{"role":"system","content":"a"}]', '[{"role":"assistant","content":"a"}]', "[1]",
    '[{"role":"assistant","content":"a","reasoning":"","course":{"shape":"single"}}]']) {
    const kept = storage();
    kept.setItem("baton.conversation", damaged);
    expect(load(kept), damaged).toEqual([]);
  }
});

test("a full store is said", () => {
  expect(save(storage(true), [])).toBe(false);
});
