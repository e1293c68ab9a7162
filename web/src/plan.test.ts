import { expect, test } from "vitest";
import { type Course, describePlan, describeTimes, isCourse, parsePlan } from "./plan";

const course: Course = {
  shape: "joint", plan: "prefill=spark:0-26,local:26-32;decode=local:0-32", recovered: false,
  queue_ms: 2, prefill_ms: 420, decode_ms: 2000, prompt_tokens: 140, cached_tokens: 120, completion_tokens: 41,
};

test("a plan's text is read", () => {
  expect(parsePlan(course.plan).prefill).toEqual([{ node: "spark", begin: 0, end: 26 }, { node: "local", begin: 26, end: 32 }]);
  expect(parsePlan("nonsense")).toEqual({ prefill: [], decode: [] });
});

test("what another server says is not taken for a course", () => {
  expect(isCourse(course)).toBe(true);
  for (const other of [undefined, null, "x", {}, { ...course, queue_ms: "2" }]) expect(isCourse(other)).toBe(false);
});

test("a plan says who did what", () => {
  expect(describePlan(course)).toBe("joint: read by spark (layers 0 to 25) and this node (layers 26 to 31), written by this node");
  expect(describePlan({ ...course, shape: "single", plan: "prefill=local:0-8;decode=local:0-8" }))
    .toBe("single: read and written by this node");
  expect(describePlan({ ...course, recovered: true })).toContain("a machine was lost");
});

test("times are those that a person waits for", () => {
  expect(describeTimes(course)).toEqual(["first token 0.42 s", "20.0 tokens/s", "41 tokens", "120 of 140 prompt tokens kept"]);
  expect(describeTimes({ ...course, queue_ms: 500, completion_tokens: 1, decode_ms: 0 }))
    .toEqual(["first token 0.92 s", "of it waiting 0.50 s", "1 tokens", "120 of 140 prompt tokens kept"]);
});
