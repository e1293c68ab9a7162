// A program of ours beside this one, run as a child that answers one request after another: for work that may end the
// process that does it. A request and an answer are each a length of 4 bytes, little-endian, and so many bytes, over
// the child's standard input and output.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/process.h"

namespace baton {

class HelperProcess {
 public:
  // The program of that name in the folder of the running one, or of that absolute path. kNotFound, saying so, where
  // there is none.
  static Result<HelperProcess> start(std::string_view program_name);

  // Waits for the answer to a request, in which nothing is to be trusted but its size. Fails with kUnavailable where
  // the helper ended, kTimeout where it gives no answer in time, kProtocol where the answer is larger than
  // max_answer_bytes. After a failure stop() is all that may be called.
  Result<std::string> ask(std::string_view request, std::size_t max_answer_bytes, Duration timeout);

  // Ends the helper where it still runs. Its exit status, or 128 and the number of the signal that ended it.
  Result<int> stop();

 private:
  explicit HelperProcess(ChildProcess child) : child_(std::move(child)) {}

  ChildProcess child_;
};

// The helper's side, for a process with one thread. Nothing at the end of the input.
std::optional<std::string> read_request();
// False where nobody reads it.
[[nodiscard]] bool write_answer(std::string_view answer);

}  // namespace baton
