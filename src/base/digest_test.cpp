#include "base/digest.h"

#include <gtest/gtest.h>

namespace baton {
namespace {

// The digests of the empty string and "abc": FIPS 180-2 and xxHash's own XXH3 test value for the empty input.
TEST(Digest, MatchesPublishedVectors) {
  EXPECT_EQ(sha256(as_byte_span("abc")).hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(checksum({}), 0x2d06800538d394c2ULL);
}

TEST(Digest, ChecksumInPartsEqualsTheWhole) {
  const std::string text(10'000, 'x');
  Checksum parts;
  parts.update(as_byte_span(text).first(1));
  parts.update(as_byte_span(text).subspan(1));
  EXPECT_EQ(parts.value(), checksum(as_byte_span(text)));
}

TEST(Digest, ChecksumsOfACopyGoOnByThemselves) {
  Checksum one;
  one.update(as_byte_span("ab"));
  Checksum other = one;
  one.update(as_byte_span("c"));
  other.update(as_byte_span("d"));
  EXPECT_EQ(one.value(), checksum(as_byte_span("abc")));
  EXPECT_EQ(other.value(), checksum(as_byte_span("abd")));
}

TEST(Digest, RefusesWhatIsNoDigest) {
  EXPECT_FALSE(Sha256::parse("abc"));
  EXPECT_FALSE(Sha256::parse("zz"));
  EXPECT_TRUE(Sha256::parse(Sha256{}.hex()));
}

TEST(Digest, Sha256InPartsEqualsTheWhole) {
  const std::string text(100'000, 'x');
  Sha256Stream parts;
  parts.update(as_byte_span(text).first(77));
  parts.update(as_byte_span(text).subspan(77));
  EXPECT_EQ(parts.value(), sha256(as_byte_span(text)));
}

}  // namespace
}  // namespace baton
