// Grammars that people write, in GBNF: the notation of llama.cpp's grammars (grammars/README.md of that project), which
// other servers understand, too. Rules, texts in quotes, sets of characters, alternatives, groups and repetitions;
// rules may call themselves, but not with nothing before.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/byte_language.h"

namespace baton::text {

// What belongs to the rule 'root', in UTF-8, as an expression of the language, which is not closed yet. Errors are
// kInvalidArgument and begin with the line: what is no grammar, what is too large (32 KiB, 500 rules, 48 groups
// or repetitions in each other), a
// rule that is not there, one that begins with itself, and one that no text ends. They are found before anything is
// walked.
Result<ByteLanguage::Node> compile_grammar(std::string_view grammar, ByteLanguage& language);

}  // namespace baton::text
