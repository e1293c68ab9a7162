// Who may ask: keys, and the headers by which a web page gives itself away.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/api_keys.h"
#include "serve/http_server.h"

namespace baton::serve {

// From where models may be pulled, copied and deleted, and others' requests cancelled.
enum class ModelChanges {
  kFromHere,    // not over an API that other machines reach: a key is given to who may ask, not to fill the disk
  kByEveryKey,  // over that, too
};

// What somebody may do by what is at a path.
enum class RouteUse {
  // Nobody's secret, and needs no key: a browser cannot send one before it has the page that asks for it.
  kOpen,
  kAsk,
  kChangeModels,
  kCancelRequests,  // others', too
};

class Access {
 public:
  enum class Reach { kThisMachine, kNetwork };
  // Without `keys` it asks for none. `origins`: whose web pages are answered beside our own.
  Access(Reach reach, std::optional<KeyRing> keys, std::vector<std::string> origins = {},
         ModelChanges changes = ModelChanges::kFromHere)
      : reach_(reach), keys_(std::move(keys)), origins_(std::move(origins)), changes_(changes) {}

  // Nothing where the request may go on.
  std::optional<HttpServer::Refusal> refuse(const HttpRequest& request, RouteUse use);
  // Whose turn a request takes: its key's, else its machine's.
  std::string client_of(const HttpRequest& request);
  // What browsers want to hear before they give an answer to a page of another origin (the Fetch standard's CORS);
  // nothing for all others.
  HttpHeaders headers_for(const HttpRequest& request) const;
  // Whether a browser only asks if a page may ask.
  bool is_preflight(const HttpRequest& request) const;

 private:
  bool is_named(std::string_view origin) const;
  std::optional<std::string> owner_of(const HttpRequest& request);

  Reach reach_;
  std::optional<KeyRing> keys_;
  std::vector<std::string> origins_;
  ModelChanges changes_;
};

}  // namespace baton::serve
