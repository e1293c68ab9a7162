#include "handoff/prefix.h"

#include "base/bytes.h"

namespace baton::handoff {

std::vector<PrefixName> prefix_names(const PrefixContext& context, std::span<const Token> tokens,
                                     std::uint32_t chunk_tokens) {
  ByteWriter root;
  root.write_string<std::uint32_t>("baton prefix 1");
  root.write_bytes(context.model.bytes);
  for (const std::string* text : {&context.rope, &context.cache_type, &context.provenance}) {
    root.write_string<std::uint32_t>(*text);
  }
  Sha256 name = sha256(root.bytes());

  std::vector<PrefixName> names;
  for (std::size_t end = chunk_tokens; end <= tokens.size(); end += chunk_tokens) {
    ByteWriter link;
    link.write_bytes(name.bytes);
    link.write_bytes(std::as_bytes(tokens.subspan(end - chunk_tokens, chunk_tokens)));
    name = sha256(link.bytes());
    names.push_back({static_cast<std::uint32_t>(end), name});
  }
  return names;
}

}  // namespace baton::handoff
