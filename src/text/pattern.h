// Regular expressions as JSON Schema's 'pattern' has them (ECMA-262), as a language of the characters of a JSON string.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/byte_language.h"

namespace baton::text {

// How the characters of the string are written.
struct PatternAlphabet {
  ByteLanguage::Node any = ByteLanguage::kNothing;     // every character, also as an escape
  ByteLanguage::Node beyond = ByteLanguage::kNothing;  // every character beyond ASCII
};

// What stands between the quotes. An expression that is not anchored matches anywhere within. Characters of the
// expression, classes and '.' are those of ASCII, and '.' and classes that exclude some stand for every other
// character, too. kUnsupported, with the reason, for what is no regular language or not known here: assertions but '^'
// and '$' at the ends, references back, \b, \p.
Result<ByteLanguage::Node> compile_pattern(ByteLanguage& language, std::string_view pattern,
                                           const PatternAlphabet& alphabet);

}  // namespace baton::text
