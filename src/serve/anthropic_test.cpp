#include "serve/anthropic.h"

#include <gtest/gtest.h>

#include "engine/test_model.h"

namespace baton::serve::anthropic {
namespace {

// A model without a chat template, so that what is wrong with a body is found before that.
Error refused(const std::string& body) {
  const auto model = ServedModel::create(engine::test::reference_model("golden/text-llama"), "tiny").value();
  const auto parsed = parse_messages(parse_json(body).value(), *model);
  EXPECT_FALSE(parsed) << body;
  return parsed ? Error{} : parsed.error();
}

TEST(Anthropic, RefusesByNameWhatItCannotDo) {
  EXPECT_EQ(refused(R"({"model":"tiny","messages":[{"role":"user","content":"x"}]})").context, "max_tokens");
  EXPECT_EQ(
      refused(
          R"({"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"type":"bash","name":"x"}]})")
          .context,
      "tools[0].type");
  EXPECT_EQ(refused(R"({"model":"tiny","max_tokens":1,"messages":[{"role":"system","content":"x"}]})").context,
            "messages[0].role");
  EXPECT_EQ(refused(R"({"model":"tiny","max_tokens":1,"system":[{"type":"image"}],"messages":[]})").context,
            "system[0].type");
  EXPECT_EQ(
      refused(R"({"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]})").code,
      ErrorCode::kUnsupported);
  EXPECT_EQ(refused(R"({"model":"tiny","max_tokens":1,"temperature":1.5,"messages":[]})").context, "temperature");
}

TEST(Anthropic, SaysErrorsInItsOwnShape) {
  const Json body = parse_json(error_body(429, Error{ErrorCode::kNoCapacity, "later", {}})).value();
  EXPECT_EQ(body["type"].get<std::string>(), "error");
  EXPECT_EQ(body["error"]["type"].get<std::string>(), "rate_limit_error");
  EXPECT_EQ(body["error"]["message"].get<std::string>(), "later");
}

}  // namespace
}  // namespace baton::serve::anthropic
