#include "text/same_tokens.h"

#include <algorithm>
#include <format>
#include <string_view>

namespace baton::text {

namespace {

std::string_view kind_name(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kSentencePiece: return "SentencePiece";
    case TokenizerKind::kBytePair: return "byte pairs";
    case TokenizerKind::kNone: return "none";
  }
  return "?";
}

std::unexpected<Error> differs(std::string what) {
  return fail(ErrorCode::kInvalidArgument, "it has another tokenizer: " + std::move(what));
}

// Types that a text cannot contain.
bool is_padding(TokenType type) { return type == TokenType::kUnused || type == TokenType::kUndefined; }

Result<void> check_surplus(const Vocabulary& larger, std::size_t common) {
  for (std::size_t index = common; index < larger.size(); ++index) {
    const auto token = static_cast<Token>(index);
    if (is_padding(larger.type(token))) continue;
    return differs(std::format("only one of the two models has token {}, '{}'", token, larger.stored_text(token)));
  }
  return {};
}

}  // namespace

Result<void> check_same_tokens(const Vocabulary& ours, const Vocabulary& theirs) {
  if (ours.kind() != theirs.kind()) {
    return differs(std::format("{}, not {}", kind_name(theirs.kind()), kind_name(ours.kind())));
  }
  const std::size_t common = std::min(ours.size(), theirs.size());
  for (std::size_t index = 0; index < common; ++index) {
    const auto token = static_cast<Token>(index);
    if (ours.stored_text(token) != theirs.stored_text(token)) {
      return differs(
          std::format("token {} is '{}', not '{}'", token, theirs.stored_text(token), ours.stored_text(token)));
    }
    if (ours.type(token) != theirs.type(token)) {
      return differs(std::format("token {}, '{}', has type {}, not {}", token, ours.stored_text(token),
                                 static_cast<int>(theirs.type(token)), static_cast<int>(ours.type(token))));
    }
  }
  TRY(check_surplus(ours, common));
  TRY(check_surplus(theirs, common));
  const auto [our_merge, their_merge] = std::ranges::mismatch(ours.merges(), theirs.merges());
  if (our_merge == ours.merges().end() && their_merge == theirs.merges().end()) return {};
  const auto text = [](const auto& merges, auto at) { return at == merges.end() ? "none" : "'" + *at + "'"; };
  return differs(std::format("merge {} is {}, not {}", our_merge - ours.merges().begin(),
                             text(theirs.merges(), their_merge), text(ours.merges(), our_merge)));
}

}  // namespace baton::text
