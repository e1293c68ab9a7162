// In a file of its own, so that a helper links nothing that only its parent needs.
#include <unistd.h>

#include <cerrno>
#include <span>

#include "base/helper_frame.h"
#include "base/helper_process.h"

namespace baton {

namespace {

// Whether all of it came.
bool read_fully(std::span<char> target) {
  while (!target.empty()) {
    const ssize_t size = ::read(STDIN_FILENO, target.data(), target.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return false;
    target = target.subspan(static_cast<std::size_t>(size));
  }
  return true;
}

bool write_fully(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return true;
}

}  // namespace

std::optional<std::string> read_request() {
  FrameLength size = 0;
  if (!read_fully(std::span(reinterpret_cast<char*>(&size), sizeof size))) return std::nullopt;
  std::string request(size, '\0');
  if (!read_fully(request)) return std::nullopt;
  return request;
}

bool write_answer(std::string_view answer) {
  return write_fully(bytes_of(static_cast<FrameLength>(answer.size()))) && write_fully(answer);
}

}  // namespace baton
