// What there is to ask for, by which methods, who may, and in which form errors come: each endpoint of each API in one
// table.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "serve/error_form.h"
#include "serve/http_server.h"
#include "serve/server_core.h"

namespace baton::serve {

// Of the API that a path belongs to, whether there is anything at it or not.
const ErrorForm& error_form_for(std::string_view path);

// These two on the HTTP server's thread. The first, before a body is read: nothing where somebody will answer it.
std::optional<HttpServer::Refusal> refuse_request(ServerCore& core, const HttpRequest& request);
void answer_request(ServerCore& core, HttpRequest request, std::shared_ptr<HttpReply> reply);

}  // namespace baton::serve
