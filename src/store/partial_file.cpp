#include "store/partial_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <format>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/system_error.h"

namespace baton::store {

namespace {

constexpr std::size_t kReadBytes = 1 << 20;
// What is left for everybody else.
constexpr std::uint64_t kSpareBytes = 64 << 20;
constexpr std::size_t kMaxVersionBytes = 4096;

std::filesystem::path version_path(const std::filesystem::path& path) { return path.string() + ".part.of"; }

std::unexpected<Error> write_error(const std::filesystem::path& path) {
  if (errno == ENOSPC || errno == EDQUOT) {
    return fail(ErrorCode::kIo, "the disk is full: what has come stays, and the next pull goes on from there",
                path.string());
  }
  return system_error("write", path);
}

}  // namespace

std::filesystem::path part_path(const std::filesystem::path& path) { return path.string() + ".part"; }

Result<PartialFile> PartialFile::open(const std::filesystem::path& path, const std::stop_token& stop,
                                      const std::function<void(std::uint64_t)>& on_read) {
  Descriptor part(::open(part_path(path).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!part.is_open()) return system_error("create", part_path(path));
  PartialFile file(std::move(part), path);
  if (const auto version = read_text_file(version_path(path)); version && version->size() <= kMaxVersionBytes) {
    file.version_ = *version;
  }
  Bytes buffer(kReadBytes);
  while (true) {
    if (stop.stop_requested()) return fail(ErrorCode::kCancelled, "stopped");
    const ssize_t size = ::read(file.file_.number(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("read", part_path(path));
    if (size == 0) return file;
    file.digest_.update(ByteSpan(buffer).first(static_cast<std::size_t>(size)));
    file.size_ += static_cast<std::uint64_t>(size);
    on_read(file.size_);
  }
}

Result<void> PartialFile::write(ByteSpan piece) {
  while (!piece.empty()) {
    const ssize_t written = ::write(file_.number(), piece.data(), piece.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return write_error(path_);
    const ByteSpan taken = piece.first(static_cast<std::size_t>(written));
    digest_.update(taken);
    size_ += taken.size();
    piece = piece.subspan(taken.size());
  }
  return {};
}

Result<void> PartialFile::restart(const std::string& version) {
  if (::ftruncate(file_.number(), 0) != 0 || ::lseek(file_.number(), 0, SEEK_SET) != 0) {
    return system_error("empty", part_path(path_));
  }
  digest_ = Sha256Stream();
  size_ = 0;
  version_ = version;
  return write_file(version_path(path_), as_byte_span(version), 0600);
}

Result<void> PartialFile::commit() {
  if (::fsync(file_.number()) != 0) return write_error(path_);
  if (::rename(part_path(path_).c_str(), path_.c_str()) != 0) return system_error("rename into place", path_);
  std::error_code ignored;
  std::filesystem::remove(version_path(path_), ignored);
  return {};
}

void PartialFile::discard() {
  std::error_code ignored;
  std::filesystem::remove(part_path(path_), ignored);
  std::filesystem::remove(version_path(path_), ignored);
}

Result<void> check_free_space(const std::filesystem::path& folder, std::uint64_t bytes) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  // Where the system does not say, writing will.
  if (error || bytes + kSpareBytes <= space.available) return {};
  return fail(ErrorCode::kIo,
              std::format("{:.1f} GB more are needed, but the disk has {:.1f} GB free: make room, or choose another "
                          "folder with BATON_MODELS",
                          static_cast<double>(bytes) / 1e9, static_cast<double>(space.available) / 1e9),
              folder.string());
}

}  // namespace baton::store
