#include "net/identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "base/file.h"
#include "net/test_support.h"

namespace baton::net {
namespace {

unsigned mode_of(const std::filesystem::path& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 0777;
}

TEST(Identity, IsMadeOnceAndThenStaysTheSame) {
  const TemporaryFolder folder = new_folder();
  const auto first = must(Identity::load_or_create(folder.path() / "a" / "id"));
  const auto second = must(Identity::load_or_create(folder.path() / "a" / "id"));
  const auto other = must(Identity::load_or_create(folder.path() / "b"));
  EXPECT_EQ(first.fingerprint(), second.fingerprint());
  EXPECT_NE(first.fingerprint(), other.fingerprint());
}

TEST(Identity, BelongsToItsOwnerOnly) {
  const TemporaryFolder folder = new_folder();
  const mode_t before = ::umask(0);
  const auto path = folder.path() / "id";
  const bool made = Identity::load_or_create(path).has_value();
  ::umask(before);
  ASSERT_TRUE(made);
  EXPECT_EQ(mode_of(path), 0700u);
  EXPECT_EQ(mode_of(path / "identity.pem"), 0600u);
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path)) ++files;
  EXPECT_EQ(files, 1) << "no draft of the key may stay behind";
}

TEST(Identity, TakesAwayAccessThatOthersWereGiven) {
  const TemporaryFolder folder = new_folder();
  must(Identity::load_or_create(folder.path()));
  ASSERT_EQ(::chmod((folder.path() / "identity.pem").c_str(), 0644), 0);
  must(Identity::load_or_create(folder.path()));
  EXPECT_EQ(mode_of(folder.path() / "identity.pem"), 0600u);
}

TEST(Identity, RefusesADamagedFileAndLeavesItAlone) {
  const TemporaryFolder folder = new_folder();
  const TemporaryFolder other_folder = new_folder();
  must(Identity::load_or_create(folder.path()));
  must(Identity::load_or_create(other_folder.path()));
  const auto path = folder.path() / "identity.pem";
  const std::string good = must(read_text_file(path));
  const std::string other = must(read_text_file(other_folder.path() / "identity.pem"));
  const std::size_t certificate = good.find("-----BEGIN CERTIFICATE");
  ASSERT_NE(certificate, std::string::npos);
  std::string flipped = good;
  flipped[60] = flipped[60] == 'A' ? 'B' : 'A';
  std::string encrypted = good;
  encrypted.replace(encrypted.find("BEGIN PRIVATE"), 13, "BEGIN ENCRYPTED PRIVATE");
  const std::vector<std::string> damaged = {"",
                                            "hello",
                                            good.substr(0, 40),
                                            good.substr(0, certificate),
                                            good.substr(certificate),
                                            good.substr(0, good.size() - 60),
                                            good.substr(0, certificate) + other.substr(other.find("-----BEGIN CERT")),
                                            flipped,
                                            encrypted,
                                            std::string(5000, '\0')};
  for (const std::string& text : damaged) {
    ASSERT_TRUE(write_file(path, as_byte_span(text), 0600));
    const auto identity = Identity::load_or_create(folder.path());
    ASSERT_FALSE(identity) << text;
    EXPECT_EQ(identity.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(identity.error().to_string().find("identity.pem"), std::string::npos);
    EXPECT_EQ(must(read_text_file(path)), text);
  }
}

TEST(Identity, SaysWhenTheFolderCannotBeMade) {
  const TemporaryFolder folder = new_folder();
  ASSERT_TRUE(write_file(folder.path() / "file", as_byte_span("x")));
  const auto identity = Identity::load_or_create(folder.path() / "file" / "id");
  ASSERT_FALSE(identity);
  EXPECT_EQ(identity.error().code, ErrorCode::kIo);
}

TEST(Identity, IsOneEvenWhenManyComeAtOnce) {
  for (int round = 0; round < 5; ++round) {
    const TemporaryFolder folder = new_folder();
    constexpr int kProcesses = 6;
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < kProcesses; ++i) {
      const pid_t child = ::fork();
      if (child == 0) {
        const auto identity = Identity::load_or_create(folder.path() / "id");
        const std::string line = identity ? identity->fingerprint().to_string() : std::string(64, 'x');
        ::_exit(::write(ends[1], line.data(), line.size()) == 64 ? 0 : 1);
      }
      children.push_back(child);
    }
    std::set<std::string> seen;
    for (int i = 0; i < kProcesses; ++i) {
      std::string line(64, ' ');
      ASSERT_EQ(::read(ends[0], line.data(), line.size()), 64);
      seen.insert(line);
    }
    for (const pid_t child : children) ::waitpid(child, nullptr, 0);
    ::close(ends[0]);
    ::close(ends[1]);
    EXPECT_EQ(seen, std::set{must(Identity::load_or_create(folder.path() / "id")).fingerprint().to_string()});
  }
}

}  // namespace
}  // namespace baton::net
