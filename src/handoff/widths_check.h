// Internal to the room.
#pragma once

#include "handoff/flow.h"

namespace baton::handoff {

// The flow's formats suit rows of these widths, and no slice is too large for the format. kUnsupported otherwise.
Result<void> check_widths(const Flow& flow, const Widths& widths);

}  // namespace baton::handoff
