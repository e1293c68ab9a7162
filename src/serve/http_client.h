// A client for one plain HTTP/1.1 server: one request after another, each on a connection of its own (RFC 9112).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/endpoint.h"

namespace baton::serve {

struct ClientRequest {
  std::string method = "GET";
  std::string path = "/";
  std::string body = {};  // JSON, where there is any
  std::string key = {};   // sent as a bearer token, where there is one
};

class HttpClient {
 public:
  explicit HttpClient(net::Endpoint server);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Sends, and waits for the end of the answer. Its body comes in pieces as the server writes it, where the status is
  // 200; else none comes, and what is returned is the status and the body. On one thread at a time. Errors:
  // kUnavailable where the server cannot be reached or goes away, kProtocol for what is not HTTP, kTimeout, kCancelled.
  struct Answer {
    int status = 0;
    std::string body;  // where the status is not 200
  };
  using OnPiece = std::function<void(std::string_view)>;
  Result<Answer> send(const ClientRequest& request, const OnPiece& on_piece);

  // Ends the request that is under way, if there is one, with kCancelled. Any thread.
  void cancel();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::serve
