// What commands write to standard output, checked: a full disk behind a redirection is an error, not silence.
#pragma once

#include <string_view>

#include "base/result.h"

namespace baton::cli {

// For a person to read, or one JSON value for a program.
enum class OutputFormat { kText, kJson };

// Writes and flushes.
Result<void> print(std::string_view text);

}  // namespace baton::cli
