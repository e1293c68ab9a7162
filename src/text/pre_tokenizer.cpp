#include "text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <format>
#include <string>

#include "text/utf8.h"

namespace baton::text {
namespace {

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct ContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct MatchDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct StackDeleter {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};
using Code = std::unique_ptr<pcre2_code, CodeDeleter>;

constexpr std::size_t kJitStackStartBytes = 32UL << 10;
constexpr std::size_t kJitStackMaxBytes = 64UL << 20;
constexpr std::uint32_t kMatchLimit = 1U << 30;
constexpr std::uint32_t kHeapLimitKib = 1U << 18;

std::string pcre2_message(int error) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(error, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

Result<Code> compile(std::string_view expression) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), PCRE2_UTF, &error,
                          &offset, nullptr));
  if (!code) {
    return fail(ErrorCode::kInternal,
                std::format("pre-tokenizer: {} at byte {} of {}", pcre2_message(error), offset, expression));
  }
  // Where there is no JIT, PCRE2 interprets: slower, the same matches.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

// What matching needs and no two threads may share.
struct Workspace {
  std::unique_ptr<pcre2_match_context, ContextDeleter> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_match_data, MatchDeleter> match{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_jit_stack, StackDeleter> stack{
      pcre2_jit_stack_create(kJitStackStartBytes, kJitStackMaxBytes, nullptr)};

  Workspace() {
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  }
};

// Appends the matches in `piece`, which is valid UTF-8, and what lies between them.
Result<void> split_piece(const pcre2_code* code, std::string_view piece, Workspace& workspace,
                         std::vector<std::string_view>& out) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
  std::size_t done = 0;
  while (done < piece.size()) {
    const int found = pcre2_match(code, subject, piece.size(), done, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                                  workspace.match.get(), workspace.context.get());
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) return fail(ErrorCode::kInternal, std::format("pre-tokenizer: {}", pcre2_message(found)));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(workspace.match.get());
    if (bounds[0] > done) out.push_back(piece.substr(done, bounds[0] - done));
    out.push_back(piece.substr(bounds[0], bounds[1] - bounds[0]));
    done = bounds[1];
  }
  if (done < piece.size()) out.push_back(piece.substr(done));
  return {};
}

std::size_t invalid_run_length(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size() && valid_character_length(text.substr(length)) == 0) ++length;
  return length;
}

}  // namespace

struct PreTokenizer::Impl {
  const PreTokenizerSpec* spec;
  std::vector<Code> codes;

  Result<void> split_valid(std::string_view text, Workspace& workspace, std::vector<std::string_view>& words) const {
    std::vector<std::string_view> pieces{text};
    std::vector<std::string_view> next;
    for (const Code& code : codes) {
      next.clear();
      for (const std::string_view piece : pieces) TRY(split_piece(code.get(), piece, workspace, next));
      pieces.swap(next);
    }
    words.insert(words.end(), pieces.begin(), pieces.end());
    return {};
  }
};

PreTokenizer::PreTokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

const PreTokenizerSpec& PreTokenizer::spec() const { return *impl_->spec; }

Result<PreTokenizer> PreTokenizer::create(std::string_view name) {
  const PreTokenizerSpec* spec = find_pre_tokenizer(name);
  if (spec == nullptr) {
    std::string known;
    for (const PreTokenizerSpec& other : pre_tokenizers()) {
      for (const std::string_view other_name : other.names) known += std::format(" {}", other_name);
    }
    return fail(ErrorCode::kUnsupported,
                std::format("the pre-tokenizer '{}' is not supported; those supported are:{}", name, known));
  }
  auto impl = std::make_unique<Impl>();
  impl->spec = spec;
  for (const std::string_view expression : spec->expressions) impl->codes.push_back(TRY(compile(expression)));
  return PreTokenizer(std::move(impl));
}

Result<void> PreTokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  Workspace workspace;
  if (!workspace.context || !workspace.match) return fail(ErrorCode::kNoCapacity, "pre-tokenizer: out of memory");
  while (!text.empty()) {
    if (const std::size_t valid = valid_prefix_length(text); valid > 0) {
      TRY(impl_->split_valid(text.substr(0, valid), workspace, words));
      text.remove_prefix(valid);
    }
    if (const std::size_t invalid = invalid_run_length(text); invalid > 0) {
      words.push_back(text.substr(0, invalid));
      text.remove_prefix(invalid);
    }
  }
  return {};
}

}  // namespace baton::text
