// Errors as values: every function that can fail returns Result<T>.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace baton {

// What kind of thing went wrong. Exit codes, and later HTTP statuses, metrics and audit reasons, are derived from it
// in error.cpp and nowhere else.
enum class ErrorCode {
  kInvalidArgument,  // the caller or the user asked for something that makes no sense
  kNotFound,         // a file, model, device or peer that does not exist
  kUnsupported,      // well-formed, but not something this build can do
  kCorrupt,          // a file whose content contradicts itself or is cut short
  kIo,               // the operating system refused: full disk, permission, ...
  kNoCapacity,       // memory or cells are taken; may succeed later
  kRefused,          // a peer or a policy said no
  kUnavailable,      // a peer cannot be reached or went away
  kTimeout,          // a deadline passed
  kProtocol,         // a peer broke the protocol
  kCancelled,        // someone who may do so stopped it
  kInternal,         // our own mistake
};

struct [[nodiscard]] Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // what was wrong, with what, and what to do
  std::string context;  // where it happened: a file, a peer, a request; may be empty

  // "context: message", or the message alone where there is no context.
  std::string to_string() const;
};

// A stable lower-case name such as "no_capacity".
std::string_view error_code_name(ErrorCode code);

// The exit status of a command that ends with this error.
int exit_code(ErrorCode code);

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message, std::string context = {}) {
  return std::unexpected<Error>(Error{code, std::move(message), std::move(context)});
}

namespace detail {
template <typename T>
T take_value(std::expected<T, Error>& result) {
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}
}  // namespace detail

}  // namespace baton

#define BATON_JOIN_EXPANDED(left, right) left##right
#define BATON_JOIN(left, right) BATON_JOIN_EXPANDED(left, right)
#define BATON_TRY(result, ...)                                                      \
  ({                                                                                \
    auto result = (__VA_ARGS__);                                                    \
    if (!result) return std::unexpected<::baton::Error>(std::move(result).error()); \
    ::baton::detail::take_value(result);                                            \
  })

// Evaluates a Result; passes its error to the caller or yields its value. May be nested, but not used in a coroutine.
#define TRY(...) BATON_TRY(BATON_JOIN(try_result_, __COUNTER__), __VA_ARGS__)
