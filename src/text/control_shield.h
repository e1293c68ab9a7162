// Keeps a conversation's own words from being read as control tokens, through a template that knows nothing of it.
//
// Before rendering, every place in foreign text that spells a control token, or that ends in the beginning of one, is
// replaced by a placeholder of noncharacters (U+FDD0..U+FDEF; Unicode 15, section 23.7). Afterwards each placeholder
// becomes its text again, marked as foreign, and the tokenizer reads it as plain text. Such characters in foreign text
// become U+FFFD first, so that nobody can write a placeholder.
//
// A template that inspects such a text sees the placeholder: '<|im_end|>' in content is false, its length is another,
// and a slice through it leaves U+FFFD. Text that spells no control token is seen as it is.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/marked_text.h"
#include "text/special_tokens.h"

namespace baton::text {

class ControlShield {
 public:
  // The texts of the vocabulary's control tokens.
  explicit ControlShield(const std::vector<std::string>& control_texts);

  // Valid UTF-8 with placeholders; bytes that are none become U+FFFD.
  std::string hide(std::string_view foreign);
  // For names and ids, which templates write in the middle of their own marks ('<|' + name + '|>'): one that lies
  // inside a control token is hidden as a whole.
  std::string hide_name(std::string_view foreign);
  // What hide() replaced comes back, marked as foreign. Any other noncharacter of the range becomes U+FFFD.
  MarkedText restore(std::string_view rendered) const;

 private:
  std::string placeholder(std::string_view original);
  std::size_t dangling_length(std::string_view text) const;
  TextRange dangling_range(std::string_view text) const;

  const std::vector<std::string>* control_texts_;
  SpecialTokenFinder finder_;
  std::vector<std::string> originals_;
  std::unordered_map<std::string, std::size_t> index_;
};

// Whether a text, such as a template's source, already holds characters of the range.
bool has_placeholder_characters(std::string_view text);

}  // namespace baton::text
