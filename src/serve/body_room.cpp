#include "serve/body_room.h"

#include <utility>

namespace baton::serve {

BodyRoom::Share::Share(std::shared_ptr<std::atomic<std::size_t>> taken, std::size_t bytes)
    : taken_(std::move(taken)), bytes_(bytes) {}

BodyRoom::Share::Share(Share&& other) noexcept
    : taken_(std::move(other.taken_)), bytes_(std::exchange(other.bytes_, 0)) {}

BodyRoom::Share& BodyRoom::Share::operator=(Share&& other) noexcept {
  std::swap(taken_, other.taken_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

BodyRoom::Share::~Share() {
  if (taken_) *taken_ -= bytes_;
}

void BodyRoom::Share::shrink_to(std::size_t bytes) {
  if (bytes >= bytes_) return;
  *taken_ -= bytes_ - bytes;
  bytes_ = bytes;
}

std::optional<BodyRoom::Share> BodyRoom::take(std::size_t bytes) {
  const std::size_t before = taken_->fetch_add(bytes);
  Share share(taken_, bytes);
  if (before > 0 && before + bytes > bytes_) return std::nullopt;
  return share;
}

}  // namespace baton::serve
