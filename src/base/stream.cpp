#include "base/stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "base/system_error.h"

namespace baton {

namespace {

// More than any prompt; a stream tells nobody how long it is.
constexpr std::size_t kMostStreamBytes = std::size_t{1} << 30;

bool can_be_read(mode_t mode) { return S_ISFIFO(mode) || S_ISSOCK(mode) || S_ISREG(mode) || S_ISCHR(mode); }

}  // namespace

void open_standard_input() {
  if (::fcntl(STDIN_FILENO, F_GETFD) == -1 && errno == EBADF) {
    // The lowest that is free.
    static_cast<void>(::open("/dev/null", O_RDONLY));
  }
}

Result<std::string> read_to_end(int descriptor, const std::string& name) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) return system_error("inspect", name);
  std::string text;
  if (!can_be_read(status.st_mode)) return text;
  std::array<char, 65536> block{};
  while (true) {
    const ssize_t size = ::read(descriptor, block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      pollfd waiting{.fd = descriptor, .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, -1) < 0 && errno != EINTR) return system_error("wait for", name);
      continue;
    }
    if (size < 0) return system_error("read", name);
    if (size == 0) return text;
    text.append(block.data(), static_cast<std::size_t>(size));
    if (text.size() > kMostStreamBytes) return fail(ErrorCode::kNoCapacity, "does not end", name);
  }
}

}  // namespace baton
