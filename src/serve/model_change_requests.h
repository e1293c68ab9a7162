// Answers /api/pull, /api/copy and /api/delete.
#pragma once

#include <memory>
#include <string>

#include "serve/http_server.h"
#include "serve/metrics.h"
#include "serve/model_keeper.h"

namespace baton::serve {

// Lives on the HTTP server's thread. The keeper is closed before the HTTP server ends; all outlive this.
class ModelChangeRequests {
 public:
  ModelChangeRequests(ModelKeeper& keeper, HttpServer& http, Metrics& metrics)
      : keeper_(keeper), http_(http), metrics_(metrics) {}

  void pull(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
  void copy(const HttpRequest& request, const std::string& client, const std::shared_ptr<HttpReply>& reply);
  void remove(const HttpRequest& request, const std::string& client, const std::shared_ptr<HttpReply>& reply);

 private:
  class Watch;

  void send(HttpReply& reply, int status, std::string body, HttpHeaders headers = {});
  void refuse(HttpReply& reply, int status, const Error& error);
  ModelKeeper::Done answer_to(const std::shared_ptr<HttpReply>& reply);

  ModelKeeper& keeper_;
  HttpServer& http_;
  Metrics& metrics_;
};

}  // namespace baton::serve
