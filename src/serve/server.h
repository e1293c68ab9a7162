// The HTTP API of a node: adapters for the clients that there are, in front of a generator for each model.
//
// Safe by default: it listens where it is told, but refuses to do so beyond this machine without a key; it answers no
// web page of another origin, and without keys no name but this machine's own (so that a page cannot reach it by making
// a name of its own point here).
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "net/event_loop.h"
#include "serve/access.h"
#include "serve/answer_planner.h"
#include "serve/generator.h"
#include "serve/http_server.h"
#include "serve/model_keeper.h"

namespace baton::serve {

struct ServerOptions {
  net::Endpoint listen{"127.0.0.1", 8770};
  // Keys of which one is asked of every client, where there are any.
  std::vector<std::string> api_keys = {};
  // Further keys (api_keys.h), asked of clients where it listens beyond this machine; empty: none.
  std::filesystem::path key_book = {};
  std::vector<net::Endpoint> listen_too = {};  // as `listen` within this machine or beyond
  std::vector<std::string> origins = {};       // whose web pages may ask, such as "https://chat.example"
  HttpLimits http = {};
  GeneratorLimits generator = {};
  // Tokens of an answer whose client does not say how many it wants.
  std::uint32_t default_new_tokens = 2048;
  // Tells of the cluster; must outlive the server. Null: there is none.
  ClusterReporter* cluster = nullptr;
  std::string version = "0";  // of this program, as Ollama's clients ask for it
  // By which models come and go while it runs.
  ModelManagement management = {};
  // Whether clients beyond this machine may do that, too.
  ModelChanges changes = ModelChanges::kFromHere;
};

// Whether other machines may reach it.
bool reached_from_elsewhere(const ServerOptions& options);

class Server {
 public:
  // What start() refuses whatever the models: kInvalidArgument where it would listen to other machines while there is
  // no key. Asked before anything is begun that a refusal would leave behind.
  static Result<void> check(const ServerOptions& options);
  // On the loop's thread, as the rest of its life; the loop must outlive it. At least one model, each with another
  // name. Errors: those of check(); kIo and kNotFound where it cannot listen.
  static Result<std::unique_ptr<Server>> start(net::EventLoop& loop, std::vector<ServerModel> models,
                                               ServerOptions options);
  // Ends every answer and every connection.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  net::Endpoint endpoint() const;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::serve
