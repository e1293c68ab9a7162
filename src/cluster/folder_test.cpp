#include "cluster/folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton::cluster {
namespace {

struct Scene {
  TemporaryFolder temporary = TemporaryFolder::create("baton-cluster").value();
  Folder folder = Folder::open(temporary.path() / "data").value();
  void spoil(const char* name) { EXPECT_TRUE(write_file(folder.path() / name, as_byte_span("spoilt"))); }
};

TEST(Folder, IsForItsOwnerOnly) {
  Scene scene;
  const auto list = trust::MemberList::found(scene.folder.identity().signing_key(), "home", "first").value();
  ASSERT_TRUE(scene.folder.write_members(list));
  ASSERT_TRUE(scene.folder.write_tokens({}));
  struct stat status{};
  ASSERT_EQ(stat(scene.folder.path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
  for (const auto& entry : std::filesystem::directory_iterator(scene.folder.path())) {
    ASSERT_EQ(stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << entry.path();
  }
}

TEST(Folder, ReadsWhatItWrites) {
  Scene scene;
  EXPECT_FALSE(scene.folder.read_members().value());
  EXPECT_FALSE(scene.folder.read_certificate().value());
  EXPECT_FALSE(scene.folder.read_running().value());
  EXPECT_TRUE(scene.folder.read_addresses().value().empty());
  const net::Fingerprint id = scene.folder.identity().fingerprint();
  const AddressBook book = {{id, {net::Endpoint::parse("[::1]:8771").value()}}};
  const TokenBook tokens = {{id, 1'800'000'000}};
  ASSERT_TRUE(scene.folder.write_addresses(book));
  ASSERT_TRUE(scene.folder.write_tokens(tokens));
  ASSERT_TRUE(scene.folder.write_running(book.at(id).front()));
  EXPECT_EQ(scene.folder.read_addresses().value(), book);
  EXPECT_EQ(scene.folder.read_tokens().value(), tokens);
  EXPECT_EQ(scene.folder.read_running().value(), book.at(id).front());
  scene.folder.remove_running();
  EXPECT_FALSE(scene.folder.read_running().value());
}

TEST(Folder, NamesADamagedFile) {
  Scene scene;
  const auto check = [](const auto& result, std::string_view name) {
    ASSERT_FALSE(result) << name;
    EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(result.error().context.find(name), std::string::npos);
  };
  for (const char* name : {"members", "addresses.json", "tokens.json", "running.json"}) scene.spoil(name);
  check(scene.folder.read_members(), "members");
  check(scene.folder.read_addresses(), "addresses.json");
  check(scene.folder.read_tokens(), "tokens.json");
  check(scene.folder.read_running(), "running.json");
}

TEST(Folder, KeepsItsKeyWhenItForgetsItsCluster) {
  Scene scene;
  ASSERT_TRUE(scene.folder.write_members(
      trust::MemberList::found(scene.folder.identity().signing_key(), "home", "first").value()));
  ASSERT_TRUE(scene.folder.forget_cluster());
  EXPECT_FALSE(scene.folder.read_members().value());
  EXPECT_EQ(Folder::open(scene.folder.path()).value().identity().fingerprint(), scene.folder.identity().fingerprint());
}

}  // namespace
}  // namespace baton::cluster
