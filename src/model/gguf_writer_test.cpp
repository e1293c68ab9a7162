#include "model/gguf_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "base/temporary_folder.h"

namespace baton::model {
namespace {

class GgufWriterTest : public testing::Test {
 protected:
  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  const std::filesystem::path path_ = folder_.path() / "model.gguf";
};

constexpr std::array<std::uint64_t, 2> kShape{32, 3};

TEST_F(GgufWriterTest, WritesWhatTheReaderReads) {
  GgufWriter writer;
  writer.set<std::uint32_t>("number", 7);
  writer.set<std::string_view>("text", "baton");
  writer.set_array<float>("reals", std::vector<float>{1, 2});
  writer.set_strings("words", std::vector<std::string>{"a", "bc"});
  const std::vector<std::uint64_t> vector_shape{5};
  ASSERT_TRUE(writer.add_tensor("vector", TensorType::kF32, vector_shape));
  ASSERT_TRUE(writer.add_tensor("matrix", TensorType::kQ8_0, kShape));
  Bytes data(20 + 3 * 34);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  ASSERT_TRUE(writer.begin(path_));
  // Pieces need not follow the tensors' borders.
  ASSERT_TRUE(writer.write(ByteSpan(data).first(11)));
  ASSERT_TRUE(writer.write(ByteSpan(data).subspan(11, 50)));
  ASSERT_TRUE(writer.write(ByteSpan(data).subspan(61)));
  EXPECT_FALSE(std::filesystem::exists(path_));
  ASSERT_TRUE(writer.finish());

  const auto file = GgufFile::open(path_).value();
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.get<int>("number").value(), 7);
  EXPECT_EQ(file.get<std::string_view>("text").value(), "baton");
  EXPECT_EQ(file.get_array<float>("reals").value(), (std::vector<float>{1, 2}));
  EXPECT_EQ(file.get_array<std::string_view>("words").value(), (std::vector<std::string_view>{"a", "bc"}));
  const ByteSpan vector = file.tensor_bytes(*file.find_tensor("vector"));
  const ByteSpan matrix = file.tensor_bytes(*file.find_tensor("matrix"));
  EXPECT_TRUE(std::ranges::equal(vector, ByteSpan(data).first(20)));
  EXPECT_TRUE(std::ranges::equal(matrix, ByteSpan(data).subspan(20)));
  EXPECT_EQ(file.find_tensor("matrix")->shape, (std::array<std::uint64_t, 4>{32, 3, 1, 1}));
}

TEST_F(GgufWriterTest, RefusesShapesThatCannotBe) {
  GgufWriter writer;
  const auto add = [&](std::vector<std::uint64_t> shape, TensorType type) {
    return writer.add_tensor("t", type, shape);
  };
  EXPECT_FALSE(add({}, TensorType::kF32));
  EXPECT_FALSE(add({1, 1, 1, 1, 1}, TensorType::kF32));
  EXPECT_FALSE(add({0}, TensorType::kF32));
  EXPECT_FALSE(add({std::uint64_t{1} << 40, std::uint64_t{1} << 40}, TensorType::kF32));
  EXPECT_FALSE(add({31}, TensorType::kQ4_0));
}

TEST_F(GgufWriterTest, RefusesMoreOrLessDataThanTheTensorsNeed) {
  GgufWriter writer;
  ASSERT_TRUE(writer.add_tensor("matrix", TensorType::kF32, kShape));
  ASSERT_TRUE(writer.begin(path_));
  ASSERT_TRUE(writer.write(Bytes(32 * 3 * 4 - 1)));
  EXPECT_EQ(writer.finish().error().code, ErrorCode::kInternal);
  ASSERT_TRUE(writer.write(Bytes(1)));
  EXPECT_EQ(writer.write(Bytes(1)).error().code, ErrorCode::kInternal);
}

TEST_F(GgufWriterTest, LeavesNothingWhenAbandoned) {
  {
    GgufWriter writer;
    ASSERT_TRUE(writer.add_tensor("matrix", TensorType::kF32, kShape));
    ASSERT_TRUE(writer.begin(path_));
    ASSERT_TRUE(writer.write(Bytes(100)));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

// A limit on the file's size stands for a disk without room: the same error, in the same place.
TEST_F(GgufWriterTest, ReportsAFullDiskAndLeavesNothing) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 10'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Result<void> result;
  {
    GgufWriter writer;
    const std::vector<std::uint64_t> shape{1'000'000};
    ASSERT_TRUE(writer.add_tensor("large", TensorType::kF32, shape));
    result = writer.begin(path_);
    if (result) result = writer.write(Bytes(4'000'000));
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_EQ(result.error().context, path_.string());
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

}  // namespace
}  // namespace baton::model
