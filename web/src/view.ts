import { render } from "./markdown";
import { describePlan, describeTimes } from "./plan";
import type { Answer, Message } from "./store";

// The one place where text becomes markup; the page's policy lets no other do so.
interface TrustedTypes {
  createPolicy(name: string, rules: { createHTML(text: string): string }): { createHTML(text: string): string };
}
const trustedTypes = (window as { trustedTypes?: TrustedTypes }).trustedTypes;
const policy = trustedTypes?.createPolicy("markdown", { createHTML: render }) ?? { createHTML: render };

type Children = (Node | string)[];

export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name, attributes: Record<string, string> = {}, ...children: Children
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function byId<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no '${id}' of that kind`);
  return found;
}

/** The conversation as it is seen. An article for each message, so that readers of screens can go from one to the next. */
export class Log {
  /** `retry` is called where a person wants the last question answered again. */
  constructor(private readonly root: HTMLElement, private readonly retry: () => void) {}

  show(messages: Message[]): void {
    this.root.replaceChildren(...messages.map((message) => article(message)));
    this.offerRetry(messages);
    this.root.scrollTop = this.root.scrollHeight;
  }

  /** Draws the last message again; it may be an answer that is still coming. */
  update(messages: Message[], coming: boolean): void {
    const last = messages.at(-1);
    if (last === undefined) return;
    const atEnd = this.root.scrollHeight - this.root.scrollTop - this.root.clientHeight < 40;
    const made = article(last, this.root.children[messages.length - 1]);
    made.setAttribute("aria-busy", String(coming));
    const old = this.root.children[messages.length - 1];
    if (old) old.replaceWith(made);
    else this.root.append(made);
    if (!coming) this.offerRetry(messages);
    if (atEnd) this.root.scrollTop = this.root.scrollHeight;
  }

  private offerRetry(messages: Message[]): void {
    const last = messages.at(-1);
    if (last === undefined || (last.role === "assistant" && last.broken === undefined)) return;
    const button = element("button", { type: "button", class: "retry" }, "Try again");
    button.addEventListener("click", this.retry);
    this.root.lastElementChild?.append(button);
  }
}

function article(message: Message, before?: Element): HTMLElement {
  const label = message.role === "user" ? "You" : "Answer";
  const made = element("article", { class: message.role, "aria-label": label });
  if (message.role === "user") {
    made.append(element("p", { class: "asked" }, message.content));
    return made;
  }
  if (message.reasoning !== "") made.append(thoughts(message, before));
  const text = element("div", { class: "text" });
  text.innerHTML = policy.createHTML(message.content);
  text.querySelectorAll("pre").forEach(addCopyButton);
  made.append(text);
  if (message.broken !== undefined) made.append(element("p", { class: "broken" }, message.broken));
  if (message.course) {
    made.append(element("p", { class: "course" }, describeTimes(message.course).join(" · "), element("br"),
      describePlan(message.course)));
  }
  return made;
}

// Stays open where it was opened, though the article is drawn again with every piece.
function thoughts(answer: Answer, before?: Element): HTMLElement {
  const made = element("details", { class: "reasoning" }, element("summary", {}, "Reasoning"),
    element("p", {}, answer.reasoning));
  made.open = before?.querySelector<HTMLDetailsElement>("details.reasoning")?.open ?? false;
  return made;
}

function addCopyButton(block: HTMLPreElement): void {
  const button = element("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    const copied = await copy(block.querySelector("code") ?? block);
    button.textContent = copied ? "Copied" : "Select and copy it by hand";
  });
  const frame = element("div", { class: "code" });
  block.replaceWith(frame);
  frame.append(block, button);
}

async function copy(source: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
    return true;
  } catch {
    // Without TLS a browser has no clipboard but the selection's.
    const selection = getSelection();
    selection?.selectAllChildren(source);
    return document.execCommand("copy");
  }
}
