// Answers by the API of a node that runs, as any of its clients gets them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/dialogue.h"
#include "engine/sampler.h"
#include "net/endpoint.h"
#include "serve/http_client.h"

namespace baton::cli {

struct ApiAnswererOptions {
  net::Endpoint api = {};
  std::string key = {};
  std::string model = {};                   // empty: the first that the node has
  std::string system = {};                  // what the model is told before the conversation; empty: nothing
  std::vector<std::string> variables = {};  // of the chat template: NAME=JSON
  std::uint32_t max_new_tokens = 128;
  engine::SamplerOptions sampler = {};
};

class ApiAnswerer : public Answerer {
 public:
  // Asks the node which models it has. Errors: kNotFound where the wanted one is not among them, kUnavailable where no
  // node answers, kRefused where it wants a key.
  static Result<std::unique_ptr<ApiAnswerer>> create(ApiAnswererOptions options);

  const std::string& model() const { return options_.model; }

  Result<void> answer(std::string question) override;
  void forget() override { messages_.clear(); }
  // Goes on with a text; `prompt` is JSON: a string, or an array of tokens.
  Result<void> complete(const std::string& prompt);

 private:
  // A message of the conversation, as JSON.
  using Message = std::string;

  ApiAnswerer(ApiAnswererOptions options, std::string settings);

  Result<std::string> stream(const std::string& path, const std::string& body);

  ApiAnswererOptions options_;
  const std::string settings_;  // the members that every request has, behind "{"
  serve::HttpClient client_;
  std::vector<Message> messages_;
};

}  // namespace baton::cli
