// The text of a grammar, read into expressions. For the sources of this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/character_set.h"

namespace baton::text {

struct Grammar {
  struct Expression {
    enum class Kind { kText, kCharacters, kRule, kSequence, kChoice, kRepeat };
    Kind kind = Kind::kSequence;
    std::string text = {};                // kText
    CharacterSet characters = {};         // kCharacters: one of them
    std::size_t rule = 0;                 // kRule
    std::vector<std::size_t> parts = {};  // kSequence and kChoice: of them; kRepeat: what
    std::uint32_t least = 0;              // kRepeat
    std::uint32_t most = 0;
  };
  struct Rule {
    std::string name;
    std::size_t line = 0;  // where it is defined
    std::size_t body = 0;
  };
  std::vector<Expression> expressions = {};
  std::vector<Rule> rules = {};
  std::size_t root = 0;
};

// Every rule that it names is there. Errors as compile_grammar() has them.
Result<Grammar> read_grammar(std::string_view text);

}  // namespace baton::text
