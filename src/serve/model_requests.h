// Requests that a model answers: with text, with vectors, or with what it knows of itself. Reads them on the worker's
// thread, has them answered on the loop's.
#pragma once

#include <memory>
#include <string>
#include <variant>

#include "serve/canonical.h"
#include "serve/server_core.h"
#include "serve/vectors.h"

namespace baton::serve {

// How one endpoint reads its body, which names the model as the table does; on the worker's thread.
using ParseText = Result<ParsedRequest> (*)(const Json&, const ServedModel&);
using ParseVectors = Result<vectors::VectorRequest> (*)(const Json&, const ServedModel&);
using TellOfModel = Result<std::string> (*)(const Json&, const ServedModel&);
using ReadBody = std::variant<ParseText, ParseVectors, TellOfModel>;

struct ModelEndpoint {
  std::string_view path;  // of a literal
  ReadBody read;
  const ErrorForm& errors;  // of an API, which lives for ever
};

// On the HTTP server's thread.
void answer_by_model(ServerCore& core, const ModelEndpoint& endpoint, HttpRequest request,
                     std::shared_ptr<HttpReply> reply);

}  // namespace baton::serve
