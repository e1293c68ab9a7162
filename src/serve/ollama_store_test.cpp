#include "serve/ollama_store.h"

#include <gtest/gtest.h>

namespace baton::serve::ollama {
namespace {

template <typename Parse>
auto parsed(Parse parse, std::string_view body) {
  return parse_json(body).and_then(parse);
}

TEST(OllamaStore, TakesBothNamesOfTheName) {
  const auto wish = parsed(parse_pull, R"({"model": "hf.co/owner/repo:Q8_0"})");
  ASSERT_TRUE(wish) << wish.error().to_string();
  EXPECT_EQ(wish->model, "hf.co/owner/repo:Q8_0");
  EXPECT_EQ(wish->delivery, Delivery::kStream);
  const auto older = parsed(parse_pull, R"({"name": "qwen3:8b", "stream": false, "insecure": false})");
  ASSERT_TRUE(older) << older.error().to_string();
  EXPECT_EQ(older->model, "qwen3:8b");
  EXPECT_EQ(older->delivery, Delivery::kWhole);
  EXPECT_EQ(*parsed(parse_delete, R"({"name": "spark/qwen3:8b"})"), "spark/qwen3:8b");
  EXPECT_EQ(parsed(parse_copy, R"({"source": "a", "destination": "b"})")->destination, "b");
}

TEST(OllamaStore, TakesNoPathAndNoAddress) {
  for (const char* name :
       {"/etc/passwd", "./model.gguf", "../model", "model.gguf", "~/model", "https://example.org/m.gguf",
        "http://127.0.0.1:8770/m.gguf", "file:///etc/passwd", "", "a b", "hf.co/../x", "node/../x"}) {
    const std::string text = json_string(name);
    EXPECT_EQ(parsed(parse_pull, R"({"model": )" + text + "}").error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_EQ(parsed(parse_delete, R"({"model": )" + text + "}").error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_FALSE(parsed(parse_copy, R"({"source": )" + text + R"(, "destination": "b"})")) << name;
    EXPECT_FALSE(parsed(parse_copy, R"({"source": "a", "destination": )" + text + "}")) << name;
  }
}

TEST(OllamaStore, RefusesWhatItDoesNotDo) {
  EXPECT_EQ(parsed(parse_pull, R"({"model": "qwen3", "insecure": true})").error().context, "insecure");
  EXPECT_FALSE(parsed(parse_pull, R"({"model": "qwen3", "mirror": "x"})"));
  EXPECT_FALSE(parsed(parse_pull, R"({"stream": true})"));
  EXPECT_FALSE(parsed(parse_delete, "{}"));
}

TEST(OllamaStore, SaysHowFarEachFileIs) {
  PullLines lines;
  EXPECT_EQ(lines.progress({.phase = store::PullPhase::kAsking}), "{\"status\":\"pulling manifest\"}\n");
  EXPECT_EQ(lines.progress({.phase = store::PullPhase::kAsking}), "");
  store::PullProgress progress{.phase = store::PullPhase::kDownloading, .file = "m.gguf"};
  progress.file_bytes_done = 5;
  progress.file_bytes_total = 10;
  EXPECT_EQ(lines.progress(progress), "{\"status\":\"pulling m.gguf\",\"total\":10,\"completed\":5}\n");
  progress.file_sha256 = Sha256();
  const std::string zeros(64, '0');
  EXPECT_EQ(lines.progress(progress),
            "{\"status\":\"pulling 000000000000\",\"digest\":\"sha256:" + zeros + "\",\"total\":10,\"completed\":5}\n");
  progress.phase = store::PullPhase::kFinishing;
  EXPECT_EQ(lines.progress(progress), "{\"status\":\"verifying sha256 digest\"}\n{\"status\":\"writing manifest\"}\n");
  EXPECT_EQ(lines.end({}), "{\"status\":\"success\"}\n");
  EXPECT_EQ(lines.end(fail(ErrorCode::kIo, "the disk is full", "m.gguf")),
            "{\"error\":\"m.gguf: the disk is full\"}\n");
}

TEST(OllamaStore, CallsWhatIsInUseAConflict) {
  EXPECT_EQ(status_of_change({ErrorCode::kNoCapacity, "", ""}), 409);
  EXPECT_EQ(status_of_change({ErrorCode::kRefused, "", ""}), 403);
  EXPECT_EQ(status_of_change({ErrorCode::kNotFound, "", ""}), 404);
}

}  // namespace
}  // namespace baton::serve::ollama
