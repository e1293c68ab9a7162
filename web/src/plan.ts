/** How an answer was made, as the server's `baton` object says. */
export interface Course {
  shape: string;
  plan: string;
  recovered: boolean;
  queue_ms: number;
  prefill_ms: number;
  decode_ms: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
}

/** Whether a value from elsewhere is one. */
export function isCourse(value: unknown): value is Course {
  if (typeof value !== "object" || value === null) return false;
  const members = value as Record<string, unknown>;
  const numbers = ["queue_ms", "prefill_ms", "decode_ms", "prompt_tokens", "cached_tokens", "completion_tokens"];
  return typeof members.shape === "string" && typeof members.plan === "string" && typeof members.recovered === "boolean" &&
    numbers.every((name) => typeof members[name] === "number");
}

export interface Stage {
  node: string;
  begin: number;
  end: number;
}

/** The stages of "prefill=spark:0-26,local:26-32;decode=local:0-32"; none where the text is not of that form. */
export function parsePlan(text: string): { prefill: Stage[]; decode: Stage[] } {
  const stages = (name: string): Stage[] => {
    const part = text.split(";").find((candidate) => candidate.startsWith(`${name}=`)) ?? "";
    return part.slice(name.length + 1).split(",").flatMap((stage) => {
      const [, node, begin, end] = /^(.+):(\d+)-(\d+)$/.exec(stage) ?? [];
      return node === undefined ? [] : [{ node, begin: Number(begin), end: Number(end) }];
    });
  };
  return { prefill: stages("prefill"), decode: stages("decode") };
}

function who(stages: Stage[]): string {
  const name = (stage: Stage) => (stage.node === "local" ? "this node" : stage.node);
  const layers = (stage: Stage) => ` (layers ${stage.begin} to ${stage.end - 1})`;
  return stages.map((stage) => name(stage) + (stages.length > 1 ? layers(stage) : "")).join(" and ");
}

/** Who read the prompt and who wrote the answer. */
export function describePlan(course: Course): string {
  const { prefill, decode } = parsePlan(course.plan);
  if (prefill.length === 0 || decode.length === 0) return course.plan;
  const [reading, writing] = [who(prefill), who(decode)];
  const text = reading === writing ? `read and written by ${reading}` : `read by ${reading}, written by ${writing}`;
  return `${course.shape}: ${text}${course.recovered ? "; a machine was lost and the others went on" : ""}`;
}

function seconds(milliseconds: number): string {
  return milliseconds < 100 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
}

/** What the answer took. */
export function describeTimes(course: Course): string[] {
  const parts = [`first token ${seconds(course.queue_ms + course.prefill_ms)}`];
  if (course.queue_ms >= 100) parts.push(`of it waiting ${seconds(course.queue_ms)}`);
  if (course.completion_tokens > 1 && course.decode_ms > 0) {
    parts.push(`${((course.completion_tokens - 1) / (course.decode_ms / 1000)).toFixed(1)} tokens/s`);
  }
  parts.push(`${course.completion_tokens} tokens`);
  parts.push(`${course.cached_tokens} of ${course.prompt_tokens} prompt tokens kept`);
  return parts;
}
