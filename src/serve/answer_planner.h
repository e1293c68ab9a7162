// What decides how each answer runs, and says what it would decide. The server asks it and need not know how it knows.
// Called on the node's loop.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/request.h"
#include "serve/answer_book.h"

namespace baton::serve {

// What became of an answer, as its client saw it.
struct AnswerCourse {
  double first_token_s = 0;  // from its start; 0 where it had none
  double decode_s = 0;       // from there to its last token
  std::uint32_t new_tokens = 0;
  std::uint32_t cached_tokens = 0;         // of the prompt, that nobody had to read
  std::span<const Token> text;             // the prompt and the answer
  std::vector<node::Recovery> recoveries;  // nodes that were lost, and how the answer went on
};

// A plan for one answer, which counts as a promise from begun() on until it is destroyed.
class AnswerPlan {
 public:
  virtual ~AnswerPlan() = default;
  // Puts it into what will be submitted.
  virtual void apply_to(node::RequestOptions& request) const = 0;
  virtual void begun(std::uint64_t answer) = 0;
  virtual void prefilled() = 0;
  // A node of it was lost: the plan by which the rest is written, and promised from now on. Nothing where this node
  // alone is to go on.
  virtual std::optional<plan::Plan> replan(const node::Loss& loss) = 0;
  virtual void ended(const AnswerCourse& course) = 0;
  // What it promised when it was made, of an answer of so many tokens; nothing: of as many as are expected.
  virtual AnswerPrediction predicted(std::optional<std::uint32_t> new_tokens) const = 0;
};

// Of one model's answers.
class AnswerPlanner {
 public:
  virtual ~AnswerPlanner() = default;
  // Null where the request runs as it is. This node still has the KV of the prompt's first `kept_tokens`.
  virtual std::unique_ptr<AnswerPlan> plan(std::span<const Token> prompt, std::uint32_t kept_tokens,
                                           std::uint32_t most_new_tokens) = 0;
  // As JSON: what there would be to choose from, and what would be chosen. kInvalidArgument, kNotFound.
  virtual Result<std::string> explain(std::uint32_t prompt_tokens, std::uint32_t most_new_tokens) = 0;
};

// What the server says of the cluster without knowing it.
class ClusterReporter {
 public:
  virtual ~ClusterReporter() = default;
  // As JSON: of the latest answers those that were planned, what was predicted of them and what they took.
  virtual std::string latest(const std::deque<AnswerRecord>& ended) = 0;
  // As JSON: the cluster's nodes, as `baton nodes --json` tells them.
  virtual std::string cluster() = 0;
};

}  // namespace baton::serve
