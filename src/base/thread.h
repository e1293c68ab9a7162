#pragma once

namespace baton {

// What tools such as top and gdb call the calling thread; at most 15 characters.
void name_this_thread(const char* name);

}  // namespace baton
