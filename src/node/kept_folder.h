// The folder of kept texts on disk, of all models of a node: which files there are, how much they take, and two threads
// that read and write them. What was used longest ago goes when the size is reached
// (docs/adr/0019-kept-texts-on-disk.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/job_thread.h"
#include "node/kept_file.h"

namespace baton::node {

// Lives on the loop's thread, which `post` leads back to; that thread must outlive it. Files that others take away
// meanwhile are files that are not there; no second process writes into the folder.
class KeptFolder : public std::enable_shared_from_this<KeptFolder> {
 public:
  using Post = std::function<void(std::move_only_function<void()>)>;
  using Done = std::move_only_function<void(const Result<void>&)>;
  using UsedAt = std::filesystem::file_time_type;
  enum class Writing { kUnderWay, kDone, kGivenUp };

  struct File {
    Sha256 model;
    std::string name;
    std::uint64_t bytes = 0;
    UsedAt used_at = {};
    std::optional<KeptHeader> header = std::nullopt;  // once it was read and found good
    // While it is being written; whoever comes second, the thread that is done or the one that gives it up, sees that.
    std::shared_ptr<std::atomic<Writing>> writing = nullptr;
  };

  // In a node's data folder.
  static std::filesystem::path path_in(const std::filesystem::path& data_folder) { return data_folder / "kept-texts"; }

  // Makes the folder for its owner alone, where it is missing. Half-written files go, and what is too much.
  static Result<std::shared_ptr<KeptFolder>> open(const std::filesystem::path& path, std::uint64_t most_bytes,
                                                  Post post);
  // All jobs are done first.
  ~KeptFolder() = default;

  // Files of every model, and of one; also of a node that does not run. What is there beside kept texts stays.
  static Result<void> remove(const std::filesystem::path& path);
  static Result<void> remove_model(const std::filesystem::path& path, const Sha256& model);
  // Bytes that they take; 0 where there is no such folder.
  static std::uint64_t bytes_in(const std::filesystem::path& path);

  // Reads what is there of a model. Files that no node could use here are named in the log and removed; those that
  // cannot be read now stay, and wait until the model is looked up again.
  void look_up(const std::shared_ptr<const KeptShape>& shape);
  bool has_looked_up(const Sha256& model) const { return looked_up_.contains(model); }
  // Those with a header, used last first. Good until the loop's thread goes on.
  std::vector<const File*> texts_of(const Sha256& model) const;
  std::uint64_t bytes() const { return bytes_; }

  // Whether there is room for a text of that size beside all that was used after it.
  bool has_place_for(std::uint64_t bytes, UsedAt used_at) const;
  // Writes the text, for which has_place_for() holds. `fill` is called on the writing thread; kCancelled from it gives
  // the file up, and so does another text that was used later and needs the room. Another failure, such as a full disk,
  // is in the log once until a file was written again.
  void write(std::shared_ptr<const KeptShape> shape, KeptHeader header, UsedAt used_at, FillPiece fill, Done done);
  // It is the last to go now.
  void use(const Sha256& model, const std::string& name);
  // Hands a text's rows to `take` on the reading thread, whose failure ends it; what is wrong with the file is treated
  // as by look_up(). False where there is none, or its header was not read.
  bool read(const std::shared_ptr<const KeptShape>& shape, const std::string& name, TakePiece take, Done done);
  void forget(const Sha256& model);

  // Bytes a second, as measured last; nothing before.
  std::optional<double> read_rate() const { return read_rate_ ? read_rate_ : write_rate_; }
  // When all writing that was asked for is over.
  std::shared_future<void> when_written();
  // And all reading, too.
  std::shared_future<void> when_quiet();

 private:
  KeptFolder(std::filesystem::path path, std::uint64_t most_bytes, Post post);

  struct Found {
    std::string name;
    Result<KeptHeader> header;
  };
  void list_files();
  std::filesystem::path path_of(const Sha256& model, const std::string& name) const;
  void on_looked_up(const Sha256& model, std::vector<Found> found, std::optional<double> rate);
  void on_written(const std::atomic<Writing>* writing, const std::vector<std::string>& beginnings, double took_s,
                  const Result<void>& result);
  void on_read(std::list<File>::iterator file, double took_s, const Result<void>& result);
  void on_unreadable(std::list<File>::iterator file, const Error& why);
  void make_room(std::uint64_t bytes);
  // Of those that are not being written.
  std::list<File>::iterator find(const Sha256& model, const std::string& name);
  void insert(File file);
  // Names of shorter texts with which this one begins.
  std::vector<std::string> beginnings_of(const Sha256& model, const KeptText& text) const;
  // From the list alone.
  void erase(std::list<File>::iterator file);
  // From the list and, behind what is being written, from the disk. What is being written itself is given up.
  void drop(std::list<File>::iterator file);
  void drop_if(const std::function<bool(const File&)>& is_wanted);
  // Back to the loop's thread, if this is still there then.
  void post(std::move_only_function<void(KeptFolder&)> task);

  const std::filesystem::path path_;
  const std::uint64_t most_bytes_;
  const Post post_;
  std::list<File> files_;    // used last first; those that are being written, too
  std::uint64_t bytes_ = 0;  // of them
  std::set<Sha256> looked_up_;
  std::optional<double> read_rate_;
  std::optional<double> write_rate_;
  bool said_failure_ = false;        // to write
  bool said_unreadable_ = false;     // since one was read well
  JobThread writing_{"kept-write"};  // these last: their jobs end before the rest
  JobThread reading_{"kept-read"};
};

}  // namespace baton::node
