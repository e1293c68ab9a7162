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

std::uint32_t DraftText::unread() const { return static_cast<std::uint32_t>(text_.size() - right_); }

// Rows behind the first wrong guess are written over. The text's last token is computed again where it has been,
// because its logits are wanted.
void DraftText::forget_what_was_wrong() {
  const std::size_t most = std::min(cached_.size(), text_.size() - 1);
  while (right_ < most && cached_[right_] == text_[right_]) ++right_;
  right_ = static_cast<std::uint32_t>(std::min<std::size_t>(right_, most));
  // A window may have moved too far to go back into.
  if (!engine_.can_continue_at(sequence_, {0, engine_.shape().layer_count}, right_)) right_ = 0;
  cached_.resize(right_);
}

Result<void> DraftText::compute(std::span<const Token> tokens, WantedLogits logits, LayerObserver* observer) {
  const auto count = static_cast<std::uint32_t>(tokens.size());
  const BatchSpan span{.sequence = &sequence_,
                       .first_position = static_cast<std::uint32_t>(cached_.size()),
                       .token_count = count,
                       .logits = logits,
                       .rows = count <= kMostStepRows ? SpanRows::kAsSteps : SpanRows::kTogether};
  const Batch batch{.layers = {0, engine_.shape().layer_count}, .spans = {&span, 1}, .tokens = tokens, .hidden = {}};
  const std::span<float> wanted = logits == WantedLogits::kNone ? std::span<float>() : std::span(logits_);
  TRY(engine_.forward(batch, {.hidden = {}, .logits = wanted}, observer));
  cached_.insert(cached_.end(), tokens.begin(), tokens.end());
  return {};
}

Result<void> DraftText::read(std::span<const Token> news, LayerObserver* observer) {
  text_.insert(text_.end(), news.begin(), news.end());
  readable_ = readable_ && std::ranges::all_of(news, [this](Token token) {
                return token >= 0 && static_cast<std::uint32_t>(token) < vocabulary_;
              });
  if (!readable_ || text_.empty() || text_.size() > sequence_.capacity()) return {};
  forget_what_was_wrong();
  // The last token is left to the guess.
  const std::size_t end = text_.size() - 1;
  while (cached_.size() + kMostStepRows < end) {
    const std::size_t count = std::min<std::size_t>(engine_.options().max_chunk_tokens, end - cached_.size());
    TRY(compute(std::span(text_).subspan(cached_.size(), count), WantedLogits::kNone, observer));
    right_ = static_cast<std::uint32_t>(cached_.size());
  }
  return {};
}

Result<std::vector<Token>> DraftText::guess(std::uint32_t most, LayerObserver* observer) {
  TRY(read({}, observer));
  if (!readable_ || text_.empty() || most == 0 || text_.size() > sequence_.capacity()) return std::vector<Token>();
  const std::size_t end = text_.size();
  most = std::min(most, sequence_.capacity() - static_cast<std::uint32_t>(end) + 1);
  // Guesses stand behind the text as long as it takes to draw them: a sampler looks at what came before.
  Result<void> drawn;
  while (drawn && text_.size() < end + most) {
    drawn = compute(std::span(text_).subspan(cached_.size()), WantedLogits::kLast, observer);
    if (!drawn) break;
    const auto token = sampler_.sample(std::span(logits_).first(vocabulary_), text_.size(), text_);
    if (token) {
      text_.push_back(*token);
    } else {
      drawn = std::unexpected(token.error());
    }
  }
  std::vector<Token> guessed(text_.begin() + static_cast<std::ptrdiff_t>(end), text_.end());
  text_.resize(end);
  right_ = static_cast<std::uint32_t>(std::min<std::size_t>(end, cached_.size()));
  if (!drawn) return std::unexpected(drawn.error());
  return guessed;
}

}  // namespace baton::engine
