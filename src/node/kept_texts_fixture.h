// For tests of texts on disk: a folder of them, and a prefix cache that leaves its texts there and finds them again.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/temporary_folder.h"
#include "net/event_loop.h"
#include "node/kept_folder.h"
#include "node/prefix_fixture.h"

namespace baton::node {

class KeptTexts : public PrefixFixture {
 protected:
  static constexpr std::uint64_t kPlenty = std::uint64_t{1} << 30U;

  void SetUp() override {
    make_engine("golden/llama-dense");
    start();
  }
  void TearDown() override { stop(); }

  // As a node that starts, and one that ends.
  void start(std::uint64_t most_bytes = kPlenty, double prefill_tokens_per_s = 0) {
    open_folder(most_bytes);
    look_up(prefill_tokens_per_s);
  }
  void open_folder(std::uint64_t most_bytes = kPlenty) {
    folder_ = KeptFolder::open(path_, most_bytes, [&](net::Task task) { loop_->post(std::move(task)); }).value();
  }
  void look_up(double prefill_tokens_per_s = 0) {
    cache_ = std::make_shared<PrefixCache>(
        *engine_, std::make_unique<DiskTexts>(folder_, *engine_, digest_, prefill_tokens_per_s, most_copied_at_once_));
    settle();
    EXPECT_TRUE(cache_->knows_disk());
  }
  void stop() {
    if (cache_ != nullptr) cache_->write_all(now() + std::chrono::minutes(1)).wait();
    cache_.reset();
    folder_.reset();
  }
  // Until nothing is read or written any more, and everybody knows.
  void settle() {
    folder_->when_quiet().wait();
    loop_->post([&] { loop_->stop(); });
    loop_->run();
  }

  void keep(const std::vector<Token>& tokens) { cache_->keep(workspace_of(tokens), {tokens, all(), {}, 0}); }
  std::shared_ptr<Workspace> take(const std::vector<Token>& prompt) {
    return cache_->take(need(static_cast<std::uint32_t>(prompt.size())), prompt).value();
  }
  // As a request does, that waits for what is read back.
  std::shared_ptr<Workspace> take_from_disk(const std::vector<Token>& prompt) {
    const auto reading = read_back(prompt);
    settle();
    EXPECT_TRUE(reading->ended);
    return take(prompt);
  }
  std::shared_ptr<const ReadingBack> read_back(const std::vector<Token>& prompt) {
    return cache_->read_back(need(static_cast<std::uint32_t>(prompt.size())), prompt, nullptr, now());
  }

  // A text on its way from disk, which waits at its first piece, and all others behind it.
  std::promise<void> begin_reading() {
    const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
    std::promise<void> go_on;
    TakePiece take = [may_go_on = go_on.get_future().share()](const KeptPiece&, ByteSpan) {
      may_go_on.wait();
      return Result<void>();
    };
    EXPECT_TRUE(folder_->read(shape, folder_->texts_of(digest_).front()->name, std::move(take), [](const auto&) {}));
    return go_on;
  }

  // A text on its way to disk, which waits at its first piece.
  struct SlowWriting {
    std::string name;
    std::shared_ptr<std::promise<void>> go_on = std::make_shared<std::promise<void>>();
    std::shared_ptr<std::optional<Result<void>>> result = std::make_shared<std::optional<Result<void>>>();
  };
  SlowWriting begin_writing(const std::vector<Token>& tokens, KeptFolder::UsedAt used_at) {
    const auto shape = std::make_shared<const KeptShape>(kept_shape(*engine_, digest_));
    SlowWriting writing{.name = kept_file_name({tokens, all(), {}, 0})};
    FillPiece fill = [may_go_on = writing.go_on->get_future().share()](const KeptPiece&, std::span<std::byte>) {
      may_go_on.wait();
      return Result<void>();
    };
    KeptHeader header{.text = {tokens, all(), {}, 0}, .state_positions = {}};
    folder_->write(shape, std::move(header), used_at, std::move(fill),
                   [result = writing.result](const Result<void>& written) { *result = written; });
    return writing;
  }

  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) found.push_back(entry.path());
    }
    std::ranges::sort(found);
    return found;
  }
  std::uint64_t size_of_one() const { return std::filesystem::file_size(files().front()); }

  const TemporaryFolder temporary_ = TemporaryFolder::create("baton-test").value();
  const std::filesystem::path path_ = KeptFolder::path_in(temporary_.path());
  const Sha256 digest_ = sha256(as_byte_span("model"));
  std::uint64_t most_copied_at_once_ = DiskTexts::kMostCopiedAtOnce;
  std::unique_ptr<net::EventLoop> loop_ = net::EventLoop::create().value();
  std::shared_ptr<KeptFolder> folder_;
  std::shared_ptr<PrefixCache> cache_;
};

}  // namespace baton::node
