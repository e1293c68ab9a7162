// What the parts of the HTTP API share: who may ask, which models there are and who answers with them, and the ways
// that a request takes between the threads. For the sources of this room.
//
// A request comes in on the HTTP server's thread (routes.h), is read on the worker's (model_requests.h), answered on
// the loop's, and its answer sent on the first again.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <format>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/error_table.h"
#include "serve/access.h"
#include "serve/answer_book.h"
#include "serve/conversation.h"
#include "serve/embedder.h"
#include "serve/error_form.h"
#include "serve/fitting.h"
#include "serve/generator.h"
#include "serve/json.h"
#include "serve/loop_turns.h"
#include "serve/metrics.h"
#include "serve/model_change_requests.h"
#include "serve/model_keeper.h"
#include "serve/model_table.h"
#include "serve/server.h"
#include "serve/task_worker.h"

namespace baton::serve {

using EntryPointer = std::shared_ptr<const ModelEntry>;

// Who answers with a model.
struct ModelWorkers {
  std::shared_ptr<Generator> generator;
  std::shared_ptr<Embedder> embedder;
};

struct ServerCore {
  ServerCore(net::EventLoop& of_loop, ServerOptions given, std::uint32_t of_context_tokens);

  Room room() const { return {.context_tokens = context_tokens, .default_new_tokens = options.default_new_tokens}; }

  // The model that the body names, which is then called there as it is named in the table. Where it names none, its
  // parser says so, whichever the model. kNotFound, listing those there are.
  struct Named {
    EntryPointer entry;
    std::string name;
  };
  Result<Named> named_model(Json& body) const;
  static std::unexpected<Error> was_deleted(const std::string& name);

  // These four on the HTTP server's thread.
  void send(HttpReply& reply, int status, std::string body, std::string_view type = kJsonType,
            HttpHeaders headers = {});
  void send_error(HttpReply& reply, const ErrorForm& form, const Error& error);
  // Answers with what `ask` says on the loop's thread.
  void ask_loop(const std::shared_ptr<HttpReply>& reply, const ErrorForm& errors,
                std::move_only_function<Result<std::string>()> ask);
  // The same for what takes that thread a while: clients take turns, and 429 says that too many wait.
  void ask_loop_in_turn(const std::string& client, const std::shared_ptr<HttpReply>& reply, const ErrorForm& errors,
                        std::move_only_function<Result<std::string>()> ask);
  // Makes something of a body on the worker's thread, and goes on with it on this one, where the client is still there.
  template <typename Made, typename Make, typename GoOn>
  void work(const std::string& client, HttpRequest request, std::shared_ptr<HttpReply> reply, const ErrorForm& errors,
            Make make, GoOn go_on);
  // On the loop's thread, unless the server has ended before.
  template <typename Task>
  void on_loop(Task task) {
    loop.post([alive = alive_elsewhere, task = std::move(task)]() mutable {
      if (!alive.expired()) task();
    });
  }

  net::EventLoop& loop;
  const ServerOptions options;
  const std::uint32_t context_tokens;
  Access access;  // on the HTTP server's thread
  Metrics metrics;
  AnswerBook book;  // on the loop's thread
  ModelTable table;
  std::map<const ModelEntry*, ModelWorkers> workers;  // on the loop's thread
  ServerLoad gone_load;                               // likewise: what models did that are here no more
  // On the loop's thread: while it is there, so is all of this.
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);
  const std::weak_ptr<bool> alive_elsewhere = alive;
  std::uint64_t next_id = 1;             // on the HTTP server's thread
  LoopTurns turns{LoopTurns::Limits()};  // likewise
  std::unique_ptr<TaskWorker> worker;
  std::unique_ptr<ModelKeeper> keeper;  // null: the models stay as they are
  std::unique_ptr<HttpServer> http;
  std::unique_ptr<ModelChangeRequests> changes;  // null with the keeper
};

template <typename Made, typename Make, typename GoOn>
void ServerCore::work(const std::string& client, HttpRequest request, std::shared_ptr<HttpReply> reply,
                      const ErrorForm& errors, Make make, GoOn go_on) {
  const auto wanted = std::make_shared<std::atomic<bool>>(true);
  reply->on_gone([wanted] { *wanted = false; });
  TaskWorker::Task task;
  task.wanted = [wanted] { return wanted->load(); };
  task.run = [this, request = std::move(request), reply, &errors, make = std::move(make),
              go_on = std::move(go_on)](TaskWorker::Turn turn) mutable {
    Result<Made> made = fail(ErrorCode::kNoCapacity, "the request was not read in time: come back later");
    // What one request asks too much for (memory, say) ends with it, and not with the server.
    try {
      if (turn == TaskWorker::Turn::kInTime) made = make(request.body);
    } catch (const std::exception& error) {
      made = fail(ErrorCode::kInternal, std::format("the request could not be read: {}", error.what()));
    }
    http->post([this, reply = std::move(reply), &errors, made = std::move(made), go_on = std::move(go_on)]() mutable {
      if (reply->gone()) return;
      if (!made) return send_error(*reply, errors, made.error());
      try {
        go_on(*std::move(made), reply);
      } catch (const std::exception& error) {
        send_error(*reply, errors, {ErrorCode::kInternal, error.what(), {}});
      }
    });
  };
  if (const auto accepted = worker->submit(client, std::move(task)); !accepted) {
    send_error(*reply, errors, accepted.error());
  }
}

}  // namespace baton::serve
