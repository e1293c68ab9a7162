// Whether a host is this machine itself.
#pragma once

#include <string_view>

namespace baton::net {

// "localhost", or a numeric address that no other machine reaches or is reached by, an IPv6 one with brackets or
// without. A name such as 127.example.org is whoever owns it makes it.
bool is_loopback(std::string_view host);

}  // namespace baton::net
