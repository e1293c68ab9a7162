#pragma once

#include <string_view>

namespace baton {

// Of this build: "0.1.0".
std::string_view version();

}  // namespace baton
