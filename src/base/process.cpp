#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <format>
#include <mutex>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/system_error.h"

namespace baton {

namespace {

// The system ends a killed process at once, unless it hangs in a device.
constexpr auto kKillTimeout = std::chrono::seconds(5);
constexpr Duration kFirstPause = std::chrono::microseconds(100);
constexpr Duration kLongestPause = std::chrono::milliseconds(20);

// All children that nobody has waited for. A child is started and waited for under the lock, so that no number in the
// list can belong to another process already.
struct Children {
  std::mutex mutex;
  std::vector<pid_t> running;
  bool ended = false;
};

Children& children() {
  static Children all;
  return all;
}

}  // namespace

Result<std::filesystem::path> current_executable() {
#ifdef __APPLE__
  std::array<char, 4096> path{};
  std::uint32_t size = path.size();
  if (_NSGetExecutablePath(path.data(), &size) != 0)
    return fail(ErrorCode::kInternal, "the program's path is too long");
  return std::filesystem::path(path.data());
#else
  std::error_code error;
  auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(ErrorCode::kIo, "cannot find the running program: " + error.message());
  return path;
#endif
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& argv) {
  std::array<int, 2> pipe_ends{};
  if (::pipe(pipe_ends.data()) != 0) return system_error("make a pipe");
  ::fcntl(pipe_ends[0], F_SETFD, FD_CLOEXEC);
  // Everything the child needs is made before fork(): between fork and exec only async-signal-safe calls are allowed.
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const std::lock_guard lock(children().mutex);
  const bool ended = children().ended;
  const pid_t pid = ended ? -1 : ::fork();
  if (pid < 0) {
    ::close(pipe_ends[0]);
    ::close(pipe_ends[1]);
    if (ended) return fail(ErrorCode::kCancelled, "this process is about to end");
    return system_error("start a process");
  }
  if (pid == 0) {
#ifdef __linux__
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    ::close(pipe_ends[1]);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(pipe_ends[1]);
  children().running.push_back(pid);
  return ChildProcess(pid, pipe_ends[0]);
}

void ChildProcess::end_all() {
  Children& all = children();
  // Its owner still wants to hear of its end.
  const auto runs = [](pid_t pid) {
    siginfo_t end{};
    return ::waitid(P_PID, static_cast<id_t>(pid), &end, WEXITED | WNOWAIT | WNOHANG) == 0 && end.si_pid == 0;
  };
  const TimePoint deadline = now() + kKillTimeout;
  for (Duration pause = kFirstPause; now() < deadline; pause = std::min(pause * 2, kLongestPause)) {
    {
      const std::lock_guard lock(all.mutex);
      if (!std::exchange(all.ended, true)) {
        for (const pid_t pid : all.running) ::kill(pid, SIGKILL);
      }
      if (std::ranges::none_of(all.running, runs)) return;
    }
    std::this_thread::sleep_for(pause);
  }
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      buffered_(std::move(other.buffered_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(buffered_, other.buffered_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (output_ >= 0) ::close(output_);
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  if (const auto ended = wait_for_exit(now() + kKillTimeout); !ended)
    log::warning("process {} was killed: {}", pid_, ended.error().to_string());
}

// waitpid() knows no deadline, so it is asked again and again, at first often: most children end at once.
Result<int> ChildProcess::wait_for_exit(TimePoint deadline) {
  Duration pause = kFirstPause;
  while (true) {
    int status = 0;
    std::unique_lock lock(children().mutex);
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) std::erase(children().running, pid_);
    lock.unlock();
    if (ended == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (ended < 0 && errno != EINTR) return system_error("wait for a process");
    if (now() >= deadline) return fail(ErrorCode::kTimeout, "the process did not end in time");
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
  }
}

Result<bool> ChildProcess::fill(TimePoint deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now()).count();
    if (left <= 0) return fail(ErrorCode::kTimeout, "the process did not answer in time");
    pollfd readable{.fd = output_, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&readable, 1, static_cast<int>(std::min<long long>(left, 1 << 30)));
    if (ready < 0 && errno != EINTR) return system_error("wait for a process");
    if (ready <= 0) continue;
    std::array<char, 65536> block{};
    const ssize_t size = ::read(output_, block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("read from a process");
    buffered_.append(block.data(), static_cast<std::size_t>(size));
    return size > 0;
  }
}

Result<std::string> ChildProcess::read_line(TimePoint deadline) {
  while (true) {
    const std::size_t end = buffered_.find('\n');
    if (end != std::string::npos) {
      std::string line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return line;
    }
    if (!TRY(fill(deadline))) return fail(ErrorCode::kUnavailable, "the process ended before it answered");
  }
}

Result<ChildProcess::Finished> ChildProcess::finish(TimePoint deadline) {
  while (TRY(fill(deadline))) {}
  const int status = TRY(wait_for_exit(deadline));
  return Finished{std::move(buffered_), status};
}

}  // namespace baton
