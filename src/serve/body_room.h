// How many bytes the bodies of all requests may take together, from when they are announced until nobody needs them.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>

namespace baton::serve {

class BodyRoom {
 public:
  // Given back when it ends, on any thread and also after the room has gone. Default: of nothing.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept;
    Share& operator=(Share&& other) noexcept;
    ~Share();
    // Gives back what turned out not to be needed.
    void shrink_to(std::size_t bytes);

   private:
    friend class BodyRoom;
    Share(std::shared_ptr<std::atomic<std::size_t>> taken, std::size_t bytes);

    std::shared_ptr<std::atomic<std::size_t>> taken_;
    std::size_t bytes_ = 0;
  };

  explicit BodyRoom(std::size_t bytes) : bytes_(bytes) {}

  // Any thread. Nothing where it does not fit; what is larger than the room finds place alone.
  std::optional<Share> take(std::size_t bytes);

 private:
  const std::size_t bytes_;
  const std::shared_ptr<std::atomic<std::size_t>> taken_ = std::make_shared<std::atomic<std::size_t>>(0);
};

}  // namespace baton::serve
