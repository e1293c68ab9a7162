import { expect, test } from "vitest";
import { render } from "./markdown";

test("Markdown becomes HTML", () => {
  expect(render("# A\n\n**b** `c`")).toBe("<h1>A</h1>\n<p><strong>b</strong> <code>c</code></p>\n");
  expect(render("```js\nif (a < b) {}\n```")).toBe('<pre><code class="language-js">if (a &lt; b) {}\n</code></pre>\n');
});

test("markup in the text stays text", () => {
  for (const hostile of ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a <b onclick=x>b</b>", "<!-- a -->"]) {
    expect(render(hostile)).not.toMatch(/<(script|img|b|!--)/);
    expect(render(`\`\`\`"><img src=x>\n${hostile}\n\`\`\``)).not.toMatch(/<(script|img|b|!--)/);
  }
});

test("links lead to pages alone, and open beside", () => {
  expect(render("[a](https://example.com)")).toContain('href="https://example.com" target="_blank" rel="noopener noreferrer"');
  for (const address of ["javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "/v1/models"]) {
    expect(render(`[a](${address})`)).not.toContain("<a");
  }
});

test("no picture is fetched", () => {
  expect(render("![a](https://example.com/a.png)")).not.toContain("<img");
});

test("a table's cells carry no style", () => {
  const table = render("| a | b |\n| :-: | --: |\n| 1 | 2 |");
  expect(table).toContain('<td class="to-center">1</td>');
  expect(table).toContain('<th class="to-right">b</th>');
  expect(table).not.toContain("style");
});
