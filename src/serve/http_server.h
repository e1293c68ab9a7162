// HTTP/1.1 for strangers: accepts connections, reads whole requests within limits of size and time, and sends answers
// whole or as they come. Knows nothing of what is served.
//
// A request that is broken, too large or too slow is answered with the status that says so (RFC 9110, RFC 6585) where
// there is still somebody to read it, and its connection is closed. Every wait for a client has
// a deadline; how long an answer may take to be made is its maker's business.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/endpoint.h"
#include "serve/body_room.h"

namespace baton::serve {

struct HttpLimits {
  std::size_t header_bytes = 16 << 10;
  std::size_t body_bytes = 32 << 20;
  // Of all requests together, as their headers announce them, until they are handled.
  std::size_t all_bodies_bytes = 128 << 20;
  std::size_t connections = 2048;  // more are told to come back later
  Duration header_time = std::chrono::seconds(10);
  Duration body_time = std::chrono::seconds(30);
  Duration idle_time = std::chrono::seconds(75);   // of a connection between two requests
  Duration write_time = std::chrono::seconds(30);  // for what is ready of an answer
  std::size_t unread_bytes = 4 << 20;              // of an answer that the client does not take
};

struct HttpRequest {
  std::string method;
  std::string path;                                          // without the query
  std::string query;                                         // without '?'
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;
  std::string client;              // its address, without the port
  BodyRoom::Share body_room = {};  // what the body takes of HttpLimits::all_bodies_bytes: to be kept as long as it is

  // Of several headers of that name the first; empty where there is none.
  std::string_view header(std::string_view lower_case_name) const;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// The answer to one request: whole, or begun, written piece by piece and ended. Lives on the server's thread, as long
// as anybody holds it; where the client has gone, what is written goes nowhere.
class HttpReply {
 public:
  virtual ~HttpReply() = default;
  virtual void send(int status, std::string_view content_type, std::string body, HttpHeaders headers = {}) = 0;
  virtual void begin(int status, std::string_view content_type, HttpHeaders headers = {}) = 0;
  virtual void write(std::string piece) = 0;
  virtual void end() = 0;
  virtual bool begun() const = 0;
  virtual bool gone() const = 0;
  // Called once, on the server's thread, when the client goes away before its answer has ended.
  virtual void on_gone(std::function<void()> task) = 0;
};

// "%2F" as '/' (RFC 3986, section 2.1). A '%' that begins no such thing stays.
std::string percent_decoded(std::string_view text);

class HttpServer {
 public:
  // On the server's thread, for every request that was read whole. What it throws ends the connection.
  using Handler = std::function<void(HttpRequest request, std::shared_ptr<HttpReply> reply)>;
  // What to answer where a request does not get that far: for a status and a reason, in the form of the API that the
  // path belongs to. It is empty where the header could not be read.
  struct ErrorBody {
    std::string_view content_type;  // of a literal
    std::string body;
  };
  using DescribeError = std::function<ErrorBody(std::string_view path, int status, std::string_view message)>;
  // Looks at a request before its body is read; an error refuses it.
  struct Refusal {
    int status = 400;
    std::string message;
    HttpHeaders headers = {};
  };
  using Gate = std::function<std::optional<Refusal>(const HttpRequest& without_body)>;

  // Headers that every answer to this request is to have, a refusal too.
  using CommonHeaders = std::function<HttpHeaders(const HttpRequest& without_body)>;

  struct Options {
    net::Endpoint listen;
    std::vector<net::Endpoint> listen_too = {};
    HttpLimits limits = {};
    Handler handler;
    DescribeError describe_error;
    Gate gate;
    CommonHeaders common_headers;
  };

  // Listens and starts its thread. Lets this process have as many descriptors as that many connections take, as far as
  // its hard limit goes.
  static Result<std::unique_ptr<HttpServer>> start(Options options);
  // Closes every connection and ends the thread; replies that somebody still holds go nowhere from now on.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Of `listen`.
  net::Endpoint endpoint() const;
  // From any thread: runs on the server's, unless it ends before.
  void post(std::move_only_function<void()> task);

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::serve
