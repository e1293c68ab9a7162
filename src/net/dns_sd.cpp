#include <arpa/inet.h>
#include <dns_sd.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <format>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "net/service_discovery.h"

namespace baton::net {

namespace {

// How long it waits before it asks the daemon again: at first, and at most.
constexpr auto kFirstRetry = std::chrono::seconds(1);
constexpr auto kRetry = std::chrono::seconds(15);
constexpr auto kResolveTime = std::chrono::seconds(5);
// Whoever fills the network with services is not followed to the end.
constexpr std::size_t kMostResolving = 32;
constexpr std::size_t kMostWaiting = 256;
constexpr std::size_t kNameDigits = 12;

std::unexpected<Error> no_daemon(std::string_view what, DNSServiceErrorType error) {
  return fail(ErrorCode::kUnavailable,
              std::format("no mDNS daemon answers ({}: {}), such as avahi-daemon", what, static_cast<int>(error)));
}

// One operation of the library.
class Operation {
 public:
  Operation() = default;
  Operation(Operation&& other) noexcept : reference_(std::exchange(other.reference_, nullptr)) {}
  Operation& operator=(Operation&&) = delete;
  ~Operation() {
    if (reference_ != nullptr) DNSServiceRefDeallocate(reference_);
  }
  DNSServiceRef* fill() { return &reference_; }
  int descriptor() const { return DNSServiceRefSockFD(reference_); }
  DNSServiceErrorType process() { return DNSServiceProcessResult(reference_); }

 private:
  DNSServiceRef reference_ = nullptr;
};

// As the daemon names it; all strings of a service are told by it.
struct Instance {
  std::uint32_t interface = 0;
  std::string name;
  std::string type;
  std::string domain;
};

struct Resolving {
  Operation operation;
  TimePoint deadline;
  bool ended = false;
  std::vector<ServiceRecord>* found = nullptr;
};

// While the daemon answers: what is announced, looked for, and being looked up.
struct Round {
  Operation browse;
  Operation announce;
  std::deque<Instance> waiting;
  std::vector<ServiceRecord> found;
  std::vector<std::unique_ptr<Resolving>> resolving;
  Result<void> outcome;
};

void on_browsed(DNSServiceRef /*reference*/, DNSServiceFlags flags, std::uint32_t interface, DNSServiceErrorType error,
                const char* name, const char* type, const char* domain, void* context) {
  Round& round = *static_cast<Round*>(context);
  if (error != kDNSServiceErr_NoError) {
    round.outcome = no_daemon("looking", error);
  } else if ((flags & kDNSServiceFlagsAdd) != 0 && round.waiting.size() < kMostWaiting) {
    round.waiting.push_back({interface, name, type, domain});
  }
}

void on_announced(DNSServiceRef /*reference*/, DNSServiceFlags /*flags*/, DNSServiceErrorType error, const char* name,
                  const char* /*type*/, const char* /*domain*/, void* context) {
  if (error != kDNSServiceErr_NoError) {
    static_cast<Round*>(context)->outcome = no_daemon("announcing", error);
  } else {
    log::debug("announced on the local network as '{}'", name);
  }
}

void on_resolved(DNSServiceRef /*reference*/, DNSServiceFlags /*flags*/, std::uint32_t /*interface*/,
                 DNSServiceErrorType error, const char* /*full_name*/, const char* host, std::uint16_t port,
                 std::uint16_t size, const unsigned char* text, void* context) {
  Resolving& resolving = *static_cast<Resolving*>(context);
  resolving.ended = true;
  if (error != kDNSServiceErr_NoError || text == nullptr) return;
  auto record = decode_service_record(std::as_bytes(std::span(text, size)));
  if (!record) return log::debug("{}", record.error().to_string());
  // Should its addresses have changed since, the daemon's own name of the host may lead there.
  std::string name = host == nullptr ? "" : host;
  if (name.ends_with('.')) name.pop_back();
  if (!name.empty() && port != 0) record->addresses.push_back({std::move(name), ntohs(port)});
  resolving.found->push_back(*std::move(record));
}

// Lives on the loop's thread, and is told by the other through it.
struct Listener {
  ServiceDiscovery::Events events;
  bool listens = true;
};

class DnsSd final : public ServiceDiscovery {
 public:
  DnsSd(EventLoop& loop, std::optional<Announcement> own, Events events, std::array<int, 2> wake)
      : loop_(loop), own_(std::move(own)), listener_(std::make_shared<Listener>(std::move(events))), wake_(wake) {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  ~DnsSd() override {
    listener_->listens = false;
    thread_.request_stop();
    // A full pipe wakes as well as one more byte.
    [[maybe_unused]] const auto written = ::write(wake_[1], "", 1);
    thread_.join();
    for (const int end : wake_) ::close(end);
  }

 private:
  void run(const std::stop_token& stop) {
    name_this_thread("discovery");
    // A daemon that has only just begun may refuse.
    Duration pause(kFirstRetry);
    while (!stop.stop_requested()) {
      const auto began = now();
      if (const auto outcome = serve(stop); !outcome) tell(outcome);
      if (now() - began > Duration(kRetry)) pause = Duration(kFirstRetry);
      wait({}, pause);
      pause = std::min(2 * pause, Duration(kRetry));
    }
  }

  Result<void> serve(const std::stop_token& stop) {
    Round round;
    const auto began = now();
    if (const auto error = DNSServiceBrowse(round.browse.fill(), 0, kDNSServiceInterfaceIndexAny, kServiceType, nullptr,
                                            on_browsed, &round);
        error != kDNSServiceErr_NoError) {
      return no_daemon("looking", error);
    }
    if (own_) {
      const Bytes text = encode(own_->record);
      const std::string name = "baton-" + own_->record.node.to_string().substr(0, kNameDigits);
      const auto error = DNSServiceRegister(round.announce.fill(), 0, kDNSServiceInterfaceIndexAny, name.c_str(),
                                            kServiceType, nullptr, nullptr, htons(own_->port),
                                            static_cast<std::uint16_t>(text.size()), text.data(), on_announced, &round);
      if (error != kDNSServiceErr_NoError) return no_daemon("announcing", error);
    }
    log::debug("the mDNS daemon took {:.1f} ms to begin", seconds(now() - began) * 1e3);
    tell({});
    while (!stop.stop_requested() && round.outcome) turn(round);
    return round.outcome;
  }

  void turn(Round& round) {
    std::erase_if(round.resolving, [](const auto& one) { return one->ended || one->deadline < now(); });
    while (!round.waiting.empty() && round.resolving.size() < kMostResolving) {
      resolve(round, round.waiting.front());
      round.waiting.pop_front();
    }
    std::vector<Operation*> operations = {&round.browse};
    if (own_) operations.push_back(&round.announce);
    for (const auto& resolving : round.resolving) operations.push_back(&resolving->operation);
    const auto ready = wait(operations, round.resolving.empty() ? Duration(kRetry) : Duration(kResolveTime));
    for (Operation* operation : ready) {
      if (const auto error = operation->process(); error != kDNSServiceErr_NoError) {
        round.outcome = no_daemon("listening", error);
      }
    }
    for (ServiceRecord& record : std::exchange(round.found, {})) {
      loop_.post([listener = listener_, record = std::move(record)] {
        if (listener->listens) listener->events.found(record);
      });
    }
  }

  static void resolve(Round& round, const Instance& instance) {
    auto resolving = std::make_unique<Resolving>();
    resolving->deadline = now() + Duration(kResolveTime);
    resolving->found = &round.found;
    const auto error = DNSServiceResolve(resolving->operation.fill(), 0, instance.interface, instance.name.c_str(),
                                         instance.type.c_str(), instance.domain.c_str(), on_resolved, resolving.get());
    if (error == kDNSServiceErr_NoError) round.resolving.push_back(std::move(resolving));
  }

  // Those that have something to say, once one has, or the end is wanted, or time is over.
  std::vector<Operation*> wait(const std::vector<Operation*>& operations, Duration patience) const {
    std::vector<pollfd> polled = {{.fd = wake_[0], .events = POLLIN, .revents = 0}};
    for (const Operation* operation : operations) {
      polled.push_back({.fd = operation->descriptor(), .events = POLLIN, .revents = 0});
    }
    const auto patience_ms = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
    std::vector<Operation*> ready;
    if (::poll(polled.data(), static_cast<nfds_t>(polled.size()), static_cast<int>(patience_ms)) <= 0) return ready;
    for (std::size_t index = 0; index < operations.size(); ++index) {
      if (polled[index + 1].revents != 0) ready.push_back(operations[index]);
    }
    return ready;
  }

  void tell(Result<void> state) {
    // What stays as it was need not be said again.
    if (told_ && told_->has_value() == state.has_value()) return;
    told_ = state;
    loop_.post([listener = listener_, state = std::move(state)] {
      if (listener->listens) listener->events.state(state);
    });
  }

  EventLoop& loop_;
  const std::optional<Announcement> own_;
  std::shared_ptr<Listener> listener_;
  std::array<int, 2> wake_;
  std::optional<Result<void>> told_;  // of the thread
  std::jthread thread_;
};

}  // namespace

std::unique_ptr<ServiceDiscovery> ServiceDiscovery::start(EventLoop& loop, std::optional<Announcement> own,
                                                          Events events) {
  std::array<int, 2> wake{};
  if (::pipe(wake.data()) != 0) {
    loop.post([state = std::move(events.state)] { state(fail(ErrorCode::kIo, "cannot make a pipe for discovery")); });
    return nullptr;
  }
  for (const int end : wake) {
    ::fcntl(end, F_SETFD, FD_CLOEXEC);
    ::fcntl(end, F_SETFL, O_NONBLOCK);
  }
  return std::make_unique<DnsSd>(loop, std::move(own), std::move(events), wake);
}

void ServiceDiscovery::prepare_process_environment() {
  // It would advise every user of every program to tell the author to port it.
  ::setenv("AVAHI_COMPAT_NOWARN", "1", 0);
}

}  // namespace baton::net
