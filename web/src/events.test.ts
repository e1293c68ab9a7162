import { expect, test } from "vitest";
import { EventReader } from "./events";

const text = 'data: {"a":1}\n\n: a comment\ndata: two\ndata:lines\n\nevent: x\r\ndata: three\r\n\r\ndata: [DONE]\n\n';
const expected = ['{"a":1}', "two\nlines", "three", "[DONE]"];

test("events are found wherever the text is cut", () => {
  for (let size = 1; size <= text.length; ++size) {
    const reader = new EventReader();
    const found: string[] = [];
    for (let at = 0; at < text.length; at += size) found.push(...reader.push(text.slice(at, at + size)));
    expect(found, `pieces of ${size}`).toEqual(expected);
  }
});

test("an event that is not complete is not given out", () => {
  expect(new EventReader().push('data: {"a":')).toEqual([]);
  expect(new EventReader().push("data: whole\n")).toEqual([]);
});
