// A receiver and a sender at the mercy of the input: it cuts, repeats, damages, exchanges and invents frames, lets time
// pass and makes the nodes act. No slice may come twice or after the end, staging stays within the window.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <set>

#include "handoff/transfer_fixture.h"

namespace {

using namespace baton;
using namespace baton::handoff;
using namespace baton::handoff::fixture;

void require(bool holds) {
  if (!holds) std::abort();
}

class Fuzz {
 public:
  Fuzz(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  void run() {
    const std::string_view plan = byte() % 2 == 0 ? kJoint : kPooled;
    receiver_ =
        Receiver::create(transfer_id(), open_of(plan, 8, 4), prompt_of(8), widths(), {.window_bytes = 1}, now_).value();
    receiver_->attach(now_);
    while (left_ > 0) act();
  }

 private:
  std::uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }

  void act() {
    switch (byte() % 16) {
      case 0: return pull_receiver();
      case 1: return pull_sender();
      case 2: return deliver(to_sender_, true);
      case 3: return deliver(to_receiver_, false);
      case 4: return deliver(to_sender_, true);
      case 5: return deliver(to_receiver_, false);
      case 6: return produce();
      case 7: return hold();
      case 8: return pass(byte());
      case 9: return cut();
      case 10: return damage(byte() % 2 == 0 ? to_sender_ : to_receiver_);
      case 11: return exchange(byte() % 2 == 0 ? to_sender_ : to_receiver_);
      case 12: return invent();
      case 13:
        if (receiver_->commit()) ended_ = ended_ || receiver_->prefill_complete();
        return;
      case 14: (void)receiver_->step(8 + byte() % 4, byte()); return;
      case 15:
        if (byte() % 8 == 0) {
          receiver_->cancel({ErrorCode::kCancelled, "fuzz", {}});
          ended_ = true;
        } else if (sender_ && byte() % 8 == 0) {
          sender_->fail({ErrorCode::kIo, "fuzz", {}});
        }
        return;
      default: return;
    }
  }

  void pull_receiver() {
    if (const auto frame = receiver_->next(now_)) to_sender_.push_back(frame_bytes(*frame));
  }
  void pull_sender() {
    if (!sender_) return;
    if (const auto frame = sender_->next(now_)) to_receiver_.push_back(frame_bytes(*frame));
  }

  void deliver(std::deque<Bytes>& frames, bool sends) {
    if (frames.empty()) return;
    const Bytes frame = frames.front();
    frames.pop_front();
    const auto message = decode(frame);
    if (!message) return;
    sends ? give_sender(*message) : give_receiver(*message);
  }

  void give_sender(const Message& message) {
    if (!sender_) {
      auto made = Sender::create(message, widths(), {.max_fragment_bytes = 40}, now_);
      if (made && message.transfer == transfer_id() && made->flow().prefill_slices() < 100) sender_ = std::move(*made);
      return;
    }
    handle(sender_->receive(message, now_));
  }
  void give_receiver(const Message& message) { handle(receiver_->receive(message, now_)); }

  void handle(const std::vector<SenderEvent>& events) {
    for (const auto& event : events) {
      if (!std::holds_alternative<SenderEnded>(event)) continue;
      require(!sender_ended_);
      sender_ended_ = true;
    }
  }
  void handle(const std::vector<ReceiverEvent>& events) {
    for (const auto& event : events) {
      if (const auto* ready = std::get_if<SliceReady>(&event)) {
        require(!ended_);
        require(came_.insert(ready->key).second);
        unheld_.push_back(ready->key);
      }
      if (std::holds_alternative<ReceiverEnded>(event)) {
        require(!receiver_ended_);
        receiver_ended_ = ended_ = true;
      }
    }
    require(receiver_->staged_bytes() <= receiver_->window_bytes());
    const TransferStats stats = receiver_->stats();
    require(stats.slices == came_.size());
    require(stats.payload_bytes <= stats.wire_payload_bytes);
  }

  void produce() {
    if (!sender_) return;
    sender_->accept({});
    sender_->progress(byte(), static_cast<WorkState>(1 + byte() % 3), byte());
    const auto keys = prefill_keys(sender_->flow());
    if (offered_ == keys.size()) return (void)sender_->finish(byte());
    payloads_.push_back(payload_of(keys[offered_], sender_->flow(), widths()));
    if (sender_->offer(offered(keys[offered_], sender_->flow(), widths(), payloads_.back()))) ++offered_;
  }
  void hold() {
    if (unheld_.empty()) return;
    receiver_->held(unheld_.front(), now_);
    unheld_.pop_front();
  }
  void pass(std::uint8_t tenths) {
    now_ += tenths * 100 * kMs;
    handle(receiver_->tick(now_));
    if (sender_) handle(sender_->tick(now_));
  }
  void cut() {
    to_sender_.clear();
    to_receiver_.clear();
    receiver_->connection_lost(now_);
    if (sender_ && byte() % 2 == 0) sender_->connection_lost(now_);
    if (byte() % 4 != 0) receiver_->attach(now_);
  }
  void damage(std::deque<Bytes>& frames) {
    if (frames.empty()) return;
    Bytes& frame = frames.front();
    const std::size_t at = byte() | byte() << 8;
    if (at < frame.size()) frame[at] ^= static_cast<std::byte>(byte());
    if (byte() % 8 == 0) frame.resize(frame.size() / 2);
    if (byte() % 8 == 0) frames.push_front(Bytes(frame));
  }
  void exchange(std::deque<Bytes>& frames) {
    if (frames.size() > 1) std::swap(frames[0], frames[1]);
  }

  // A frame that says what the input wants, under this transfer's name.
  void invent() {
    Bytes frame = encode({transfer_id(), std::max(1u, receiver_->generation() + byte() % 3 - 1u), Commit{}});
    frame[0] = static_cast<std::byte>(byte());
    for (std::size_t length = byte(); length > 0 && left_ > 0; --length)
      frame.push_back(static_cast<std::byte>(byte()));
    const auto message = decode(frame);
    if (!message) return;
    if (addressee(message->body) == Addressee::kSender) give_sender(*message);
    if (addressee(message->body) == Addressee::kReceiver) give_receiver(*message);
  }

  const std::uint8_t* data_;
  std::size_t left_;
  TimePoint now_ = kStart;
  std::optional<Receiver> receiver_;
  std::optional<Sender> sender_;
  std::deque<Bytes> to_sender_;
  std::deque<Bytes> to_receiver_;
  std::deque<Bytes> payloads_;
  std::deque<SliceKey> unheld_;
  std::set<SliceKey> came_;
  std::size_t offered_ = 0;
  bool ended_ = false;
  bool sender_ended_ = false;
  bool receiver_ended_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Fuzz(data, size).run();
  return 0;
}
