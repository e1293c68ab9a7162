#include "store/model_taker.h"

#include <format>
#include <optional>
#include <utility>
#include <variant>

namespace baton::store {

namespace {

constexpr auto kDialTimeout = std::chrono::seconds(5);
constexpr auto kAskTimeout = std::chrono::seconds(20);
// A busy member sends a little at a time, but it sends.
constexpr auto kSilence = std::chrono::seconds(30);

}  // namespace

// The connection's end of it: frames go to whoever waits.
class ModelTaker::Taking final : public net::ConnectionHandler {
 public:
  Taking(net::EventLoop& loop, std::shared_ptr<net::Connection> connection)
      : loop_(loop), connection_(std::move(connection)) {}

  net::Connection& connection() { return *connection_; }

  // What the next frames are given to, until it says that it has enough or an error, or the connection ends.
  enum class Next { kMore, kEnough };
  using OnMessage = std::function<Result<Next>(const FetchMessage&)>;
  void say(const FetchMessage& message, OnMessage on_message) {
    outcome_.reset();
    heard_at_ = now();
    said_ = encode(message);
    on_message_ = std::move(on_message);
    connection_->wake();
  }
  std::optional<Result<void>>& outcome() { return outcome_; }
  TimePoint heard_at() const { return heard_at_; }

  void on_frame(ByteSpan frame) override {
    heard_at_ = now();
    if (!on_message_) return;
    auto message = decode(frame);
    if (!message) return conclude(std::unexpected(message.error()));
    if (const auto* refused = std::get_if<RefusedFetch>(&*message)) return conclude(std::unexpected(refused->error));
    const Result<Next> next = on_message_(*message);
    if (!next) return conclude(std::unexpected(next.error()));
    if (*next == Next::kEnough) conclude({});
  }
  std::optional<net::OutFrame> next_frame() override {
    if (said_.empty()) return std::nullopt;
    return net::OutFrame::owning(std::exchange(said_, {}));
  }
  void on_closed(const Error& error) override { conclude(std::unexpected(error)); }

 private:
  void conclude(Result<void> outcome) {
    on_message_ = nullptr;
    if (outcome_) return;
    outcome_ = std::move(outcome);
    loop_.stop();
  }

  net::EventLoop& loop_;
  std::shared_ptr<net::Connection> connection_;
  Bytes said_;
  OnMessage on_message_;
  std::optional<Result<void>> outcome_;
  TimePoint heard_at_{};
};

Result<std::unique_ptr<ModelTaker>> ModelTaker::create(const Peers& peers, PeerNode node, std::stop_token stop) {
  auto loop = TRY(net::EventLoop::create());
  auto transport = TRY(peers.transport(*loop));
  return std::unique_ptr<ModelTaker>(
      new ModelTaker(std::move(loop), std::move(transport), std::move(node), std::move(stop)));
}

ModelTaker::ModelTaker(std::unique_ptr<net::EventLoop> loop, std::unique_ptr<net::Transport> transport, PeerNode node,
                       std::stop_token stop)
    : loop_(std::move(loop)), transport_(std::move(transport)), node_(std::move(node)), stop_(std::move(stop)) {}

ModelTaker::~ModelTaker() {
  if (taking_) taking_->connection().close();
}

Result<void> ModelTaker::connect() {
  if (taking_ && !taking_->outcome()) return {};
  if (taking_) taking_->connection().close();
  taking_.reset();
  std::optional<Result<std::shared_ptr<net::Connection>>> dialled;
  const std::stop_callback on_stop(stop_, [this] { loop_->post([this] { loop_->stop(); }); });
  const auto dial = transport_->dial(node_.address, net::Protocol::kModelFetch, now() + Duration(kDialTimeout),
                                     [&](Result<std::shared_ptr<net::Connection>> result) {
                                       dialled = std::move(result);
                                       loop_->stop();
                                     });
  while (!dialled && !stop_.stop_requested()) loop_->run();
  if (!dialled) return fail(ErrorCode::kCancelled, "stopped", node_.name);
  if (!*dialled) {
    Error error = dialled->error();
    if (error.code == ErrorCode::kUnsupported) error.message += ": it runs a baton that gives no models";
    return std::unexpected(std::move(error));
  }
  taking_ = std::make_shared<Taking>(*loop_, std::move(**dialled));
  taking_->connection().start(taking_);
  return {};
}

Result<void> ModelTaker::run_until_done(Duration silence) {
  const std::stop_callback on_stop(stop_, [this] { loop_->post([this] { loop_->stop(); }); });
  net::Timer watch(*loop_);
  bool silent = false;
  const std::function<void()> look = [&] {
    silent = now() - taking_->heard_at() >= silence;
    if (silent) return loop_->stop();
    watch.start(taking_->heard_at() + silence, [&] { look(); });
  };
  look();
  while (!taking_->outcome() && !silent && !stop_.stop_requested()) loop_->run();
  if (taking_->outcome()) {
    Result<void> outcome = *std::exchange(taking_->outcome(), std::nullopt);
    if (outcome) return {};
    taking_->connection().close();
    taking_.reset();
    if (outcome.error().context.empty()) outcome.error().context = node_.name;
    return outcome;
  }
  taking_->connection().close();
  taking_.reset();
  if (silent) return fail(ErrorCode::kTimeout, "it has sent nothing for too long", node_.name);
  return fail(ErrorCode::kCancelled, "stopped", node_.name);
}

Result<Offer> ModelTaker::ask(const std::string& name) {
  TRY(connect());
  Offer offer;
  taking_->say(Ask{name}, [&offer](const FetchMessage& message) -> Result<Taking::Next> {
    const Offer* given = std::get_if<Offer>(&message);
    if (given == nullptr) return fail(ErrorCode::kProtocol, "it answers with something else than an offer");
    offer = *given;
    return Taking::Next::kEnough;
  });
  TRY(run_until_done(Duration(kAskTimeout)));
  return offer;
}

Result<void> ModelTaker::read(std::uint32_t part, std::uint64_t offset, const OnPiece& on_piece) {
  if (!taking_) return fail(ErrorCode::kUnavailable, "the connection is lost", node_.name);
  taking_->say(Read{part, offset}, [&on_piece](const FetchMessage& message) -> Result<Taking::Next> {
    if (std::holds_alternative<EndOfPart>(message)) return Taking::Next::kEnough;
    const Data* data = std::get_if<Data>(&message);
    if (data == nullptr) return fail(ErrorCode::kProtocol, "it answers with something else than the model's bytes");
    TRY(on_piece(data->bytes));
    return Taking::Next::kMore;
  });
  return run_until_done(Duration(kSilence));
}

}  // namespace baton::store
