#include "cluster/control.h"

#include <algorithm>
#include <format>
#include <glaze/glaze.hpp>

#include "cluster/link_probes.h"

namespace baton::cluster {

// As JSON between two processes of one machine and one program. Named, as reflection needs types with linkage.
namespace control_json {

struct WireRequest {
  int command = 0;
  std::string node;
  std::int64_t lifetime_s = 0;
};

struct WireAnswer {
  int error = -1;  // an ErrorCode; -1: done
  std::string message;
  ControlAnswer answer;
};

}  // namespace control_json

namespace {

using control_json::WireAnswer;
using control_json::WireRequest;

constexpr glz::opts kReadControl{.error_on_unknown_keys = false, .error_on_missing_keys = false};

NodeReport report_of(const PeerView& view) {
  // A peer that called is connected from a port where nobody listens, and this node may listen everywhere.
  const auto listens_at = work_endpoint(view.state, view.address);
  return {.name = view.member.name,
          .id = view.member.id.to_string(),
          .role = view.member.role == trust::Role::kAdmin ? "admin" : "member",
          .status = std::string(peer_status_name(view.status)),
          .address = listens_at ? listens_at->to_string() : view.address,
          .software = view.software,
          .problem = view.problem,
          .round_trip_ms = view.round_trip_ms,
          .state = view.state};
}

void describe(ControlAnswer& answer, const trust::MemberList& list) {
  answer.cluster = list.cluster_name();
  answer.cluster_id = list.cluster().hex();
  answer.epoch = list.epoch();
}

Result<ControlAnswer> carry_out(Membership& membership, const WireRequest& request) {
  ControlAnswer answer;
  describe(answer, membership.list());
  switch (static_cast<Command>(request.command)) {
    case Command::kNodes: return report(membership);
    case Command::kToken: {
      if (request.lifetime_s <= 0) return fail(ErrorCode::kInvalidArgument, "a token lives for at least a second");
      const trust::JoinToken token = TRY(membership.make_token(std::chrono::seconds(request.lifetime_s)));
      answer.token = token.to_string();
      return answer;
    }
    case Command::kPromote: TRY(membership.promote(request.node)); return answer;
    case Command::kRevoke: {
      const auto stay = TRY(membership.revoke(request.node));
      for (const trust::Member& member : stay) answer.stay.push_back(member.name);
      return answer;
    }
    case Command::kLeave: TRY(membership.leave()); return answer;
  }
  return fail(ErrorCode::kUnsupported, "the node that runs here does not know this command: it is of another version");
}

// One question over one connection.
struct Conversation {
  explicit Conversation(net::EventLoop& shared) : loop(shared) {}
  ~Conversation() {
    if (link) link->abandon();
  }
  void end(Result<std::string> outcome) {
    result = std::move(outcome);
    loop.stop();
  }

  net::EventLoop& loop;
  std::shared_ptr<Link> link;
  Result<std::string> result = fail(ErrorCode::kTimeout, "the node that runs here does not answer");
};

Result<std::string> converse(const Folder& folder, const net::Endpoint& endpoint, const std::string& json,
                             Duration patience) {
  const auto loop = TRY(net::EventLoop::create());
  const auto transport = TRY(net::Transport::create(*loop, folder.identity()));
  Conversation conversation(*loop);
  net::Timer deadline(*loop);
  deadline.start(patience, [&] { loop->stop(); });
  Link::Events events;
  events.greeted = [&](Link& link) { link.say(Ask{json}); };
  events.heard = [&](Link&, const Message& message) {
    if (const auto* answer = std::get_if<Answer>(&message)) conversation.end(answer->json);
  };
  events.closed = [&](Link&, const Error& error) { conversation.end(std::unexpected(error)); };
  const auto dial = transport->dial(
      {endpoint, folder.identity().fingerprint()}, net::Protocol::kMembership, now() + patience, [&](auto dialled) {
        if (!dialled) return conversation.end(std::unexpected(dialled.error()));
        conversation.link = Link::start(*loop, std::move(*dialled), DialledBy::kUs, events);
      });
  loop->run();
  return std::move(conversation.result);
}

Result<trust::MemberList> members_of(const Folder& folder) {
  auto list = TRY(folder.read_members());
  if (list) return *std::move(list);
  return fail(
      ErrorCode::kNotFound,
      "this machine belongs to no cluster: begin one with 'baton up MODEL', or join one with 'baton join TOKEN'",
      folder.path().string());
}

}  // namespace

ControlAnswer report(const Membership& membership) {
  ControlAnswer answer;
  describe(answer, membership.list());
  for (const PeerView& view : membership.peers()) answer.nodes.push_back(report_of(view));
  return answer;
}

Result<ControlAnswer> ask(const Folder& folder, const ControlRequest& request, Duration patience) {
  const auto endpoint = TRY(folder.read_running());
  const auto nobody = [&] {
    return fail(ErrorCode::kUnavailable, "no node runs here: start it with 'baton up MODEL'", folder.path().string());
  };
  if (!endpoint) return nobody();
  const WireRequest asked{static_cast<int>(request.command), request.node, request.lifetime_s};
  const auto json = converse(folder, *endpoint, glz::write_json(asked).value_or(""), patience);
  // Left over from a node that was killed; someone else may have its port by now.
  if (!json && (json.error().code == ErrorCode::kUnavailable || json.error().code == ErrorCode::kRefused))
    return nobody();
  WireAnswer answer;
  if (glz::read<kReadControl>(answer, TRY(json))) {
    return fail(ErrorCode::kProtocol, "the node that runs here answers in a way that this baton does not know");
  }
  if (answer.error < 0) return std::move(answer.answer);
  const bool known = answer.error <= static_cast<int>(ErrorCode::kInternal);
  return fail(known ? static_cast<ErrorCode>(answer.error) : ErrorCode::kInternal, answer.message);
}

Result<ControlAnswer> ask_folder(const Folder& folder) {
  const trust::MemberList list = TRY(members_of(folder));
  const AddressBook addresses = TRY(folder.read_addresses());
  ControlAnswer answer;
  describe(answer, list);
  for (const auto& [id, member] : list.members()) {
    NodeReport report = report_of({.member = member});
    report.status = "unknown";
    if (const auto known = addresses.find(id); known != addresses.end() && !known->second.empty()) {
      report.address = known->second.front().to_string();
    }
    answer.nodes.push_back(std::move(report));
  }
  return answer;
}

Result<void> leave_alone(const Folder& folder) {
  const trust::MemberList list = TRY(members_of(folder));
  const net::Fingerprint& self = folder.identity().fingerprint();
  if (std::ranges::any_of(list.members(), [&](const auto& entry) { return entry.first != self; })) {
    return fail(ErrorCode::kUnavailable, "no node runs here, so nobody could be told that this one leaves");
  }
  const FileLock lock = TRY(folder.lock());
  return folder.forget_cluster();
}

void answer_commands(Membership& membership) {
  membership.answer_with([&membership](const std::string& json) {
    WireRequest request;
    WireAnswer answer;
    const auto done = glz::read<kReadControl>(request, json)
                          ? Result<ControlAnswer>(fail(ErrorCode::kProtocol, "the question is malformed"))
                          : carry_out(membership, request);
    if (done) {
      answer.answer = *done;
    } else {
      answer.error = static_cast<int>(done.error().code);
      answer.message = done.error().to_string();
    }
    std::string written = glz::write_json(answer).value_or("");
    if (written.size() <= kMaxTextBytes) return written;
    // Cut, it would be no JSON any more.
    const WireAnswer too_long{static_cast<int>(ErrorCode::kNoCapacity),
                              std::format("the answer of {} bytes is longer than a message may be", written.size()),
                              {}};
    return glz::write_json(too_long).value_or("");
  });
}

}  // namespace baton::cluster
