// The KV stream alone, at full size: one process offers K and V out of a real cache at a stated pace, another takes
// them into its real cache, over the real transport. No forward pass is computed; `serve` stands in for a device of
// that pace.
#include <sys/resource.h>
#include <CLI/CLI.hpp>
#include <glaze/glaze.hpp>

#include <cstdio>
#include <format>
#include <map>
#include <random>

#include "base/random.h"
#include "engine/engine.h"
#include "model/synth.h"
#include "net/transport.h"
#include "node/exchange.h"
#include "node/workspace.h"

namespace baton {

// What the receiver prints. Times are on its clock, the sender's moved onto it by the best ping.
struct WireReport {
  std::uint64_t slices = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t wire_payload_bytes = 0;  // with what was sent again after a cut
  double seconds = 0;                    // from Accepted to the last slice in the cache
  double goodput_gbps = 0;
  double exposed_s = 0;
  double transfer_s = 0;  // sum over slices
  double overlap = 0;
  double round_trip_s = 0;
  double clock_offset_s = 0;  // as measured; between two processes of one machine the truth is zero
  std::uint32_t connections = 0;
  double cpu_s = 0;  // of this process, in `seconds`
};

// What the sender prints at the end.
struct ServeReport {
  double seconds = 0;  // from the prompt to the receiver's Commit
  double cpu_s = 0;
};

namespace {

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

struct Flags {
  std::string model;
  std::string home;
  std::string listen = "127.0.0.1:0";
  std::string peer;
  std::string trust;
  std::uint32_t tokens = 8192;
  std::uint32_t chunk = 512;
  std::string codec = "f16";
  double pace_s = 0;  // the whole prefill; 0: as fast as the wire takes it
};

// Both ends of a transfer whose plan says: node 1 prefills everything, node 0 decodes everything.
class WireEnd : public node::TransferOwner, public std::enable_shared_from_this<WireEnd> {
 public:
  WireEnd(net::EventLoop& loop, std::shared_ptr<node::Workspace> workspace, const Flags& flags,
          const handoff::Widths& widths)
      : loop_(loop),
        workspace_(std::move(workspace)),
        flags_(flags),
        layers_(widths.layers()),
        logits_bytes_(sizeof(float) * widths.logits_values),
        timer_(loop) {}

  void serve(const std::shared_ptr<node::OutgoingTransfer>& transfer) {
    outgoing_ = transfer;
    transfer->machine.accept({});
  }

  void on_sender_event(node::OutgoingTransfer& transfer, const handoff::SenderEvent& event) override {
    if (std::holds_alternative<handoff::PromptArrived>(event)) {
      chunks_ = transfer.machine.flow().chunks;
      begin();
      produce();
    } else if (const auto* acknowledged = std::get_if<handoff::Acknowledged>(&event)) {
      if (const auto found = unacknowledged_.find(acknowledged->key); found != unacknowledged_.end()) {
        workspace_->release(found->second);
        unacknowledged_.erase(found);
      }
    } else if (const auto* over = std::get_if<handoff::SenderEnded>(&event)) {
      if (over->reason != handoff::SenderEnded::Reason::kCommitted) return give_up(over->error);
      end();
      linger();
    }
  }

  void on_receiver_event(node::IncomingTransfer& transfer, const handoff::ReceiverEvent& event) override {
    if (std::holds_alternative<handoff::AcceptedByPeer>(event)) {
      begin();
    } else if (const auto* slice = std::get_if<handoff::SliceReady>(&event)) {
      const auto written = slice->key.kind != handoff::SliceKind::kKv
                               ? Result<void>{}
                               : workspace_->write_kv(slice->key.layer, slice->key.first_position, slice->key.tokens,
                                                      slice->dtypes[0], slice->part(0), slice->part(1));
      if (!written) return give_up(written.error());
      transfer.machine.held(slice->key, now());
      if (transfer.machine.prefill_complete()) {
        end();
        if (const auto committed = transfer.machine.commit(); !committed) give_up(committed.error());
      }
    } else if (const auto* over = std::get_if<handoff::ReceiverEnded>(&event)) {
      if (over->reason != handoff::ReceiverEnded::Reason::kReleased) return give_up(over->error);
      stats_ = transfer.machine.stats();
      loop_.stop();
    }
  }

  void on_unreachable(node::IncomingTransfer&, const Error& error) override { give_up(error); }
  std::shared_ptr<const void> keep_alive(ByteSpan payload) override { return workspace_->keep_alive(payload); }

  Result<ServeReport> serve_report() const {
    if (error_) return std::unexpected(*error_);
    return ServeReport{seconds(ended_ - began_), cpu_s_};
  }

  Result<WireReport> report() const {
    if (error_) return std::unexpected(*error_);
    WireReport report;
    report.slices = stats_.slices;
    report.wire_payload_bytes = stats_.wire_payload_bytes;
    report.clock_offset_s = static_cast<double>(stats_.clock_offset_ns) * 1e-9;
    report.cpu_s = cpu_s_;
    report.payload_bytes = stats_.payload_bytes;
    report.seconds = seconds(ended_ - began_);
    report.goodput_gbps = static_cast<double>(stats_.payload_bytes) * 8 / report.seconds / 1e9;
    report.exposed_s = stats_.exposed ? seconds(*stats_.exposed) : 0;
    report.transfer_s = seconds(stats_.transfer);
    report.overlap = 1 - report.exposed_s / report.transfer_s;
    report.round_trip_s = stats_.round_trip ? seconds(*stats_.round_trip) : 0;
    report.connections = stats_.connections;
    return report;
  }

 private:
  void give_up(const Error& error) {
    error_ = error;
    loop_.stop();
  }

  void begin() {
    began_ = now();
    cpu_s_ = cpu_seconds();
  }

  void end() {
    ended_ = now();
    cpu_s_ = cpu_seconds() - cpu_s_;
  }

  // Until the exchange has forgotten the transfer: its last word is then on the connection.
  void linger() {
    if (outgoing_.expired()) return loop_.stop();
    timer_.start(now() + std::chrono::milliseconds(5), [this] { linger(); });
  }

  TimePoint due(std::size_t index) const {
    const auto total = static_cast<double>(chunks_.size() * layers_);
    return began_ + from_seconds(flags_.pace_s * static_cast<double>(index + 1) / total);
  }

  // Offers every slice whose time has come; layers within a chunk, as a forward pass makes them.
  void produce() {
    const auto transfer = outgoing_.lock();
    if (!transfer) return;
    const std::size_t total = chunks_.size() * layers_;
    while (next_ < total && due(next_) <= now()) {
      const Chunk chunk = chunks_[next_ / layers_];
      const auto layer = static_cast<std::uint32_t>(next_ % layers_);
      const auto rows = workspace_->kv_rows(layer, chunk.first_position, chunk.tokens, transfer->machine.open().codec);
      if (!rows) return give_up(rows.error());
      const handoff::SliceKey key{handoff::SliceKind::kKv, layer, chunk.first_position, chunk.tokens};
      if (const auto offered = transfer->machine.offer({key, *rows}); !offered) return give_up(offered.error());
      unacknowledged_[key] = rows->front();
      ++next_;
    }
    if (next_ == total) {
      // The plan has logits too: one row after the last layer, as after a real prefill.
      const handoff::SliceKey key{handoff::SliceKind::kLogits, layers_, flags_.tokens - 1, 1};
      const auto offered = transfer->machine.offer({key, {workspace_->keep(Bytes(logits_bytes_)), {}}});
      if (!offered) return give_up(offered.error());
      const TimePoint end = flags_.pace_s > 0 ? due(total - 1) : now();
      if (const auto finished = transfer->machine.finish(end.time_since_epoch().count()); !finished)
        return give_up(finished.error());
    } else {
      timer_.start(due(next_), [this] { produce(); });
    }
    transfer->wake();
  }

  net::EventLoop& loop_;
  std::shared_ptr<node::Workspace> workspace_;
  const Flags& flags_;
  const std::uint32_t layers_;
  const std::size_t logits_bytes_;
  net::Timer timer_;
  std::weak_ptr<node::OutgoingTransfer> outgoing_;
  std::vector<Chunk> chunks_;
  std::size_t next_ = 0;
  std::map<handoff::SliceKey, ByteSpan> unacknowledged_;
  TimePoint began_{};
  TimePoint ended_{};
  double cpu_s_ = 0;
  handoff::TransferStats stats_;
  std::optional<Error> error_;
};

// The KV shape of Llama-3.1-8B: 32 layers, 8 heads of 128 for K and as much for V; everything else as small as it goes.
model::SynthOptions wire_model() {
  model::SynthOptions options;
  options.embd = 1024;
  options.layers = 32;
  options.heads = 8;
  options.kv_heads = 8;
  options.ff = 64;
  options.vocab = 320;
  options.type = model::TensorType::kQ4_0;
  return options;
}

Result<void> fill(engine::Engine& engine, node::Workspace& workspace, std::uint32_t tokens, std::uint32_t layers) {
  std::mt19937_64 random(1);
  Bytes rows(std::size_t{engine.kv_layout(0).k_row_bytes} * tokens);
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    // Halves between 0.25 and 0.5: the top bits are fixed, the rest is noise that nothing could compress.
    auto* values = reinterpret_cast<std::uint16_t*>(rows.data());
    for (std::size_t i = 0; i < rows.size() / 2; ++i)
      values[i] = static_cast<std::uint16_t>(0x3400 | (random() & 0x3ff));
    TRY(workspace.write_kv(layer, 0, tokens, handoff::DType::kF16, rows, rows));
  }
  return {};
}

Result<void> run(const Flags& flags, bool serves) {
  const auto model = TRY(engine::Model::open(flags.model));
  const std::uint32_t layers = model->shape().layer_count;
  engine::EngineOptions options;
  options.device = "CPU";
  options.threads = 1;
  options.context_tokens = flags.tokens;
  options.prefill_pack = engine::PrefillPack::kOff;
  const auto engine = TRY(engine::Engine::create(model, options));
  const auto workspace = std::make_shared<node::Workspace>(*engine);
  TRY(workspace->reserve(flags.tokens));
  // Also touches the receiver's cells, so that no page fault is measured.
  TRY(fill(*engine, *workspace, flags.tokens, layers));

  const auto identity = TRY(net::Identity::load_or_create(flags.home));
  const auto loop = TRY(net::EventLoop::create());
  const auto transport = TRY(net::Transport::create(*loop, identity));
  const handoff::Widths widths = node::widths_of(model->shape());
  const auto end = std::make_shared<WireEnd>(*loop, workspace, flags, widths);
  node::Exchange exchange(
      *loop, *transport, [widths](const handoff::Open&) { return Result<handoff::Widths>(widths); },
      [&](const handoff::Open&, const net::Fingerprint&) -> Result<node::Exchange::OpenDecision> {
        return node::Exchange::OpenDecision{end, [end](const auto& transfer) { end->serve(transfer); }};
      });

  if (serves) {
    net::ListenOptions listen;
    const auto trusted = TRY(net::Fingerprint::parse(flags.trust));
    listen.is_trusted = [trusted](const net::Fingerprint& peer) { return peer == trusted; };
    const net::Endpoint endpoint = TRY(net::Endpoint::parse_listen(flags.listen));
    const auto listener = TRY(transport->listen(endpoint, std::move(listen),
                                                [&](auto connection) { exchange.adopt(std::move(connection)); }));
    std::printf("%s#%s\n", listener->endpoint().to_string().c_str(), identity.fingerprint().to_string().c_str());
    std::fflush(stdout);
    loop->run();
    const ServeReport report = TRY(end->serve_report());
    std::printf("%s\n", glz::write_json(report).value_or("{}").c_str());
    return {};
  }
  const auto peer = TRY(net::PeerAddress::parse(flags.peer));
  handoff::Open open;
  open.agent = "bench";
  open.lease.resize(1);
  open.lease_lifetime_ms = 600'000;
  const LayerRange all{0, layers};
  open.plan.nodes = {{"local", "", identity.fingerprint().to_string()},
                     {"peer", peer.endpoint.to_string(), peer.fingerprint.to_string()}};
  open.plan.prefill = {{1, all}};
  open.plan.decode = {{0, all}};
  open.sender = 1;
  open.receiver = 0;
  open.prompt_tokens = flags.tokens;
  open.chunk_tokens = flags.chunk;
  open.max_new_tokens = 1;
  open.codec = TRY(handoff::find_dtype(flags.codec));
  handoff::TransferId id;
  fill_random(id.bytes);
  const plan::NodeRef peer_node = open.plan.nodes[1];
  auto machine =
      TRY(handoff::Receiver::create(id, std::move(open), std::vector<Token>(flags.tokens), widths, {}, now()));
  exchange.open(end, peer_node, std::move(machine));
  loop->run();
  const WireReport report = TRY(end->report());
  std::printf("%s\n", glz::write_json(report).value_or("{}").c_str());
  return {};
}

}  // namespace
}  // namespace baton

int main(int argc, char** argv) {
  baton::net::ignore_sigpipe();
  CLI::App app("Measures the KV stream without a forward pass");
  app.require_subcommand(1);
  baton::Flags flags;
  auto* make = app.add_subcommand("model", "Write the model whose cache is used");
  make->add_option("OUT", flags.model)->required();
  auto* serve = app.add_subcommand("serve", "Offer K and V once");
  auto* receive = app.add_subcommand("receive", "Take them, and print figures");
  for (CLI::App* command : {serve, receive}) {
    command->add_option("MODEL", flags.model)->required();
    command->add_option("--home", flags.home)->required();
    command->add_option("--tokens", flags.tokens)->capture_default_str();
    command->add_option("--chunk", flags.chunk)->capture_default_str();
  }
  serve->add_option("--listen", flags.listen)->capture_default_str();
  serve->add_option("--trust", flags.trust)->required();
  serve->add_option("--pace", flags.pace_s, "Seconds that the prefill takes; 0: no pace")->capture_default_str();
  receive->add_option("--peer", flags.peer)->required();
  receive->add_option("--codec", flags.codec)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const auto done =
      make->parsed() ? baton::model::synthesize(baton::wire_model(), flags.model) : baton::run(flags, serve->parsed());
  if (!done) std::fprintf(stderr, "kv_wire: %s\n", done.error().to_string().c_str());
  return done ? 0 : 1;
}
