#include "serve/openai.h"

#include <gtest/gtest.h>

#include "engine/test_model.h"

namespace baton::serve::openai {
namespace {

class OpenAi : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto model = ServedModel::create(engine::test::reference_model("golden/text-llama"), "tiny");
    ASSERT_TRUE(model) << model.error().to_string();
    model_ = *std::move(model);
  }
  static void TearDownTestSuite() { model_.reset(); }

  static Result<ParsedRequest> completion(const std::string& members) {
    const Json body = parse_json("{\"model\":\"tiny\"" + (members.empty() ? "" : "," + members) + "}").value();
    return parse_completion(body, *model_);
  }
  static Error refused(const std::string& members) {
    const auto parsed = completion(members);
    EXPECT_FALSE(parsed) << members;
    return parsed ? Error{} : parsed.error();
  }

  static Choice choice(std::string text, EndReason reason, std::uint32_t new_tokens) {
    Choice made;
    made.text = std::move(text);
    made.end.reason = reason;
    made.end.prompt_tokens = 5;
    made.end.new_tokens = new_tokens;
    made.end.decode_s = 0.0120004;
    made.end.shape = "single";
    return made;
  }
  static std::vector<Choice> two_choices() {
    return {choice("one \"quoted\"", EndReason::kEndOfText, 3), choice("two", EndReason::kLength, 4)};
  }

  static inline std::unique_ptr<const ServedModel> model_;
};

TEST_F(OpenAi, ReadsEveryParameter) {
  const auto parsed = completion(
      R"("prompt":"hello","max_tokens":7,"n":2,"temperature":0.5,"top_p":0.9,"seed":-1,"presence_penalty":1,)"
      R"("frequency_penalty":-1,"logit_bias":{"5":-100},"stop":["a","b"],"logprobs":3,"stream":true,)"
      R"("stream_options":{"include_usage":true},"user":"me","echo":false,"top_k":40,"min_p":0.1)");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  const CanonicalRequest& request = parsed->request;
  ASSERT_EQ(request.prompts.size(), 1U);
  EXPECT_EQ(text::detokenize(model_->vocabulary(), request.prompts.front()), "hello");
  EXPECT_EQ(request.max_new_tokens, 7U);
  EXPECT_EQ(request.choices, 2U);
  EXPECT_FLOAT_EQ(request.sampler.temperature, 0.5F);
  EXPECT_EQ(request.sampler.seed, UINT64_MAX);
  EXPECT_FLOAT_EQ(request.sampler.logit_bias.at(5), -100);
  EXPECT_EQ(request.stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.top_logprobs, 3U);
  EXPECT_EQ(parsed->delivery, Delivery::kStream);
}

TEST_F(OpenAi, RefusesByNameWhatItCannotDo) {
  EXPECT_EQ(refused(R"("prompt":"x","suffix":"y")").context, "suffix");
  EXPECT_EQ(refused(R"("prompt":"x","temperature":3)").context, "temperature");
  EXPECT_EQ(refused(R"("prompt":"x","temperature":"hot")").context, "temperature");
  EXPECT_EQ(refused(R"("prompt":"x","n":0)").context, "n");
  EXPECT_EQ(refused(R"("prompt":"x","n":1.5)").context, "n");
  EXPECT_EQ(refused(R"("prompt":"x","stop":[1])").context, "stop");
  EXPECT_EQ(refused(R"("prompt":"x","stop":"")").context, "stop");
  EXPECT_EQ(refused(R"("prompt":"x","best_of":3)").context, "best_of");
  EXPECT_EQ(refused(R"("prompt":"x","logit_bias":{"99999999":1})").context, "logit_bias");
  EXPECT_EQ(refused(R"("prompt":"x","logit_bias":{"one":1})").context, "logit_bias");
  EXPECT_EQ(refused(R"("prompt":"x","stream_options":{})").context, "stream_options");
  EXPECT_EQ(refused(R"("prompt":"x","stream":true,"stream_options":{"fast":1})").context, "stream_options.fast");
  EXPECT_EQ(refused(R"("prompt":{"a":1})").context, "prompt");
  EXPECT_EQ(refused(R"("prompt":[99999999])").context, "prompt");
  EXPECT_EQ(refused("").context, "prompt");
  EXPECT_EQ(refused(R"("prompt":"")").context, "prompt");
  EXPECT_EQ(refused(R"("prompt":["x",""])").context, "prompt");
  EXPECT_EQ(refused(R"("prompt":"x","echo":true,"logprobs":1)").context, "echo");
  EXPECT_EQ(parse_completion(parse_json(R"({"prompt":"x"})").value(), *model_).error().context, "model");
}

TEST_F(OpenAi, TakesPromptsInAllTheirForms) {
  EXPECT_EQ(completion(R"("prompt":[3,4,5])")->request.prompts, (std::vector<std::vector<Token>>{{3, 4, 5}}));
  EXPECT_EQ(completion(R"("prompt":["a","b"])")->request.prompts.size(), 2U);
  EXPECT_EQ(completion(R"("prompt":[[3],[4,5]])")->request.prompts, (std::vector<std::vector<Token>>{{3}, {4, 5}}));
}

TEST_F(OpenAi, NeverReadsControlTokensInAPrompt) {
  const auto parsed = completion(R"("prompt":"</s><s>")");
  ASSERT_TRUE(parsed);
  const auto& tokens = parsed->request.prompts.front();
  for (std::size_t index = model_->tokenizer().begin_sequence().size(); index < tokens.size(); ++index) {
    EXPECT_NE(model_->vocabulary().type(tokens[index]), text::TokenType::kControl);
  }
}

TEST_F(OpenAi, WritesWholeAnswers) {
  const auto parsed = completion(R"("prompt":"x","n":2)");
  const Json body = parse_json(parsed->format->whole(two_choices())).value();
  EXPECT_EQ(body["object"].get<std::string>(), "text_completion");
  EXPECT_EQ(body["choices"][0]["text"].get<std::string>(), "one \"quoted\"");
  EXPECT_EQ(body["choices"][0]["finish_reason"].get<std::string>(), "stop");
  EXPECT_EQ(body["choices"][1]["finish_reason"].get<std::string>(), "length");
  EXPECT_EQ(body["choices"][1]["baton"]["shape"].get<std::string>(), "single");
  EXPECT_EQ(to_json(body["choices"][1]["baton"]["decode_ms"]), "12");
  EXPECT_EQ(body["usage"]["prompt_tokens"].get<std::int64_t>(), 5);
  EXPECT_EQ(body["usage"]["completion_tokens"].get<std::int64_t>(), 7);
}

TEST_F(OpenAi, WritesStreamsAsServerSentEvents) {
  const auto parsed = completion(R"("prompt":"x","stream":true,"stream_options":{"include_usage":true})");
  AnswerFormat& format = *parsed->format;
  std::string stream = format.begin() + format.piece(0, {"a\n\nb", {}});
  const std::vector<Choice> choices{choice("", EndReason::kEndOfText, 1)};
  stream += format.end_of_choice(0, choices[0].end) + format.end(choices);
  std::vector<std::string> events;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    ASSERT_EQ(stream.substr(at, 6), "data: ");
    events.push_back(stream.substr(at + 6, end - at - 6));
    at = end + 2;
  }
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(parse_json(events[0]).value()["choices"][0]["text"].get<std::string>(), "a\n\nb");
  const Json last = parse_json(events[1]).value()["choices"][0];
  EXPECT_EQ(last["finish_reason"].get<std::string>(), "stop");
  EXPECT_EQ(last["baton"]["completion_tokens"].get<std::int64_t>(), 1);
  EXPECT_EQ(parse_json(events[2]).value()["usage"]["total_tokens"].get<std::int64_t>(), 6);
  EXPECT_EQ(events[3], "[DONE]");
}

TEST(OpenAiErrors, ATextThatIsTooLongIsCalledAsTheRequestCallsIt) {
  const Error error{ErrorCode::kInvalidArgument, "too long", std::string(kContextLength)};
  const auto param = [](const std::string& body) {
    return parse_json(body).value()["error"]["param"].get<std::string>();
  };
  EXPECT_EQ(param(error_body(400, error)), "messages");
  EXPECT_EQ(param(completion_error_body(400, error)), "prompt");
  EXPECT_EQ(param(response_error_body(400, error)), "input");
}

TEST_F(OpenAi, SaysErrorsInItsOwnShape) {
  const Json body = parse_json(error_body(400, Error{ErrorCode::kUnsupported, "no", "suffix"})).value();
  EXPECT_EQ(body["error"]["type"].get<std::string>(), "invalid_request_error");
  EXPECT_EQ(body["error"]["param"].get<std::string>(), "suffix");
  EXPECT_EQ(body["error"]["code"].get<std::string>(), "unsupported");
}

}  // namespace
}  // namespace baton::serve::openai
