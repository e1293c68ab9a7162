#include "base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <utility>

#include "base/system_error.h"

namespace baton {

namespace {

constexpr unsigned kOwnerOnly = 0600;

Result<Descriptor> open_to_lock(const std::filesystem::path& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kOwnerOnly));
  if (!file.is_open()) return system_error("open", path);
  return file;
}

// Whether it was taken; false where somebody else has it, and `how` does not wait.
Result<bool> lock(const Descriptor& file, int how, const std::filesystem::path& path) {
  while (::flock(file.number(), how) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) return system_error("lock", path);
  }
  return true;
}

}  // namespace

Result<FileLock> FileLock::take(const std::filesystem::path& path) {
  Descriptor file = TRY(open_to_lock(path));
  TRY(lock(file, LOCK_EX, path));
  return FileLock(std::move(file));
}

Result<FileLock> FileLock::try_take(const std::filesystem::path& path, std::string taken) {
  Descriptor file = TRY(open_to_lock(path));
  if (TRY(lock(file, LOCK_EX | LOCK_NB, path))) return FileLock(std::move(file));
  return fail(ErrorCode::kNoCapacity, std::move(taken), path.parent_path().string());
}

}  // namespace baton
