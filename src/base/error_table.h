// All error codes and what follows from each, in one table.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"

namespace baton {

struct ErrorFacts {
  ErrorCode code;
  std::string_view name;  // stable: "no_capacity"
  int exit_status = 0;
  std::string_view meaning;  // of the exit status, as --help lists it
  int http_status = 500;
};

// Every code once, in the order of the enumeration.
std::span<const ErrorFacts> all_error_codes();

// The status of an HTTP answer that says this error (RFC 9110, section 15; 429: RFC 6585).
int http_status(ErrorCode code);

}  // namespace baton
