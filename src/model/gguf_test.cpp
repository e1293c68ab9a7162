#include "model/gguf.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "base/file.h"

namespace baton::model {
namespace {

// Builds a file byte by byte, so that it can lie.
class FileMaker {
 public:
  FileMaker& start(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    writer_.write_bytes(as_byte_span("GGUF"));
    return put(version).put(tensors).put(keys);
  }
  template <typename T>
  FileMaker& put(T value) {
    writer_.write(value);
    return *this;
  }
  FileMaker& text(std::string_view value) {
    writer_.write_string<std::uint64_t>(value);
    return *this;
  }
  template <typename T>
  FileMaker& key(std::string_view name, ValueType type, T value) {
    return text(name).put(type).put(value);
  }
  FileMaker& array(std::string_view name, ValueType element, std::uint64_t count) {
    return text(name).put(ValueType::kArray).put(element).put(count);
  }
  FileMaker& tensor(std::string_view name, std::vector<std::uint64_t> shape, std::uint32_t type, std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(shape.size()));
    for (const auto dimension : shape) put(dimension);
    return put(type).put(offset);
  }
  FileMaker& align(std::size_t to = 32) {
    while (writer_.size() % to != 0) put<std::uint8_t>(0);
    return *this;
  }
  FileMaker& zeros(std::size_t count) {
    writer_.write_bytes(Bytes(count));
    return *this;
  }
  ByteSpan bytes() const { return writer_.bytes(); }
  Result<GgufFile> parse() const { return GgufFile::parse(bytes(), "made.gguf"); }

 private:
  ByteWriter writer_;
};

// The message of the error that the file gives, or what says that it gave none.
std::string refusal(const FileMaker& maker, ErrorCode code = ErrorCode::kCorrupt) {
  const auto file = maker.parse();
  if (file) return "parsed";
  EXPECT_EQ(file.error().code, code) << file.error().message;
  EXPECT_EQ(file.error().context, "made.gguf");
  return file.error().message;
}

constexpr std::uint32_t kF32Number = 0;
constexpr std::uint32_t kQ4_0Number = 2;

FileMaker one_tensor(std::vector<std::uint64_t> shape, std::uint32_t type, std::uint64_t offset,
                     std::size_t data_bytes) {
  return FileMaker()
      .start(1, 0)
      .tensor("blk.3.ffn_up.weight", std::move(shape), type, offset)
      .align()
      .zeros(data_bytes);
}

#define EXPECT_REFUSAL(maker, part)                                        \
  do {                                                                     \
    const std::string message = refusal(maker);                            \
    EXPECT_TRUE(message.contains(part)) << "the message was: " << message; \
  } while (false)

TEST(GgufFile, ReadsKeysOfEveryType) {
  const auto maker = FileMaker()
                         .start(0, 12)
                         .key<std::uint8_t>("u8", ValueType::kU8, 200)
                         .key<std::int8_t>("i8", ValueType::kI8, -3)
                         .key<std::uint16_t>("u16", ValueType::kU16, 60'000)
                         .key<std::int16_t>("i16", ValueType::kI16, -300)
                         .key<std::uint32_t>("u32", ValueType::kU32, 4'000'000'000)
                         .key<std::int32_t>("i32", ValueType::kI32, -70'000)
                         .key<std::uint64_t>("u64", ValueType::kU64, std::uint64_t{1} << 63)
                         .key<std::int64_t>("i64", ValueType::kI64, -5'000'000'000)
                         .key("f32", ValueType::kF32, 1.5F)
                         .key("f64", ValueType::kF64, 2.5)
                         .key<std::uint8_t>("bool", ValueType::kBool, 1)
                         .text("string")
                         .put(ValueType::kString)
                         .text("baton");
  const auto file = maker.parse().value();
  EXPECT_EQ(file.get<std::uint32_t>("u8").value(), 200u);
  EXPECT_EQ(file.get<int>("i8").value(), -3);
  EXPECT_EQ(file.get<std::int64_t>("u16").value(), 60'000);
  EXPECT_EQ(file.get<std::int16_t>("i16").value(), -300);
  EXPECT_EQ(file.get<std::uint64_t>("u32").value(), 4'000'000'000u);
  EXPECT_EQ(file.get<int>("i32").value(), -70'000);
  EXPECT_EQ(file.get<std::uint64_t>("u64").value(), std::uint64_t{1} << 63);
  EXPECT_EQ(file.get<std::int64_t>("i64").value(), -5'000'000'000);
  EXPECT_EQ(file.get<double>("f32").value(), 1.5);
  EXPECT_EQ(file.get<float>("f64").value(), 2.5F);
  EXPECT_TRUE(file.get<bool>("bool").value());
  EXPECT_EQ(file.get<std::string_view>("string").value(), "baton");
  EXPECT_EQ(file.keys().size(), 12u);
  EXPECT_EQ(file.keys().front(), "u8");
}

TEST(GgufFile, RefusesAValueThatDoesNotFitOrIsOfAnotherType) {
  const auto maker =
      FileMaker().start(0, 2).key<std::int32_t>("negative", ValueType::kI32, -1).key("real", ValueType::kF32, 1.0F);
  const auto file = maker.parse().value();
  EXPECT_TRUE(file.get<std::uint32_t>("negative").error().message.contains("'negative'"));
  EXPECT_TRUE(file.get<int>("real").error().message.contains("'real' has type f32 instead of an integer"));
  EXPECT_FALSE(file.get<float>("negative"));
  EXPECT_FALSE(file.get<bool>("negative"));
  EXPECT_FALSE(file.get<std::string_view>("real"));
  EXPECT_FALSE(file.get_array<float>("real"));
}

TEST(GgufFile, TellsAMissingKeyFromAWrongOne) {
  const auto maker = FileMaker().start(0, 1).key("real", ValueType::kF32, 1.0F);
  const auto file = maker.parse().value();
  EXPECT_EQ(file.get<int>("absent").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(file.get_or<int>("absent", 7).value(), 7);
  EXPECT_EQ(file.find<int>("absent").value(), std::nullopt);
  EXPECT_FALSE(file.get_or<int>("real", 7));
  EXPECT_FALSE(file.find<int>("real"));
}

TEST(GgufFile, ReadsArrays) {
  const auto maker = FileMaker()
                         .start(0, 3)
                         .array("numbers", ValueType::kU16, 3)
                         .put<std::uint16_t>(1)
                         .put<std::uint16_t>(2)
                         .put<std::uint16_t>(3)
                         .array("words", ValueType::kString, 2)
                         .text("a")
                         .text("")
                         .key<std::uint32_t>("scalar", ValueType::kU32, 8);
  const auto file = maker.parse().value();
  EXPECT_EQ(file.get_array<std::uint32_t>("numbers").value(), (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(file.get_array<std::string_view>("words").value(), (std::vector<std::string_view>{"a", ""}));
  EXPECT_EQ(file.array_size("words").value(), 2u);
  EXPECT_EQ(file.type_of("words"), ValueType::kArray);
  EXPECT_FALSE(file.get_array<float>("numbers"));
  EXPECT_FALSE(file.get<int>("numbers"));
  EXPECT_EQ(file.get_per_layer<std::uint32_t>("numbers", 3).value(), (std::vector<std::uint32_t>{1, 2, 3}));
  EXPECT_EQ(file.get_per_layer<std::uint32_t>("scalar", 2).value(), (std::vector<std::uint32_t>{8, 8}));
  EXPECT_TRUE(file.get_per_layer<std::uint32_t>("numbers", 4).error().message.contains("3 elements for 4 layers"));
}

TEST(GgufFile, ReadsTensors) {
  const auto maker = FileMaker()
                         .start(2, 0)
                         .tensor("a", {2, 3}, kF32Number, 0)
                         .tensor("b", {64, 2, 1, 1}, kQ4_0Number, 32)
                         .align()
                         .zeros(32)
                         .put<std::uint8_t>(9)
                         .zeros(71);
  const auto file = maker.parse().value();
  ASSERT_EQ(file.tensors().size(), 2u);
  const TensorInfo& b = *file.find_tensor("b");
  EXPECT_EQ(b.type, TensorType::kQ4_0);
  EXPECT_EQ(b.shape, (std::array<std::uint64_t, 4>{64, 2, 1, 1}));
  EXPECT_EQ(b.elements(), 128u);
  EXPECT_EQ(b.bytes, 72u);
  EXPECT_EQ(file.tensor_bytes(b).size(), 72u);
  EXPECT_EQ(file.tensor_bytes(b)[0], std::byte{9});
  EXPECT_EQ(file.find_tensor("c"), nullptr);
}

TEST(GgufFile, KeepsItsViewsWhenMoved) {
  const auto maker =
      FileMaker().start(1, 1).key("k", ValueType::kF32, 1.0F).tensor("t", {1}, kF32Number, 0).align().zeros(4);
  auto file = maker.parse().value();
  const GgufFile moved = std::move(file);
  EXPECT_TRUE(moved.has("k"));
  EXPECT_EQ(moved.find_tensor("t")->name, "t");
}

TEST(GgufFile, HonoursItsAlignment) {
  const auto maker = FileMaker()
                         .start(2, 1)
                         .key<std::uint32_t>("general.alignment", ValueType::kU32, 64)
                         .tensor("a", {1}, kF32Number, 0)
                         .tensor("b", {1}, kF32Number, 64)
                         .align(64)
                         .zeros(68);
  const auto file = maker.parse().value();
  EXPECT_EQ(file.find_tensor("b")->offset % 64, 0u);
}

TEST(GgufFile, RefusesWhatIsNoGguf) {
  EXPECT_REFUSAL(FileMaker(), "is empty (0 bytes)");
  EXPECT_REFUSAL(FileMaker().text("a text of some length"), "not a GGUF file");
  EXPECT_TRUE(refusal(FileMaker().start(0, 0, 1), ErrorCode::kUnsupported).contains("version 1"));
  EXPECT_TRUE(refusal(FileMaker().start(0, 0, 4), ErrorCode::kUnsupported).contains("version 4"));
  EXPECT_TRUE(refusal(FileMaker().start(0, 0, 0x03000000), ErrorCode::kUnsupported).contains("big-endian"));
  EXPECT_TRUE(FileMaker().start(0, 0, 2).parse());
}

TEST(GgufFile, RefusesCountsThatTheFileCannotHold) {
  EXPECT_REFUSAL(FileMaker().start(0, ~std::uint64_t{0}), "keys");
  EXPECT_REFUSAL(FileMaker().start(~std::uint64_t{0}, 0), "tensors");
  EXPECT_REFUSAL(FileMaker().start(0, 2).key("a", ValueType::kF64, 1.0).zeros(5), "key 1");
  EXPECT_REFUSAL(FileMaker().start(0, 1).array("numbers", ValueType::kU64, std::uint64_t{1} << 61), "'numbers'");
  EXPECT_REFUSAL(FileMaker().start(0, 1).array("words", ValueType::kString, ~std::uint64_t{0}), "'words'");
  EXPECT_REFUSAL(FileMaker().start(0, 1).array("nested", ValueType::kArray, ~std::uint64_t{0}), "'nested'");
  EXPECT_REFUSAL(FileMaker().start(0, 1).put(~std::uint64_t{0}).put<std::uint64_t>(0), "key 0");
  EXPECT_REFUSAL(FileMaker().start(0, 1).text("string").put(ValueType::kString).put(~std::uint64_t{0}), "'string'");
}

TEST(GgufFile, RefusesBadKeys) {
  EXPECT_REFUSAL(FileMaker().start(0, 1).key("a", static_cast<ValueType>(13), 1.0F), "unknown value type 13");
  EXPECT_REFUSAL(FileMaker().start(0, 1).array("a", static_cast<ValueType>(99), 1).zeros(16), "unknown value type 99");
  EXPECT_REFUSAL(FileMaker().start(0, 1).key<std::uint8_t>("flag", ValueType::kBool, 2), "'flag'");
  EXPECT_REFUSAL(FileMaker().start(0, 1).key("", ValueType::kF32, 1.0F), "key 0");
  EXPECT_REFUSAL(FileMaker().start(0, 1).key(std::string(70'000, 'k'), ValueType::kF32, 1.0F), "70,000 bytes");
  EXPECT_REFUSAL(FileMaker().start(0, 2).key("a", ValueType::kF32, 1.0F).key("a", ValueType::kF32, 2.0F),
                 "'a' appears twice");
}

TEST(GgufFile, RefusesArraysNestedTooDeep) {
  const auto nested = [](int depth) {
    FileMaker maker;
    maker.start(0, 1).text("nested").put(ValueType::kArray);
    for (int i = 1; i < depth; ++i) maker.put(ValueType::kArray).put<std::uint64_t>(1);
    return maker.put(ValueType::kU8).put<std::uint64_t>(1).put<std::uint8_t>(7);
  };
  EXPECT_TRUE(nested(4).parse());
  EXPECT_REFUSAL(nested(5), "nests arrays deeper");
  EXPECT_REFUSAL(nested(100'000), "nests arrays deeper");
}

TEST(GgufFile, ShowsNoControlCharactersOfAFileInItsErrors) {
  const auto maker = FileMaker().start(0, 1).key("\x1b[2J\n", static_cast<ValueType>(13), 1.0F);
  EXPECT_TRUE(refusal(maker).contains("'?[2J?'"));
}

TEST(GgufFile, RefusesABadAlignment) {
  const auto with = [](std::uint32_t alignment) {
    return FileMaker().start(0, 1).key("general.alignment", ValueType::kU32, alignment);
  };
  for (const std::uint32_t alignment : {0u, 1u, 4u, 24u, 48u, 1u << 31})
    EXPECT_REFUSAL(with(alignment), "general.alignment");
  EXPECT_TRUE(with(8).parse());
  EXPECT_REFUSAL(FileMaker().start(0, 1).key("general.alignment", ValueType::kF32, 32.0F), "general.alignment");
}

TEST(GgufFile, RefusesBadTensors) {
  const std::string name = "'blk.3.ffn_up.weight'";
  EXPECT_TRUE(one_tensor({8}, kF32Number, 0, 32).parse());
  EXPECT_REFUSAL(one_tensor({1, 1, 1, 1, 1}, kF32Number, 0, 32), name);
  EXPECT_REFUSAL(one_tensor({8, 0}, kF32Number, 0, 32), name);
  EXPECT_REFUSAL(one_tensor({std::uint64_t{1} << 62, 8}, kF32Number, 0, 32), name);
  EXPECT_REFUSAL(one_tensor({std::uint64_t{1} << 63}, kF32Number, 0, 32), name);
  EXPECT_REFUSAL(one_tensor({std::uint64_t{1} << 62}, kF32Number, 0, 32), name);
  EXPECT_REFUSAL(one_tensor({std::uint64_t{1} << 61, 2}, kF32Number, 0, 32), name);
  EXPECT_REFUSAL(one_tensor({33}, kQ4_0Number, 0, 64), "whole blocks of 32 (q4_0)");
  EXPECT_REFUSAL(one_tensor({16, 2}, kQ4_0Number, 0, 64), "whole blocks");
  EXPECT_REFUSAL(one_tensor({8}, kF32Number, 4, 64), "alignment");
  EXPECT_REFUSAL(one_tensor({8}, kF32Number, ~std::uint64_t{31}, 64), name);
  EXPECT_TRUE(refusal(one_tensor({8}, 43, 0, 32), ErrorCode::kUnsupported).contains("type 43"));
  EXPECT_TRUE(refusal(one_tensor({8}, 4, 0, 32), ErrorCode::kUnsupported).contains("type 4"));
  EXPECT_REFUSAL(FileMaker().start(1, 0).tensor(std::string(65, 't'), {8}, kF32Number, 0).align().zeros(32),
                 "tensor 0");
  EXPECT_REFUSAL(FileMaker().start(1, 0).tensor("", {8}, kF32Number, 0).align().zeros(32), "tensor 0");
}

TEST(GgufFile, SaysWhereAnIncompleteDownloadEnds) {
  const auto maker = one_tensor({250'000}, kF32Number, 0, 900'000);
  EXPECT_EQ(refusal(maker),
            "tensor 'blk.3.ffn_up.weight' ends at byte 1,000,096 but the file has 900,096: the download is incomplete");
}

TEST(GgufFile, RefusesTensorsThatOverlapOrRepeat) {
  const auto two = [](std::string_view second, std::uint64_t offset) {
    return FileMaker()
        .start(2, 0)
        .tensor("a", {16}, kF32Number, 0)
        .tensor(second, {16}, kF32Number, offset)
        .align()
        .zeros(128);
  };
  EXPECT_TRUE(two("b", 64).parse());
  EXPECT_REFUSAL(two("b", 32), "'a' and 'b' overlap");
  EXPECT_REFUSAL(two("b", 0), "overlap");
  EXPECT_REFUSAL(two("a", 64), "'a' appears twice");
}

TEST(GgufFile, OpensEveryReferenceModel) {
  int opened = 0;
  for (const std::string folder :
       {"/tests/reference/golden", "/tests/reference/vocab", "/../shared/golden", "/../shared/vocab"}) {
    const std::filesystem::path path = BATON_SOURCE_DIR + folder;
    if (!std::filesystem::exists(path)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() != ".gguf") continue;
      const auto file = GgufFile::open(entry.path());
      ASSERT_TRUE(file) << file.error().to_string();
      EXPECT_TRUE(file->get<std::string_view>("general.architecture"));
      ++opened;
    }
  }
  EXPECT_GE(opened, 5);
}

TEST(GgufFile, NeverOpensATruncatedModel) {
  const auto whole = MappedFile::open(BATON_SOURCE_DIR "/tests/reference/golden/llama-dense.gguf").value();
  const ByteSpan bytes = whole.bytes();
  ASSERT_TRUE(GgufFile::parse(bytes, "whole"));
  for (std::size_t size = 0; size < bytes.size(); size += 64) {
    // A copy of its own size lets a sanitizer see any read beyond it, but copying megabytes tens of thousands of times
    // is slow: the header is copied, the data are not.
    const Bytes head(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size < 65'536 ? size : 0));
    ASSERT_FALSE(GgufFile::parse(size < 65'536 ? ByteSpan(head) : bytes.first(size), "cut")) << size;
  }
  ASSERT_FALSE(GgufFile::parse(bytes.first(bytes.size() - 32), "cut"));
}

TEST(GgufFile, ReportsAMissingFile) {
  EXPECT_EQ(GgufFile::open("/nonexistent/model.gguf").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace baton::model
