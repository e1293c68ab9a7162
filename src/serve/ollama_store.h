// Ollama's API that changes which models there are: /api/pull, /api/copy and /api/delete, as its public documentation
// describes them.
#pragma once

#include <optional>
#include <string>

#include "serve/canonical.h"
#include "serve/json.h"
#include "store/progress.h"

namespace baton::serve::ollama {

// Names are taken by their form alone: kInvalidArgument for paths and addresses.
struct PullWish {
  std::string model;  // as the store writes it: "qwen3:8b" for "qwen3"
  Delivery delivery = Delivery::kStream;
};
Result<PullWish> parse_pull(const Json& body);

struct CopyWish {
  std::string source;
  std::string destination;
};
Result<CopyWish> parse_copy(const Json& body);

Result<std::string> parse_delete(const Json& body);

// What a stream says of a pull, line by line.
class PullLines {
 public:
  // Empty where it has been said already; may be several lines.
  std::string progress(const store::PullProgress& progress);
  std::string end(const Result<void>& end);

 private:
  std::string say(const std::string& status);

  std::string last_;
};

// {"status":"success"}
std::string success_body();
// As http_status(), but what is in use is a conflict with how things are (409; RFC 9110, section 15.5.10), and not too
// many requests.
int status_of_change(const Error& error);

}  // namespace baton::serve::ollama
