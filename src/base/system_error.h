// For the files of this room that call the operating system.
#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <format>
#include <string_view>

#include "base/result.h"

namespace baton {

// What errno says about an action that has just failed: "cannot open: No such file or directory", with the path.
inline std::unexpected<Error> system_error(std::string_view action, const std::filesystem::path& path = {}) {
  const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return fail(code, std::format("cannot {}: {}", action, std::strerror(errno)), path.string());
}

}  // namespace baton
