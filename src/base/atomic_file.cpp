#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <format>
#include <string>
#include <string_view>
#include <utility>

#include "base/system_error.h"

namespace baton {

namespace {

// Some systems refuse a single write beyond 2 GiB.
constexpr std::size_t kMaxWriteBytes = std::size_t{1} << 30;

constexpr std::string_view kTemporaryEnding = ".part";

std::string temporary_name(const std::string& name, unsigned serial) {
  return std::format("{}.{}.{}{}", name, ::getpid(), serial, kTemporaryEnding);
}

// A writer holds a lock on its neighbour until it ends, however it does: what nobody has locked was left by one that
// was killed. Where the file system has no locks, it stays.
void remove_left_behind(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  std::error_code unknown;
  for (auto entry = std::filesystem::directory_iterator(folder, unknown);
       !unknown && entry != std::filesystem::directory_iterator(); entry.increment(unknown)) {
    if (!AtomicFile::is_temporary_of(name, entry->path().filename().string())) continue;
    const int descriptor = ::open(entry->path().c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
    ::close(descriptor);
  }
}

// A descriptor of the new file, locked; -1 and errno where it cannot be made.
int create_locked(const std::filesystem::path& path, unsigned mode) {
  while (true) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (descriptor < 0) return descriptor;
    struct stat facts{};
    const bool removed = ::flock(descriptor, LOCK_EX) == 0 && ::fstat(descriptor, &facts) == 0 && facts.st_nlink == 0;
    if (!removed) return descriptor;
    // Somebody who tidied up met it before it was locked.
    ::close(descriptor);
  }
}

}  // namespace

bool AtomicFile::is_temporary_of(std::string_view name, std::string_view temporary) {
  if (!temporary.starts_with(name) || !temporary.ends_with(kTemporaryEnding)) return false;
  temporary.remove_prefix(name.size());
  if (temporary.size() <= kTemporaryEnding.size()) return false;
  temporary.remove_suffix(kTemporaryEnding.size());
  const bool is_numbers = temporary.find_first_not_of(".0123456789") == std::string_view::npos;
  return is_numbers && temporary.front() == '.' && std::ranges::count(temporary, '.') == 2;
}

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
  remove_left_behind(path);
  std::filesystem::path temporary = temporary_name(path.string(), serial++);
  const int descriptor = create_locked(temporary, mode);
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

Result<void> AtomicFile::sync() {
  if (!temporary_.empty() && ::fsync(descriptor_) != 0) return system_error("write", path_);
  return {};
}

Result<void> AtomicFile::commit() {
  if (temporary_.empty()) {
    ::close(std::exchange(descriptor_, -1));
    return {};
  }
  TRY(sync());
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return system_error("rename into place", path_);
  ::close(std::exchange(descriptor_, -1));
  return {};
}

}  // namespace baton
