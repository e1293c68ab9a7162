#include "net/event_loop.h"

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <exception>
#include <format>
#include <utility>

#include "net/event_loop_impl.h"

namespace baton::net {

void EventLoop::Impl::post(Task task) {
  const std::scoped_lock lock(ending);
  // After the loop's end a task could only wait for ever, perhaps keeping alive what keeps this alive.
  if (ended) return;
  boost::asio::post(context, std::move(task));
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  try {
    return std::unique_ptr<EventLoop>(new EventLoop(std::make_shared<Impl>()));
  } catch (const std::exception& error) {
    return fail(ErrorCode::kIo, std::format("cannot make an event loop: {}", error.what()));
  }
}

EventLoop::EventLoop(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

EventLoop::~EventLoop() {
  {
    const std::scoped_lock lock(impl_->ending);
    impl_->ended = true;
  }
  impl_->work.reset();
  impl_->context.shutdown();
  for (const auto& resident : std::exchange(impl_->residents, {})) resident->abandon();
}

void EventLoop::run() {
  impl_->runner = std::this_thread::get_id();
  if (impl_->context.stopped()) impl_->context.restart();
  impl_->context.run();
  impl_->runner = std::thread::id();
}

void EventLoop::stop() { impl_->context.stop(); }

void EventLoop::post(Task task) { impl_->post(std::move(task)); }

bool EventLoop::in_loop_thread() const { return impl_->runner == std::this_thread::get_id(); }

struct Timer::State {
  explicit State(LoopHandle handle) : loop(std::move(handle)), timer(loop->context) {}
  LoopHandle loop;
  boost::asio::steady_timer timer;
  std::uint64_t generation = 0;
  Task task;
};

Timer::Timer(EventLoop& loop) : Timer(handle_of(loop)) {}
Timer::Timer(const std::shared_ptr<EventLoop::Impl>& loop) : state_(std::make_shared<State>(loop)) {}
Timer::Timer(Timer&&) noexcept = default;

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this == &other) return *this;
  if (state_) cancel();
  state_ = std::move(other.state_);
  return *this;
}

Timer::~Timer() {
  if (state_) cancel();
}

void Timer::start(TimePoint when, Task task) {
  State& state = *state_;
  const std::uint64_t generation = ++state.generation;
  state.task = std::move(task);
  if (state.loop->ended) return;
  state.timer.expires_at(std::chrono::time_point_cast<std::chrono::steady_clock::duration>(when));
  state.timer.async_wait([shared = state_, generation](const boost::system::error_code&) {
    if (shared->generation != generation) return;
    ++shared->generation;
    // Moved out first, since it may start the timer again or destroy it.
    Task due = std::move(shared->task);
    shared->task = nullptr;
    due();
  });
}

void Timer::cancel() {
  ++state_->generation;
  state_->task = nullptr;
  if (!state_->loop->ended) state_->timer.cancel();
}

bool Timer::armed() const { return state_->task != nullptr; }

void ignore_sigpipe() { std::signal(SIGPIPE, SIG_IGN); }

}  // namespace baton::net
