import MarkdownIt from "markdown-it";

// What a model writes is a stranger's text: no markup of its own, no picture that would be fetched, no address but
// those that a browser opens as pages.
const markdown = new MarkdownIt({ html: false, breaks: true });
markdown.disable("image");
markdown.validateLink = (address) => /^(https?:|mailto:)/i.test(address.trim());

markdown.renderer.rules.link_open = (tokens, index, options, _environment, self) => {
  tokens[index]?.attrSet("target", "_blank");
  tokens[index]?.attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, index, options);
};

// A column's side as a class: the page's policy allows no style in an attribute.
for (const rule of ["th_open", "td_open"]) {
  markdown.renderer.rules[rule] = (tokens, index, options, _environment, self) => {
    const cell = tokens[index];
    const side = /text-align:(left|center|right)/.exec(cell?.attrGet("style") ?? "")?.[1];
    if (cell) cell.attrs = side === undefined ? null : [["class", `to-${side}`]];
    return self.renderToken(tokens, index, options);
  };
}

/** HTML in which everything is escaped that Markdown does not mean. */
export function render(text: string): string {
  return markdown.render(text);
}
