// Hostile bytes as a membership message, and as what a node says of itself.
#include <cstdint>
#include <cstdlib>

#include "cluster/node_state.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton;
  using namespace baton::cluster;
  const auto message = decode(std::as_bytes(std::span(data, size)));
  if (message) {
    const auto again = decode(encode(*message));
    if (!again || *again != *message) std::abort();
    if (const auto* state = std::get_if<State>(&*message)) {
      StateView view;
      static_cast<void>(view.take(*state));
    }
  }
  StateView view;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  for (const char* name : {"addresses", "devices", "models", "rates", "load"}) {
    static_cast<void>(view.take({{{name, 1, std::string(json)}}}));
  }
  return 0;
}
