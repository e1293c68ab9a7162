// Requests for numbers instead of text: OpenAI's /v1/embeddings (its public API reference), Ollama's /api/embed and
// /api/embeddings (that project's docs/api.md), and /v1/rerank as Jina's API has it and others took it over.
#pragma once

#include <functional>
#include <string>

#include "serve/embedder.h"
#include "serve/json.h"
#include "serve/served_model.h"

namespace baton::serve::vectors {

enum class TooLong { kRefuse, kCut };

struct VectorRequest {
  EmbedRequest work;
  TooLong too_long = TooLong::kRefuse;
  // The answer's body, of the vectors of texts that had so many tokens together. On any thread.
  std::function<std::string(Vectors made, std::size_t tokens)> answer;
};

Result<VectorRequest> parse_embeddings(const Json& body, const ServedModel& model);
Result<VectorRequest> parse_ollama_embed(const Json& body, const ServedModel& model);
Result<VectorRequest> parse_ollama_embeddings(const Json& body, const ServedModel& model);
Result<VectorRequest> parse_rerank(const Json& body, const ServedModel& model);

}  // namespace baton::serve::vectors
