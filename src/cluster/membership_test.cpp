#include "cluster/membership.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/temporary_folder.h"
#include "cluster/control.h"
#include "cluster/join.h"
#include "net/test_support.h"

namespace baton::cluster {
namespace {

using net::must;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A machine with its folder; it can be started, stopped and started again. All run on one loop.
struct Machine {
  Machine(net::EventLoop& shared, std::string called) : loop(shared), name(std::move(called)) {}

  Folder folder() const { return must(Folder::open(temporary.path() / "data")); }
  net::Fingerprint id() const { return folder().identity().fingerprint(); }
  void start() {
    options.listen = {"127.0.0.1", port};
    options.on_cut_off = [this](const net::Fingerprint& peer) { cut_off.push_back(peer); };
    options.on_out = [this](const Error& error) { out = error; };
    options.on_work = [this](std::shared_ptr<net::Connection> connection) { work.push_back(std::move(connection)); };
    options.state = [this] { return state; };
    membership = must(Membership::create(loop, folder(), options));
    port = membership->endpoint().port;
  }
  PeerStatus sees(const Machine& other) const {
    for (const PeerView& peer : membership->peers()) {
      if (peer.member.id == other.id()) return peer.status;
    }
    return PeerStatus::kDown;
  }
  bool knows(const Machine& other) const { return membership->list().contains(other.id()); }

  net::EventLoop& loop;
  std::string name;
  TemporaryFolder temporary = must(TemporaryFolder::create("baton-cluster"));
  std::uint16_t port = 0;
  MembershipOptions options = {};
  NodeState state;
  std::unique_ptr<Membership> membership;
  std::vector<net::Fingerprint> cut_off;
  std::vector<std::shared_ptr<net::Connection>> work;
  std::optional<Error> out;
};

struct World {
  std::unique_ptr<net::EventLoop> loop = must(net::EventLoop::create());
  Machine a{*loop, "a"};
  Machine b{*loop, "b"};
  Machine c{*loop, "c"};

  World() {
    must(Membership::found(a.folder(), "home", "a", std::chrono::hours(1)));
    a.start();
  }
  // Runs the loop until something is true.
  bool until(const std::function<bool()>& condition, Duration patience = seconds(15)) {
    const TimePoint end = now() + patience;
    while (!condition() && now() < end) run_for(milliseconds(20));
    return condition();
  }
  void run_for(Duration duration) {
    net::Timer timer(*loop);
    timer.start(duration, [&] { loop->stop(); });
    loop->run();
  }
  // What a command does in a process of its own; the loop runs meanwhile.
  template <typename T>
  Result<T> elsewhere(std::function<Result<T>()> command) {
    std::optional<Result<T>> result;
    bool done = false;
    const std::jthread thread([&] {
      result = command();
      loop->post([&] {
        done = true;
        loop->stop();
      });
    });
    while (!done) loop->run();
    return *std::move(result);
  }
  Result<Joined> join(Machine& machine, const trust::JoinToken& token, const net::Endpoint& where) {
    return elsewhere<Joined>([&] { return cluster::join(machine.folder(), token, {where}, machine.name, seconds(5)); });
  }
  void add(Machine& machine) {
    const auto token = must(a.membership->make_token(seconds(60)));
    must(join(machine, token, a.membership->endpoint()));
    machine.start();
    EXPECT_TRUE(until([&] { return a.sees(machine) == PeerStatus::kAlive && machine.sees(a) == PeerStatus::kAlive; }));
  }
};

TEST(Membership, LetsANodeInByAToken) {
  World world;
  world.add(world.b);
  EXPECT_TRUE(world.b.membership->list().is_admin(world.a.id()));
  EXPECT_FALSE(world.b.membership->list().is_admin(world.b.id()));
  EXPECT_EQ(world.b.membership->list().digest(), world.a.membership->list().digest());
}

TEST(Membership, TakesATokenOnce) {
  World world;
  const auto token = must(world.a.membership->make_token(seconds(60)));
  must(world.join(world.b, token, world.a.membership->endpoint()));
  const auto again = world.join(world.c, token, world.a.membership->endpoint());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kRefused);
  EXPECT_FALSE(world.a.membership->list().contains(world.c.id()));
}

TEST(Membership, ATokenExpires) {
  World world;
  const auto token = must(world.a.membership->make_token(seconds(1)));
  world.run_for(milliseconds(2100));
  const auto late = world.join(world.b, token, world.a.membership->endpoint());
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kRefused);
}

TEST(Membership, ATokensBearerTakesNobodyElseForTheCluster) {
  World world;
  World other;
  auto token = must(world.a.membership->make_token(seconds(60)));
  const auto led_astray = other.join(world.b, token, other.a.membership->endpoint());
  ASSERT_FALSE(led_astray);
  EXPECT_EQ(led_astray.error().code, ErrorCode::kRefused);
  // Nor another cluster's history from the right node.
  token.cluster = sha256(as_byte_span("another"));
  EXPECT_FALSE(world.join(world.b, token, world.a.membership->endpoint()));
}

TEST(Membership, NodesThatNeverMetFindEachOther) {
  World world;
  world.add(world.b);
  world.add(world.c);
  EXPECT_TRUE(world.until(
      [&] { return world.b.sees(world.c) == PeerStatus::kAlive && world.c.sees(world.b) == PeerStatus::kAlive; }));
}

TEST(Membership, TellsWhatItIsAndWhatChanges) {
  World world;
  world.a.state.models = {{"m.gguf", "abc", 0, 8, 8, 256}};
  world.add(world.b);
  const auto told = [&] {
    for (const PeerView& peer : world.b.membership->peers()) {
      if (peer.member.id == world.a.id()) return peer.state;
    }
    return NodeState{};
  };
  EXPECT_TRUE(world.until([&] { return told().models == world.a.state.models; }));
  world.a.state.load.transfers = 4;
  EXPECT_TRUE(world.until([&] { return told().load.transfers == 4; }));
  EXPECT_EQ(told().addresses, std::vector<std::string>{world.a.membership->endpoint().to_string()});
}

TEST(Membership, SeesANodeGoAndComeBack) {
  World world;
  world.add(world.b);
  world.b.membership.reset();
  EXPECT_TRUE(world.until([&] { return world.a.sees(world.b) == PeerStatus::kDown; }, seconds(3)));
  world.b.start();
  EXPECT_TRUE(world.until([&] { return world.a.sees(world.b) == PeerStatus::kAlive; }, seconds(3)));
}

TEST(Membership, CutsARevokedNodeOffEverywhere) {
  World world;
  world.add(world.b);
  world.add(world.c);
  ASSERT_TRUE(world.until([&] { return world.b.sees(world.c) == PeerStatus::kAlive; }));
  must(world.a.membership->revoke("b"));
  EXPECT_TRUE(world.until([&] { return !world.c.cut_off.empty() && !world.a.cut_off.empty() && world.b.out; }));
  EXPECT_EQ(world.c.cut_off, std::vector{world.b.id()});
  EXPECT_FALSE(world.c.knows(world.b));
  EXPECT_EQ(world.c.sees(world.a), PeerStatus::kAlive);
  world.b.membership.reset();
  const auto again = Membership::create(*world.loop, world.b.folder(), world.b.options);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kRefused);
}

TEST(Membership, AnotherAdminGoesOnWithoutTheFirst) {
  World world;
  world.b.options.certificate_life = seconds(2);
  world.a.options.certificate_life = seconds(2);
  world.a.membership.reset();
  world.a.start();
  world.add(world.b);
  world.add(world.c);
  must(world.a.membership->promote("b"));
  ASSERT_TRUE(world.until([&] { return world.c.membership->list().is_admin(world.b.id()); }));
  ASSERT_TRUE(world.until([&] { return world.c.sees(world.b) == PeerStatus::kAlive; }));
  world.a.membership.reset();
  std::filesystem::remove_all(world.a.temporary.path());
  // Past the life of whatever the first had signed.
  world.run_for(seconds(5));
  const auto dialled = [&]() -> Result<void> {
    std::optional<Result<void>> outcome;
    const auto dial = world.c.membership->work_transport().dial(
        {world.b.membership->endpoint(), world.b.id()}, now() + seconds(5),
        [&](auto connection) { outcome = connection ? Result<void>() : std::unexpected(connection.error()); });
    EXPECT_TRUE(world.until([&] { return outcome.has_value(); }));
    return *outcome;
  };
  const auto worked = dialled();
  EXPECT_TRUE(worked) << worked.error().to_string();
  EXPECT_TRUE(world.until([&] { return world.b.work.size() == 1; })) << "b, too, finds c's certificate good";
  EXPECT_TRUE(world.b.membership->make_token(seconds(60)));
  must(world.b.membership->revoke("a"));
  EXPECT_TRUE(world.until([&] { return world.c.membership->list().members().size() == 2; }));
}

TEST(Membership, RefusesWorkToACertificateThatHasRunOut) {
  World world;
  world.a.options.certificate_life = seconds(1);
  world.a.membership.reset();
  world.a.start();
  world.add(world.b);
  // Its certificate runs out while it cannot renew it.
  const auto transport = must(net::Transport::create(*world.loop, world.b.folder().identity()));
  world.b.membership.reset();
  const auto der = must(world.b.folder().read_certificate());
  must(transport->present(must(world.b.folder().identity().with_certificate(*der))));
  world.run_for(milliseconds(2500));
  std::shared_ptr<net::Connection> connection;
  const auto dial = transport->dial({world.a.membership->endpoint(), world.a.id()}, now() + seconds(5),
                                    [&](auto dialled) { connection = must(std::move(dialled)); });
  ASSERT_TRUE(world.until([&] { return connection != nullptr; }));
  world.run_for(milliseconds(300));
  EXPECT_TRUE(world.a.work.empty());
  // It comes back, is let in to renew, and may work again.
  world.b.start();
  ASSERT_TRUE(world.until([&] { return world.b.sees(world.a) == PeerStatus::kAlive; }));
  const auto works = [&] {
    std::optional<bool> worked;
    const auto again =
        world.b.membership->work_transport().dial({world.a.membership->endpoint(), world.a.id()}, now() + seconds(5),
                                                  [&](auto dialled) { worked = dialled.has_value(); });
    world.until([&] { return worked.has_value(); });
    world.run_for(milliseconds(100));
    return !world.a.work.empty();
  };
  EXPECT_TRUE(world.until(works));
}

TEST(Membership, ClocksThatAreYearsOffDoNoHarm) {
  World world;
  constexpr std::int64_t kYear_s = 365 * 86400;
  world.b.options.wall_clock_s = [] { return std::int64_t{1'000'000}; };
  world.c.options.wall_clock_s = [] { return 4'000'000'000 + kYear_s; };
  world.add(world.b);
  world.add(world.c);
  // An admin whose clock is fast takes the others along.
  must(world.a.membership->promote("c"));
  for (const auto& [from, to] :
       {std::pair(&world.b, &world.c), std::pair(&world.c, &world.a), std::pair(&world.a, &world.b)}) {
    const auto works = [&] {
      std::optional<bool> worked;
      const auto dial =
          from->membership->work_transport().dial({to->membership->endpoint(), to->id()}, now() + seconds(5),
                                                  [&](auto dialled) { worked = dialled.has_value(); });
      world.until([&] { return worked.has_value(); });
      world.run_for(milliseconds(100));
      return !to->work.empty();
    };
    EXPECT_TRUE(world.until(works)) << from->name << " to " << to->name;
  }
}

TEST(Membership, APlainMembersClockEndsNothing) {
  World world;
  world.c.options.wall_clock_s = [] { return std::int64_t{4'000'000'000}; };
  const auto token = must(world.a.membership->make_token(seconds(60)));
  world.add(world.c);
  world.run_for(milliseconds(1200));
  ASSERT_EQ(world.a.sees(world.c), PeerStatus::kAlive);
  EXPECT_TRUE(world.join(world.b, token, world.a.membership->endpoint()));
}

TEST(Membership, AMachineThatHasSleptTakesNoCertificateThatHasRunOutMeanwhile) {
  World world;
  auto slept = std::make_shared<std::int64_t>(0);
  world.b.options.wall_clock_s = [slept] {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<seconds>(since).count() + *slept;
  };
  world.add(world.b);
  const auto dialled = [&] {
    std::optional<bool> done;
    const auto dial =
        world.b.membership->work_transport().dial({world.a.membership->endpoint(), world.a.id()}, now() + seconds(5),
                                                  [&](auto connection) { done = connection.has_value(); });
    world.until([&] { return done.has_value(); });
    return *done;
  };
  ASSERT_TRUE(world.until(dialled));
  *slept = 2 * 3600;  // certificates live for one
  EXPECT_TRUE(world.until([&] { return !dialled(); }, seconds(3)));
}

// A member that connects and says nothing.
struct Silent : net::ConnectionHandler {
  void on_frame(ByteSpan) override {}
  std::optional<net::OutFrame> next_frame() override { return std::nullopt; }
  void on_closed(const Error&) override { closed = true; }
  bool closed = false;
};

TEST(Membership, TakesAFewConnectionsOfOneMember) {
  World world;
  world.add(world.b);
  world.b.membership.reset();
  ASSERT_TRUE(world.until([&] { return world.a.sees(world.b) == PeerStatus::kDown; }));
  const auto transport = must(net::Transport::create(*world.loop, world.b.folder().identity()));
  std::vector<std::unique_ptr<net::Dial>> dials;
  std::vector<std::shared_ptr<Silent>> connected;
  for (int i = 0; i < 10; ++i) {
    dials.push_back(transport->dial({world.a.membership->endpoint(), world.a.id()}, net::Protocol::kMembership,
                                    now() + seconds(5), [&](auto dialled) {
                                      connected.push_back(std::make_shared<Silent>());
                                      must(std::move(dialled))->start(connected.back());
                                    }));
  }
  ASSERT_TRUE(world.until([&] { return connected.size() == 10; }));
  const auto refused = [&] { return std::ranges::count_if(connected, [](const auto& one) { return one->closed; }); };
  // Those that were taken have two seconds to greet.
  EXPECT_TRUE(world.until([&] { return refused() >= 6; }, milliseconds(1500)));
  EXPECT_EQ(refused(), 6);
}

TEST(Membership, RemembersLittleOfWhatOthersSayOfANodesAddresses) {
  World world;
  world.add(world.b);
  world.add(world.c);
  const net::Endpoint where = world.c.membership->endpoint();
  world.c.membership.reset();
  world.b.membership.reset();
  ASSERT_TRUE(world.until([&] { return world.a.sees(world.c) == PeerStatus::kDown; }));
  const auto transport = must(net::Transport::create(*world.loop, world.b.folder().identity()));
  std::shared_ptr<Link> link;
  Link::Events events;
  events.greeted = [&](Link& greeted) {
    for (std::uint16_t i = 0; i < 20; ++i) {
      Addresses lies;
      lies.of[world.c.id()] = {{"192.0.2.7", static_cast<std::uint16_t>(1000 + i)}};
      greeted.say(lies);
    }
  };
  const auto dial =
      transport->dial({world.a.membership->endpoint(), world.a.id()}, net::Protocol::kMembership, now() + seconds(5),
                      [&](auto dialled) {
                        link = Link::start(*world.loop, must(std::move(dialled)), DialledBy::kUs, std::move(events));
                      });
  const net::Endpoint last{"192.0.2.7", 1019};
  const auto known = [&] { return must(world.a.folder().read_addresses())[world.c.id()]; };
  ASSERT_TRUE(world.until([&] { return std::ranges::contains(known(), last); }));
  EXPECT_EQ(known().size(), 5u);
  EXPECT_EQ(known().front(), where) << "what it said of itself stays";
  link->abandon();
}

TEST(Membership, LeavesOnlyWhereSomebodyHearsIt) {
  World world;
  world.add(world.b);
  world.a.membership.reset();
  ASSERT_TRUE(world.until([&] { return world.b.sees(world.a) == PeerStatus::kDown; }));
  const auto alone = world.b.membership->leave();
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().code, ErrorCode::kUnavailable);
  EXPECT_TRUE(must(world.b.folder().read_members()));
  world.a.start();
  ASSERT_TRUE(world.until([&] { return world.b.sees(world.a) == PeerStatus::kAlive; }));
  must(world.b.membership->leave());
  EXPECT_TRUE(world.until([&] { return !world.a.knows(world.b); }));
}

TEST(Membership, WhatIsSaidToANodeThatHasLeftIsNotWrittenDown) {
  World world;
  world.add(world.b);
  world.add(world.c);
  // Under way to b while it leaves.
  must(world.b.membership->leave());
  must(world.a.membership->promote("c"));
  ASSERT_TRUE(world.until([&] { return world.b.out && !world.a.knows(world.b) && !world.c.knows(world.b); }));
  world.run_for(milliseconds(500));
  EXPECT_FALSE(must(world.b.folder().read_members()));
}

TEST(Membership, SaysWhomARevokedNodeHadLetIn) {
  World world;
  world.add(world.b);
  must(world.a.membership->promote("b"));
  ASSERT_TRUE(world.until([&] { return world.b.membership->list().is_admin(world.b.id()); }));
  const auto token = must(world.b.membership->make_token(seconds(60)));
  must(world.join(world.c, token, world.b.membership->endpoint()));
  ASSERT_TRUE(world.until([&] { return world.a.knows(world.c); }));
  const auto stay = must(world.a.membership->revoke("b"));
  ASSERT_EQ(stay.size(), 1u);
  EXPECT_EQ(stay[0].name, "c");
}

TEST(Membership, TellsAListThatIsLongerThanWhatMayWaitForAPeer) {
  World world;
  world.add(world.b);
  world.a.membership.reset();
  auto list = *must(world.a.folder().read_members());
  const net::Identity a = world.a.folder().identity();
  std::vector<trust::Statement> statements;
  for (std::uint16_t i = 0; i < 140; ++i) {
    PublicKey key;
    key.bytes[0] = static_cast<std::byte>(i / 2);
    const auto sign = [&](trust::StatementBody body) {
      statements.push_back(must(trust::Statement::sign(a.signing_key(), list.cluster(), 10 + i, std::move(body))));
    };
    sign(trust::Enrolment{.key = key, .role = trust::Role::kMember, .name = "x"});
    trust::Revocation revocation{.key = key, .kept = std::vector<Sha256>(trust::kMaxKeptStatements)};
    for (std::size_t k = 0; k < revocation.kept.size(); ++k) {
      revocation.kept[k].bytes[0] = static_cast<std::byte>(k / 256);
      revocation.kept[k].bytes[1] = static_cast<std::byte>(k % 256);
    }
    sign(std::move(revocation));
  }
  ASSERT_TRUE(must(list.merge(statements)));
  must(world.a.folder().write_members(list));
  world.a.start();
  EXPECT_TRUE(world.until([&] { return world.b.membership->list().digest() == list.digest(); }, seconds(30)));
}

TEST(Membership, NobodyJoinsWithTheFolderOfARunningNode) {
  World world;
  const auto token = must(world.a.membership->make_token(seconds(60)));
  {
    const auto lock = must(world.b.folder().lock());
    const auto joined = world.join(world.b, token, world.a.membership->endpoint());
    ASSERT_FALSE(joined);
    EXPECT_EQ(joined.error().code, ErrorCode::kNoCapacity);
  }
  EXPECT_TRUE(world.join(world.b, token, world.a.membership->endpoint()));
}

TEST(Membership, AStrangerIsRefusedInTheHandshake) {
  World world;
  const auto stranger = must(net::Identity::from_key(SigningKey::generate()));
  const auto transport = must(net::Transport::create(*world.loop, stranger));
  for (const net::Protocol protocol : {net::Protocol::kMembership, net::Protocol::kWork}) {
    std::optional<Error> error;
    const auto dial = transport->dial({world.a.membership->endpoint(), world.a.id()}, protocol, now() + seconds(5),
                                      [&](auto dialled) { error = dialled.error(); });
    ASSERT_TRUE(world.until([&] { return error.has_value(); }));
    EXPECT_EQ(error->code, ErrorCode::kRefused);
  }
}

TEST(Membership, AnswersItsOwnProcesses) {
  World world;
  answer_commands(*world.a.membership);
  must(world.a.folder().write_running(world.a.membership->endpoint()));
  const auto ask = [&](Machine& machine, ControlRequest request) {
    return world.elsewhere<ControlAnswer>([&] { return cluster::ask(machine.folder(), request, seconds(5)); });
  };
  const auto nodes = must(ask(world.a, {}));
  ASSERT_EQ(nodes.nodes.size(), 1u);
  EXPECT_EQ(nodes.nodes[0].status, "self");
  EXPECT_EQ(nodes.cluster, "home");
  const auto token = must(ask(world.a, {.command = Command::kToken, .node = "", .lifetime_s = 60})).token;
  EXPECT_EQ(must(trust::JoinToken::parse(token)).issuer, world.a.id());
  const auto unknown = ask(world.a, {.command = Command::kRevoke, .node = "nobody"});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ask(world.b, {}).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace baton::cluster
