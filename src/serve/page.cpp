#include "serve/page.h"

#include <algorithm>
#include <ranges>
#include <string>

namespace baton::serve {

namespace {

constexpr std::string_view kAssets = "/assets/";
// Nothing but this server's own scripts, styles and answers; no frame around it, no markup that became a script.
constexpr std::string_view kContentPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types markdown";

// Whether a header's list of elements, with or without weights, has this one (RFC 9110, 5.6.1 and 12.4.2).
bool lists(std::string_view header, std::string_view wanted) {
  constexpr std::string_view kSpaces = " \t";
  for (const auto part : std::views::split(header, ',')) {
    std::string_view element(part);
    const std::size_t semicolon = std::min(element.find(';'), element.size());
    std::string weight(element.substr(semicolon));
    std::erase_if(weight, [](char c) { return c == ' ' || c == '\t'; });
    element = element.substr(0, semicolon);
    element.remove_prefix(std::min(element.find_first_not_of(kSpaces), element.size()));
    element = element.substr(0, element.find_last_not_of(kSpaces) + 1);
    const bool refused = weight.starts_with(";q=0") && weight.find_first_not_of("0.", 3) == std::string::npos;
    if (element == wanted) return !refused;
  }
  return false;
}

}  // namespace

int send_page_file(std::span<const PageFile> files, const HttpRequest& request, HttpReply& reply) {
  const auto file = std::ranges::find(files, request.path, &PageFile::path);
  if (file == files.end()) {
    reply.send(404, "text/plain; charset=utf-8", "There is no such file here.\n");
    return 404;
  }
  // An asset's name changes with its bytes; the page's does not.
  const bool lasts = file->path.starts_with(kAssets);
  HttpHeaders headers = {{"ETag", std::string(file->tag)},
                         {"Cache-Control", lasts ? "public, max-age=31536000, immutable" : "no-cache"},
                         {"Vary", "Accept-Encoding"},
                         {"Content-Security-Policy", std::string(kContentPolicy)},
                         {"Referrer-Policy", "no-referrer"}};
  const std::string_view known = request.header("if-none-match");
  // A cache that compared loosely puts W/ before the tag.
  if (known == "*" || lists(known, file->tag) || lists(known, "W/" + std::string(file->tag))) {
    reply.send(304, {}, {}, std::move(headers));
    return 304;
  }
  std::string_view bytes = file->bytes;
  if (!file->gzip.empty() && lists(request.header("accept-encoding"), "gzip")) {
    bytes = file->gzip;
    headers.emplace_back("Content-Encoding", "gzip");
  }
  reply.send(200, file->type, std::string(bytes), std::move(headers));
  return 200;
}

}  // namespace baton::serve
