#include "base/helper_process.h"

#include <unistd.h>

#include <cstring>
#include <format>

#include "base/helper_frame.h"

namespace baton {

namespace {

constexpr auto kStopTimeout = std::chrono::seconds(5);

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

}  // namespace baton
