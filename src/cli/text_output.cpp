#include "cli/text_output.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <format>

namespace baton::cli {

Result<void> print(std::string_view text) {
  const std::size_t written = std::fwrite(text.data(), 1, text.size(), stdout);
  if (written != text.size() || std::fflush(stdout) != 0) {
    return fail(ErrorCode::kIo, std::format("cannot write to standard output: {}", std::strerror(errno)));
  }
  return {};
}

}  // namespace baton::cli
