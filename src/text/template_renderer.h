// Renders chat templates by minja, within the process that it may end: template_worker.cpp.
#pragma once

#include <memory>
#include <string_view>

#include "text/template_protocol.h"

namespace minja {
class TemplateNode;
}

namespace baton::text {

class TemplateRenderer {
 public:
  // Makes ready to render that template.
  TemplateAnswer parse(std::string_view source);
  // After parse() came to kDone. What it allocates may stay allocated.
  TemplateAnswer render(std::string_view request_json) const;

 private:
  std::shared_ptr<minja::TemplateNode> root_;
};

}  // namespace baton::text
