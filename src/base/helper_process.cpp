#include "base/helper_process.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <format>
#include <span>

namespace baton {

namespace {

using FrameLength = std::uint32_t;

constexpr auto kStopTimeout = std::chrono::seconds(5);

std::string_view bytes_of(const FrameLength& length) { return {reinterpret_cast<const char*>(&length), sizeof length}; }

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

Result<HelperProcess> HelperProcess::start(std::string_view program_name) {
  const auto program = TRY(current_executable())
  .parent_path() / program_name;
  if (::access(program.c_str(), X_OK) != 0) {
    return fail(ErrorCode::kNotFound,
                std::format("there is no program '{}', which belongs beside the running one", program_name),
                program.string());
  }
  return HelperProcess(TRY(ChildProcess::start({program.string()}, ChildInput::kPiped)));
}

Result<std::string> HelperProcess::ask(std::string_view request, std::size_t max_answer_bytes, Duration timeout) {
  const TimePoint deadline = now() + timeout;
  const auto request_bytes = static_cast<FrameLength>(request.size());
  if (request_bytes != request.size()) return fail(ErrorCode::kInvalidArgument, "a request of 4 GiB or more");
  TRY(child_.write(bytes_of(request_bytes), deadline));
  TRY(child_.write(request, deadline));
  FrameLength answer_bytes = 0;
  const std::string length = TRY(child_.read(sizeof answer_bytes, deadline));
  std::memcpy(&answer_bytes, length.data(), sizeof answer_bytes);
  if (answer_bytes > max_answer_bytes) {
    return fail(ErrorCode::kProtocol,
                std::format("an answer of {} bytes, more than {}", answer_bytes, max_answer_bytes));
  }
  return child_.read(answer_bytes, deadline);
}

Result<int> HelperProcess::stop() { return child_.kill(now() + kStopTimeout); }

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
