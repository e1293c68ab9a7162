// Who may ask: keys, and the headers by which a web page gives itself away. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/http_server.h"

namespace baton::serve {

class Access {
 public:
  enum class Reach { kThisMachine, kNetwork };
  Access(Reach reach, std::vector<std::string> keys) : reach_(reach), keys_(std::move(keys)) {}

  // Nothing where the request may go on.
  std::optional<HttpServer::Refusal> refuse(const HttpRequest& request) const;
  // Whose turn a request takes: its key's, else its machine's.
  std::string client_of(const HttpRequest& request) const;

 private:
  std::optional<std::size_t> key_of(const HttpRequest& request) const;

  Reach reach_;
  std::vector<std::string> keys_;
};

// Whether an address, as it is listened on, is reached from this machine alone.
bool is_loopback(std::string_view host);

}  // namespace baton::serve
