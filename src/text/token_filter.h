// Says which tokens may come next in a text that must keep to a form.
#pragma once

#include <cstdint>
#include <span>

#include "base/layer_range.h"
#include "base/result.h"

namespace baton::text {

// One text's; for one thread at a time.
class TokenFilter {
 public:
  virtual ~TokenFilter() = default;

  // A bit for each token, the lowest token in the lowest bit of the first word; tokens beyond the last word may not
  // come. The text has room for `tokens_left` more. Valid until the next call.
  virtual Result<std::span<const std::uint64_t>> allowed(std::uint32_t tokens_left) = 0;
  // The text goes on by a token that was allowed. Not told of the token that ends it.
  virtual void push(Token token) = 0;
  // Whether the room was so short that tokens were kept from the text which its form allows.
  virtual bool shortened() const = 0;
};

}  // namespace baton::text
