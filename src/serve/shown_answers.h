// What is answered at once, from what the server knows: the page, the lists of models, health and figures, and the
// changes of models, which model_change_requests.h goes on with. Each on the HTTP server's thread.
#pragma once

#include <memory>
#include <string_view>

#include "serve/server_core.h"

namespace baton::serve {

inline constexpr std::string_view kModelsFolder = "/v1/models/";

void show_page(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void list_models(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void list_tags(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void list_running(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_version(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_health(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_metrics(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

void pull_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void copy_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void delete_model(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

}  // namespace baton::serve
