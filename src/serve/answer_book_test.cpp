#include "serve/answer_book.h"

#include <gtest/gtest.h>

#include "serve/json.h"

namespace baton::serve {
namespace {

Json read_back(const std::string& text) { return parse_json(text).value(); }

AnswerRecord record(std::uint64_t id) {
  return {.id = id,
          .request = id,
          .model = "tiny",
          .endpoint = "/v1/messages",
          .client = "key laptop",
          .came_at = std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000)),
          .prompt_tokens = 12,
          .most_new_tokens = 64};
}

TEST(AnswerBook, ForgetsWhatEndedLongAgo) {
  AnswerBook book;
  for (std::uint64_t id = 0; id < 2 * AnswerBook::kMostEnded; ++id) book.add_ended(record(id));
  ASSERT_EQ(book.ended().size(), AnswerBook::kMostEnded);
  EXPECT_EQ(book.ended().front().id, AnswerBook::kMostEnded);
  EXPECT_EQ(book.ended().back().id, 2 * AnswerBook::kMostEnded - 1);
}

TEST(AnswerRecord, SaysNothingThatIsNotKnownYet) {
  const Json queued = read_back(to_json(record(7)));
  EXPECT_EQ(queued["id"].as<std::int64_t>(), 7);
  EXPECT_EQ(queued["state"].get<std::string>(), "queued");
  EXPECT_EQ(queued["endpoint"].get<std::string>(), "/v1/messages");
  EXPECT_EQ(queued["client"].get<std::string>(), "key laptop");
  EXPECT_EQ(queued["came_at"].get<std::string>(), "2023-11-14T22:13:20.000000Z");
  for (const char* member : {"plan", "shape", "total_s", "first_token_s", "predicted_total_s", "error"}) {
    EXPECT_FALSE(queued.contains(member)) << member;
  }
}

TEST(AnswerRecord, ComparesWhatWasPredictedAndSaysWhyItFailed) {
  AnswerRecord failed = record(8);
  failed.state = AnswerState::kFailed;
  failed.shape = "joint";
  failed.plan = "prefill=a:0-4,b:4-8;decode=b:0-8";
  failed.first_token_s = 0.25;
  failed.total_s = 1.5;
  failed.predicted = AnswerPrediction{.planning_ms = 2, .first_token_s = 0.5, .total_s = 1};
  failed.recoveries.emplace_back().lost = plan::NodeRef{.name = "spark", .address = {}, .fingerprint = {}};
  failed.error = Error{ErrorCode::kTimeout, "the answer took too long", {}};
  const Json shown = read_back(to_json(failed));
  EXPECT_EQ(shown["first_token_s"].as<double>(), 0.25);
  EXPECT_EQ(shown["total_s"].as<double>(), 1.5);
  EXPECT_EQ(shown["predicted_first_token_s"].as<double>(), 0.5);
  EXPECT_EQ(shown["predicted_total_s"].as<double>(), 1);
  EXPECT_EQ(shown["replans"].get_array().at(0)["lost"].get<std::string>(), "spark");
  EXPECT_EQ(shown["error"]["code"].get<std::string>(), "timeout");
}

TEST(AnswerRecord, StandsInTheOrderInWhichAnswersCame) {
  const Json shown = read_back(to_json({record(9), record(3), record(5)}));
  std::vector<std::int64_t> ids;
  for (const Json& one : shown["requests"].get_array()) ids.push_back(one["id"].as<std::int64_t>());
  EXPECT_EQ(ids, (std::vector<std::int64_t>{3, 5, 9}));
}

}  // namespace
}  // namespace baton::serve
