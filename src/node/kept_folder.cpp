#include "node/kept_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <format>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/log.h"
#include "base/thread.h"

namespace baton::node {

namespace {

constexpr std::filesystem::perms kOwnerAlone = std::filesystem::perms::owner_all;
// Less tells more of the first seek than of the disk.
constexpr std::uint64_t kLeastTimedBytes = 1U << 20U;
// So much of the latest file is read to learn how fast the disk is.
constexpr std::size_t kProbeBytes = 16U << 20U;
constexpr std::size_t kProbeBlockBytes = 1U << 20U;

struct ListedFile {
  std::filesystem::path path;
  Sha256 model;
  std::uint64_t bytes = 0;
  std::filesystem::file_time_type used_at;
};

// As far as the folder can be read, which is in the log; one that is not there has none.
void for_each_entry(const std::filesystem::path& folder,
                    const std::function<void(const std::filesystem::directory_entry&)>& visit) {
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  // Not by a range: its step throws.
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) visit(*entry);
  if (error && error != std::errc::no_such_file_or_directory) {
    log::warning("{}: its kept texts cannot be listed: {}", folder.string(), error.message());
  }
}

// Files of ours alone, by their folders' and their own names; `on_part` gets those that are half written.
std::vector<ListedFile> list_kept_files(const std::filesystem::path& folder,
                                        const std::function<void(const std::filesystem::path&)>& on_part) {
  std::vector<ListedFile> files;
  for_each_entry(folder, [&](const auto& of_model) {
    const auto digest = Sha256::parse(of_model.path().filename().string());
    std::error_code unknown;
    if (!digest || !std::filesystem::is_directory(of_model.symlink_status(unknown))) return;
    for_each_entry(of_model.path(), [&](const auto& entry) {
      const std::string name = entry.path().filename().string();
      std::error_code gone;
      if (!std::filesystem::is_regular_file(entry.symlink_status(gone))) return;
      if (is_part_of_kept_file(name)) on_part(entry.path());
      if (!is_kept_file_name(name)) return;
      ListedFile file{.path = entry.path(), .model = *digest, .bytes = entry.file_size(gone), .used_at = {}};
      if (!gone) file.used_at = entry.last_write_time(gone);
      if (!gone) files.push_back(std::move(file));
    });
  });
  return files;
}

void remove_file(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove(path, error);
  if (error) log::warning("{}: cannot be removed: {}", path.string(), error.message());
}

// With the folder of its model, once that is empty.
void remove_kept_file(const std::filesystem::path& path) {
  remove_file(path);
  std::error_code not_empty;
  std::filesystem::remove(path.parent_path(), not_empty);
}

std::optional<double> time_reading(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.is_open()) return std::nullopt;
  Bytes block(kProbeBlockBytes);
  std::uint64_t total = 0;
  const TimePoint began = now();
  while (total < kProbeBytes) {
    const ssize_t count = ::read(file.number(), block.data(), block.size());
    if (count <= 0) break;
    total += static_cast<std::uint64_t>(count);
  }
  const double took_s = seconds(now() - began);
  if (total < kLeastTimedBytes || took_s <= 0) return std::nullopt;
  return static_cast<double>(total) / took_s;
}

using Writing = KeptFolder::Writing;

Result<void> write_unless_given_up(const std::filesystem::path& path, const KeptShape& shape, const KeptHeader& header,
                                   std::atomic<Writing>& writing, const FillPiece& fill) {
  const auto given_up = [] { return fail(ErrorCode::kCancelled, "its room is needed"); };
  if (writing == Writing::kGivenUp) return given_up();
  // A private folder in a private folder.
  std::error_code error;
  if (std::filesystem::create_directory(path.parent_path(), error)) {
    std::filesystem::permissions(path.parent_path(), kOwnerAlone, error);
  }
  TRY(write_kept_file(path, shape, header, [&](const KeptPiece& piece, std::span<std::byte> bytes) -> Result<void> {
    if (writing == Writing::kGivenUp) return given_up();
    return fill(piece, bytes);
  }));
  if (writing.exchange(Writing::kDone) != Writing::kGivenUp) return {};
  remove_kept_file(path);
  return given_up();
}

}  // namespace

KeptFolder::KeptFolder(std::filesystem::path path, std::uint64_t most_bytes, Post post)
    : path_(std::move(path)), most_bytes_(most_bytes), post_(std::move(post)) {
  // Streams go first.
  writing_.submit([] { lower_priority_of_this_thread(); });
}

Result<std::shared_ptr<KeptFolder>> KeptFolder::open(const std::filesystem::path& path, std::uint64_t most_bytes,
                                                     Post post) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) std::filesystem::permissions(path, kOwnerAlone, error);
  if (error) {
    return fail(ErrorCode::kIo, "cannot be made for kept texts: " + error.message(), path.string());
  }
  std::shared_ptr<KeptFolder> folder(new KeptFolder(path, most_bytes, std::move(post)));
  folder->list_files();
  return folder;
}

void KeptFolder::list_files() {
  auto listed = list_kept_files(path_, remove_file);
  std::ranges::sort(listed, std::ranges::greater(), &ListedFile::used_at);
  for (ListedFile& file : listed) {
    // A clock that was set back since must not keep it for ever.
    const UsedAt used_at = std::min(file.used_at, UsedAt::clock::now());
    insert({.model = file.model, .name = file.path.filename().string(), .bytes = file.bytes, .used_at = used_at});
  }
  make_room(0);
  log::info("{} kept texts on disk, {:.2f} of {:.2f} GB", files_.size(), static_cast<double>(bytes_) / 1e9,
            static_cast<double>(most_bytes_) / 1e9);
}

Result<void> KeptFolder::remove(const std::filesystem::path& path) {
  for (const ListedFile& file : list_kept_files(path, remove_kept_file)) remove_kept_file(file.path);
  std::error_code not_empty;
  std::filesystem::remove(path, not_empty);
  if (const std::uint64_t left = bytes_in(path); left > 0) {
    return fail(ErrorCode::kIo, std::format("{} bytes of kept texts could not be removed", left), path.string());
  }
  return {};
}

Result<void> KeptFolder::remove_model(const std::filesystem::path& path, const Sha256& model) {
  std::error_code error;
  std::filesystem::remove_all(path / model.hex(), error);
  if (error) return fail(ErrorCode::kIo, "kept texts cannot be removed: " + error.message(), path.string());
  return {};
}

std::uint64_t KeptFolder::bytes_in(const std::filesystem::path& path) {
  std::uint64_t bytes = 0;
  for (const ListedFile& file : list_kept_files(path, [](const auto&) {})) bytes += file.bytes;
  return bytes;
}

std::filesystem::path KeptFolder::path_of(const Sha256& model, const std::string& name) const {
  return path_ / model.hex() / name;
}

void KeptFolder::post(std::move_only_function<void(KeptFolder&)> task) {
  post_([weak = weak_from_this(), task = std::move(task)]() mutable {
    if (const auto self = weak.lock()) task(*self);
  });
}

void KeptFolder::look_up(const std::shared_ptr<const KeptShape>& shape) {
  const Sha256 model = shape->model;
  std::vector<std::string> names;
  for (const File& file : files_) {
    if (file.model == model && !file.header) names.push_back(file.name);
  }
  if (names.empty()) {
    looked_up_.insert(model);
    return;
  }
  looked_up_.erase(model);
  reading_.submit([this, shape, model, names = std::move(names)] {
    std::vector<Found> found;
    for (const std::string& name : names) {
      found.push_back({name, read_kept_header(path_of(model, name), *shape)});
    }
    post([model, found = std::move(found), rate = time_reading(path_of(model, names.front()))](
             KeptFolder& self) mutable { self.on_looked_up(model, std::move(found), rate); });
  });
}

void KeptFolder::on_looked_up(const Sha256& model, std::vector<Found> found, std::optional<double> rate) {
  looked_up_.insert(model);
  if (rate) read_rate_ = rate;
  for (Found& each : found) {
    const auto file = find(model, each.name);
    if (file == files_.end()) continue;
    if (each.header && kept_file_name(each.header->text) == each.name) {
      file->header = std::move(*each.header);
      continue;
    }
    on_unreadable(file, each.header
                            ? Error{ErrorCode::kCorrupt, "its name is not its text's", path_of(model, each.name)}
                            : each.header.error());
  }
  // As left by a node that was killed between the two.
  for (const Found& each : found) {
    const auto file = find(model, each.name);
    if (file == files_.end() || !file->header) continue;
    for (const std::string& name : beginnings_of(model, file->header->text)) drop(find(model, name));
  }
}

std::vector<const KeptFolder::File*> KeptFolder::texts_of(const Sha256& model) const {
  std::vector<const File*> texts;
  for (const File& file : files_) {
    if (file.model == model && file.header && !file.writing) texts.push_back(&file);
  }
  return texts;
}

std::list<KeptFolder::File>::iterator KeptFolder::find(const Sha256& model, const std::string& name) {
  return std::ranges::find_if(
      files_, [&](const File& file) { return file.model == model && file.name == name && !file.writing; });
}

void KeptFolder::insert(File file) {
  bytes_ += file.bytes;
  const auto older = std::ranges::find_if(files_, [&](const File& other) { return other.used_at <= file.used_at; });
  files_.insert(older, std::move(file));
}

void KeptFolder::erase(std::list<File>::iterator file) {
  bytes_ -= file->bytes;
  files_.erase(file);
}

void KeptFolder::drop(std::list<File>::iterator file) {
  if (!file->writing || file->writing->exchange(Writing::kGivenUp) == Writing::kDone) {
    writing_.submit([path = path_of(file->model, file->name)] { remove_kept_file(path); });
  }
  erase(file);
}

void KeptFolder::drop_if(const std::function<bool(const File&)>& is_wanted) {
  for (auto file = files_.begin(); file != files_.end();) {
    const auto next = std::next(file);
    if (is_wanted(*file)) drop(file);
    file = next;
  }
}

bool KeptFolder::has_place_for(std::uint64_t bytes, UsedAt used_at) const {
  for (const File& file : files_) {
    if (file.used_at > used_at) bytes += file.bytes;
  }
  return bytes <= most_bytes_;
}

void KeptFolder::make_room(std::uint64_t bytes) {
  while (!files_.empty() && bytes_ + bytes > most_bytes_) drop(std::prev(files_.end()));
}

void KeptFolder::forget(const Sha256& model) {
  drop_if([&](const File& file) { return file.model == model; });
}

void KeptFolder::write(std::shared_ptr<const KeptShape> shape, KeptHeader header, UsedAt used_at, FillPiece fill,
                       Done done) {
  File file{.model = shape->model,
            .name = kept_file_name(header.text),
            .bytes = kept_file_bytes(*shape, header),
            .used_at = used_at,
            .header = header,
            .writing = std::make_shared<std::atomic<Writing>>(Writing::kUnderWay)};
  // Also one that is being written: of two writings of a name the later one counts.
  drop_if([&](const File& other) { return other.model == file.model && other.name == file.name; });
  make_room(file.bytes);
  // What goes on from them says the same, and more.
  auto beginnings = beginnings_of(file.model, header.text);
  writing_.submit([this, path = path_of(file.model, file.name), writing = file.writing, used_at,
                   beginnings = std::move(beginnings), shape = std::move(shape), header = std::move(header),
                   fill = std::move(fill), done = std::move(done)]() mutable {
    const TimePoint began = now();
    auto written = write_unless_given_up(path, *shape, header, *writing, fill);
    fill = nullptr;
    if (written) {
      std::error_code unknown;
      std::filesystem::last_write_time(path, used_at, unknown);
      for (const std::string& name : beginnings) remove_file(path.parent_path() / name);
    }
    post([writing, beginnings = std::move(beginnings), took_s = seconds(now() - began), written = std::move(written),
          done = std::move(done)](KeptFolder& self) mutable {
      self.on_written(writing.get(), beginnings, took_s, written);
      done(written);
    });
  });
  insert(std::move(file));
}

void KeptFolder::on_written(const std::atomic<Writing>* writing, const std::vector<std::string>& beginnings,
                            double took_s, const Result<void>& result) {
  const auto file = std::ranges::find(files_, writing, [](const File& each) { return each.writing.get(); });
  if (!result) {
    if (file != files_.end()) erase(file);
    if (result.error().code == ErrorCode::kCancelled) return;
    // A full disk, most likely: said once.
    if (!std::exchange(said_failure_, true)) {
      log::warning("kept texts cannot be written to disk for now: {}", result.error().to_string());
    }
    return;
  }
  said_failure_ = false;
  if (file == files_.end()) return;
  if (file->bytes >= kLeastTimedBytes && took_s > 0) write_rate_ = static_cast<double>(file->bytes) / took_s;
  file->writing = nullptr;
  // Their files have gone already.
  for (const std::string& name : beginnings) {
    if (const auto beginning = find(file->model, name); beginning != files_.end()) erase(beginning);
  }
}

std::vector<std::string> KeptFolder::beginnings_of(const Sha256& model, const KeptText& text) const {
  std::vector<std::string> names;
  for (const File* file : texts_of(model)) {
    const KeptText& other = file->header->text;
    if (other.tokens.size() < text.tokens.size() && begins(other, text)) names.push_back(file->name);
  }
  return names;
}

void KeptFolder::use(const Sha256& model, const std::string& name) {
  const auto file = find(model, name);
  if (file == files_.end()) return;
  // It stays the first also where the clock was set back.
  file->used_at = std::max(UsedAt::clock::now(), files_.front().used_at);
  files_.splice(files_.begin(), files_, file);
  // So that the order survives this process.
  writing_.submit([path = path_of(model, name), used_at = file->used_at] {
    std::error_code gone;
    std::filesystem::last_write_time(path, used_at, gone);
  });
}

void KeptFolder::on_unreadable(std::list<File>::iterator file, const Error& why) {
  if (why.code == ErrorCode::kNotFound) return erase(file);
  if (why.code == ErrorCode::kCorrupt) {
    log::warning("a kept text is removed: {}", why.to_string());
    return drop(file);
  }
  // What is wrong may pass, such as too many open files: it stays, and is looked at when its model is loaded again.
  file->header.reset();
  if (!std::exchange(said_unreadable_, true)) {
    log::warning("a kept text cannot be read for now, and stays on disk: {}", why.to_string());
  }
}

bool KeptFolder::read(const std::shared_ptr<const KeptShape>& shape, const std::string& name, TakePiece take,
                      Done done) {
  const auto file = find(shape->model, name);
  if (file == files_.end() || !file->header) return false;
  reading_.submit([this, shape, model = shape->model, name, header = *file->header, take = std::move(take),
                   done = std::move(done)]() mutable {
    const TimePoint began = now();
    const std::filesystem::path path = path_of(model, name);
    bool is_taken = true;
    const auto result = read_kept_rows(path, *shape, header, [&](const KeptPiece& piece, ByteSpan bytes) {
      auto taken = take(piece, bytes);
      is_taken = taken.has_value();
      return taken;
    });
    take = nullptr;
    const double took_s = seconds(now() - began);
    post([header = std::move(header), model, name, took_s, is_taken, result,
          done = std::move(done)](KeptFolder& self) mutable {
      const auto read = self.find(model, name);
      // Another text may have taken its place.
      const bool is_there = read != self.files_.end() && read->header == header;
      if (is_there && is_taken) self.on_read(read, took_s, result);
      done(result);
    });
  });
  return true;
}

void KeptFolder::on_read(std::list<File>::iterator file, double took_s, const Result<void>& result) {
  if (!result) return on_unreadable(file, result.error());
  said_unreadable_ = false;
  if (file->bytes >= kLeastTimedBytes && took_s > 0) read_rate_ = static_cast<double>(file->bytes) / took_s;
}

std::shared_future<void> KeptFolder::when_written() {
  const auto written = std::make_shared<std::promise<void>>();
  writing_.submit([written] { written->set_value(); });
  return written->get_future().share();
}

std::shared_future<void> KeptFolder::when_quiet() {
  const auto quiet = std::make_shared<std::promise<void>>();
  // One thread after the other.
  reading_.submit([this, quiet] { writing_.submit([quiet] { quiet->set_value(); }); });
  return quiet->get_future().share();
}

}  // namespace baton::node
