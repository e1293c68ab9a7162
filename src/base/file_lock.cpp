#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <format>
#include <optional>
#include <thread>
#include <utility>

#include "base/system_error.h"

namespace baton {

namespace {

constexpr unsigned kOwnerOnly = 0600;
// What is done under such a lock takes milliseconds. A wait inside flock() would have no end.
constexpr auto kBetweenTries = std::chrono::milliseconds(2);

Result<Descriptor> open_to_lock(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kOwnerOnly));
  if (!file.is_open()) return system_error("open", path);
  return file;
}

// Whether it was taken; false where somebody else has it.
Result<bool> try_lock(const Descriptor& file, const std::filesystem::path& path) {
  while (::flock(file.number(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return system_error("lock", path);
  }
  return true;
}

// Whoever had it may have taken the file away, or moved it: then another is there, or none, and this lock keeps nobody
// out.
bool is_there_still(const Descriptor& file, const std::filesystem::path& path) {
  struct stat locked{};
  struct stat there{};
  return ::fstat(file.number(), &locked) == 0 && ::stat(path.c_str(), &there) == 0 && locked.st_dev == there.st_dev &&
         locked.st_ino == there.st_ino;
}

// Nothing where somebody else has it, or had it until a moment ago.
Result<std::optional<Descriptor>> open_and_lock(const std::filesystem::path& path) {
  Descriptor file = TRY(open_to_lock(path));
  if (!TRY(try_lock(file, path)) || !is_there_still(file, path)) return std::nullopt;
  return file;
}

}  // namespace

Result<FileLock> FileLock::take(const std::filesystem::path& path, Duration patience) {
  const TimePoint deadline = now() + patience;
  while (true) {
    if (auto file = TRY(open_and_lock(path))) return FileLock(*std::move(file));
    if (now() >= deadline) {
      return fail(
          ErrorCode::kTimeout,
          std::format("is locked by another process, and still was after {} s: see what holds it ('fuser' tells), "
                      "and try again",
                      std::chrono::duration_cast<std::chrono::seconds>(patience).count()),
          path.string());
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

Result<FileLock> FileLock::try_take(const std::filesystem::path& path, std::string taken) {
  if (auto file = TRY(open_and_lock(path))) return FileLock(*std::move(file));
  return fail(ErrorCode::kNoCapacity, std::move(taken), path.parent_path().string());
}

}  // namespace baton
