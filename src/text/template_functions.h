// The functions, filters and tests that chat templates use and minja lacks, or has otherwise than apply_chat_template.
#pragma once

#include <ctime>
#include <string>

namespace minja {
class Context;
}

namespace baton::text {

// What raise_exception() throws: no std::exception, which minja would wrap in the lines of its source.
struct TemplateRefusal {
  std::string words;
};

void add_functions(minja::Context& context);
// strftime_now(), at a local time given as seconds since its 1970.
void add_time_function(minja::Context& context, std::time_t local_seconds);

}  // namespace baton::text
