import { EventReader } from "./events";
import { type Course, isCourse } from "./plan";

/** What the server says against a request. */
export class Refused extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** The server cannot be reached, or an answer ended before its end. */
export class ConnectionLost extends Error {}

export interface ChatMessage {
  role: "user" | "assistant";
  content: string;
}

export type Piece =
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string }
  | { kind: "end"; reason: string; course?: Course };

interface Chunk {
  error?: { message?: string };
  choices?: {
    delta?: { content?: string; reasoning_content?: string };
    finish_reason?: string | null;
    baton?: unknown;
  }[];
}

/** The server that this page came from. */
export class Api {
  /** Sent with every request; empty where none is needed. */
  key = "";

  async models(): Promise<string[]> {
    const response = await this.request("/v1/models", {});
    const list = (await response.json()) as { data: { id: string }[] };
    return list.data.map((model) => model.id);
  }

  /** The answer as it comes; its last piece is its end. Throws Refused, ConnectionLost, or AbortError. */
  async *chat(model: string, messages: ChatMessage[], signal: AbortSignal): AsyncGenerator<Piece> {
    const body = JSON.stringify({ model, messages, stream: true });
    const headers = { "Content-Type": "application/json" };
    const response = await this.request("/v1/chat/completions", { method: "POST", headers, body, signal });
    if (response.body === null) throw new ConnectionLost("The server sent nothing.");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const events = new EventReader();
    while (true) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw signal.aborted ? error : new ConnectionLost("The connection was lost in the middle of the answer.");
      });
      if (done) throw new ConnectionLost("The connection ended before the answer did.");
      for (const data of events.push(value)) {
        if (data === "[DONE]") return;
        yield* pieces(JSON.parse(data) as Chunk);
      }
    }
  }

  private async request(path: string, options: RequestInit): Promise<Response> {
    const headers = new Headers(options.headers);
    if (this.key !== "") headers.set("Authorization", `Bearer ${this.key}`);
    const response = await fetch(path, { ...options, headers }).catch((error: unknown) => {
      throw options.signal?.aborted ? error : new ConnectionLost("The server cannot be reached.");
    });
    if (!response.ok) throw new Refused(response.status, await reason(response));
    return response;
  }
}

function* pieces(chunk: Chunk): Generator<Piece> {
  if (chunk.error) throw new Refused(500, chunk.error.message ?? "The server gave no reason.");
  for (const choice of chunk.choices ?? []) {
    if (choice.delta?.reasoning_content) yield { kind: "reasoning", text: choice.delta.reasoning_content };
    if (choice.delta?.content) yield { kind: "text", text: choice.delta.content };
    if (choice.finish_reason) {
      yield { kind: "end", reason: choice.finish_reason, ...(isCourse(choice.baton) && { course: choice.baton }) };
    }
  }
}

async function reason(response: Response): Promise<string> {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text) as { error?: { message?: string } };
    if (error?.message) return error.message;
  } catch {
    // Not the API's own words: what the status says has to do.
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}
