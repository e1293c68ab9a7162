#include "cluster/link_probe.h"

#include <array>
#include <cmath>
#include <utility>

#include "base/bytes.h"

namespace baton::cluster {

namespace {

constexpr std::uint32_t kProbeMagic = 0x504c5442;  // "BTLP"
constexpr std::uint16_t kProbeVersion = 1;

enum class Type : std::uint8_t { kBegin = 1, kData = 2, kEnd = 3, kResult = 4 };

// A burst ends with the first of these two, but has some frames in any case.
constexpr std::size_t kMostBytes = 16 << 20;
constexpr auto kLongest = std::chrono::milliseconds(200);
constexpr std::size_t kFrameBytes = 16 << 10;
constexpr std::size_t kLeastFrames = 8;
// All of it. A link on which the least takes longer is one over which nobody should plan.
constexpr auto kProbeTimeout = std::chrono::seconds(10);
constexpr auto kProbeGoodbyeTimeout = std::chrono::seconds(2);

constexpr std::array<std::byte, kFrameBytes> kFiller{};

Bytes message_of(Type type) {
  ByteWriter out;
  out.write(type);
  return std::move(out).take();
}

Bytes begin_message() {
  ByteWriter out;
  out.write(Type::kBegin);
  out.write(kProbeMagic);
  out.write(kProbeVersion);
  return std::move(out).take();
}

Bytes result_message(double bytes_per_second) {
  ByteWriter out;
  out.write(Type::kResult);
  out.write(static_cast<std::uint64_t>(bytes_per_second));
  return std::move(out).take();
}

std::unexpected<Error> broken(std::string why) { return fail(ErrorCode::kProtocol, std::move(why)); }

}  // namespace

double ArrivalMeter::bytes_per_second() const {
  if (arrivals_.size() < 4) return 0;
  std::size_t first = arrivals_.size() / 4;
  // Frames that come at once count from the last of them on.
  const TimePoint at_once = arrivals_[first].at + (arrivals_.back().at - arrivals_[first].at) / 64;
  while (first + 1 < arrivals_.size() && arrivals_[first + 1].at <= at_once) ++first;
  std::size_t bytes = 0;
  for (std::size_t index = first + 1; index < arrivals_.size(); ++index) bytes += arrivals_[index].bytes;
  const double took = seconds(arrivals_.back().at - arrivals_[first].at);
  return took > 0 ? static_cast<double>(bytes) / took : 0;
}

std::shared_ptr<LinkProbe> LinkProbe::start(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, End end,
                                            Now load, OnMeasured on_measured) {
  std::shared_ptr<LinkProbe> probe(new LinkProbe(loop, std::move(connection), end, load, std::move(on_measured)));
  probe->connection_->start(probe);
  probe->deadline_.start(Duration(kProbeTimeout), [weak = std::weak_ptr(probe)] {
    const auto self = weak.lock();
    if (!self) return;
    self->tell(fail(ErrorCode::kTimeout, "measuring the link takes too long"));
    self->connection_->close();
  });
  if (end == End::kDialler) {
    probe->say(begin_message());
    probe->begin_burst();
  }
  return probe;
}

LinkProbe::LinkProbe(net::EventLoop& loop, std::shared_ptr<net::Connection> connection, End end, Now load,
                     OnMeasured on_measured)
    : connection_(std::move(connection)),
      end_(end),
      load_(load),
      on_measured_(std::move(on_measured)),
      deadline_(loop) {}

void LinkProbe::abandon() {
  on_measured_ = nullptr;
  connection_->close();
}

void LinkProbe::tell(Result<LinkRates> measured) {
  if (auto told = std::exchange(on_measured_, nullptr)) told(measured);
}

void LinkProbe::say(Bytes message) {
  said_.push_back(std::move(message));
  connection_->wake();
}

void LinkProbe::begin_burst() {
  sending_ = Sending::kBurst;
  burst_began_ = now();
  connection_->wake();
}

std::optional<net::OutFrame> LinkProbe::next_frame() {
  if (!said_.empty()) {
    net::OutFrame frame = net::OutFrame::owning(std::move(said_.front()));
    said_.erase(said_.begin());
    return frame;
  }
  if (sending_ == Sending::kNothing) return std::nullopt;
  const bool enough = sent_bytes_ >= kMostBytes || now() - burst_began_ >= Duration(kLongest);
  if (sending_ == Sending::kEnd || (enough && sent_bytes_ >= kLeastFrames * kFrameBytes)) {
    sending_ = Sending::kNothing;
    return net::OutFrame::owning(message_of(Type::kEnd));
  }
  sent_bytes_ += kFrameBytes;
  net::OutFrame frame;
  frame.set_header(message_of(Type::kData));
  frame.payload[0] = kFiller;
  return frame;
}

void LinkProbe::on_frame(ByteSpan frame) {
  const auto taken = take(frame);
  if (taken) return;
  tell(std::unexpected(taken.error()));
  connection_->close();
}

Result<void> LinkProbe::take(ByteSpan frame) {
  ByteReader in(frame);
  const auto type = TRY(in.read<Type>());
  const bool from_dialler = end_ == End::kAnswerer;
  if (from_dialler && !begun_) {
    if (type != Type::kBegin) return broken("a link's measurement begins with something else");
    if (TRY(in.read<std::uint32_t>()) != kProbeMagic || TRY(in.read<std::uint16_t>()) != kProbeVersion) {
      return broken("a link's measurement is of another version");
    }
    begun_ = true;
    if (load_ == Now::kIdle) return {};
    say(result_message(0));
    connection_->finish(Duration(kProbeGoodbyeTimeout));
    tell(fail(ErrorCode::kNoCapacity, "this node has no time to measure a link now"));
    return {};
  }
  switch (type) {
    case Type::kData:
      received_bytes_ += frame.size();
      if (received_ || received_bytes_ > 2 * kMostBytes) return broken("a link's measurement has no end");
      meter_.add(frame.size(), now());
      return {};
    case Type::kEnd: return on_end();
    case Type::kResult: return on_result(static_cast<double>(TRY(in.read<std::uint64_t>())));
    case Type::kBegin: break;
  }
  return broken("a link's measurement is malformed");
}

Result<void> LinkProbe::on_end() {
  if (received_) return broken("a link's measurement ends twice");
  received_ = true;
  rates_.from_bytes_per_second = meter_.bytes_per_second();
  say(result_message(rates_.from_bytes_per_second));
  if (end_ == End::kAnswerer) {
    begin_burst();
    return {};
  }
  connection_->finish(Duration(kProbeGoodbyeTimeout));
  tell(rates_);
  return {};
}

// What the peer received: the dialler hears it before the peer's burst, the answerer at the very end.
Result<void> LinkProbe::on_result(double bytes_per_second) {
  rates_.to_bytes_per_second = bytes_per_second;
  if (end_ == End::kDialler) {
    if (bytes_per_second > 0) return {};
    tell(fail(ErrorCode::kNoCapacity, "the peer has no time to measure a link now"));
    connection_->close();
    return {};
  }
  if (!received_) return broken("a link's measurement has a result before its end");
  tell(rates_);
  connection_->finish(Duration(kProbeGoodbyeTimeout));
  return {};
}

void LinkProbe::on_closed(const Error& error) {
  deadline_.cancel();
  tell(std::unexpected(error));
}

}  // namespace baton::cluster
