// Memory for kernels that read and write whole cache lines. Private to the engine room.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace baton::engine {

class AlignedBytes {
 public:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t rounded(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

  // At least that many; where there were fewer, what they held is gone. Throws std::bad_alloc.
  void* at_least(std::size_t bytes) {
    if (bytes > size_) {
      data_.reset();
      size_ = 0;
      data_.reset(::operator new(bytes, std::align_val_t{kAlignment}));
      size_ = bytes;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(void* data) const { ::operator delete(data, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<void, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace baton::engine
