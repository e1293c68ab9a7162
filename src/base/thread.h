#pragma once

namespace baton {

// What tools such as top and gdb call the calling thread; at most 15 characters.
void name_this_thread(const char* name);

// Lets every other thread of normal priority go first. A request only: where the system has no such thing per thread,
// nothing happens.
void lower_priority_of_this_thread();

}  // namespace baton
