// What commands write to standard output, checked: a full disk behind a redirection is an error, not silence.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace baton::cli {

// For a person to read, or one JSON value for a program.
enum class OutputFormat { kText, kJson };

// Writes and flushes.
Result<void> print(std::string_view text);

// To standard error, where a person watches: nothing unless that is a terminal.
void remark(std::string_view text);

// "1.2 MB", "593 MB"
std::string size_text(std::uint64_t bytes);

// "2.315 s", "12.3 ms", "0.0456 ms"
std::string duration_text(double seconds);

// Rows of equally many cells, the first being the columns' titles, aligned to the left.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

}  // namespace baton::cli
