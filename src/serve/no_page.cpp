// In the place of the page's files, where there was no Node.js to build them with.
#include <array>

#include "serve/page.h"

namespace baton::serve {

namespace {

constexpr std::string_view kText =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<meta charset=\"utf-8\">\n"
    "<title>baton</title>\n"
    "<h1>baton</h1>\n"
    "<p>The API is here; the chat page is not: this program was built without it. The page needs Node.js 18 and npm "
    "when baton is built. Install both, then run <code>cmake --preset release --fresh</code> and <code>./dev "
    "build</code> in baton's folder.</p>\n"
    "</html>\n";
constexpr std::array kFiles = {
    PageFile{.path = "/", .type = "text/html; charset=utf-8", .tag = "\"no-page\"", .bytes = kText, .gzip = {}}};

}  // namespace

std::span<const PageFile> page_files() { return kFiles; }

}  // namespace baton::serve
