// Kept texts in files: what was written is read again, and nothing else is ever taken for it.
#include "node/kept_file.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/file.h"
#include "base/temporary_folder.h"
#include "engine/test_model.h"
#include "node/kept_rows.h"

namespace baton::node {
namespace {

using engine::test::run_chunks;

constexpr std::uint32_t kFileChunk = 32;

class KeptFile : public testing::Test {
 protected:
  void use(const std::string& model, std::uint32_t tokens) {
    workspace_.reset();
    engine::EngineOptions options = engine::test::small_options();
    options.threads = 1;
    options.context_tokens = 2048;
    options.max_chunk_tokens = 128;
    options.sequences = 3;
    engine_ = engine::test::make_engine(engine::test::reference_model(model), options);
    shape_ = kept_shape(*engine_, sha256(as_byte_span(model)));
    workspace_ = make_workspace();
    KeptText text{.tokens = engine::test::some_tokens(*engine_, tokens),
                  .layers = {0, engine_->shape().layer_count},
                  .origin = {.loss = "", .shape = "alone 32"},
                  .exact_tokens = tokens / kFileChunk * kFileChunk};
    run_chunks(*engine_, workspace_->sequence(), text.tokens, kFileChunk);
    header_ = kept_header(shape_, std::move(text), *workspace_).value();
  }
  void SetUp() override { use("golden/llama-dense", 100); }
  void TearDown() override { workspace_.reset(); }

  std::shared_ptr<Workspace> make_workspace() {
    auto workspace = std::make_shared<Workspace>(*engine_);
    EXPECT_TRUE(workspace->reserve(400));
    return workspace;
  }
  Result<void> write() {
    return write_kept_file(file_, shape_, header_, [&](const KeptPiece& piece, std::span<std::byte> bytes) {
      return copy_from(*engine_, *workspace_, header_, piece, bytes);
    });
  }
  // Into a workspace that had nothing.
  Result<std::shared_ptr<Workspace>> read_first(std::uint32_t tokens) {
    auto workspace = make_workspace();
    const KeptHeader header = TRY(read_kept_header(file_, shape_));
    TRY(read_kept_rows(file_, shape_, header, [&](const KeptPiece& piece, ByteSpan bytes) {
      return copy_to(*engine_, *workspace, tokens, piece, bytes);
    }));
    return workspace;
  }
  Result<void> read_all() {
    TRY(read_first(static_cast<std::uint32_t>(header_.text.tokens.size())));
    return {};
  }
  Bytes content() const {
    const std::string text = read_text_file(file_).value();
    const ByteSpan bytes = as_byte_span(text);
    return {bytes.begin(), bytes.end()};
  }
  void put(ByteSpan bytes) { ASSERT_TRUE(write_file(file_, bytes)); }
  std::uint32_t header_bytes() const {
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, content().data() + 12, sizeof(bytes));
    return bytes;
  }
  // A header that is whole, but not true.
  void expect_refused(const KeptHeader& header, const std::string& why) {
    const auto zeros = [](const KeptPiece&, std::span<std::byte>) { return Result<void>(); };
    ASSERT_TRUE(write_kept_file(file_, shape_, header, zeros));
    const auto read = read_kept_header(file_, shape_);
    ASSERT_FALSE(read);
    EXPECT_TRUE(read.error().to_string().contains(why)) << read.error().to_string();
    EXPECT_TRUE(read.error().to_string().contains(file_.string()));
  }

  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  const std::filesystem::path file_ = folder_.path() / "text.kept";
  std::unique_ptr<engine::Engine> engine_;
  KeptShape shape_;
  KeptHeader header_;
  std::shared_ptr<Workspace> workspace_;
};

TEST_F(KeptFile, WhatIsWrongIsSaidWithTheFilesName) {
  const std::filesystem::path folder = file_.parent_path() / "a-folder.kept";
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  const auto take = [](const KeptPiece&, ByteSpan) { return Result<void>(); };
  EXPECT_EQ(read_kept_header(folder, shape_).error().to_string(), folder.string() + ": it is no file");
  EXPECT_EQ(read_kept_rows(folder, shape_, header_, take).error().to_string(), folder.string() + ": it is no file");
}

TEST_F(KeptFile, GivesBackWhatWasWritten) {
  // Rows of everything; of windows; states; latent rows.
  for (const std::string model :
       {"golden/llama-dense", "tiny/gemma3", "tiny/gpt-oss", "tiny/granitehybrid", "tiny/deepseek2"}) {
    use(model, 300);
    ASSERT_TRUE(write()) << model;
    EXPECT_EQ(std::filesystem::file_size(file_), kept_file_bytes(shape_, header_)) << model;
    EXPECT_EQ(read_kept_header(file_, shape_), header_) << model;
    const auto back = read_first(300);
    ASSERT_TRUE(back) << model << ": " << back.error().to_string();
    EXPECT_EQ((*back)->last_position_to_continue(header_.text.layers, 300), 300U) << model;
    const std::vector<Token> more = engine::test::some_tokens(*engine_, 40);
    EXPECT_EQ(run_chunks(*engine_, (*back)->sequence(), more, kFileChunk, 300),
              run_chunks(*engine_, workspace_->sequence(), more, kFileChunk, 300))
        << model;
  }
}

TEST_F(KeptFile, GivesBackTheBeginningAlone) {
  for (const std::string model : {"golden/llama-dense", "tiny/gemma3"}) {
    use(model, 300);
    ASSERT_TRUE(write());
    constexpr std::uint32_t kFirst = 290;
    const auto back = read_first(last_position_to_continue(header_, kFirst));
    ASSERT_TRUE(back);
    const std::vector<Token> more = engine::test::some_tokens(*engine_, 40);
    const auto fresh = make_workspace();
    run_chunks(*engine_, fresh->sequence(), std::span(header_.text.tokens).first(kFirst), kFileChunk);
    EXPECT_EQ(run_chunks(*engine_, (*back)->sequence(), more, kFileChunk, kFirst),
              run_chunks(*engine_, fresh->sequence(), more, kFileChunk, kFirst))
        << model;
  }
}

TEST_F(KeptFile, IsForItsOwnerAlone) {
  ASSERT_TRUE(write());
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(file_).permissions(), perms::owner_read | perms::owner_write);
}

TEST_F(KeptFile, IsRefusedWhereverItEnds) {
  ASSERT_TRUE(write());
  const Bytes whole = content();
  const std::size_t header = header_bytes();
  const std::size_t row = shape_.layers.front().k_row_bytes;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{23}, std::size_t{24}, std::size_t{31}, header - 9,
        header - 8, header - 1, header, header + 1, header + row, header + 32 * row, whole.size() / 2, whole.size() - 9,
        whole.size() - 8, whole.size() - 1}) {
    put(ByteSpan(whole).first(size));
    EXPECT_EQ(read_all().error().code, ErrorCode::kCorrupt) << "of " << whole.size() << " bytes " << size;
  }
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  put(longer);
  EXPECT_EQ(read_all().error().code, ErrorCode::kCorrupt);
  put(whole);
  EXPECT_TRUE(read_all());
}

TEST_F(KeptFile, IsRefusedWhenABitIsAnother) {
  use("golden/llama-dense", 40);
  ASSERT_TRUE(write());
  Bytes bytes = content();
  const std::size_t header = header_bytes();
  for (std::size_t at = 0; at < bytes.size(); at += at < header ? 1 : 509) {
    const std::byte bit{static_cast<std::uint8_t>(1U << (at % 8U))};
    bytes[at] ^= bit;
    put(bytes);
    EXPECT_EQ(read_all().error().code, ErrorCode::kCorrupt) << at;
    bytes[at] ^= bit;
  }
  for (const std::size_t at : {bytes.size() - 1, bytes.size() - 8, header}) {
    bytes[at] ^= std::byte{0x80};
    put(bytes);
    EXPECT_EQ(read_all().error().code, ErrorCode::kCorrupt) << at;
    bytes[at] ^= std::byte{0x80};
  }
}

TEST_F(KeptFile, IsOfOneModelAndOneKindOfCache) {
  ASSERT_TRUE(write());
  const KeptShape shape = shape_;
  const auto why = [&](const KeptShape& other) { return read_kept_header(file_, other).error().message; };
  KeptShape other = shape;
  other.model = sha256(as_byte_span("another"));
  EXPECT_TRUE(why(other).contains("of the model"));
  other = shape;
  other.cache_type = "q8_0";
  EXPECT_TRUE(why(other).contains("of a cache of f16"));
  other = shape;
  other.layers.pop_back();
  EXPECT_TRUE(why(other).contains("layers"));
  other = shape;
  other.layers[1].v_row_bytes *= 2;
  EXPECT_TRUE(why(other).contains("layer 1"));
  other = shape;
  other.layers[0].window = 16;
  EXPECT_TRUE(why(other).contains("layer 0"));
  other = shape;
  other.vocabulary_size = 10;
  EXPECT_TRUE(why(other).contains("vocabulary"));
}

TEST_F(KeptFile, CountsAsExactOnlyWhereItWasComputed) {
  ASSERT_TRUE(write());
  EXPECT_EQ(read_kept_header(file_, shape_).value().text.exact_tokens, 96U);
  KeptShape elsewhere = shape_;
  elsewhere.computed_by += " and one thread more";
  EXPECT_EQ(read_kept_header(file_, elsewhere).value().text.exact_tokens, 0U);
}

TEST_F(KeptFile, IsRefusedWhenItLies) {
  KeptHeader header = header_;
  header.text.tokens[3] = -1;
  expect_refused(header, "token -1");
  header = header_;
  header.text.exact_tokens = 101;
  expect_refused(header, "contradict");
  header = header_;
  header.first_resumable = 101;
  expect_refused(header, "contradict");
  header = header_;
  header.text.tokens.resize(kLeastPrefixTokens - 1);
  header.text.exact_tokens = 0;
  expect_refused(header, "contradict");
  header = header_;
  header.state_positions = {32};
  expect_refused(header, "states");
  use("tiny/granitehybrid", 100);
  for (const std::vector<std::uint32_t>& positions :
       {std::vector<std::uint32_t>{}, {0, 100}, {64, 32}, {32, 32}, {32, 101}}) {
    header = header_;
    header.state_positions = positions;
    expect_refused(header, "states");
  }
}

TEST_F(KeptFile, WhatCannotBeFilledIsNotThere) {
  const auto wanted = [](const KeptPiece& piece, std::span<std::byte>) -> Result<void> {
    if (piece.layer == 1) return fail(ErrorCode::kCancelled, "the text is wanted");
    return {};
  };
  EXPECT_EQ(write_kept_file(file_, shape_, header_, wanted).error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(KeptFile, KnowsItsOwnNames) {
  const std::string name = kept_file_name(header_.text);
  EXPECT_TRUE(is_kept_file_name(name)) << name;
  EXPECT_FALSE(is_part_of_kept_file(name));
  EXPECT_TRUE(is_part_of_kept_file(name + ".4711.0.part"));
  for (const std::string& other :
       {std::string("notes.kept"), "x" + name.substr(1), name + "x", std::string(), std::string(".kept")}) {
    EXPECT_FALSE(is_kept_file_name(other) || is_part_of_kept_file(other)) << other;
  }
  KeptText text = header_.text;
  text.origin.loss = "q8_0 f32";
  EXPECT_NE(kept_file_name(text), name);
}

}  // namespace
}  // namespace baton::node
