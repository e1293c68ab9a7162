// This node's own endpoints: what the planner says (/api/plan), who is in the cluster (/api/cluster), and what runs and
// waits here (/api/requests). Each on the HTTP server's thread.
#pragma once

#include <memory>
#include <string_view>

#include "serve/server_core.h"

namespace baton::serve {

inline constexpr std::string_view kRequestsFolder = "/api/requests/";

void explain_plan(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_plans(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_cluster(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

void list_requests(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void show_request(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);
void cancel_request(ServerCore& core, const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

}  // namespace baton::serve
