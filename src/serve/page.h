// The chat page: the files of web/, as they were built into this program.
#pragma once

#include <span>
#include <string_view>

#include "serve/http_server.h"

namespace baton::serve {

struct PageFile {
  std::string_view path;  // as it is asked for: "/" or "/assets/..."
  std::string_view type;
  std::string_view tag;  // an entity tag (RFC 9110), quotes and all, that changes with the bytes
  std::string_view bytes;
  std::string_view gzip;  // the same, compressed; empty where nobody has
};

// All of them. Without Node.js where it was built there is "/" alone, which says how to have more.
std::span<const PageFile> page_files();

// Answers with the file of that name, with 304 where the client has it already, or with 404. Gives the status.
int send_page_file(std::span<const PageFile> files, const HttpRequest& request, HttpReply& reply);

}  // namespace baton::serve
