#include "store/model_name.h"

#include <gtest/gtest.h>

#include <set>

#include "store/short_names.h"

namespace baton::store {
namespace {

TEST(ModelName, IsReadByItsForm) {
  EXPECT_EQ(parse_model_name("qwen3:8b").value(), ModelName(ShortName{"qwen3", "8b"}));
  EXPECT_EQ(parse_model_name("Qwen3").value(), ModelName(ShortName{"qwen3", ""}));
  EXPECT_EQ(parse_model_name("hf.co/Qwen/Qwen3-8B-GGUF").value(), ModelName(HubName{"Qwen", "Qwen3-8B-GGUF", ""}));
  EXPECT_EQ(parse_model_name("huggingface.co/Qwen/Qwen3-8B-GGUF:Q4_K_M").value(),
            ModelName(HubName{"Qwen", "Qwen3-8B-GGUF", "Q4_K_M"}));
  EXPECT_EQ(parse_model_name("hf.co/a/b:latest").value(), ModelName(HubName{"a", "b", ""}));
  EXPECT_EQ(parse_model_name("https://example.org/m.gguf?x=1").value(),
            ModelName(UrlName{"https://example.org/m.gguf?x=1"}));
  EXPECT_EQ(parse_model_name("spark/qwen3:8b").value(), ModelName(NodeName{"spark", "qwen3:8b"}));
  EXPECT_EQ(parse_model_name("./model").value(), ModelName(PathName{"./model"}));
  EXPECT_EQ(parse_model_name("models/m.GGUF").value(), ModelName(PathName{"models/m.GGUF"}));
}

TEST(ModelName, IsWrittenAsItIsRead) {
  for (const char* text : {"qwen3:8b", "hf.co/a/b:Q8_0", "hf.co/a/b", "https://h/x", "spark/qwen3:8b", "/tmp/x"}) {
    EXPECT_EQ(to_string(parse_model_name(text).value()), text);
  }
}

TEST(ModelName, RefusesWhatNamesNothing) {
  for (const std::string_view text : {"", ":8b", "qwen3:", "a:b:c", "hf.co/only-owner", "hf.co/a/b/c", "hf.co/../x",
                                      "hf.co/a/b:", "a//b", "-x", "a b", "node/../x", "https://a b/c", "qwen3\n:8b"}) {
    const auto name = parse_model_name(text);
    ASSERT_FALSE(name) << text;
    EXPECT_EQ(name.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(name.error().message.find('\n'), std::string::npos);
  }
}

TEST(ModelName, KnowsWhichFilesMayBeNamed) {
  EXPECT_TRUE(is_plain_file_name("qwen3-8b-Q4_K_M-00001-of-00002.gguf"));
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "a\\b", "-rf", "a b", "a\nb"}) {
    EXPECT_FALSE(is_plain_file_name(name)) << name;
  }
}

TEST(ModelName, IsADigestFromEightDigitsOn) {
  const std::string digest(64, 'a');
  EXPECT_EQ(digest_digits(digest), digest);
  EXPECT_EQ(digest_digits("sha256:0123abcd"), "0123abcd");
  for (const std::string& text :
       {std::string("0123abc"), std::string("0123abcg"), std::string("0123ABCD"), digest + "a"}) {
    EXPECT_EQ(digest_digits(text), std::nullopt) << text;
  }
}

TEST(ShortNames, AreAllNamesOnceWithARepository) {
  std::set<std::string_view> seen;
  for (const ShortNameEntry& entry : short_names()) {
    EXPECT_TRUE(seen.insert(entry.name).second) << entry.name;
    const auto name = parse_model_name(entry.name);
    ASSERT_TRUE(name) << entry.name;
    ASSERT_TRUE(std::holds_alternative<ShortName>(*name));
    EXPECT_FALSE(std::get<ShortName>(*name).tag.empty()) << entry.name;
    EXPECT_EQ(to_string(*name), entry.name);
    const std::string hub = "hf.co/" + std::string(entry.owner) + "/" + std::string(entry.repository);
    ASSERT_TRUE(parse_model_name(hub)) << hub;
    EXPECT_EQ(to_string(parse_model_name(hub).value()), hub);
  }
  EXPECT_GT(seen.size(), 40U);
}

TEST(ShortNames, StandForARepository) {
  EXPECT_EQ(find_on_hub({"qwen3", "8b"}), (HubName{"Qwen", "Qwen3-8B-GGUF", ""}));
  EXPECT_EQ(find_on_hub({"qwen3", ""}), (HubName{"Qwen", "Qwen3-8B-GGUF", ""}));
  EXPECT_EQ(find_on_hub({"qwen3", "latest"}), (HubName{"Qwen", "Qwen3-8B-GGUF", ""}));
  EXPECT_EQ(find_on_hub({"qwen3", "8b-q4_k_m"}), (HubName{"Qwen", "Qwen3-8B-GGUF", "q4_k_m"}));
  EXPECT_EQ(find_on_hub({"qwen3", "30b-a3b-q4_k_m"}), (HubName{"Qwen", "Qwen3-30B-A3B-GGUF", "q4_k_m"}));
  EXPECT_EQ(find_on_hub({"qwen3", "9000b"}), std::nullopt);
  EXPECT_EQ(find_on_hub({"nothing", ""}), std::nullopt);
}

}  // namespace
}  // namespace baton::store
