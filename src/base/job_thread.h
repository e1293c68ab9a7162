// A thread that does jobs one after another, in the order in which they came.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace baton {

class JobThread {
 public:
  // Must not throw.
  using Job = std::move_only_function<void()>;

  // `name` as name_this_thread() takes it.
  explicit JobThread(const char* name);
  // Every job is called first. Not on the thread itself.
  ~JobThread();
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  // Never waits, and bounds nothing: that is up to whoever submits. Any thread, this one too.
  void submit(Job job);

 private:
  void run(const char* name);

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Job> jobs_;
  bool ending_ = false;
  std::jthread thread_;  // last: it starts when all else is there
};

}  // namespace baton
