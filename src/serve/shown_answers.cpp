#include "serve/shown_answers.h"

#include <format>
#include <vector>

#include "serve/ollama.h"
#include "serve/openai.h"
#include "serve/page.h"

namespace baton::serve {

namespace {

constexpr std::string_view kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

// On the loop's thread.
ollama::ListedModel listed_now(const ModelEntry& entry, const std::string& name) {
  const std::optional<Sha256>& digest = entry.model.source->digest();
  return {.model = &entry.served(), .name = name, .digest = digest ? digest->hex() : ""};
}

void refuse_change(ServerCore& core, HttpReply& reply) {
  core.send_error(reply, kOllamaErrors, {ErrorCode::kUnsupported, "the models of this server stay as they are", {}});
}

}  // namespace

void show_page(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  core.metrics.count_http(send_page_file(page_files(), request, *reply));
}

void list_models(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  const auto all = core.table.list();
  std::vector<openai::NamedModel> named;
  for (const ModelTable::Listed& listed : *all) {
    for (const std::string& name : listed.names) named.push_back({name, &listed.entry->served()});
  }
  core.send(*reply, 200, openai::model_list(named));
}

void show_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  const std::string wanted = percent_decoded(request.path.substr(kModelsFolder.size()));
  if (const ModelTable::Found found = core.table.find(wanted); found.entry) {
    return core.send(*reply, 200, openai::model_entry({wanted, &found.entry->served()}));
  }
  core.send_error(*reply, kOpenAiErrors,
                  {ErrorCode::kNotFound, std::format("the model '{}' is not served here", wanted), "model"});
}

void list_tags(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kOllamaErrors, [&core]() -> Result<std::string> {
    const auto all = core.table.list();
    std::vector<ollama::ListedModel> listed;
    for (const ModelTable::Listed& model : *all) {
      for (const std::string& name : model.names) listed.push_back(listed_now(*model.entry, name));
    }
    return ollama::model_list(listed);
  });
}

void list_running(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.ask_loop(reply, kOllamaErrors, [&core]() -> Result<std::string> {
    const auto all = core.table.list();
    std::vector<ollama::RunningModel> running;
    for (const ModelTable::Listed& listed : *all) {
      const node::PooledModel& model = *listed.entry->model.source;
      if (model.loaded() == nullptr) continue;
      running.push_back({.listed = listed_now(*listed.entry, listed.names.front()),
                         .bytes = model.bytes(),
                         .expires_in = model.expires_in(),
                         .context_tokens = core.context_tokens});
    }
    return ollama::running_list(running);
  });
}

void show_version(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.send(*reply, 200, JsonObject().text("version", core.options.version).str());
}

void show_health(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.send(*reply, 200, R"({"status":"ok"})");
}

void show_metrics(ServerCore& core, const HttpRequest&, const std::shared_ptr<HttpReply>& reply) {
  core.on_loop([&core, reply]() mutable {
    ServerLoad load = core.gone_load;
    for (const auto& [entry, held] : core.workers) load += held.generator->load_now();
    core.metrics.set_load(load);
    core.http->post(
        [&core, reply = std::move(reply)] { core.send(*reply, 200, core.metrics.to_text(), kMetricsType); });
  });
}

void pull_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  if (!core.changes) return refuse_change(core, *reply);
  core.changes->pull(request, reply);
}

void copy_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  if (!core.changes) return refuse_change(core, *reply);
  core.changes->copy(request, core.access.client_of(request), reply);
}

void delete_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  if (!core.changes) return refuse_change(core, *reply);
  core.changes->remove(request, core.access.client_of(request), reply);
}

}  // namespace baton::serve
