#include "engine/ggml_device.h"

#include <sched.h>

#include <algorithm>
#include <format>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/log.h"
#include "base/memory.h"

namespace baton::engine {

namespace {

// ggml writes lines in pieces; whole ones go to our log, its chatter about what it found as debug lines.
void forward_log(ggml_log_level level, const char* text, void* /*unused*/) {
  static std::mutex mutex;
  static std::string line;
  static log::Level line_level = log::Level::kDebug;
  const std::lock_guard lock(mutex);
  if (level != GGML_LOG_LEVEL_CONT) {
    line_level = level == GGML_LOG_LEVEL_ERROR  ? log::Level::kError
                 : level == GGML_LOG_LEVEL_WARN ? log::Level::kWarning
                                                : log::Level::kDebug;
  }
  line += text;
  for (std::size_t end = line.find('\n'); end != std::string::npos; end = line.find('\n')) {
    if (end > 0 && log::enabled(line_level)) log::write(line_level, "ggml: " + line.substr(0, end));
    line.erase(0, end + 1);
  }
}

void load_backends() {
  static std::once_flag once;
  std::call_once(once, [] {
    ggml_log_set(forward_log, nullptr);
    ggml_backend_load_all();
  });
}

DeviceInfo describe(ggml_backend_dev_t device) {
  ggml_backend_dev_props properties{};
  ggml_backend_dev_get_props(device, &properties);
  DeviceInfo info;
  info.name = properties.name;
  info.description = properties.description;
  info.memory_total_bytes = properties.memory_total;
  info.memory_free_bytes = properties.memory_free;
  // ggml gives all of a machine's memory as free.
  if (properties.type == GGML_BACKEND_DEVICE_TYPE_CPU) {
    info.memory_free_bytes = available_memory_bytes().value_or(info.memory_free_bytes);
  }
  switch (properties.type) {
    case GGML_BACKEND_DEVICE_TYPE_CPU: info.kind = DeviceKind::kCpu; break;
    case GGML_BACKEND_DEVICE_TYPE_GPU: info.kind = DeviceKind::kGpu; break;
    case GGML_BACKEND_DEVICE_TYPE_IGPU: info.kind = DeviceKind::kIntegratedGpu; break;
    default: info.kind = DeviceKind::kAccelerator; break;
  }
  return info;
}

ggml_backend_dev_t find_device(const std::string& name) {
  if (!name.empty()) return ggml_backend_dev_by_name(name.c_str());
  for (const auto type : {GGML_BACKEND_DEVICE_TYPE_GPU, GGML_BACKEND_DEVICE_TYPE_IGPU, GGML_BACKEND_DEVICE_TYPE_CPU}) {
    if (ggml_backend_dev_t device = ggml_backend_dev_by_type(type)) return device;
  }
  return nullptr;
}

// Functions that a backend may offer beside ggml's common interface.
template <typename Function>
Function find_function(ggml_backend_dev_t device, const char* name) {
  return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

}  // namespace

std::vector<DeviceInfo> list_devices() {
  load_backends();
  std::vector<DeviceInfo> devices;
  for (std::size_t index = 0; index < ggml_backend_dev_count(); ++index) {
    devices.push_back(describe(ggml_backend_dev_get(index)));
  }
  return devices;
}

unsigned usable_cores() {
#ifdef __linux__
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof(cores), &cores) == 0) return std::max(1, CPU_COUNT(&cores));
#endif
  return std::max(1U, std::thread::hardware_concurrency());
}

GgmlContext make_context(std::size_t tensors, std::size_t nodes) {
  const std::size_t graph = nodes == 0 ? 0 : ggml_graph_overhead_custom(nodes, false);
  return GgmlContext(ggml_init({tensors * ggml_tensor_overhead() + graph + 1024, nullptr, true}));
}

Result<GgmlDevice> GgmlDevice::open(const std::string& name, unsigned threads) {
  const auto devices = list_devices();
  GgmlDevice result;
  result.device_ = find_device(name);
  if (result.device_ == nullptr) {
    std::string known;
    for (const DeviceInfo& device : devices) known += std::format("{}{}", known.empty() ? "" : ", ", device.name);
    return fail(ErrorCode::kNotFound, std::format("there is no device '{}'; this machine has {}", name,
                                                  known.empty() ? "none (are ggml's backends installed?)" : known));
  }
  result.info_ = describe(result.device_);
  result.threads_ = threads == 0 ? usable_cores() : threads;
  result.backend_.reset(ggml_backend_dev_init(result.device_, nullptr));
  if (result.backend_ == nullptr) {
    return fail(ErrorCode::kUnsupported, std::format("the device '{}' does not start", result.info_.name));
  }
  if (auto set_threads = find_function<ggml_backend_set_n_threads_t>(result.device_, "ggml_backend_set_n_threads")) {
    set_threads(result.backend_.get(), static_cast<int>(result.threads_));
  }
  if (auto list =
          find_function<ggml_backend_dev_get_extra_bufts_t>(result.device_, "ggml_backend_dev_get_extra_bufts")) {
    for (ggml_backend_buffer_type_t* kind = list(result.device_); kind != nullptr && *kind != nullptr; ++kind) {
      result.extra_kinds_.push_back(*kind);
    }
  }
  return result;
}

ggml_backend_buffer_type_t GgmlDevice::repacked_memory_for(const ggml_tensor& matrix) const {
  constexpr std::int64_t kTokens = 512;
  constexpr std::int64_t kChosen = 2;
  for (ggml_backend_buffer_type_t kind : extra_kinds_) {
    // The backend looks at the buffer that the weight lies in, so give it an empty one of that kind.
    const GgmlBuffer empty(ggml_backend_buft_alloc_buffer(kind, 0));
    if (empty == nullptr) continue;
    const GgmlContext context = make_context(4);
    ggml_tensor* weight = ggml_new_tensor_3d(context.get(), matrix.type, matrix.ne[0], matrix.ne[1], matrix.ne[2]);
    weight->buffer = empty.get();
    ggml_tensor* product = nullptr;
    if (matrix.ne[2] > 1) {
      ggml_tensor* input = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, matrix.ne[0], 1, kTokens);
      ggml_tensor* chosen = ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, kChosen, kTokens);
      product = ggml_mul_mat_id(context.get(), weight, input, chosen);
    } else {
      ggml_tensor* input = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, matrix.ne[0], kTokens);
      product = ggml_mul_mat(context.get(), weight, input);
    }
    if (ggml_backend_dev_supports_op(device_, product)) return kind;
  }
  return nullptr;
}

GgmlBuffer GgmlDevice::wrap(const void* data, std::size_t size, std::size_t largest_tensor) const {
  ggml_backend_dev_props properties{};
  ggml_backend_dev_get_props(device_, &properties);
  if (!properties.caps.buffer_from_host_ptr) return nullptr;
  return GgmlBuffer(ggml_backend_dev_buffer_from_host_ptr(device_, const_cast<void*>(data), size, largest_tensor));
}

Result<GgmlBuffer> GgmlDevice::allocate(ggml_backend_buffer_type_t kind, std::size_t size) const {
  GgmlBuffer buffer(ggml_backend_buft_alloc_buffer(kind, size));
  if (buffer == nullptr) {
    return fail(ErrorCode::kNoCapacity,
                std::format("the device '{}' has no {} MB left; try a smaller --ctx", info_.name, (size >> 20U) + 1));
  }
  return buffer;
}

void GgmlDevice::prefer_large_pages(ggml_backend_buffer* buffer) const {
  if (!is_host_memory()) return;
  auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer));
  advise_large_pages({base, ggml_backend_buffer_get_size(buffer)});
}

Result<void> GgmlDevice::check_supported(ggml_cgraph* graph) const {
  for (int index = 0; index < ggml_graph_n_nodes(graph); ++index) {
    ggml_tensor* node = ggml_graph_node(graph, index);
    if (ggml_backend_dev_supports_op(device_, node)) continue;
    const ggml_tensor* first = node->src[0];
    return fail(ErrorCode::kUnsupported,
                std::format("the device '{}' cannot compute {} of {}; try another --device", info_.name,
                            ggml_op_desc(node), first == nullptr ? "nothing" : ggml_type_name(first->type)));
  }
  return {};
}

Result<void> GgmlDevice::compute(ggml_cgraph* graph) const {
  const ggml_status status = ggml_backend_graph_compute(backend_.get(), graph);
  if (status == GGML_STATUS_SUCCESS) return {};
  const ErrorCode code = status == GGML_STATUS_ALLOC_FAILED ? ErrorCode::kNoCapacity : ErrorCode::kInternal;
  return fail(code, std::format("the device '{}' failed: {}", info_.name, ggml_status_to_string(status)));
}

}  // namespace baton::engine
