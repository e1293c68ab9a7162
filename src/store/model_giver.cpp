#include "store/model_giver.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <format>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include "base/descriptor.h"
#include "base/log.h"
#include "base/system_error.h"
#include "base/thread.h"

namespace baton::store {

namespace {

constexpr std::size_t kMostGivings = 8;
constexpr std::size_t kReadAheadFrames = 16;  // 2 MiB
// 128 KiB every so often is 6 MB/s: little enough for a request's KV to pass it.
constexpr auto kTrickleInterval = std::chrono::milliseconds(20);
constexpr auto kAskPatience = std::chrono::minutes(2);  // in which nobody asks for anything
constexpr auto kGoodbye = std::chrono::seconds(2);

}  // namespace

// One connection. Its thread reads files and fills `ready_`; the loop's thread sends what is in it.
class ModelGiver::Giving final : public net::ConnectionHandler, public std::enable_shared_from_this<Giving> {
 public:
  Giving(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, const ModelGiver& giver)
      : connection_(std::move(connection)),
        find_(giver.find_),
        is_busy_(giver.is_busy_),
        pace_(loop),
        patience_(loop) {}

  void start() {
    connection_->start(shared_from_this());
    worker_ = std::jthread([this](const std::stop_token& stop) {
      name_this_thread("model-giver");
      lower_priority_of_this_thread();
      work(stop);
    });
    await_request();
  }

  const net::Fingerprint& peer() const { return connection_->peer_fingerprint(); }
  void close() { connection_->close(); }

  // Whoever gave the model is gone.
  void abandon() {
    is_busy_ = [] { return false; };
    connection_->close();
    worker_ = {};
  }

  void on_frame(ByteSpan frame) override {
    const auto message = decode(frame);
    const bool may_ask = message && (std::holds_alternative<Ask>(*message) || std::holds_alternative<Read>(*message));
    if (!may_ask) {
      log::warning("a member asks for a model in a wrong way: {}",
                   message ? "it sends what it should receive" : message.error().message);
      return connection_->close();
    }
    const std::scoped_lock lock(mutex_);
    // One at a time: who asks on, before what was asked for has come, wants to fill our memory.
    if (asked_ || reading_) return connection_->close();
    if (const Ask* ask = std::get_if<Ask>(&*message)) asked_ = *ask;
    if (const Read* read = std::get_if<Read>(&*message)) asked_ = *read;
    changed_.notify_all();
  }

  std::optional<net::OutFrame> next_frame() override {
    const TimePoint time = now();
    if (time < next_turn_) return std::nullopt;  // the timer wakes us
    Bytes frame;
    {
      const std::scoped_lock lock(mutex_);
      if (ready_.empty()) return std::nullopt;
      frame = std::move(ready_.front());
      ready_.pop_front();
      changed_.notify_all();
    }
    await_request();
    if (is_busy_()) {
      next_turn_ = time + Duration(kTrickleInterval);
      pace_.start(next_turn_, [this] { connection_->wake(); });
    }
    return net::OutFrame::owning(std::move(frame));
  }

  void on_closed(const Error& error) override {
    log::debug("giving a model ended: {}", error.to_string());
    pace_.cancel();
    patience_.cancel();
    worker_.request_stop();
    changed_.notify_all();
  }

 private:
  void await_request() {
    patience_.start(Duration(kAskPatience), [this] { connection_->finish(Duration(kGoodbye)); });
  }

  void work(const std::stop_token& stop) {
    while (true) {
      std::variant<Ask, Read> request;
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [this] { return asked_.has_value(); })) return;
        request = *std::exchange(asked_, std::nullopt);
        reading_ = true;
      }
      const auto done = std::visit([&](const auto& wanted) { return answer(wanted, stop); }, request);
      {
        const std::scoped_lock lock(mutex_);
        reading_ = false;
      }
      if (!done) say(RefusedFetch{done.error()}, stop);
    }
  }

  Result<void> answer(const Ask& ask, const std::stop_token& stop) {
    model_ = TRY(find_(ask.name, stop));
    finish_with(model_->offer, stop);
    return {};
  }

  Result<void> answer(const Read& read, const std::stop_token& stop) {
    if (!model_ || read.part >= model_->paths.size() || read.offset > model_->offer.parts[read.part].bytes) {
      return fail(ErrorCode::kInvalidArgument, "what is asked for is no part of the model");
    }
    const std::filesystem::path& path = model_->paths[read.part];
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.is_open()) return system_error("open", path.filename());
    Bytes block(kDataBytes);
    std::uint64_t at = read.offset;
    while (at < model_->offer.parts[read.part].bytes && !stop.stop_requested()) {
      const ssize_t size = ::pread(file.number(), block.data(), block.size(), static_cast<off_t>(at));
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return system_error("read", path.filename());
      if (size == 0) return fail(ErrorCode::kCorrupt, "the file has become shorter", path.filename().string());
      say(Data{ByteSpan(block).first(static_cast<std::size_t>(size))}, stop);
      at += static_cast<std::uint64_t>(size);
    }
    finish_with(EndOfPart{}, stop);
    return {};
  }

  // The last message of an answer: who has it may ask again.
  void finish_with(const FetchMessage& message, const std::stop_token& stop) {
    {
      const std::scoped_lock lock(mutex_);
      reading_ = false;
    }
    say(message, stop);
  }

  // Waits until there is room for it.
  void say(const FetchMessage& message, const std::stop_token& stop) {
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return ready_.size() < kReadAheadFrames; })) return;
      ready_.push_back(encode(message));
    }
    connection_->wake();
  }

  std::shared_ptr<net::Connection> connection_;
  FindGiven find_;
  std::function<bool()> is_busy_;
  net::Timer pace_;
  net::Timer patience_;
  TimePoint next_turn_{};
  std::optional<GivenModel> model_;  // the worker's

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<std::variant<Ask, Read>> asked_;
  bool reading_ = false;
  std::deque<Bytes> ready_;

  std::jthread worker_;  // last: it uses the others
};

ModelGiver::ModelGiver(net::EventLoop& loop, FindGiven find, std::function<bool()> is_busy)
    : loop_(loop), find_(std::move(find)), is_busy_(std::move(is_busy)) {}

ModelGiver::~ModelGiver() {
  for (const auto& weak : givings_) {
    if (const auto giving = weak.lock()) giving->abandon();
  }
}

void ModelGiver::adopt(std::shared_ptr<net::Connection> connection) {
  std::erase_if(givings_, [](const auto& weak) { return weak.expired(); });
  if (givings_.size() >= kMostGivings) {
    log::warning("refusing to give a model to {}: {} are being given already", connection->peer_endpoint().to_string(),
                 givings_.size());
    return;
  }
  auto giving = std::make_shared<Giving>(loop_, std::move(connection), *this);
  giving->start();
  givings_.push_back(giving);
}

void ModelGiver::cut_off(const net::Fingerprint& peer) {
  for (const auto& weak : givings_) {
    if (const auto giving = weak.lock(); giving && giving->peer() == peer) giving->close();
  }
}

}  // namespace baton::store
