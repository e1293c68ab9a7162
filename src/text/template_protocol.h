// What a ChatTemplate and the program that renders it (template_worker.cpp) say to each other, as requests and answers
// of a HelperProcess. The first request is the template's source, each further one a JSON object
//   {"variables": {...}, "local_seconds": seconds of the local time since its 1970, or null, "max_text_bytes": a
//   number}
// and every answer is an outcome's byte and a text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace baton::text {

inline constexpr std::string_view kTemplateProgram = "baton-template";

enum class TemplateOutcome : char {
  kDone = 'd',     // the text that the template makes, or none where it was parsed
  kRefused = 'r',  // the words with which it refuses the conversation
  kFailed = 'f',   // what went wrong in it: " at line 3: what", or ": what"
  kEnded = 'e',    // the exit status, in digits, of the process that rendered it, as in ChildProcess::Finished
};

struct TemplateAnswer {
  TemplateOutcome outcome = TemplateOutcome::kDone;
  std::string text;
};

// The bounds of a rendering. Computing is counted, not waiting: a busy machine makes no template fail.
inline constexpr std::size_t kTemplateParseSeconds = 5;
inline constexpr std::size_t kTemplateRenderSeconds = 2;
inline constexpr std::size_t kTemplateMemoryBytes = 256UL << 20;
inline constexpr std::size_t kTemplateStackBytes = 64UL << 20;
// Of an answer that is not kDone.
inline constexpr std::size_t kTemplateMaxWordsBytes = 1000;

// The exit status of a renderer that asks for more memory than that.
inline constexpr int kTemplateMemoryStatus = 3;

}  // namespace baton::text
