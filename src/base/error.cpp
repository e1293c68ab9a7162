#include <array>

#include "base/error_table.h"

namespace baton {

namespace {

constexpr std::array kTable = {
    ErrorFacts{ErrorCode::kInvalidArgument, "invalid_argument", 2, "wrong arguments", 400},
    ErrorFacts{ErrorCode::kNotFound, "not_found", 3, "not found", 404},
    ErrorFacts{ErrorCode::kUnsupported, "unsupported", 4, "not supported", 400},
    ErrorFacts{ErrorCode::kCorrupt, "corrupt", 5, "damaged file", 500},
    ErrorFacts{ErrorCode::kIo, "io", 6, "input or output failed", 500},
    ErrorFacts{ErrorCode::kNoCapacity, "no_capacity", 7, "no room, or this machine is too busy", 429},
    ErrorFacts{ErrorCode::kRefused, "refused", 8, "refused", 403},
    ErrorFacts{ErrorCode::kUnavailable, "unavailable", 9, "peer unreachable", 503},
    ErrorFacts{ErrorCode::kTimeout, "timeout", 10, "deadline passed", 504},
    ErrorFacts{ErrorCode::kProtocol, "protocol", 11, "peer broke the protocol", 502},
    ErrorFacts{ErrorCode::kCancelled, "cancelled", 130, "interrupted", 503},
    ErrorFacts{ErrorCode::kInternal, "internal", 1, "fault of baton", 500},
};

constexpr bool follows_the_enumeration() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].code) != i) return false;
  }
  return kTable.back().code == ErrorCode::kInternal;
}
static_assert(follows_the_enumeration(), "an ErrorCode is missing in the table, or out of order");

const ErrorFacts& facts(ErrorCode code) {
  const auto index = static_cast<std::size_t>(code);
  return index < kTable.size() ? kTable[index] : kTable.back();
}

}  // namespace

std::string Error::to_string() const { return context.empty() ? message : context + ": " + message; }

std::span<const ErrorFacts> all_error_codes() { return kTable; }

std::string_view error_code_name(ErrorCode code) { return facts(code).name; }

int exit_code(ErrorCode code) { return facts(code).exit_status; }

int http_status(ErrorCode code) { return facts(code).http_status; }

}  // namespace baton
