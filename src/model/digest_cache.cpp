#include "model/digest_cache.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <format>
#include <optional>
#include <sstream>
#include <vector>

#include "base/descriptor.h"
#include "base/file.h"
#include "base/log.h"

namespace baton::model {

namespace {

constexpr std::string_view kFirstLine = "baton-digest 1";
constexpr std::size_t kReadBytes = 1 << 20;
// A file this young may change again without its time changing, since file systems count time coarsely.
constexpr std::int64_t kSettledNs = 2'000'000'000;

// What tells a changed file from an unchanged one.
struct FileState {
  std::int64_t size = 0;
  std::int64_t modified_ns = 0;
  std::uint64_t inode = 0;
  bool operator==(const FileState&) const = default;
};

class Input {
 public:
  static Result<Input> open(const std::filesystem::path& path) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open()) {
      return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                  std::format("cannot open: {}", std::strerror(errno)), path.string());
    }
    return Input(std::move(file), path);
  }

  Result<FileState> state() const {
    struct stat status{};
    if (::fstat(file_.number(), &status) != 0) return system_error("inspect");
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kInvalidArgument, "is not a regular file", path_.string());
#ifdef __APPLE__
    const timespec modified = status.st_mtimespec;
#else
    const timespec modified = status.st_mtim;
#endif
    return FileState{.size = status.st_size,
                     .modified_ns = std::int64_t{modified.tv_sec} * 1'000'000'000 + modified.tv_nsec,
                     .inode = status.st_ino};
  }

  Result<Sha256> digest(const std::stop_token& stop) const {
    Sha256Stream stream;
    Bytes buffer(kReadBytes);
    for (;;) {
      if (stop.stop_requested())
        return fail(ErrorCode::kCancelled, "its digest is not needed any more", path_.string());
      const ssize_t size = ::read(file_.number(), buffer.data(), buffer.size());
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return system_error("read");
      if (size == 0) return stream.value();
      stream.update(ByteSpan(buffer).first(static_cast<std::size_t>(size)));
    }
  }

 private:
  Input(Descriptor file, std::filesystem::path path) : file_(std::move(file)), path_(std::move(path)) {}
  std::unexpected<Error> system_error(std::string_view action) const {
    return fail(ErrorCode::kIo, std::format("cannot {}: {}", action, std::strerror(errno)), path_.string());
  }

  Descriptor file_;
  std::filesystem::path path_;
};

std::string entry_text(const Sha256& digest, const FileState& state) {
  return std::format("{}\nsha256 {}\nsize {}\nmodified_ns {}\ninode {}\n", kFirstLine, digest.hex(), state.size,
                     state.modified_ns, state.inode);
}

// What an entry says, if it is one of ours and about this state of the file.
std::optional<Sha256> digest_in(const std::string& text, const FileState& state) {
  const std::string digest_label = std::format("{}\nsha256 ", kFirstLine);
  if (!text.starts_with(digest_label)) return std::nullopt;
  const auto digest = Sha256::parse(std::string_view(text).substr(digest_label.size(), 64));
  if (!digest || text != entry_text(*digest, state)) return std::nullopt;
  return *digest;
}

std::optional<std::filesystem::path> cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::filesystem::path(cache) / "baton";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::filesystem::path(home) / ".cache" / "baton";
  }
  return std::nullopt;
}

// Where an entry may be, the best place first.
std::vector<std::filesystem::path> entry_paths(const std::filesystem::path& path) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  if (path.extension() == ".gguf" && !std::filesystem::is_symlink(path, error))
    paths.push_back(path.string() + ".sha256");
  error.clear();
  const auto absolute = std::filesystem::absolute(path, error);
  if (const auto folder = cache_folder(); folder && !error) {
    paths.push_back(*folder / (sha256(as_byte_span(absolute.string())).hex() + ".sha256"));
  }
  return paths;
}

// Somebody's own checksum file may have the name of our entry: it is not ours to overwrite.
bool may_write(const std::filesystem::path& entry) {
  std::error_code error;
  if (!std::filesystem::exists(entry, error)) return !error;
  const auto text = read_text_file(entry);
  return text && text->starts_with(kFirstLine);
}

void keep(const std::filesystem::path& path, const std::string& text) {
  for (const auto& entry : entry_paths(path)) {
    if (!may_write(entry)) continue;
    if (entry.parent_path().filename() == "baton") {
      std::error_code ignored;
      std::filesystem::create_directories(entry.parent_path(), ignored);
    }
    if (write_file(entry, as_byte_span(text))) return;
  }
  log::debug("{}: its digest cannot be kept and will be computed again", path.string());
}

}  // namespace

Result<Sha256> model_digest(const std::filesystem::path& path, const std::stop_token& stop) {
  const Input input = TRY(Input::open(path));
  const FileState before = TRY(input.state());
  for (const auto& entry : entry_paths(path)) {
    const auto text = read_text_file(entry);
    if (!text) continue;
    if (const auto digest = digest_in(*text, before)) return *digest;
  }
  const Sha256 digest = TRY(input.digest(stop));
  if (TRY(input.state()) != before) {
    return fail(ErrorCode::kIo, "changed while it was being read: wait until it is complete", path.string());
  }
  const auto wall_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
  if (wall_ns.count() - before.modified_ns > kSettledNs) keep(path, entry_text(digest, before));
  return digest;
}

Result<Sha256> model_digest(std::span<const std::filesystem::path> parts, const std::stop_token& stop) {
  if (parts.size() == 1) return model_digest(parts.front(), stop);
  std::vector<Sha256> digests;
  for (const std::filesystem::path& part : parts) digests.push_back(TRY(model_digest(part, stop)));
  return digest_of_parts(digests);
}

Sha256 digest_of_parts(std::span<const Sha256> digests) {
  if (digests.size() == 1) return digests.front();
  std::string list = "baton-parts 1\n";
  for (const Sha256& digest : digests) list += digest.hex() + "\n";
  return sha256(as_byte_span(list));
}

void remember_digest(const std::filesystem::path& path, const Sha256& digest) {
  const auto input = Input::open(path);
  if (!input) return;
  if (const auto state = input->state()) keep(path, entry_text(digest, *state));
}

}  // namespace baton::model
