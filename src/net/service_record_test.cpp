#include "net/service_record.h"

#include <gtest/gtest.h>

namespace baton::net {
namespace {

ServiceRecord example() {
  ServiceRecord record;
  record.node.digest.bytes[3] = std::byte{0xab};
  record.cluster = "0123abcd";
  record.addresses = {{"192.0.2.7", 8771}, {"2001:db8::1", 8771}};
  return record;
}

Bytes bytes_of(std::initializer_list<std::string> entries) {
  Bytes bytes;
  for (const std::string& entry : entries) {
    bytes.push_back(static_cast<std::byte>(entry.size()));
    for (const char letter : entry) bytes.push_back(static_cast<std::byte>(letter));
  }
  return bytes;
}

TEST(ServiceRecord, IsReadAsItWasWritten) {
  const auto read = decode_service_record(encode(example()));
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(*read, example());
}

TEST(ServiceRecord, FitsIntoAPacketWhateverTheNodeHas) {
  ServiceRecord record = example();
  record.addresses.assign(20, {std::string(200, 'h'), 65535});
  const Bytes bytes = encode(record);
  EXPECT_LE(bytes.size(), kMaxServiceRecordBytes);
  const auto read = decode_service_record(bytes);
  ASSERT_TRUE(read);
  EXPECT_GE(read->addresses.size(), 4u);
  EXPECT_LE(read->addresses.size(), kMaxServiceAddresses);
}

TEST(ServiceRecord, PassesOverWhatItDoesNotKnowAndTakesTheFirstOfTwo) {
  const std::string node = "n=" + example().node.to_string();
  const auto read = decode_service_record(bytes_of({"V=1", "x=1", "flag", node, "c=ab", "c=cd", "a0=192.0.2.1:7"}));
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(read->cluster, "ab");
  EXPECT_EQ(read->addresses, (std::vector<Endpoint>{{"192.0.2.1", 7}}));
}

TEST(ServiceRecord, RefusesWhatIsNone) {
  const std::string node = "n=" + example().node.to_string();
  EXPECT_EQ(decode_service_record({}).error().code, ErrorCode::kProtocol);
  EXPECT_EQ(decode_service_record(bytes_of({"v=2", node, "c=ab"})).error().code, ErrorCode::kUnsupported);
  EXPECT_FALSE(decode_service_record(bytes_of({"v=1", "n=12", "c=ab"})));
  EXPECT_FALSE(decode_service_record(bytes_of({"v=1", node, "c=<script>"})));
  EXPECT_FALSE(decode_service_record(bytes_of({"v=1", node, "c=ab", "a0=nowhere"})));
  Bytes cut = encode(example());
  cut.pop_back();
  EXPECT_EQ(decode_service_record(cut).error().code, ErrorCode::kProtocol);
}

}  // namespace
}  // namespace baton::net
