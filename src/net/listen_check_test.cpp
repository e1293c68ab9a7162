#include "net/listen_check.h"

#include <gtest/gtest.h>

#include <vector>

#include "net/acceptor.h"

namespace baton::net {
namespace {

std::uint16_t port_of(const Acceptor& acceptor) { return acceptor.local_endpoint().port(); }

TEST(ListenCheck, LetsGoOfWhatItTried) {
  const std::vector<Endpoint> any = {{"127.0.0.1", 0}, {"", 0}};
  ASSERT_TRUE(check_listening(any));
  boost::asio::io_context context;
  std::uint16_t port = 0;
  {
    const auto first = open_acceptor(context, {"127.0.0.1", 0});
    ASSERT_TRUE(first) << first.error().to_string();
    port = port_of(*first);
  }
  const std::vector<Endpoint> again = {{"127.0.0.1", port}};
  ASSERT_TRUE(check_listening(again));
  EXPECT_TRUE(open_acceptor(context, again.front()));
}

TEST(ListenCheck, SaysWhichAddressIsTakenAndWhatToDo) {
  boost::asio::io_context context;
  const auto taken = open_acceptor(context, {"127.0.0.1", 0});
  ASSERT_TRUE(taken) << taken.error().to_string();
  const std::vector<Endpoint> wanted = {{"127.0.0.1", 0}, {"127.0.0.1", port_of(*taken)}};
  const auto checked = check_listening(wanted);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::kIo);
  EXPECT_TRUE(checked.error().message.contains(wanted.back().to_string())) << checked.error().message;
  EXPECT_TRUE(checked.error().message.contains("choose another port")) << checked.error().message;
}

TEST(ListenCheck, RefusesTwoOfTheSame) {
  boost::asio::io_context context;
  std::uint16_t port = 0;
  {
    const auto first = open_acceptor(context, {"127.0.0.1", 0});
    ASSERT_TRUE(first) << first.error().to_string();
    port = port_of(*first);
  }
  const std::vector<Endpoint> twice = {{"127.0.0.1", port}, {"127.0.0.1", port}};
  EXPECT_FALSE(check_listening(twice));
}

TEST(ListenCheck, NamesAHostThatIsNone) {
  const std::vector<Endpoint> nowhere = {{"no-such-host.invalid", 8770}};
  const auto checked = check_listening(nowhere);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace baton::net
