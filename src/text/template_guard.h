// A look at a chat template's source before minja runs it: what would crash or hang the process there is refused here.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace baton::text {

// The source with its comments emptied and a tag at the start of each loop's body that looks up a name (so that whoever
// renders can count), ready to be parsed. Fails with kUnsupported, naming the line, for a template
//  - larger than 64 KiB or with too many tags for its size, or with names, runs of white space, nesting or tags that
//  would exhaust the stack;
//  - that divides by anything but a number other than 0 (the processor would stop the process), slices with a step
//  other
//    than [::-1] (reads beyond the text), splits at anything but a literal that is not empty (never ends), or
//    multiplies by anything but a small number (fills memory);
//  - with noncharacters that ControlShield needs.
Result<std::string> check_template(std::string_view source);

}  // namespace baton::text
