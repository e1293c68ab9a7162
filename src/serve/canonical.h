// What every API's request comes down to, and what every API's answer is made of. An adapter turns a body into a
// CanonicalRequest and answers into its own format; what lies between knows of no API.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sampler.h"
#include "serve/answer_reader.h"
#include "serve/generator.h"
#include "text/constrained_text.h"

namespace baton::serve {

// The most answers that one request may ask for, over all its prompts.
inline constexpr std::size_t kMostChoices = 32;

// The context of an error by which a prompt does not fit into the server's context, alone or with its answer: OpenAI's
// clients know it by a code.
inline constexpr std::string_view kContextLength = "context_length";

// What penalties count as seen.
enum class Penalised { kAnswer, kPromptAndAnswer };

struct CanonicalRequest {
  std::vector<std::vector<Token>> prompts;      // one, but where an API takes several
  std::uint32_t choices = 1;                    // for each prompt
  std::optional<std::uint32_t> max_new_tokens;  // nothing: as the server thinks right
  engine::SamplerOptions sampler;
  Penalised penalised = Penalised::kAnswer;
  std::vector<std::string> stops;
  std::optional<std::uint32_t> top_logprobs;  // 0: of the chosen tokens alone
  std::vector<Token> marks;                   // as AnswerRequest has them
  std::vector<Token> further_end_tokens;      // that end an answer, beside the vocabulary's own
  std::shared_ptr<text::TokenLanguage> form;  // what every answer keeps to; null: nothing
  std::optional<Duration> keep_alive;         // of the model, where the client says so
};

// One answer, whole.
struct Choice {
  std::string text;
  std::vector<Piece::Score> scores;
  AnswerEnd end;
  std::string reasoning;
  std::vector<FunctionCall> calls;
};

struct Usage {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of those, as the first answer to each prompt found them
  std::uint32_t new_tokens = 0;
};
Usage usage_of(std::span<const Choice> choices, std::uint32_t choices_for_each_prompt);

// Writes answers as one API does. Used for one request, on one thread.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  virtual std::string whole(std::span<const Choice> choices) = 0;

  // The same as a stream: begin(), any number of piece() and one end_of_choice() for each choice, and end() with all of
  // them; or error() at any time, and then nothing more. Each gives the bytes to send, or none.
  virtual std::string_view stream_type() const { return "text/event-stream"; }
  virtual std::string begin() { return {}; }
  virtual std::string piece(std::size_t choice, const Piece& piece) = 0;
  virtual std::string end_of_choice(std::size_t choice, const AnswerEnd& end) = 0;
  virtual std::string end(std::span<const Choice> choices) = 0;
  virtual std::string error(const Error& error) = 0;
};

enum class Delivery { kWhole, kStream };

// Where OpenAI's APIs put what a type is about: chat's in a member of its own, responses' beside the type.
enum class Nesting { kInner, kBeside };

// A client that wants no text, but a model loaded, or gone where it is to be kept for no time.
struct LoadWish {
  std::optional<Duration> keep_alive;
  std::string answer;  // JSON, once that is so
};

struct ParsedRequest {
  CanonicalRequest request;
  Delivery delivery = Delivery::kWhole;
  std::unique_ptr<AnswerFormat> format;
  std::optional<AnswerReading> reading;  // nothing: an answer is text as it is
  std::optional<LoadWish> load;          // where no text is wanted: then nothing else counts
};

// "prefix-" and 24 random letters and digits.
std::string new_id(std::string_view prefix);
std::int64_t unix_time();
std::uint64_t random_seed();
std::string server_sent_event(std::string_view data, std::string_view event = {});

}  // namespace baton::serve
