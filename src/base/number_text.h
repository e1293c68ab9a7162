// Measured numbers as people read them.
#pragma once

#include <string>

namespace baton {

// At least three digits that count and no exponent: "130000", "17.3", "0.042". What is not finite as std::format says.
std::string number_text(double value);

}  // namespace baton
