// The chat page as a person has it, in a real browser. BATON_API is a server whose answers are short, BATON_SLOW_API one
// whose answers are long, with the process BATON_SLOW_PID, which ends here; BATON_KEYED_API wants the key BATON_KEY.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { chromium } from "playwright-core";

const timeout = 20_000;
let browser;
let page;
let complaints;

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
});
after(() => browser?.close());

beforeEach(async () => {
  // Each has a browser profile of its own: nothing is kept from test to test.
  const context = await browser.newContext();
  context.setDefaultTimeout(timeout);
  page = await context.newPage();
  complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // What the network did is the page's to explain; a policy that was broken is not.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) complaints.push(message.text());
  });
});
afterEach(async () => {
  await page.context().close();
  assert.deepEqual(complaints, []);
});

async function until(condition, what) {
  const deadline = Date.now() + timeout;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const lastAnswer = () => page.locator("article.assistant").last();
const textOf = (locator) => locator.locator(".text").innerText();
const isBusy = async () => (await lastAnswer().getAttribute("aria-busy")) === "true";

async function open(address) {
  await page.goto(address);
  await until(() => page.locator("#model").inputValue().then((name) => name === "tiny"), "the model is shown");
}

async function ask(question) {
  const count = await page.locator("article.assistant").count();
  await page.keyboard.type(question);
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator("article.assistant").count()) > count, "an answer is begun");
}

async function running(address) {
  const metrics = await (await fetch(`${address}/metrics`)).text();
  return Number(/^baton_answers_running (\d+)/m.exec(metrics)[1]);
}

test("a question is asked by keyboard, and its answer comes piece by piece, with its times and plan", async () => {
  await open(process.env.BATON_API);
  await page.keyboard.type("Hello there");
  await page.keyboard.press("Shift+Enter");
  // More than the 16 tokens below which the server keeps no prompt's beginning.
  const more = "and more of the sea, the wind above it and the birds that live between them";
  await page.keyboard.type(more);
  await page.keyboard.press("Enter");
  const lengths = new Set();
  await until(async () => {
    if ((await page.locator("article.assistant").count()) === 0) return false;
    if (!(await isBusy())) return true;
    lengths.add((await textOf(lastAnswer())).length);
    return false;
  }, "the answer is complete");
  assert.ok(lengths.size >= 3, `lengths seen while it came: ${[...lengths]}`);
  assert.equal(await page.locator("article.user .asked").innerText(), `Hello there\n${more}`);
  const course = await lastAnswer().locator(".course").innerText();
  assert.match(course, /first token \d/);
  assert.match(course, /\d tokens\/s/);
  assert.match(course, /single: read and written by this node/);
  // What was said stays when the page is loaded again.
  await ask("And then?");
  await until(async () => !(await isBusy()), "the second answer is complete");
  const [, kept, all] = /(\d+) of (\d+) prompt tokens kept/.exec(await lastAnswer().locator(".course").innerText());
  // The first question at least: how the answer's text is cut into tokens may be another way than it was written.
  assert.ok(Number(kept) >= 16 && Number(kept) < Number(all), `${kept} of ${all} tokens were kept`);
  const said = await textOf(lastAnswer());
  await page.reload();
  await until(async () => (await page.locator("article").count()) === 4, "the conversation is back");
  assert.equal(await textOf(lastAnswer()), said);
  await page.getByRole("button", { name: "New chat" }).click();
  assert.equal(await page.locator("article").count(), 0);
  await page.reload();
  await open(process.env.BATON_API);
  assert.equal(await page.locator("article").count(), 0);
});

test("what the server refuses is said in its words", async () => {
  await open(process.env.BATON_API);
  await ask("no");
  await until(async () => !(await isBusy()), "it is refused");
  assert.match(await lastAnswer().innerText(), /The server refused: .*never say no/);
  await ask("Hello there");
  await until(async () => !(await isBusy()), "the next question is answered");
  assert.match(await lastAnswer().innerText(), /first token/);
});

test("Escape stops an answer, and the server stops making it", async () => {
  await open(process.env.BATON_SLOW_API);
  await ask("Hello there");
  await until(async () => (await textOf(lastAnswer())).length > 20, "the answer has begun");
  assert.equal(await running(process.env.BATON_SLOW_API), 1);
  await page.keyboard.press("Escape");
  await until(async () => !(await isBusy()), "it is stopped");
  assert.match(await lastAnswer().innerText(), /You stopped this answer\./);
  await until(async () => (await running(process.env.BATON_SLOW_API)) === 0, "its place is free");
});

test("a server that wants a key is asked with one", async () => {
  await page.goto(process.env.BATON_KEYED_API);
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  await dialog.getByLabel("Key").fill("not-a-key-of-this-server");
  await page.keyboard.press("Enter");
  await dialog.getByText("The server does not know this key.").waitFor();
  await dialog.getByLabel("Key").fill(process.env.BATON_KEY);
  await page.keyboard.press("Enter");
  await until(() => page.locator("#model").inputValue().then((name) => name === "tiny"), "the key is taken");
  // Of this tab alone, and not for longer.
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage)).then((kept) => kept.includes("key")), false);
  await page.reload();
  await until(() => page.locator("#model").inputValue().then((name) => name === "tiny"), "the key is still known");
  await ask("Hello there");
  await until(async () => !(await isBusy()), "the answer is complete");
  assert.match(await lastAnswer().innerText(), /first token/);
});

test("a server that dies is told of, and may be asked again", async () => {
  await open(process.env.BATON_SLOW_API);
  await ask("Hello there");
  await until(async () => (await textOf(lastAnswer())).length > 20, "the answer has begun");
  process.kill(Number(process.env.BATON_SLOW_PID), "SIGKILL");
  await until(async () => !(await isBusy()), "the loss is noticed");
  assert.match(await lastAnswer().innerText(), /The connection (was lost|ended)/);
  assert.ok((await textOf(lastAnswer())).length > 20, "what had come is still there");
  await lastAnswer().getByRole("button", { name: "Try again" }).click();
  await until(async () => /The server cannot be reached\./.test(await lastAnswer().innerText()), "it is not there");
});
