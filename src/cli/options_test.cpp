#include "cli/options.h"

#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

namespace baton::cli {
namespace {

// The error names the text that was wrong.
template <typename T>
void expect_refused(const Result<T>& result, std::string_view text) {
  ASSERT_FALSE(result) << text;
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(result.error().message.find(text), std::string::npos) << result.error().message;
}

TEST(ParseLayers, ReadsARange) {
  EXPECT_EQ(parse_layers("0-16").value(), (LayerRange{0, 16}));
  EXPECT_EQ(parse_layers("7-8").value(), (LayerRange{7, 8}));
}

TEST(ParseLayers, RefusesWhatIsNoRange) {
  for (const std::string_view text : {"", "-", "3", "3-", "-3", "a-b", "0-16x", "0-16-", " 0-16", "0:16", "16-16",
                                      "16-0", "-1-3", "0-4294967296", "+1-3"}) {
    expect_refused(parse_layers(text), text);
  }
}

TEST(ParseAdvertised, TakesAHostWithAPortOrWithout) {
  EXPECT_EQ(parse_advertised("spark.local").value(), (net::Endpoint{"spark.local", 0}));
  EXPECT_EQ(parse_advertised("192.0.2.7:8771").value(), (net::Endpoint{"192.0.2.7", 8771}));
  EXPECT_EQ(parse_advertised("[2001:db8::1]").value(), (net::Endpoint{"2001:db8::1", 0}));
  EXPECT_EQ(parse_advertised("[2001:db8::1]:9").value(), (net::Endpoint{"2001:db8::1", 9}));
  for (const std::string_view text : {"", ":8771", "spark:", "spark:0", "2001:db8::1", "[spark]", "a b"}) {
    expect_refused(parse_advertised(text), text);
  }
}

TEST(InFlag, NamesTheFlagBeforeTheError) {
  EXPECT_EQ(in_flag("--api", net::Endpoint::parse("a:1")).value(), (net::Endpoint{"a", 1}));
  EXPECT_TRUE(
      in_flag("--api", net::Endpoint::parse("a")).error().to_string().starts_with("--api: 'a' is not an address"));
}

TEST(ParseTokens, ReadsIdsWithOrWithoutSpacesBeforeThem) {
  EXPECT_EQ(parse_tokens("7").value(), (std::vector<Token>{7}));
  EXPECT_EQ(parse_tokens("1,2,3").value(), (std::vector<Token>{1, 2, 3}));
  EXPECT_EQ(parse_tokens(" 1,  2, 3").value(), (std::vector<Token>{1, 2, 3}));
  // Whether an id is in the vocabulary is for the model to say.
  EXPECT_EQ(parse_tokens("-1").value(), (std::vector<Token>{-1}));
}

TEST(ParseTokens, RefusesWhatIsNoList) {
  for (const std::string_view text : {"", ",", "1,", ",1", "1,,2", "1 2", "1;2", "x", "1,x", "1.5", "2147483648"}) {
    expect_refused(parse_tokens(text), text);
  }
}

TEST(JsonFlag, ChoosesTheFormat) {
  OutputFormat format = OutputFormat::kText;
  CLI::App app;
  add_json_flag(app, format, "Print JSON");
  app.parse("");
  EXPECT_EQ(format, OutputFormat::kText);
  app.parse("--json");
  EXPECT_EQ(format, OutputFormat::kJson);
}

TEST(LinkFlags, TakeOnlyWhatCanTravel) {
  LinkFlags flags;
  EXPECT_EQ(flags.codec_type().value(), handoff::DType::kF16);
  EXPECT_EQ(flags.hidden_type().value(), handoff::DType::kF32);
  flags.codec = "q4_0";
  flags.hidden = "bf16";
  EXPECT_EQ(flags.codec_type().value(), handoff::DType::kQ4_0);
  EXPECT_EQ(flags.hidden_type().value(), handoff::DType::kBf16);
  flags.codec = "f32";
  flags.hidden = "q8_0";
  expect_refused(flags.codec_type(), "'f32'");
  expect_refused(flags.hidden_type(), "'q8_0'");
}

TEST(DeviceFlags, EmulateADeviceOnlyWithBothItsRates) {
  DeviceFlags flags;
  EXPECT_FALSE(flags.engine_options().value().emulation);
  flags.emulate_tflops = 2;
  expect_refused(flags.engine_options(), "--emulate-gbps");
  flags.emulate_gbps = 3;
  const engine::EngineOptions options = flags.engine_options().value();
  ASSERT_TRUE(options.emulation);
  EXPECT_EQ(options.emulation->teraflops, 2);
  EXPECT_EQ(options.emulation->gigabytes_per_second, 3);
}

}  // namespace
}  // namespace baton::cli
