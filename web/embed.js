// node embed.js DIST FILE.cpp: writes the built page as the source of baton::serve::page_files().
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { extname, join, relative, sep } from "node:path";
import { constants, gzipSync } from "node:zlib";

const types = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};
const bytesOfALine = 100;

function filesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesUnder(path) : [path];
  }).sort();
}

// Adjacent literals, every byte that is not plain as three octal digits, which no digit after it can lengthen.
function literal(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += bytesOfALine) {
    let line = "";
    for (const byte of bytes.subarray(at, at + bytesOfALine)) {
      const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c && byte !== 0x3f;
      line += plain ? String.fromCharCode(byte) : "\\" + byte.toString(8).padStart(3, "0");
    }
    lines.push(`    "${line}"`);
  }
  return `std::string_view(\n${lines.join("\n") || '    ""'},\n    ${bytes.length})`;
}

const [folder, target] = process.argv.slice(2);
const entries = filesUnder(folder).map((file) => {
  const name = relative(folder, file).split(sep).join("/");
  const type = types[extname(file)];
  if (type === undefined) throw new Error(`${file}: nobody knows how files of this kind are to be sent`);
  const bytes = readFileSync(file);
  const zipped = gzipSync(bytes, { level: constants.Z_BEST_COMPRESSION });
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
  return `  {.path = "/${name === "index.html" ? "" : name}",
   .type = "${type}",
   .tag = "\\"${digest}\\"",
   .bytes = ${literal(bytes)},
   .gzip = ${literal(zipped.length < bytes.length ? zipped : Buffer.alloc(0))}},`;
});
writeFileSync(target, `// Written by web/embed.js when the page was built.
#include <array>

#include "serve/page.h"

namespace baton::serve {

namespace {

constexpr PageFile kFiles[] = {
${entries.join("\n")}
};

}  // namespace

std::span<const PageFile> page_files() { return kFiles; }

}  // namespace baton::serve
`);
