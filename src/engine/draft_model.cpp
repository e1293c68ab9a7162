#include "engine/draft_model.h"

#include <algorithm>
#include <format>
#include <utility>

#include "model/vocabulary.h"
#include "text/same_tokens.h"

namespace baton::engine {

namespace {

// Passes of so few tokens compute them as steps, as the checker's do: like models then guess to the last bit alike.
constexpr std::uint32_t kMostStepRows = 16;

Result<text::Vocabulary> vocabulary_of(const Model& model) {
  return text::Vocabulary::create(TRY(model::read_vocabulary(model.file())));
}

Result<void> check_tokens(const Model& checker, const Model& draft) {
  const text::Vocabulary ours = TRY(vocabulary_of(checker));
  const text::Vocabulary theirs = TRY(vocabulary_of(draft));
  TRY(text::check_same_tokens(ours, theirs));
  // Without a tokenizer there are only numbers to compare.
  const std::uint32_t our_size = checker.shape().vocabulary_size;
  const std::uint32_t their_size = draft.shape().vocabulary_size;
  if (ours.kind() != text::TokenizerKind::kNone || our_size == their_size) return {};
  return fail(ErrorCode::kInvalidArgument, std::format("it has {} tokens, not {}", their_size, our_size));
}

}  // namespace

Result<std::shared_ptr<const Model>> open_draft_model(const std::filesystem::path& path, const Model& checker) {
  auto draft = TRY(Model::open(path));
  if (const auto same = check_tokens(checker, *draft); !same) {
    return fail(same.error().code,
                std::format("this model cannot guess for {}: {}; a draft model is a smaller one of the same family",
                            checker.path().string(), same.error().message),
                path.string());
  }
  const auto keeps_state = [](const model::LayerShape& layer) { return layer.memory.keeps_state(); };
  if (std::ranges::any_of(draft->shape().layers, keeps_state)) {
    return fail(
        ErrorCode::kUnsupported,
        std::format("a draft model must forget what it guessed wrong, and layers of {} keep a state that cannot "
                    "be taken back",
                    draft->description().architecture),
        path.string());
  }
  return draft;
}

Result<std::unique_ptr<DraftText>> DraftText::create(Engine& engine, const SamplerOptions& sampler,
                                                     std::uint32_t vocabulary, std::uint32_t tokens) {
  auto drawing = TRY(Sampler::create(sampler));
  auto sequence = TRY(engine.reserve(tokens));
  vocabulary = std::min(vocabulary, engine.shape().vocabulary_size);
  return std::unique_ptr<DraftText>(new DraftText(engine, std::move(drawing), vocabulary, std::move(sequence)));
}

DraftText::DraftText(Engine& engine, Sampler sampler, std::uint32_t vocabulary, Sequence sequence)
    : engine_(engine),
      sampler_(std::move(sampler)),
      vocabulary_(vocabulary),
      sequence_(std::move(sequence)),
      logits_(engine.shape().vocabulary_size) {}

std::uint32_t DraftText::unread() const { return static_cast<std::uint32_t>(known_ - std::min(known_, cached_)); }

// Rows behind a wrong guess are written over.
void DraftText::go_on_with(Token token) {
  if (known_ == text_.size() || text_[known_] != token) {
    text_.resize(known_);
    text_.push_back(token);
    cached_ = std::min(cached_, known_);
  }
  ++known_;
}

// The last token is computed again where it has been, because its logits are wanted.
void DraftText::leave_the_last_to_compute() {
  cached_ = std::min(cached_, text_.size() - 1);
  // A window may have moved too far to go back into.
  const auto position = static_cast<std::uint32_t>(cached_);
  if (!engine_.can_continue_at(sequence_, {0, engine_.shape().layer_count}, position)) cached_ = 0;
}

Result<void> DraftText::compute(std::size_t end, WantedLogits logits, LayerObserver* observer) {
  const std::size_t most = engine_.options().max_chunk_tokens;
  while (end - cached_ > most) TRY(compute(cached_ + most, WantedLogits::kNone, observer));
  const auto tokens = std::span(text_).subspan(cached_, end - cached_);
  const auto count = static_cast<std::uint32_t>(tokens.size());
  const BatchSpan span{.sequence = &sequence_,
                       .first_position = static_cast<std::uint32_t>(cached_),
                       .token_count = count,
                       .logits = logits,
                       .rows = count <= kMostStepRows ? SpanRows::kAsSteps : SpanRows::kTogether};
  const Batch batch{.layers = {0, engine_.shape().layer_count}, .spans = {&span, 1}, .tokens = tokens, .hidden = {}};
  const std::span<float> wanted = logits == WantedLogits::kNone ? std::span<float>() : std::span(logits_);
  TRY(engine_.forward(batch, {.hidden = {}, .logits = wanted}, observer));
  cached_ = end;
  return {};
}

Result<void> DraftText::read(std::span<const Token> news, LayerObserver* observer) {
  for (const Token token : news) go_on_with(token);
  readable_ = readable_ && std::ranges::all_of(news, [this](Token token) {
                return token >= 0 && static_cast<std::uint32_t>(token) < vocabulary_;
              });
  if (!readable_ || text_.empty() || known_ > sequence_.capacity()) return {};
  leave_the_last_to_compute();
  // The last token is left to the guess.
  if (cached_ + kMostStepRows < known_ - 1) TRY(compute(known_ - 1, WantedLogits::kNone, observer));
  return {};
}

Result<std::vector<Token>> DraftText::guess(std::uint32_t most, LayerObserver* observer) {
  TRY(read({}, observer));
  if (!readable_ || text_.empty() || most == 0 || known_ > sequence_.capacity()) return std::vector<Token>();
  const std::size_t end = std::min<std::size_t>(known_ + most, sequence_.capacity() + 1);
  // Guesses stand behind the text: a sampler looks at what came before.
  while (text_.size() < end) {
    TRY(compute(text_.size(), WantedLogits::kLast, observer));
    text_.push_back(TRY(sampler_.sample(std::span(logits_).first(vocabulary_), text_.size(), text_)));
  }
  return std::vector<Token>(text_.begin() + static_cast<std::ptrdiff_t>(known_),
                            text_.begin() + static_cast<std::ptrdiff_t>(end));
}

}  // namespace baton::engine
