// A chat template in the process that renders it: template_worker.cpp, by the words of template_protocol.h.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/helper_process.h"
#include "text/template_protocol.h"

namespace baton::text {

class TemplateProcess {
 public:
  explicit TemplateProcess(std::string source) : source_(std::move(source)) {}

  // Parses the template. Fails with kCorrupt where it is none, or passes a bound.
  Result<void> start();
  // What it makes of a request, which says max_text_bytes too. Fails with kInvalidArgument where it refuses the
  // conversation, in its own words; with kCorrupt where it goes wrong or passes a bound. Starts the process again where
  // something ended it. From any thread, one rendering at a time.
  Result<std::string> render(std::string_view request_json, std::size_t max_text_bytes);

 private:
  Result<void> start_locked();
  // kEnded where the process itself ended. It is gone then, and after an error.
  Result<TemplateAnswer> ask(std::string_view request, std::size_t max_text_bytes);

  const std::string source_;
  std::mutex mutex_;
  std::optional<HelperProcess> helper_;
};

}  // namespace baton::text
