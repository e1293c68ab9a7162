// A model's kept texts on disk: what of its prefix cache is written there, and comes back
// (docs/adr/0019-kept-texts-on-disk.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "node/kept_folder.h"
#include "node/kept_rows.h"

namespace baton::node {

// Rows that are lent to a thread which writes them to disk or reads them back, until this is destroyed: then nobody
// touches them any more. Ending it waits for one piece of a layer to be copied at most, and never for the disk.
class LentRows {
 public:
  explicit LentRows(std::shared_ptr<Workspace> workspace) : shared_(std::make_shared<Shared>()) {
    shared_->workspace = std::move(workspace);
  }
  ~LentRows() { end(); }
  LentRows(const LentRows&) = delete;
  LentRows& operator=(const LentRows&) = delete;

  struct Shared {
    std::mutex mutex;
    std::shared_ptr<Workspace> workspace;  // null once it is over
  };
  const std::shared_ptr<Shared>& shared() const { return shared_; }
  // Gives back what was lent.
  std::shared_ptr<Workspace> end();

 private:
  std::shared_ptr<Shared> shared_;
};

// Kept texts on their way to disk, which nobody will use any more. Whoever destroys it waits for that, but for no
// longer than until then: what has not been written is given up, and its rows are not touched any more. Any thread.
class LastWrites {
 public:
  LastWrites() = default;
  LastWrites(std::shared_future<void> done, std::vector<std::unique_ptr<LentRows>> rows, TimePoint until)
      : done_(std::move(done)), rows_(std::move(rows)), until_(until) {}
  LastWrites(LastWrites&&) noexcept = default;
  LastWrites& operator=(LastWrites&& other) noexcept {
    std::swap(done_, other.done_);
    std::swap(rows_, other.rows_);
    std::swap(until_, other.until_);
    return *this;
  }
  ~LastWrites() { wait(); }
  void wait();

 private:
  std::shared_future<void> done_;
  std::vector<std::unique_ptr<LentRows>> rows_;
  TimePoint until_{};
};

// Lives on the loop's thread. The engine must outlive it.
class DiskTexts {
 public:
  // Copied on the loop's thread for one request, in some ten milliseconds; a piece of somebody's prefill takes longer.
  static constexpr std::uint64_t kMostCopiedAtOnce = 64U << 20U;

  // Without a rate everything is worth reading.
  DiskTexts(std::shared_ptr<KeptFolder> folder, engine::Engine& engine, const Sha256& model,
            double prefill_tokens_per_s, std::uint64_t most_copied_at_once = kMostCopiedAtOnce);

  // Whether what there is was looked through.
  bool is_ready() const { return folder_->has_looked_up(shape_->model); }
  // Whether nothing would be lost with the text.
  bool has(const KeptText& text) const { return file_with(text) != nullptr; }
  // It is used now, and its file, where it has one, is the last to go.
  void use(const KeptText& text);

  using Done = std::move_only_function<void(const Result<void>&)>;
  // A text that is in memory.
  struct Held {
    const KeptText& text;
    const std::shared_ptr<Workspace>& workspace;
    KeptFolder::UsedAt used_at;
  };
  // Writes a text while its rows are lent; null where it cannot be, or all room is taken by what was used after it.
  std::unique_ptr<LentRows> write(const Held& held, Done done);
  // Copies the rows at once, for a workspace that goes; nothing happens where they are too many for that, or were since
  // the last call of begin_copies().
  void write_copy(const Held& held);
  // A request comes, for which texts may have to go.
  void begin_copies() { copied_at_once_ = 0; }

  struct Find {
    std::string name;
    KeptHeader header;
    std::uint32_t tokens = 0;  // of its text, the first, that are wanted
    Duration patience{};       // after which computing them would have been better by far
  };
  // The text with the longest beginning that is wanted, if that has more than `held` tokens and reading it back is
  // faster than computing what it has more.
  std::optional<Find> find(const std::function<std::uint32_t(const KeptHeader&)>& wanted, std::uint32_t held);
  // Reads those tokens into the workspace, which nobody else uses, while it is lent. Null where the file has gone
  // meanwhile.
  std::unique_ptr<LentRows> read(const Find& found, std::shared_ptr<Workspace> workspace, Done done);

  std::shared_future<void> when_written() { return folder_->when_written(); }

 private:
  // The one that has all of the text; null where there is none.
  const KeptFolder::File* file_with(const KeptText& text) const;
  // Nothing where the text cannot be written.
  std::optional<KeptHeader> header_to_write(const Held& held) const;

  const std::shared_ptr<KeptFolder> folder_;
  engine::Engine& engine_;
  const std::shared_ptr<const KeptShape> shape_;
  const double prefill_tokens_per_s_;
  const std::uint64_t most_copied_at_once_;
  std::uint64_t copied_at_once_ = 0;
  // Of copies that wait for the disk; their writing may outlive this.
  std::shared_ptr<std::uint64_t> copied_bytes_ = std::make_shared<std::uint64_t>(0);
};

}  // namespace baton::node
