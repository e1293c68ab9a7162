import { type Course, isCourse } from "./plan";

export interface Question {
  role: "user";
  content: string;
}

/** An answer, whole or as far as it came. */
export interface Answer {
  role: "assistant";
  content: string;
  reasoning: string;
  course?: Course;
  /** Why it is not whole, where it is not. */
  broken?: string;
}

export type Message = Question | Answer;

const name = "baton.conversation";

/** The conversation that this browser kept; an empty one where there is none, or none that can be read. */
export function load(storage: Storage): Message[] {
  try {
    const kept: unknown = JSON.parse(storage.getItem(name) ?? "[]");
    return Array.isArray(kept) && kept.every(isMessage) ? kept : [];
  } catch {
    return [];
  }
}

/** Whether it could be kept: a browser may forbid it, or have no room. */
export function save(storage: Storage, messages: Message[]): boolean {
  try {
    storage.setItem(name, JSON.stringify(messages));
    return true;
  } catch {
    return false;
  }
}

function isMessage(value: unknown): value is Message {
  if (typeof value !== "object" || value === null) return false;
  const { role, content, reasoning, course, broken } = value as Record<string, unknown>;
  if (typeof content !== "string") return false;
  if (role === "user") return true;
  return role === "assistant" && typeof reasoning === "string" && (course === undefined || isCourse(course)) &&
    (broken === undefined || typeof broken === "string");
}
