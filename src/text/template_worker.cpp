// The program that renders one chat template, which may be hostile, on behalf of a ChatTemplate, whose words are in
// template_protocol.h. It has no file, no network and nobody's data but a conversation's, and few of everything else.
// Every conversation is rendered in a child of its own, so that none meets what another left behind, and one that ends
// its renderer ends nothing else.
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __APPLE__
#include <malloc/malloc.h>
#else
#include <malloc.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <new>

#include "base/helper_process.h"
#include "text/template_renderer.h"

namespace {

using namespace baton::text;

std::size_t held_bytes = 0;

std::size_t size_of(void* memory) {
#ifdef __APPLE__
  return ::malloc_size(memory);
#else
  return ::malloc_usable_size(memory);
#endif
}

void lower_limit(int resource, rlim_t value) {
  rlimit limit{};
  ::getrlimit(resource, &limit);
  limit.rlim_cur = limit.rlim_max = std::min(value, limit.rlim_max);
  ::setrlimit(resource, &limit);
}

void keep_to_bounds() {
  // Nobody reads what a library says of its end.
  if (std::freopen("/dev/null", "w", stderr) == nullptr) ::close(STDERR_FILENO);
  lower_limit(RLIMIT_STACK, kTemplateStackBytes);
  lower_limit(RLIMIT_CORE, 0);
  lower_limit(RLIMIT_FSIZE, 0);
  lower_limit(RLIMIT_NOFILE, 0);
  // A terminal's signals are for the program that started this one, at whose end this one ends.
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
  sigset_t none{};
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// SIGPROF ends the process that computes for longer; 0 lets it be.
void limit_computing(std::size_t seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = static_cast<time_t>(seconds);
  ::setitimer(ITIMER_PROF, &timer, nullptr);
}

bool send(const TemplateAnswer& answer) { return baton::write_answer(static_cast<char>(answer.outcome) + answer.text); }

// False where nobody reads the answer.
bool render_in_a_child(const TemplateRenderer& renderer, const std::string& request) {
  const pid_t child = ::fork();
  if (child < 0) return send({TemplateOutcome::kFailed, ": no process can be started to render it"});
  if (child == 0) {
    limit_computing(kTemplateRenderSeconds);
    ::_exit(send(renderer.render(request)) ? 0 : 1);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  const int number = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return send({TemplateOutcome::kEnded, std::to_string(number)});
}

}  // namespace

// All memory of this program comes from here, that of the libraries included.
void* operator new(std::size_t size) {
  if (size > kTemplateMemoryBytes - std::min(held_bytes, kTemplateMemoryBytes)) ::_exit(kTemplateMemoryStatus);
  void* memory = std::malloc(size);
  if (memory == nullptr) ::_exit(kTemplateMemoryStatus);
  held_bytes += size_of(memory);
  return memory;
}
void operator delete(void* memory) noexcept {
  held_bytes -= size_of(memory);
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

int main() {
  keep_to_bounds();
  const auto source = baton::read_request();
  if (!source) return 0;
  TemplateRenderer renderer;
  limit_computing(kTemplateParseSeconds);
  const TemplateAnswer parsed = renderer.parse(*source);
  limit_computing(0);
  if (!send(parsed) || parsed.outcome != TemplateOutcome::kDone) return 0;
  while (const auto request = baton::read_request()) {
    if (!render_in_a_child(renderer, *request)) return 0;
  }
  return 0;
}
