// What messages mean, beyond their bytes.
#include <algorithm>
#include <cstring>
#include <format>

#include "handoff/messages.h"
#include "handoff/wire_format.h"

namespace baton::handoff {

namespace {

std::unexpected<Error> wrong(std::string what) {
  return fail(ErrorCode::kProtocol, std::format("the transfer cannot be opened: {}", what));
}

Result<void> check_lengths(const Open& open) {
  const auto too_long = [](const plan::NodeRef& node) {
    return node.name.size() > wire::kNameBytes || node.address.size() > wire::kAddressBytes ||
           node.fingerprint.size() > wire::kFingerprintBytes;
  };
  if (open.agent.size() > wire::kAgentBytes) return wrong("the agent's name is too long");
  if (open.label.size() > wire::kLabelBytes) return wrong("the label is too long");
  if (open.lease.size() > wire::kLeaseBytes) return wrong("the lease is too long");
  if (std::ranges::any_of(open.plan.nodes, too_long)) return wrong("a node's name, address or fingerprint is too long");
  if (open.extensions.size() > wire::kExtensions) return wrong("it has too many extensions");
  if (std::ranges::any_of(open.extensions, [](const Extension& e) { return e.value.size() > wire::kExtensionBytes; })) {
    return wrong("an extension is too long");
  }
  return {};
}

Result<void> check_extensions(const std::vector<Extension>& extensions, std::string_view what,
                              std::optional<std::uint16_t> known = std::nullopt) {
  const auto critical = std::ranges::find_if(
      extensions, [&](const Extension& extension) { return extension.critical() && extension.id != known; });
  if (critical == extensions.end()) return {};
  return fail(ErrorCode::kUnsupported,
              std::format("{} needs extension {:#06x}, which this version of baton does not know", what, critical->id));
}

}  // namespace

bool wants_guesses(const Open& open) { return std::ranges::contains(open.extensions, kGuessExtension, &Extension::id); }

Result<void> check(const Open& open, std::uint32_t layers) {
  TRY(check_extensions(open.extensions, "the transfer", kGuessExtension));
  TRY(check_lengths(open));
  if (layers == 0 || layers > kMaxLayers) return wrong(std::format("a model has 1 to {} layers", kMaxLayers));
  if (const auto valid = open.plan.validate(layers); !valid) return wrong(valid.error().message);
  const std::size_t nodes = open.plan.nodes.size();
  if (open.sender >= nodes || open.receiver >= nodes || open.sender == open.receiver) {
    return wrong(std::format("nodes {} and {} of {} cannot share a transfer", open.sender, open.receiver, nodes));
  }
  for (std::size_t i = 0; i < nodes; ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (open.plan.nodes[i].fingerprint == open.plan.nodes[j].fingerprint) {
        return wrong(
            std::format("the plan's nodes '{}' and '{}' are one", open.plan.nodes[j].name, open.plan.nodes[i].name));
      }
    }
  }
  if (open.chunk_tokens == 0 || open.chunk_tokens > kMaxChunkTokens) {
    return wrong(std::format("chunks of {} tokens are not possible", open.chunk_tokens));
  }
  if (open.prompt_tokens == 0 || open.prompt_tokens > kMaxPromptTokens || open.max_new_tokens > kMaxPromptTokens) {
    return wrong(
        std::format("a prompt of {} tokens and {} new ones are not possible", open.prompt_tokens, open.max_new_tokens));
  }
  if (open.prefix_tokens >= open.prompt_tokens || open.prefix_tokens % open.chunk_tokens != 0) {
    return wrong(std::format("a prefix of {} tokens does not fit a prompt of {} in chunks of {}", open.prefix_tokens,
                             open.prompt_tokens, open.chunk_tokens));
  }
  if ((open.prompt_tokens - open.prefix_tokens) / open.chunk_tokens >= wire::kMaxChunks) {
    return wrong("the prompt has too many chunks");
  }
  if (wants_guesses(open) && open.receiver != plan::kCoordinator) return wrong("only a coordinator asks for guesses");
  if (open.codec != DType::kF16 && open.codec != DType::kQ8_0 && open.codec != DType::kQ4_0) {
    return wrong(std::format("KV does not travel as {}", dtype_name(open.codec)));
  }
  if (open.hidden != DType::kF32 && open.hidden != DType::kF16 && open.hidden != DType::kBf16) {
    return wrong(std::format("hidden states do not travel as {}", dtype_name(open.hidden)));
  }
  return {};
}

Result<std::uint16_t> negotiate(const Hello& ours, const Hello& theirs) {
  TRY(check_extensions(theirs.extensions, "the peer"));
  const std::uint16_t version = std::min(ours.max_version, theirs.max_version);
  if (version < std::max(ours.min_version, theirs.min_version)) {
    return fail(
        ErrorCode::kUnsupported,
        std::format("the peer ({}) speaks versions {} to {} of the protocol, this node {} to {}: update the older",
                    theirs.software, theirs.min_version, theirs.max_version, ours.min_version, ours.max_version));
  }
  return version;
}

std::string Id::hex() const { return to_hex(bytes); }

std::size_t IdHash::operator()(const Id& id) const {
  std::size_t hash = 0;
  std::memcpy(&hash, id.bytes.data(), sizeof(hash));
  return hash;
}

std::string_view message_name(const Body& body) {
  static constexpr std::array<std::string_view, std::variant_size_v<Body>> kNames = {
      "Hello",    "Open",    "Prompt", "Resume",   "Credit", "Step",   "Draft",    "Commit", "Cancel", "Ping",
      "Accepted", "Refused", "Slice",  "Progress", "Done",   "Failed", "Released", "Pong",   "Guesses"};
  return kNames[body.index()];
}

Addressee addressee(const Body& body) {
  static const std::size_t kFirstOfSender = Body(Accepted{}).index();
  if (std::holds_alternative<Hello>(body)) return Addressee::kConnection;
  return body.index() < kFirstOfSender ? Addressee::kSender : Addressee::kReceiver;
}

std::optional<Message> answer_unknown(const Message& message) {
  const auto answer = [&](Body body) { return Message{message.transfer, message.generation, std::move(body)}; };
  const Body& body = message.body;
  switch (addressee(body)) {
    case Addressee::kConnection: return std::nullopt;
    case Addressee::kSender:
      if (std::holds_alternative<Commit>(body)) return answer(Released{});
      // What follows an Open is answered by the answer to that.
      if (std::holds_alternative<Cancel>(body) || std::holds_alternative<Prompt>(body)) return std::nullopt;
      return answer(
          Refused{{ErrorCode::kNotFound, "this node does not know the transfer: it was restarted or gave it up"}});
    case Addressee::kReceiver: {
      const bool is_last_word = std::holds_alternative<Refused>(body) || std::holds_alternative<Failed>(body) ||
                                std::holds_alternative<Released>(body);
      if (is_last_word) return std::nullopt;
      return answer(Cancel{{ErrorCode::kNotFound, "nobody waits for this transfer any more"}});
    }
  }
  return std::nullopt;
}

}  // namespace baton::handoff
