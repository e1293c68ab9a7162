#include "base/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <format>
#include <utility>

#include "base/system_error.h"

namespace baton {

namespace {

// Some systems refuse a single write beyond 2 GiB.
constexpr std::size_t kMaxWriteBytes = std::size_t{1} << 30;

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path, unsigned mode) {
  std::error_code unknown;
  const auto type = std::filesystem::status(path, unknown).type();
  if (type == std::filesystem::file_type::directory) {
    return fail(ErrorCode::kInvalidArgument, "is a folder, not a file", path.string());
  }
  if (type != std::filesystem::file_type::regular && type != std::filesystem::file_type::not_found) {
    const int device = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (device < 0) return system_error("open", path);
    return AtomicFile(device, path, {});
  }
  // A link stays a link: what it leads to is replaced.
  if (std::filesystem::is_symlink(path, unknown)) {
    const std::filesystem::path target = std::filesystem::weakly_canonical(path, unknown);
    if (unknown) return fail(ErrorCode::kIo, "leads nowhere: " + unknown.message(), path.string());
    if (target != path) return create(target, mode);
  }
  // Two threads of one process may write the same path: each gets its own neighbour.
  static std::atomic<unsigned> serial = 0;
  std::filesystem::path temporary = path.string() + std::format(".{}.{}.part", ::getpid(), serial++);
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (descriptor < 0) return system_error("create", path);
  return AtomicFile(descriptor, path, std::move(temporary));
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<void> AtomicFile::reserve(std::uint64_t bytes) {
#ifdef __linux__
  // Only "no space" and "beyond a limit" are answers; other errors mean that the file system cannot reserve.
  const int status = bytes == 0 ? 0 : ::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
  if (status != 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
    return system_error(std::format("reserve {} bytes", bytes), path_);
  }
#else
  static_cast<void>(bytes);
#endif
  return {};
}

Result<void> AtomicFile::write(ByteSpan part) {
  while (!part.empty()) {
    const ssize_t written = ::write(descriptor_, part.data(), std::min(part.size(), kMaxWriteBytes));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error("write", path_);
    part = part.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (temporary_.empty()) {
    ::close(std::exchange(descriptor_, -1));
    return {};
  }
  if (::fsync(descriptor_) != 0) return system_error("write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return system_error("rename into place", path_);
  ::close(std::exchange(descriptor_, -1));
  return {};
}

}  // namespace baton
