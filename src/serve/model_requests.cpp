#include "serve/model_requests.h"

#include <utility>
#include <vector>

namespace baton::serve {

namespace {

// What a body asks for, and of which model.
template <typename What>
struct Asked {
  ServerCore::Named model;
  What what;
};

// One request, on its way from its body to its answer. What is captured of it goes along; the core outlives it.
struct Way {
  ServerCore& core;
  ModelEndpoint endpoint;
  std::string client;

  void fail_with(HttpReply& reply, const Error& error) const { core.send_error(reply, endpoint.errors, error); }
};

Result<Asked<ParsedRequest>> read_text(const ServerCore& core, ParseText parse, const std::string& text) {
  Json body = TRY(parse_json(text));
  ServerCore::Named model = TRY(core.named_model(body));
  ParsedRequest parsed = TRY(parse(body, model.entry->served()));
  // Now rather than when it is its turn.
  if (!parsed.load) TRY(fit(parsed.request, core.room()));
  return Asked<ParsedRequest>{std::move(model), std::move(parsed)};
}

Result<Asked<vectors::VectorRequest>> read_vectors(const ServerCore& core, ParseVectors parse,
                                                   const std::string& text) {
  Json body = TRY(parse_json(text));
  ServerCore::Named model = TRY(core.named_model(body));
  const ServedModel& served = model.entry->served();
  vectors::VectorRequest asked = TRY(parse(body, served));
  TRY(fit(asked, core.room(), served.tokenizer().end_sequence()));
  return Asked<vectors::VectorRequest>{std::move(model), std::move(asked)};
}

// Answers when the model is loaded, or about to go where the client wants that.
void load(const Way& way, ServerCore::Named model, LoadWish wish, std::shared_ptr<HttpReply> reply) {
  ServerCore& core = way.core;
  const Generator::AnswerId id = core.next_id++;
  // Whoever has gone takes no place among those that wait.
  reply->on_gone([&core, weak = model.entry->generator, id] {
    core.loop.post([weak, id] {
      if (const auto held = weak.lock()) held->cancel_load(id);
    });
  });
  core.on_loop([&core, way, id, model = std::move(model), wish = std::move(wish), reply = std::move(reply)]() mutable {
    auto done = [&core, way, reply = std::move(reply), answer = std::move(wish.answer)](Result<void> loaded) mutable {
      core.http->post([&core, way, reply = std::move(reply), answer = std::move(answer), loaded = std::move(loaded)] {
        if (!loaded) return way.fail_with(*reply, loaded.error());
        core.send(*reply, 200, answer);
      });
    };
    const auto held = model.entry->generator.lock();
    if (!held) return done(core.was_deleted(model.name));
    if (wish.keep_alive != Duration::zero()) return held->load(id, wish.keep_alive, std::move(done));
    held->model().keep_alive(Duration::zero());
    done({});
  });
}

// The answer number `choice` of those that were asked for.
AnswerRequest one_answer(const Way& way, const ServerCore::Named& model, const CanonicalRequest& asked,
                         std::size_t choice) {
  AnswerRequest answer{.client = way.client,
                       .model = model.name,
                       .endpoint = std::string(way.endpoint.path),
                       .request = model.entry->model.request,
                       .stops = asked.stops,
                       .marks = asked.marks,
                       .top_logprobs = asked.top_logprobs,
                       .keep_alive = asked.keep_alive};
  node::RequestOptions& request = answer.request;
  if (asked.form) request.filter = std::make_shared<text::ConstrainedText>(asked.form);
  request.prompt = asked.prompts[choice / asked.choices];
  request.max_new_tokens = *asked.max_new_tokens;
  request.end_tokens = model.entry->served().vocabulary().end_tokens();
  request.end_tokens.insert(request.end_tokens.end(), asked.further_end_tokens.begin(), asked.further_end_tokens.end());
  request.sampler = asked.sampler;
  // Answers to one prompt draw each its own.
  request.sampler.seed += choice % asked.choices;
  if (asked.penalised == Penalised::kAnswer) {
    request.sampler.penalty_from = static_cast<std::uint32_t>(request.prompt.size());
  }
  return answer;
}

void begin_text(const Way& way, const ServerCore::Named& model, ParsedRequest parsed,
                std::shared_ptr<HttpReply> reply) {
  ServerCore& core = way.core;
  const CanonicalRequest asked = std::move(parsed.request);
  parsed.request.prompts.resize(asked.prompts.size());
  parsed.request.choices = asked.choices;
  const auto conversation =
      std::make_shared<Conversation>(std::move(parsed), std::move(reply), way.endpoint.errors.body,
                                     [&core](int status) { core.metrics.count_http(status); });
  std::vector<Generator::AnswerId> ids;
  for (std::size_t choice = 0; choice < conversation->choices(); ++choice) {
    ids.push_back(core.next_id++);
    AnswerRequest answer = one_answer(way, model, asked, choice);
    answer.group = ids.front();
    auto sink = relay_to(*core.http, conversation, choice);
    core.on_loop([&core, model, id = ids.back(), answer = std::move(answer), sink = std::move(sink)]() mutable {
      const auto held = model.entry->generator.lock();
      if (!held) return sink->on_end(core.was_deleted(model.name));
      held->start(id, std::move(answer), std::move(sink));
    });
  }
  conversation->on_abandoned([&core, weak = model.entry->generator, ids] {
    core.loop.post([weak, ids] {
      const auto held = weak.lock();
      for (const Generator::AnswerId id : ids) {
        if (held) held->cancel(id, "the client has gone");
      }
    });
  });
}

// Computes on the loop's thread, writes the answer on the worker's, sends it on this one.
void begin_vectors(const Way& way, const ServerCore::Named& model, vectors::VectorRequest asked,
                   std::shared_ptr<HttpReply> reply) {
  ServerCore& core = way.core;
  const Embedder::Id id = core.next_id++;
  reply->on_gone([&core, weak = model.entry->embedder, id] {
    core.loop.post([weak, id] {
      if (const auto held = weak.lock()) held->cancel(id);
    });
  });
  std::size_t tokens = 0;
  for (const std::vector<Token>& text : asked.work.texts) tokens += text.size();
  auto done = [&core, way, tokens, reply = std::move(reply),
               answer = std::move(asked.answer)](Result<Vectors> made) mutable {
    core.http->post(
        [&core, way, tokens, reply = std::move(reply), answer = std::move(answer), made = std::move(made)]() mutable {
          if (reply->gone()) return;
          if (!made) return way.fail_with(*reply, made.error());
          core.work<std::string>(
              way.client, HttpRequest(), std::move(reply), way.endpoint.errors,
              [answer = std::move(answer), tokens, vectors = *std::move(made)](
                  const std::string&) mutable -> Result<std::string> { return answer(std::move(vectors), tokens); },
              [&core](std::string body, std::shared_ptr<HttpReply> to) { core.send(*to, 200, std::move(body)); });
        });
  };
  core.on_loop([&core, model, id, work = std::move(asked.work), done = std::move(done)]() mutable {
    const auto held = model.entry->embedder.lock();
    if (!held) return done(core.was_deleted(model.name));
    held->start(id, std::move(work), std::move(done));
  });
}

void read_with(const Way& way, ParseText parse, HttpRequest request, std::shared_ptr<HttpReply> reply) {
  way.core.work<Asked<ParsedRequest>>(
      way.client, std::move(request), std::move(reply), way.endpoint.errors,
      [&core = way.core, parse](const std::string& body) { return read_text(core, parse, body); },
      [way](Asked<ParsedRequest> asked, std::shared_ptr<HttpReply> to) {
        if (asked.what.load) return load(way, std::move(asked.model), *std::move(asked.what.load), std::move(to));
        begin_text(way, asked.model, std::move(asked.what), std::move(to));
      });
}

void read_with(const Way& way, ParseVectors parse, HttpRequest request, std::shared_ptr<HttpReply> reply) {
  way.core.work<Asked<vectors::VectorRequest>>(
      way.client, std::move(request), std::move(reply), way.endpoint.errors,
      [&core = way.core, parse](const std::string& body) { return read_vectors(core, parse, body); },
      [way](Asked<vectors::VectorRequest> asked, std::shared_ptr<HttpReply> to) {
        begin_vectors(way, asked.model, std::move(asked.what), std::move(to));
      });
}

void read_with(const Way& way, TellOfModel tell, HttpRequest request, std::shared_ptr<HttpReply> reply) {
  way.core.work<std::string>(
      way.client, std::move(request), std::move(reply), way.endpoint.errors,
      [&core = way.core, tell](const std::string& text) -> Result<std::string> {
        Json body = TRY(parse_json(text));
        const ServerCore::Named model = TRY(core.named_model(body));
        return tell(body, model.entry->served());
      },
      [&core = way.core](std::string told, std::shared_ptr<HttpReply> to) { core.send(*to, 200, std::move(told)); });
}

}  // namespace

void answer_by_model(ServerCore& core, const ModelEndpoint& endpoint, HttpRequest request,
                     std::shared_ptr<HttpReply> reply) {
  const Way way{core, endpoint, core.access.client_of(request)};
  std::visit([&](auto read) { read_with(way, read, std::move(request), std::move(reply)); }, endpoint.read);
}

}  // namespace baton::serve
