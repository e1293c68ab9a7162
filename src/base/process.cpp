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
#include <span>
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

// In a child: what it got of its parent but the standard streams. A socket that it kept would not close when its parent
// closes it.
void close_other_files() {
  constexpr int kFirst = STDERR_FILENO + 1;
#ifdef __linux__
  ::close_range(kFirst, ~0U, 0);
#else
  for (int file = kFirst; file < ::getdtablesize(); ++file) ::close(file);
#endif
}

void close_all(std::array<int, 2>& files) {
  for (int& file : files) {
    if (file >= 0) ::close(std::exchange(file, -1));
  }
}

// kTimeout where nothing of it happens before the deadline.
Result<void> wait_for(std::span<pollfd> files, TimePoint deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now()).count();
    if (left <= 0) return fail(ErrorCode::kTimeout, "the process did not answer in time");
    const int ready =
        ::poll(files.data(), static_cast<nfds_t>(files.size()), static_cast<int>(std::min<long long>(left, 1 << 30)));
    if (ready < 0 && errno != EINTR) return system_error("wait for a process");
    if (ready > 0) return {};
  }
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

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& argv, ChildInput input) {
  // Everything the child needs is made before fork(): between fork and exec only async-signal-safe calls are allowed.
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const std::lock_guard lock(children().mutex);
  if (children().ended) return fail(ErrorCode::kCancelled, "this process is about to end");
  std::array<int, 2> output_ends = {-1, -1};
  std::array<int, 2> input_ends = {-1, -1};
  const bool piped =
      ::pipe(output_ends.data()) == 0 && (input == ChildInput::kInherited || ::pipe(input_ends.data()) == 0);
  const pid_t pid = piped ? ::fork() : -1;
  if (pid < 0) {
    const auto error = system_error("start a process");
    close_all(output_ends);
    close_all(input_ends);
    return error;
  }
  if (pid == 0) {
#ifdef __linux__
    if (input == ChildInput::kInherited) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    if (input == ChildInput::kPiped) ::dup2(input_ends[0], STDIN_FILENO);
    ::dup2(output_ends[1], STDOUT_FILENO);
    close_other_files();
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(output_ends[1]);
  if (input == ChildInput::kPiped) ::fcntl(input_ends[1], F_SETFL, O_NONBLOCK);
  children().running.push_back(pid);
  return ChildProcess(pid, output_ends[0], input_ends);
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
      input_(std::exchange(other.input_, {-1, -1})),
      buffered_(std::move(other.buffered_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(input_, other.input_);
  std::swap(buffered_, other.buffered_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (output_ >= 0) ::close(output_);
  close_all(input_);
  if (pid_ <= 0) return;
  if (const auto ended = kill(now() + kKillTimeout); !ended)
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
    pollfd readable{.fd = output_, .events = POLLIN, .revents = 0};
    TRY(wait_for(std::span(&readable, 1), deadline));
    std::array<char, 65536> block{};
    const ssize_t size = ::read(output_, block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return system_error("read from a process");
    buffered_.append(block.data(), static_cast<std::size_t>(size));
    return size > 0;
  }
}

Result<void> ChildProcess::write(std::string_view bytes, TimePoint deadline) {
  while (!bytes.empty()) {
    std::array<pollfd, 2> ends = {
        {{.fd = input_[1], .events = POLLOUT, .revents = 0}, {.fd = output_, .events = 0, .revents = 0}}};
    TRY(wait_for(ends, deadline));
    if (ends[1].revents != 0) return fail(ErrorCode::kUnavailable, "the process ended before it read its input");
    const ssize_t size = ::write(input_[1], bytes.data(), bytes.size());
    if (size < 0 && errno != EINTR && errno != EAGAIN) return system_error("write to a process");
    if (size > 0) bytes.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

Result<std::string> ChildProcess::read(std::size_t size, TimePoint deadline) {
  while (buffered_.size() < size) {
    if (!TRY(fill(deadline))) return fail(ErrorCode::kUnavailable, "the process ended before it answered");
  }
  std::string bytes = buffered_.substr(0, size);
  buffered_.erase(0, size);
  return bytes;
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

Result<int> ChildProcess::kill(TimePoint deadline) {
  // A negative number would name every process there is.
  if (pid_ <= 0) return fail(ErrorCode::kInternal, "the process was waited for already");
  ::kill(pid_, SIGKILL);
  return wait_for_exit(deadline);
}

}  // namespace baton
