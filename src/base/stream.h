// What comes from a descriptor that somebody else has opened.
#pragma once

#include <string>

#include "base/result.h"

namespace baton {

// Where standard input is closed it is empty from now on: what is opened later must not be taken for it. Before
// anything else is opened.
void open_standard_input();

// All that is left of a pipe, a socket, a file or a device, up to its end, also where reading does not block; nothing
// of what else it may be, such as a folder. Waits for as long as the other end is open, as whoever types may take their
// time. It stays open. kNoCapacity for more than 1 GiB; kIo. Errors call it `name`.
Result<std::string> read_to_end(int descriptor, const std::string& name);

}  // namespace baton
