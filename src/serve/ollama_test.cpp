#include "serve/ollama.h"

#include <gtest/gtest.h>

#include "engine/test_model.h"

namespace baton::serve::ollama {
namespace {

class Ollama : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = ServedModel::create(engine::test::reference_model("golden/text-llama"), "tiny").value();
  }
  static void TearDownTestSuite() { model_.reset(); }
  static Result<ParsedRequest> generate(const std::string& body) {
    return parse_generate(parse_json(body).value(), *model_);
  }
  static inline std::unique_ptr<const ServedModel> model_;
};

TEST_F(Ollama, StreamsUnlessToldOtherwise) {
  EXPECT_EQ(generate(R"({"model":"tiny","prompt":"x"})")->delivery, Delivery::kStream);
  EXPECT_EQ(generate(R"({"model":"tiny:latest","prompt":"x","stream":false})")->delivery, Delivery::kWhole);
}

TEST_F(Ollama, ReadsItsOptions) {
  const auto parsed = generate(
      R"({"model":"tiny","prompt":"x","options":{"temperature":0,"seed":7,"num_predict":5,"stop":["a"],"num_ctx":99,)"
      R"("repeat_last_n":-1,"top_k":0}})");
  ASSERT_TRUE(parsed) << parsed.error().to_string();
  EXPECT_EQ(parsed->request.sampler.temperature, 0);
  EXPECT_EQ(parsed->request.sampler.seed, 7U);
  EXPECT_EQ(parsed->request.sampler.penalty_window, UINT32_MAX);
  EXPECT_EQ(parsed->request.max_new_tokens, 5U);
  EXPECT_EQ(parsed->request.stops, (std::vector<std::string>{"a"}));
  EXPECT_EQ(generate(R"({"model":"tiny","prompt":"x","options":{"num_predict":-1}})")->request.max_new_tokens,
            std::nullopt);
}

TEST_F(Ollama, RefusesByNameWhatItCannotDo) {
  for (const auto& [body, name] : std::vector<std::pair<std::string, std::string>>{
           {R"({"model":"tiny","prompt":"x","format":"yaml"})", "format"},
           {R"({"model":"tiny","prompt":"x","images":["abc"]})", "images"},
           {R"({"model":"tiny","prompt":"x","options":{"mirostat":1}})", "options.mirostat"},
           {R"({"model":"tiny","prompt":"x","think":"much"})", "think"},
           {R"({"prompt":"x"})", "model"}}) {
    const auto parsed = generate(body);
    ASSERT_FALSE(parsed) << body;
    EXPECT_EQ(parsed.error().context, name);
  }
}

TEST_F(Ollama, WithoutAPromptWantsTheModelLoadedOrGone) {
  const auto wish = generate(R"({"model":"tiny","keep_alive":"2m"})")->load;
  ASSERT_TRUE(wish);
  EXPECT_EQ(wish->keep_alive, std::chrono::minutes(2));
  EXPECT_EQ(parse_json(wish->answer).value()["done_reason"].get<std::string>(), "load");
  const auto farewell = parse_chat(parse_json(R"({"model":"tiny","messages":[],"keep_alive":0})").value(), *model_);
  ASSERT_TRUE(farewell->load);
  EXPECT_EQ(parse_json(farewell->load->answer).value()["done_reason"].get<std::string>(), "unload");
  EXPECT_FALSE(generate(R"({"model":"tiny","prompt":"x","keep_alive":0})")->load);
}

TEST_F(Ollama, WritesALineForEachPiece) {
  const auto parsed = generate(R"({"model":"tiny","prompt":"x"})");
  const std::string line = parsed->format->piece(0, {"a\nb", {}});
  ASSERT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(parse_json(line).value()["response"].get<std::string>(), "a\nb");
  AnswerEnd end;
  end.reason = EndReason::kLength;
  end.new_tokens = 3;
  const std::string last = parsed->format->end_of_choice(0, end);
  const Json body = parse_json(last).value();
  EXPECT_TRUE(body["done"].get<bool>());
  EXPECT_EQ(body["done_reason"].get<std::string>(), "length");
  EXPECT_EQ(body["eval_count"].get<std::int64_t>(), 3);
}

}  // namespace
}  // namespace baton::serve::ollama
