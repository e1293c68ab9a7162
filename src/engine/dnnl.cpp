// The adapter of oneDNN's matmul primitive (https://uxlfoundation.github.io/oneDNN/dev_guide_matmul.html).
//
// oneDNN runs on the thread that calls it: ggml's threads each bring rows of their own. For that it must believe, when
// code is generated, that there is one OpenMP thread; and each thread needs scratch memory of its own, as the library's
// shared one gives wrong results when two threads run one primitive.
#include <omp.h>

#include <map>
#include <mutex>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "engine/aligned_bytes.h"
#include "engine/kernel_matrix.h"

namespace baton::engine {

namespace {

using dnnl::memory;

// The layout of packed weights is chosen for this many rows of activations, and serves any number.
constexpr std::int64_t kNominalRows = 256;
// Kernels kept for numbers of rows seen; prompts end in a chunk of any size, so this must not grow without bound.
constexpr std::size_t kKernelsKept = 64;

class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

const dnnl::engine& processor() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& stream() {
  thread_local dnnl::stream stream(processor());
  return stream;
}

std::unexpected<Error> failed(const dnnl::error& error) {
  if (error.status == dnnl_out_of_memory) return fail(ErrorCode::kNoCapacity, "no memory for a packed matrix");
  return fail(ErrorCode::kInternal, std::string("oneDNN: ") + error.what());
}

memory::data_type type_of(Storage storage) {
  switch (storage) {
    case Storage::kF32: return memory::data_type::f32;
    case Storage::kF16: return memory::data_type::f16;
    case Storage::kBf16: return memory::data_type::bf16;
    case Storage::kInt8: return memory::data_type::s8;
  }
  std::unreachable();
}

memory::data_type activation_type(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// Weights as the file has them: for a product of [count, columns] by [columns, rows] they are transposed.
memory::desc plain_weights(const MatrixForm& form) {
  return {{form.columns, form.rows}, type_of(form.storage), memory::format_tag::ba};
}
memory::desc activations(const MatrixForm& form, std::int64_t count) {
  return {{count, form.columns}, activation_type(form.arithmetic), memory::format_tag::ab};
}
memory::desc results(const MatrixForm& form, std::int64_t count) {
  return {{count, form.rows}, memory::data_type::f32, memory::format_tag::ab};
}
memory::desc scale_table(const MatrixForm& form) {
  return {{form.columns / kScaleGroup, form.rows}, memory::data_type::f32, memory::format_tag::ab};
}

dnnl::matmul::primitive_desc describe(const MatrixForm& form, std::int64_t count, const memory::desc& weights) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (form.arithmetic == Arithmetic::kInt8) {
    constexpr int kByColumnAndRow = 3;
    attributes.set_scales(DNNL_ARG_WEIGHTS, kByColumnAndRow, {kScaleGroup, 1}, memory::data_type::f32);
    attributes.set_fpmath_mode(dnnl::fpmath_mode::bf16, true);
  }
  return {processor(), activations(form, count), weights, results(form, count), attributes, true};
}

// A description that the library has no fast code for is as good as none.
bool is_fast(const dnnl::matmul::primitive_desc& description) {
  return description && std::string_view(description.impl_info_str()).starts_with("brg");
}

// A processor that only converts BF16 is no faster with it.
bool multiplies_bf16() {
  const auto has = [](dnnl::cpu_isa wanted) {
    const auto all = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    return (all & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
  };
  return has(dnnl::cpu_isa::avx512_core_bf16);
}

bool makes_sense(const MatrixForm& form) {
  if (form.columns <= 0 || form.rows <= 0) return false;
  switch (form.arithmetic) {
    // oneDNN 3.7 computes nonsense with F32 activations and packed weights of 16 bits; plain ones are right.
    case Arithmetic::kF32:
      return form.storage != Storage::kInt8 && (form.layout == Layout::kPlain || form.storage == Storage::kF32);
    case Arithmetic::kBf16: return form.storage == Storage::kBf16 && multiplies_bf16();
    case Arithmetic::kInt8:
      return form.storage == Storage::kInt8 && form.columns % kScaleGroup == 0 && multiplies_bf16();
  }
  std::unreachable();
}

struct Kernel {
  dnnl::matmul product;
  memory::desc activations;
  memory::desc results;
  memory::desc scratch;
  // Rounds the activations to BF16, where the product wants that.
  dnnl::reorder narrow;
  memory::desc wide_activations;
};

// Everything about matrices of one form: the layout of their weights, and the code for each number of rows.
class Form {
 public:
  Form(const MatrixForm& form, memory::desc weights) : form_(form), weights_(std::move(weights)) {}

  const MatrixForm& form() const { return form_; }
  const memory::desc& weights() const { return weights_; }

  // Throws dnnl::error.
  std::shared_ptr<const Kernel> kernel(std::int64_t count) {
    const std::lock_guard lock(mutex_);
    auto found = kernels_.find(count);
    if (found != kernels_.end()) return found->second;
    const OneThread one;
    const dnnl::matmul::primitive_desc description = describe(form_, count, weights_);
    if (!description) throw dnnl::error(dnnl_unimplemented, "no kernel for this number of rows");
    if (kernels_.size() >= kKernelsKept) kernels_.clear();
    auto kernel = std::make_shared<Kernel>();
    kernel->product = dnnl::matmul(description);
    kernel->activations = description.src_desc();
    kernel->results = description.dst_desc();
    kernel->scratch = description.scratchpad_desc();
    if (form_.arithmetic != Arithmetic::kF32) {
      kernel->wide_activations = {{count, form_.columns}, memory::data_type::f32, memory::format_tag::ab};
      kernel->narrow = dnnl::reorder(
          dnnl::reorder::primitive_desc(processor(), kernel->wide_activations, processor(), kernel->activations));
    }
    kernels_.emplace(count, kernel);
    return kernel;
  }

 private:
  const MatrixForm form_;
  const memory::desc weights_;
  std::mutex mutex_;
  std::unordered_map<std::int64_t, std::shared_ptr<const Kernel>> kernels_;
};

// One for the process, as generated code serves every model; nullptr where there is no fast code.
std::shared_ptr<Form> find_form(const MatrixForm& form) {
  static std::mutex mutex;
  static std::map<MatrixForm, std::shared_ptr<Form>> forms;
  if (!makes_sense(form)) return nullptr;
  const std::lock_guard lock(mutex);
  const auto found = forms.find(form);
  if (found != forms.end()) return found->second;
  std::shared_ptr<Form> made;
  try {
    const OneThread one;
    const memory::desc any({form.columns, form.rows}, type_of(form.storage), memory::format_tag::any);
    const dnnl::matmul::primitive_desc description =
        describe(form, kNominalRows, form.layout == Layout::kPacked ? any : plain_weights(form));
    if (is_fast(description)) made = std::make_shared<Form>(form, description.weights_desc());
  } catch (const dnnl::error&) {
    made = nullptr;  // The library refuses some forms by throwing.
  }
  forms.emplace(form, made);
  return made;
}

class DnnlMatrix : public KernelMatrix {
 public:
  // Throws dnnl::error and std::bad_alloc.
  DnnlMatrix(std::shared_ptr<Form> form, const void* weights, const float* scales)
      : form_(std::move(form)), weights_(weights), scales_(scales) {
    if (form_->form().layout == Layout::kPlain) return;
    const OneThread one;
    void* target = copy_.at_least(form_->weights().get_size());
    memory plain(plain_weights(form_->form()), processor(), const_cast<void*>(weights));
    memory packed(form_->weights(), processor(), target);
    dnnl::reorder(plain, packed).execute(stream(), plain, packed);
    weights_ = target;
    if (form_->form().arithmetic == Arithmetic::kInt8) {
      const std::size_t count = scale_table(form_->form()).get_size() / sizeof(float);
      scale_copy_.assign(scales, scales + count);
      scales_ = scale_copy_.data();
    }
  }

  std::int64_t rows() const override { return form_->form().rows; }

  Result<void> multiply(const float* activations, float* results, std::int64_t count) const override {
    // For the life of the thread; ggml's threads stay.
    thread_local AlignedBytes scratch;
    thread_local AlignedBytes narrow;
    const OneThread one;  // where ggml has one thread, this is no OpenMP region
    try {
      const auto kernel = form_->kernel(count);
      void* source = const_cast<float*>(activations);
      if (kernel->narrow) {
        memory wide(kernel->wide_activations, processor(), source);
        source = narrow.at_least(kernel->activations.get_size());
        memory narrowed(kernel->activations, processor(), source);
        kernel->narrow.execute(stream(), wide, narrowed);
      }
      std::unordered_map<int, memory> arguments{
          {DNNL_ARG_SRC, memory(kernel->activations, processor(), source)},
          {DNNL_ARG_WEIGHTS, memory(form_->weights(), processor(), const_cast<void*>(weights_))},
          {DNNL_ARG_DST, memory(kernel->results, processor(), results)},
          {DNNL_ARG_SCRATCHPAD, memory(kernel->scratch, processor(), scratch.at_least(kernel->scratch.get_size()))}};
      if (scales_ != nullptr) {
        arguments.emplace(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS,
                          memory(scale_table(form_->form()), processor(), const_cast<float*>(scales_)));
      }
      kernel->product.execute(stream(), arguments);
    } catch (const dnnl::error& error) {
      return failed(error);
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::kNoCapacity, "no memory for a matrix product; try a smaller --chunk");
    }
    return {};
  }

 private:
  const std::shared_ptr<Form> form_;
  const void* weights_;
  const float* scales_;
  AlignedBytes copy_;
  std::vector<float> scale_copy_;
};

// Small numbers, exact in every storage, with sums that are exact too.
std::vector<float> small_numbers(std::int64_t count) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& number : numbers) {
    state = state * 1664525 + 1013904223;
    number = static_cast<float>(state >> 29U) - 3.0F;
  }
  return numbers;
}

// Multiplies a small matrix of this kind and compares. Throws dnnl::error and std::bad_alloc.
bool computes_rightly(MatrixForm form) {
  form.columns = 160;
  form.rows = 112;
  constexpr std::int64_t kCount = 24;
  const auto known = find_form(form);
  if (known == nullptr) return false;
  const std::vector<float> weights = small_numbers(form.rows * form.columns);
  const std::vector<float> inputs = small_numbers(kCount * form.columns);
  const std::vector<float> scales(static_cast<std::size_t>(form.columns / kScaleGroup * form.rows), 0.5F);
  const float scale = form.storage == Storage::kInt8 ? scales.front() : 1.0F;

  const memory::desc wide({form.columns, form.rows}, memory::data_type::f32, memory::format_tag::ba);
  memory source(wide, processor(), const_cast<float*>(weights.data()));
  memory stored(plain_weights(form), processor());
  dnnl::reorder(source, stored).execute(stream(), source, stored);
  const DnnlMatrix matrix(known, stored.get_data_handle(), form.storage == Storage::kInt8 ? scales.data() : nullptr);
  std::vector<float> results(static_cast<std::size_t>(kCount * form.rows));
  if (!matrix.multiply(inputs.data(), results.data(), kCount)) return false;
  for (std::int64_t row = 0; row < kCount; ++row) {
    for (std::int64_t out = 0; out < form.rows; ++out) {
      float expected = 0;
      for (std::int64_t k = 0; k < form.columns; ++k) {
        expected += inputs[row * form.columns + k] * weights[out * form.columns + k] * scale;
      }
      if (results[row * form.rows + out] != expected) return false;
    }
  }
  return true;
}

// A library that computes nonsense on some processor must cost speed, not sense: one trial for each kind of matrix.
bool passed_trial(const MatrixForm& form) {
  static std::mutex mutex;
  static std::map<std::tuple<Arithmetic, Storage, Layout>, bool> known;
  const std::lock_guard lock(mutex);
  const auto [entry, is_new] = known.try_emplace({form.arithmetic, form.storage, form.layout}, false);
  if (!is_new) return entry->second;
  try {
    entry->second = computes_rightly(form);
  } catch (const std::exception& error) {
    log::debug("oneDNN: {}", error.what());
  }
  if (!entry->second) log::debug("oneDNN computes a kind of matrix wrongly, or not at all, on this processor");
  return entry->second;
}

}  // namespace

bool has_kernels(const MatrixForm& form) { return find_form(form) != nullptr && passed_trial(form); }

std::uint64_t packed_bytes(const MatrixForm& form) {
  if (form.layout == Layout::kPlain || !has_kernels(form)) return 0;
  const std::uint64_t scales = form.storage == Storage::kInt8 ? scale_table(form).get_size() : 0;
  return find_form(form)->weights().get_size() + scales;
}

Result<std::unique_ptr<const KernelMatrix>> make_kernel_matrix(const MatrixForm& form, const void* weights,
                                                               const float* scales) {
  if (!has_kernels(form)) return fail(ErrorCode::kUnsupported, "this processor has no kernels for such a matrix");
  const float* used_scales = form.storage == Storage::kInt8 ? scales : nullptr;
  try {
    return std::make_unique<const DnnlMatrix>(find_form(form), weights, used_scales);
  } catch (const dnnl::error& error) {
    return failed(error);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::kNoCapacity, "no memory for a packed matrix");
  }
}

}  // namespace baton::engine
