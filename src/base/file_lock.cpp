#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <format>
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

}  // namespace

Result<FileLock> FileLock::take(const std::filesystem::path& path, Duration patience) {
  Descriptor file = TRY(open_to_lock(path));
  const TimePoint deadline = now() + patience;
  while (!TRY(try_lock(file, path))) {
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
  return FileLock(std::move(file));
}

Result<FileLock> FileLock::try_take(const std::filesystem::path& path, std::string taken) {
  Descriptor file = TRY(open_to_lock(path));
  if (TRY(try_lock(file, path))) return FileLock(std::move(file));
  return fail(ErrorCode::kNoCapacity, std::move(taken), path.parent_path().string());
}

}  // namespace baton
