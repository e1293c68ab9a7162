// Child processes whose standard output we read, and whose standard input we may write. Standard error goes where ours
// goes, and no other file of ours stays open in them.
#pragma once

#include <sys/types.h>

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace baton {

// The file this process was started from.
Result<std::filesystem::path> current_executable();

enum class ChildInput {
  kInherited,  // our own standard input; the child dies with the thread that started it where the system can arrange
               // that (Linux)
  kPiped,      // what is given to write(); the child is to end where its input ends, as it does when we end
};

// A running child. Destroying it kills it (SIGKILL) and waits for its end.
class ChildProcess {
 public:
  // argv[0] is the program's path.
  static Result<ChildProcess> start(const std::vector<std::string>& argv, ChildInput input = ChildInput::kInherited);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  // For a process that is about to end: kills every child and returns when all are gone, or after kKillTimeout: one
  // that the kernel does not let go ends when it can. None is started afterwards: start() gives kCancelled. From any
  // thread, also while another uses the children.
  static void end_all();

  // To its piped input. kTimeout past the deadline, kUnavailable when the child closed its output.
  Result<void> write(std::string_view bytes, TimePoint deadline);
  // Exactly so many bytes; fails as read_line() does.
  Result<std::string> read(std::size_t size, TimePoint deadline);
  // One line without its newline; kTimeout past the deadline, kUnavailable when the child closed its output.
  Result<std::string> read_line(TimePoint deadline);
  // Everything until the child closes its output, then its exit status (128 + signal where one ended it); kTimeout
  // past the deadline, and the child runs on.
  struct Finished {
    std::string output;
    int status = 0;
  };
  Result<Finished> finish(TimePoint deadline);
  // Ends it where it still runs. Its exit status, as in Finished.
  Result<int> kill(TimePoint deadline);

 private:
  ChildProcess(pid_t pid, int output, std::array<int, 2> input) : pid_(pid), output_(output), input_(input) {}
  Result<bool> fill(TimePoint deadline);  // false at the end of the output
  Result<int> wait_for_exit(TimePoint deadline);

  pid_t pid_ = -1;
  int output_ = -1;
  // The reading end is kept too: a child that ends makes no SIGPIPE of our writing.
  std::array<int, 2> input_ = {-1, -1};
  std::string buffered_;
};

}  // namespace baton
