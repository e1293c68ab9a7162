// Goodput of one TLS connection between two processes, and the processor time either end spends on it. By itself it
// measures over loopback; with --listen and --connect, and one --id folder for both, over any link.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <string>

#include "base/temporary_folder.h"
#include "net/transport.h"

namespace {

using namespace baton;
using namespace baton::net;

constexpr std::size_t kFrameBytes = 256 * 1024;
constexpr std::size_t kFrameHeaderBytes = 64;
constexpr std::size_t kSourceBytes = 64 * 1024 * 1024;

struct Settings {
  std::uint64_t bytes = 4'000'000'000;
  std::optional<LinkEmulation> link;
  std::string identity_folder;
  std::optional<Endpoint> listen;
  std::optional<Endpoint> connect;
};

template <typename T>
T must(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "net_bench: %s\n", result.error().to_string().c_str());
    std::_Exit(1);
  }
  return std::move(*result);
}

double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

void report(const char* role, std::uint64_t bytes, double elapsed, double processor) {
  const double gigabytes = static_cast<double>(bytes) / 1e9;
  std::printf("%-8s %.2f Gbit/s  %.3f CPU s/GB  %.0f%% of a core\n", role, gigabytes * 8 / elapsed,
              processor / gigabytes, 100 * processor / elapsed);
  std::fflush(stdout);
}

class Sender final : public ConnectionHandler {
 public:
  Sender(EventLoop& loop, std::uint64_t bytes) : loop_(loop), left_(bytes), source_(kSourceBytes, std::byte{0x5a}) {}
  void on_frame(ByteSpan) override { loop_.stop(); }
  std::optional<OutFrame> next_frame() override {
    if (left_ == 0) return std::nullopt;
    const std::size_t size = std::min<std::uint64_t>(left_, kFrameBytes);
    OutFrame frame;
    frame.set_header(ByteSpan(source_).first(kFrameHeaderBytes));
    if (offset_ + size > source_.size()) offset_ = 0;
    frame.payload[0] = ByteSpan(source_).subspan(offset_, size);
    offset_ += size;
    left_ -= size;
    return frame;
  }
  void on_closed(const Error& error) override {
    std::fprintf(stderr, "sender: %s\n", error.to_string().c_str());
    loop_.stop();
  }

 private:
  EventLoop& loop_;
  std::uint64_t left_;
  Bytes source_;
  std::size_t offset_ = 0;
};

class Receiver final : public ConnectionHandler {
 public:
  explicit Receiver(std::uint64_t bytes) : wanted_(bytes) {}
  void on_frame(ByteSpan frame) override {
    if (got_ == 0) {
      begin_ = now();
      processor_begin_ = processor_seconds();
    }
    got_ += frame.size() - kFrameHeaderBytes;
    if (got_ < wanted_) return;
    report("receive", got_, seconds(now() - begin_), processor_seconds() - processor_begin_);
    done_ = true;
    connection->wake();
  }
  std::optional<OutFrame> next_frame() override {
    if (!std::exchange(done_, false)) return std::nullopt;
    return OutFrame::owning(Bytes(1));
  }
  void on_closed(const Error&) override { connection.reset(); }

  std::shared_ptr<Connection> connection;

 private:
  std::uint64_t wanted_;
  std::uint64_t got_ = 0;
  TimePoint begin_{};
  double processor_begin_ = 0;
  bool done_ = false;
};

int send(const Settings& settings, const Identity& identity, const PeerAddress& peer) {
  const auto loop = must(EventLoop::create());
  const auto transport = must(Transport::create(*loop, identity, settings.link));
  TimePoint begin{};
  double processor_begin = 0;
  const auto dial = transport->dial(peer, now() + std::chrono::seconds(5), [&](auto dialled) {
    const auto connection = must(std::move(dialled));
    begin = now();
    processor_begin = processor_seconds();
    connection->start(std::make_shared<Sender>(*loop, settings.bytes));
  });
  loop->run();
  report("send", settings.bytes, seconds(now() - begin), processor_seconds() - processor_begin);
  return 0;
}

// Tells its port through `port_pipe`, and serves until it is killed.
int receive(const Settings& settings, const Identity& identity, int port_pipe) {
  const auto loop = must(EventLoop::create());
  const auto transport = must(Transport::create(*loop, identity, settings.link));
  ListenOptions options;
  options.is_trusted = [&](const Fingerprint& peer) { return peer == identity.fingerprint(); };
  const auto on_accept = [&](const std::shared_ptr<Connection>& connection) {
    const auto handler = std::make_shared<Receiver>(settings.bytes);
    handler->connection = connection;
    connection->start(handler);
  };
  const auto listener =
      must(transport->listen(settings.listen.value_or(Endpoint{.host = "127.0.0.1", .port = 0}), options, on_accept));
  const std::uint16_t port = listener->endpoint().port;
  if (::write(port_pipe, &port, sizeof port) != sizeof port) return 1;
  loop->run();
  return 0;
}

int measure(const Settings& settings) {
  if (!settings.identity_folder.empty()) {
    const Identity shared = must(Identity::load_or_create(settings.identity_folder));
    if (settings.connect) return send(settings, shared, {*settings.connect, shared.fingerprint()});
    return receive(settings, shared, STDERR_FILENO);
  }
  const Identity identity = must(Identity::load_or_create(must(TemporaryFolder::create("baton-bench")).path()));
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) return 1;
  const pid_t child = ::fork();
  if (child == 0) std::_Exit(receive(settings, identity, pipe_ends[1]));
  std::uint16_t port = 0;
  if (::read(pipe_ends[0], &port, sizeof port) != sizeof port) return 1;
  const int status = send(settings, identity,
                          {.endpoint = {.host = "127.0.0.1", .port = port}, .fingerprint = identity.fingerprint()});
  ::kill(child, SIGTERM);
  ::waitpid(child, nullptr, 0);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--megabytes") {
      std::uint64_t megabytes = 0;
      std::from_chars(value.data(), value.data() + value.size(), megabytes);
      settings.bytes = std::max<std::uint64_t>(megabytes, 1) * 1'000'000;
    } else if (option == "--emulate-link") {
      settings.link = must(LinkEmulation::parse(value));
    } else if (option == "--id") {
      settings.identity_folder = value;
    } else if (option == "--listen") {
      settings.listen = must(Endpoint::parse_listen(value));
    } else if (option == "--connect") {
      settings.connect = must(Endpoint::parse(value));
    } else {
      std::puts(
          "net_bench [--megabytes N] [--emulate-link GBIT[:LATENCY_MS]] [--id FOLDER (--listen ADDR | --connect "
          "ADDR)]");
      return option == "--help" ? 0 : 2;
    }
  }
  return measure(settings);
}
