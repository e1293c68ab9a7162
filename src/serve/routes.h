// What there is to ask for, and by which methods: each endpoint of each API in one table.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "serve/http_server.h"
#include "serve/server_core.h"

namespace baton::serve {

// These two on the HTTP server's thread. The first, before a body is read: nothing where somebody will answer it.
std::optional<HttpServer::Refusal> refuse_request(ServerCore& core, const HttpRequest& request);
void answer_request(ServerCore& core, HttpRequest request, std::shared_ptr<HttpReply> reply);

}  // namespace baton::serve
