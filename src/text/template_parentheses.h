// Jinja that minja parses only with parentheses.
#pragma once

#include <string>
#include <string_view>

namespace baton::text {

// The template with
//  - "f(x)" as "(f(x))" wherever an attribute, a subscript or another call follows: minja ends a value at a function's
//    call, so that "f(x).strip()" does not parse;
//  - "set a, b = x, y" as "set a, b = (x, y)".
// Everything else stays as it is, line by line.
std::string add_parentheses(std::string_view source);

}  // namespace baton::text
