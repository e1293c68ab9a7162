// Any bytes: either refused, or a message whose bytes they are.
#include <cstdint>
#include <cstdlib>

#include "handoff/flow.h"
#include "handoff/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace baton;
  using namespace baton::handoff;
  const ByteSpan frame = std::as_bytes(std::span(data, size));
  const auto message = decode(frame);
  if (!message) return 0;
  const Bytes again = encode(*message);
  if (!std::equal(again.begin(), again.end(), frame.begin(), frame.end())) std::abort();
  if (const auto* open = std::get_if<Open>(&message->body)) {
    // Whatever passes the check must have a flow that can be worked with.
    for (const std::uint32_t layers : {1u, 4u, 32u}) {
      if (check(*open, layers))
        (void)flow_of(*open, {.kept = std::vector<LayerWidths>(layers, {8, 8, 8, 3})}).prefill_slices();
    }
  }
  if (const auto* hello = std::get_if<Hello>(&message->body)) (void)negotiate(Hello{}, *hello);
  (void)answer_unknown(*message);
  return 0;
}
