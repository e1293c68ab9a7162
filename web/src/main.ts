import "./style.css";
import { Api, type ChatMessage, ConnectionLost, Refused } from "./api";
import { type Answer, load, type Message, save } from "./store";
import { byId, element, Log } from "./view";

const keyName = "baton.key";
const modelName = "baton.model";

const question = byId("question", HTMLTextAreaElement);
const send = byId("send", HTMLButtonElement);
const stop = byId("stop", HTMLButtonElement);
const models = byId("model", HTMLSelectElement);
const notice = byId("notice", HTMLElement);
const status = byId("status", HTMLElement);
const keyDialog = byId("key-dialog", HTMLDialogElement);
const keyHint = byId("key-hint", HTMLElement);
const keyField = byId("key", HTMLInputElement);

const api = new Api();
api.key = sessionStorage.getItem(keyName) ?? "";
let messages: Message[] = load(localStorage);
let running: AbortController | null = null;

const log = new Log(byId("log", HTMLElement), () => void answer());

function say(text: string, ...more: HTMLElement[]): void {
  notice.replaceChildren(text, ...more);
  notice.hidden = text === "";
}

function keep(): void {
  if (!save(localStorage, messages)) say("This browser does not keep the conversation: it will be gone with this tab.");
}

function setRunning(controller: AbortController | null): void {
  running = controller;
  send.hidden = controller !== null;
  stop.hidden = controller === null;
}

// What the model is told. Answers that never began are left out, and their questions: templates want turns.
function toSend(): ChatMessage[] {
  const isEmpty = (message?: Message) => message?.role === "assistant" && message.content === "";
  return messages.filter((message, index) => !isEmpty(message) && !isEmpty(messages[index + 1]))
    .map(({ role, content }) => ({ role, content }));
}

/** Answers the last question; what was there of an answer to it is thrown away. */
async function answer(): Promise<void> {
  if (running !== null || models.value === "") return;
  if (messages.at(-1)?.role === "assistant") messages.pop();
  const asked = toSend();
  const made: Answer = { role: "assistant", content: "", reasoning: "" };
  messages.push(made);
  const controller = new AbortController();
  setRunning(controller);
  say("");
  status.textContent = "The answer is coming.";
  log.show(messages);
  log.update(messages, true);
  let drawing = 0;
  const draw = () => {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      log.update(messages, running !== null);
    });
  };
  try {
    for await (const piece of api.chat(models.value, asked, controller.signal)) {
      if (piece.kind === "text") made.content += piece.text;
      if (piece.kind === "reasoning") made.reasoning += piece.text;
      if (piece.kind === "end") {
        if (piece.course) made.course = piece.course;
        if (piece.reason === "length") made.broken = "The answer was cut off: it reached the most tokens it may have.";
      }
      draw();
    }
  } catch (error) {
    made.broken = controller.signal.aborted ? "You stopped this answer." : explain(error);
  }
  setRunning(null);
  cancelAnimationFrame(drawing);
  log.update(messages, false);
  status.textContent = made.broken ?? "The answer is complete.";
  keep();
}

function explain(error: unknown): string {
  if (error instanceof Refused) {
    if (error.status === 401) askForKey();
    return `The server refused: ${error.message}`;
  }
  if (error instanceof ConnectionLost) return error.message;
  return `This page failed: ${String(error)}`;
}

function ask(): void {
  const content = question.value.trim();
  if (content === "" || running !== null) return;
  if (models.value === "") return void connect();
  messages.push({ role: "user", content });
  question.value = "";
  fit();
  keep();
  void answer();
}

function askForKey(): void {
  if (api.key !== "") keyHint.textContent = "The server does not know this key.";
  if (!keyDialog.open) keyDialog.showModal();
}

async function connect(): Promise<void> {
  try {
    const ids = await api.models();
    models.replaceChildren(...ids.map((id) => element("option", { value: id }, id)));
    const before = localStorage.getItem(modelName);
    if (before !== null && ids.includes(before)) models.value = before;
    models.disabled = ids.length < 2;
    if (api.key !== "") sessionStorage.setItem(keyName, api.key);
    say("");
    question.focus();
  } catch (error) {
    const again = element("button", { type: "button" }, "Try again");
    again.addEventListener("click", () => void connect());
    say(explain(error), again);
  }
}

function fit(): void {
  question.rows = Math.min(12, question.value.split("\n").length);
}

byId("composer", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
question.addEventListener("input", fit);
question.addEventListener("keydown", (event) => {
  // An input method uses Enter to choose.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
stop.addEventListener("click", () => running?.abort());
byId("new-chat", HTMLButtonElement).addEventListener("click", () => {
  running?.abort();
  messages = [];
  keep();
  log.show(messages);
  question.focus();
});
models.addEventListener("change", () => localStorage.setItem(modelName, models.value));
byId("key-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  api.key = keyField.value.trim();
  keyDialog.close();
  void connect();
});

log.show(messages);
void connect();
