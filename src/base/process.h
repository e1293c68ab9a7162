// Child processes whose standard output we read. Standard error goes where ours goes.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace baton {

// The file this process was started from.
Result<std::filesystem::path> current_executable();

// A running child. Destroying it kills it (SIGKILL) and waits for its end.
class ChildProcess {
 public:
  // argv[0] is the program's path. The child dies with its parent where the system can arrange that (Linux).
  static Result<ChildProcess> start(const std::vector<std::string>& argv);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  // For a process that is about to end: kills every child and returns when all are gone, or after kKillTimeout: one
  // that the kernel does not let go ends when it can. None is started afterwards: start() gives kCancelled. From any
  // thread, also while another uses the children.
  static void end_all();

  // One line without its newline; kTimeout past the deadline, kUnavailable when the child closed its output.
  Result<std::string> read_line(TimePoint deadline);
  // Everything until the child closes its output, then its exit status (128 + signal where one ended it); kTimeout
  // past the deadline, and the child runs on.
  struct Finished {
    std::string output;
    int status = 0;
  };
  Result<Finished> finish(TimePoint deadline);

 private:
  ChildProcess(pid_t pid, int output) : pid_(pid), output_(output) {}
  Result<bool> fill(TimePoint deadline);  // false at the end of the output
  Result<int> wait_for_exit(TimePoint deadline);

  pid_t pid_ = -1;
  int output_ = -1;
  std::string buffered_;
};

}  // namespace baton
