#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <format>
#include <fstream>
#include <string>
#include <vector>

#include "model/digest_cache.h"
#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace baton::model {
namespace {

namespace fs = std::filesystem;

// A folder with a model of two tensors a part.
class GgufParts : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / std::format("baton-parts-{}", ::getpid());
    fs::create_directories(folder_);
    for (std::uint32_t number = 0; number < 3; ++number) write(number, number, 3, 6);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path path(std::uint32_t number, const std::string& stem = "m") const {
    return folder_ / std::format("{}-{:05}-of-00003.gguf", stem, number + 1);
  }

  // Part `place` of the folder, whose contents say that they are part `number` of `count`.
  void write(std::uint32_t place, std::uint32_t number, std::uint32_t count, std::uint32_t tensors,
             const std::string& stem = "m") const {
    GgufWriter writer;
    writer.set<std::uint16_t>("split.no", static_cast<std::uint16_t>(number));
    writer.set<std::uint16_t>("split.count", static_cast<std::uint16_t>(count));
    writer.set<std::int32_t>("split.tensors.count", static_cast<std::int32_t>(tensors));
    if (number == 0) writer.set<std::string_view>("general.architecture", "llama");
    const std::array<std::uint64_t, 1> shape = {8};
    for (const char half : {'a', 'b'}) {
      ASSERT_TRUE(writer.add_tensor(std::format("t{}{}", number, half), TensorType::kF32, shape));
    }
    ASSERT_TRUE(writer.begin(path(place, stem)));
    for (const float half : {0.0F, 0.5F}) {
      const std::vector<float> values(8, static_cast<float>(number) + half);
      ASSERT_TRUE(writer.write(std::as_bytes(std::span(values))));
    }
    ASSERT_TRUE(writer.finish());
  }

  void expect_error(ErrorCode code, const std::string& file, const std::string& mentioned) const {
    const auto opened = GgufFile::open(path(0));
    ASSERT_FALSE(opened.has_value()) << mentioned;
    const std::string text = opened.error().to_string();
    EXPECT_EQ(opened.error().code, code) << text;
    EXPECT_NE(text.find(file), std::string::npos) << text;
    EXPECT_NE(text.find(mentioned), std::string::npos) << text;
  }

  fs::path folder_;
};

TEST_F(GgufParts, OpenAsOneFile) {
  auto opened = GgufFile::open(path(0));
  ASSERT_TRUE(opened.has_value()) << opened.error().to_string();
  const GgufFile file = std::move(*opened);
  EXPECT_EQ(file.part_count(), 3U);
  EXPECT_EQ(file.tensors().size(), 6U);
  EXPECT_EQ(file.get<std::string_view>("general.architecture").value(), "llama");
  for (std::uint32_t number = 0; number < 3; ++number) {
    const TensorInfo* info = file.find_tensor(std::format("t{}b", number));
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->part, number);
    float value = 0;
    std::memcpy(&value, file.tensor_bytes(*info).data(), sizeof(value));
    EXPECT_EQ(value, static_cast<float>(number) + 0.5F);
    file.release(file.tensor_bytes(*info));
  }
}

TEST_F(GgufParts, AreOpenedByTheFirst) {
  const auto opened = GgufFile::open(path(1));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(opened.error().message.find("m-00001-of-00003.gguf"), std::string::npos) << opened.error().message;
}

TEST_F(GgufParts, ThatAreMissingAreNamed) {
  fs::remove(path(2));
  expect_error(ErrorCode::kNotFound, "m-00001-of-00003.gguf", "m-00003-of-00003.gguf");
}

TEST_F(GgufParts, OfAnotherModelAreNamed) {
  write(1, 1, 4, 6);
  expect_error(ErrorCode::kCorrupt, "m-00002-of-00003.gguf", "part 2 of 4");
  write(1, 1, 3, 7);
  expect_error(ErrorCode::kCorrupt, "m-00002-of-00003.gguf", "a model of 7 tensors");
}

TEST_F(GgufParts, ThatStandTwiceAreNamed) {
  write(2, 1, 3, 6);
  expect_error(ErrorCode::kCorrupt, "m-00003-of-00003.gguf", "is part 2 of 3");
}

TEST_F(GgufParts, ThatAreCutShortAreNamed) {
  fs::resize_file(path(1), fs::file_size(path(1)) - 32);
  expect_error(ErrorCode::kCorrupt, "m-00002-of-00003.gguf", "the download is incomplete");
}

TEST_F(GgufParts, MustHoldEveryPromisedTensor) {
  for (std::uint32_t number = 0; number < 3; ++number) write(number, number, 3, 8);
  expect_error(ErrorCode::kCorrupt, "m-00001-of-00003.gguf", "6 tensors, but 8 are promised");
}

TEST_F(GgufParts, MustKeepTheirNames) {
  const fs::path renamed = folder_ / "renamed.gguf";
  fs::rename(path(0), renamed);
  const auto opened = GgufFile::open(renamed);
  ASSERT_FALSE(opened.has_value());
  EXPECT_NE(opened.error().message.find("-00001-of-00003.gguf"), std::string::npos) << opened.error().message;
}

TEST_F(GgufParts, AllCountInTheDigest) {
  const std::vector<fs::path> parts = {path(0), path(1), path(2)};
  const auto before = model_digest(parts);
  ASSERT_TRUE(before.has_value());
  EXPECT_NE(*before, *model_digest(parts.front()));
  std::fstream last(path(2), std::ios::in | std::ios::out | std::ios::binary);
  last.seekp(-1, std::ios::end);
  last.put('x');
  last.close();
  const auto after = model_digest(parts);
  ASSERT_TRUE(after.has_value());
  EXPECT_NE(*before, *after);
}

}  // namespace
}  // namespace baton::model
