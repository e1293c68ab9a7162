// The device adapter: the one place that knows what kinds of memory and settings a ggml backend offers.
// Private to the engine room (it shows ggml's types).
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/device.h"

namespace baton::engine {

struct GgmlFree {
  void operator()(ggml_context* context) const { ggml_free(context); }
  void operator()(ggml_backend_buffer* buffer) const { ggml_backend_buffer_free(buffer); }
  void operator()(ggml_backend* backend) const { ggml_backend_free(backend); }
};
using GgmlContext = std::unique_ptr<ggml_context, GgmlFree>;
using GgmlBuffer = std::unique_ptr<ggml_backend_buffer, GgmlFree>;
using GgmlBackend = std::unique_ptr<ggml_backend, GgmlFree>;

// A context that holds no data, only up to `tensors` tensors and, where `nodes` is not 0, one graph of that size.
GgmlContext make_context(std::size_t tensors, std::size_t nodes = 0);

// Executor thread only, but for the const getters.
class GgmlDevice {
 public:
  // `name` as in list_devices(); empty: the first GPU, else the CPU.
  static Result<GgmlDevice> open(const std::string& name, unsigned threads);

  const DeviceInfo& info() const { return info_; }
  unsigned threads() const { return threads_; }
  ggml_backend_buffer_type_t memory() const { return ggml_backend_get_default_buffer_type(backend_.get()); }
  // Whether the CPU can read and write the device's memory through a pointer.
  bool is_host_memory() const { return ggml_backend_buft_is_host(memory()); }

  // The memory kind that multiplies by a matrix (or by chosen ones of several, where it has three dimensions) of this
  // type and shape fastest: the first of the device's extra kinds (weights repacked on arrival) that supports it, or
  // nullptr where plain memory is best.
  ggml_backend_buffer_type_t repacked_memory_for(const ggml_tensor& matrix) const;
  // A buffer over memory that is already there and stays, or nullptr where the device cannot compute on it.
  GgmlBuffer wrap(const void* data, std::size_t size, std::size_t largest_tensor) const;
  // kNoCapacity where the device has not that much.
  Result<GgmlBuffer> allocate(ggml_backend_buffer_type_t kind, std::size_t size) const;

  // Call it before the buffer's memory is first written, where that is read in long runs.
  void prefer_large_pages(ggml_backend_buffer* buffer) const;

  // kUnsupported, naming the operation, where a node of the graph cannot run here.
  Result<void> check_supported(ggml_cgraph* graph) const;
  Result<void> compute(ggml_cgraph* graph) const;

 private:
  GgmlDevice() = default;
  DeviceInfo info_;
  unsigned threads_ = 1;
  ggml_backend_dev_t device_ = nullptr;
  GgmlBackend backend_;
  std::vector<ggml_backend_buffer_type_t> extra_kinds_;
};

}  // namespace baton::engine
