#include "node/keep_alive.h"

#include <gtest/gtest.h>

namespace baton::node {
namespace {

TEST(KeepAlive, IsReadAsGoWritesDurations) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_keep_alive("300"), Duration(300s));
  EXPECT_EQ(parse_keep_alive("5m"), Duration(5min));
  EXPECT_EQ(parse_keep_alive("1h30m"), Duration(90min));
  EXPECT_EQ(parse_keep_alive("1.5h"), Duration(90min));
  EXPECT_EQ(parse_keep_alive("250ms"), Duration(250ms));
  EXPECT_EQ(parse_keep_alive("0"), Duration::zero());
  EXPECT_EQ(parse_keep_alive("-1"), kForever);
  EXPECT_EQ(parse_keep_alive("-5m"), kForever);
  EXPECT_EQ(parse_keep_alive("99999999999h"), kForever);
  EXPECT_EQ(keep_alive_of(-1), kForever);
  EXPECT_EQ(keep_alive_of(2.5), Duration(2500ms));
}

TEST(KeepAlive, IsRefusedWhereItIsNoTime) {
  for (const char* text : {"", "-", "m", "5x", "5m3", "1e3", "inf", "nan", "5 m", "5m ", "--1", "0x10", "1..5s"}) {
    EXPECT_FALSE(parse_keep_alive(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace baton::node
