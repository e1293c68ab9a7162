#include "store/library.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/temporary_folder.h"
#include "store/partial_file.h"
#include "store/store.h"

namespace baton::store {
namespace {

class ModelLibrary : public testing::Test {
 protected:
  StoreOptions options() const { return {.folder = folder_.path() / "models", .found = {}, .hub = {}}; }

  // Puts a model there as a pull does.
  StoredModel add(const std::string& name, std::string_view content, const std::string& source = "hf.co/a/b:Q8_0") {
    Manifest manifest{.names = {name}, .source = source, .pulled_s = 1, .parts = {}};
    manifest.parts.push_back({"m.gguf", content.size(), sha256(as_byte_span(content))});
    Staging staging = library_.stage(manifest.digest().hex()).value();
    EXPECT_TRUE(write_file(staging.folder / "m.gguf", as_byte_span(content)));
    return library_.adopt(std::move(staging), manifest).value();
  }

  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  const Library library_{folder_.path() / "models"};
  const Store store_{options()};
};

TEST_F(ModelLibrary, IsForItsOwnerAlone) {
  add("m:1", "one");
  struct stat status{};
  ASSERT_EQ(::stat(library_.folder().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
}

TEST_F(ModelLibrary, FindsByNameAndDigest) {
  const StoredModel one = add("m:1", "one");
  add("m:2", "two");
  EXPECT_EQ(store_.list()->size(), 2U);
  EXPECT_EQ(store_.find("m:1")->digest, one.digest);
  EXPECT_EQ(store_.find("M:1")->digest, one.digest);
  EXPECT_EQ(store_.find(one.digest->hex().substr(0, 8))->digest, one.digest);
  EXPECT_EQ(store_.find("sha256:" + one.digest->hex())->digest, one.digest);
  EXPECT_EQ(store_.find("hf.co/A/B")->names.size(), 1U);
  EXPECT_EQ(store_.find("hf.co/a/b:q8_0")->bytes, 3U);
  EXPECT_EQ(store_.find("m:3").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store_.find(one.digest->hex().substr(0, 7)).error().code, ErrorCode::kNotFound);
}

TEST_F(ModelLibrary, TakesNoPathWhereOnlyANameMayBeGiven) {
  const StoredModel one = add("m:1", "one");
  const std::filesystem::path secret = folder_.path() / "secret";
  ASSERT_TRUE(write_file(secret, as_byte_span(std::string_view("secret"))));
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  EXPECT_EQ(store_.find("secret")->bytes, 6U);
  EXPECT_EQ(store_.find("secret", Naming::kNamesAlone).error().code, ErrorCode::kNotFound);
  std::filesystem::current_path(before);
  for (const std::string& name : {secret.string(), std::string("./m.gguf"), std::string("m.gguf"),
                                  std::string("https://example.org/m.gguf"), std::string("http://127.0.0.1/m.gguf")}) {
    EXPECT_EQ(store_.find(name, Naming::kNamesAlone).error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_EQ(store_.pull(name, {.naming = Naming::kNamesAlone}).error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_EQ(store_.copy(name, "mine", Naming::kNamesAlone).error().code, ErrorCode::kInvalidArgument) << name;
    EXPECT_EQ(store_.remove(name, Naming::kNamesAlone).error().code, ErrorCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(store_.find("m:1", Naming::kNamesAlone)->digest, one.digest);
}

TEST_F(ModelLibrary, RemovesTheNameThatWasGivenAndNoOther) {
  add("qwen3:8b", "one");
  ASSERT_TRUE(store_.copy("qwen3:8b", "qwen3"));
  EXPECT_EQ(store_.plan_removal("qwen3")->names_left, std::vector<std::string>{"qwen3:8b"});
  ASSERT_TRUE(store_.remove("qwen3"));
  EXPECT_EQ(store_.find("qwen3:8b")->names, std::vector<std::string>{"qwen3:8b"});
  ASSERT_TRUE(store_.copy("qwen3:8b", "mine"));
  EXPECT_EQ(store_.find("mine:latest")->names.size(), 2U);
  EXPECT_TRUE(store_.plan_removal(store_.find("mine")->digest->hex())->names_left.empty());
  ASSERT_TRUE(store_.remove("qwen3"));  // which the table completes
  EXPECT_EQ(store_.find("mine")->names, std::vector<std::string>{"mine"});
}

TEST_F(ModelLibrary, RemovesAnAliasAloneWhicheverWayItIsWritten) {
  const StoredModel one = add("qwen3:8b", "one");
  static constexpr std::pair<const char*, const char*> kSpellings[] = {
      {"mine", "mine:latest"}, {"mine:latest", "mine"}, {"mine", "MINE"}, {"qwen3", "qwen3:latest"}};
  for (const auto& [given, removed] : kSpellings) {
    ASSERT_TRUE(store_.copy("qwen3:8b", given));
    ASSERT_TRUE(store_.copy("qwen3:8b", removed));  // is the same name
    EXPECT_EQ(store_.find(given)->names.size(), 2U);
    ASSERT_TRUE(store_.remove(removed, Naming::kNamesAlone));
    EXPECT_EQ(store_.find("qwen3:8b")->names, std::vector<std::string>{"qwen3:8b"}) << given;
  }
  EXPECT_TRUE(std::filesystem::exists(one.parts.front()));
}

TEST_F(ModelLibrary, RemovesNoModelOfSeveralNamesByWhereItCameFrom) {
  const StoredModel one = add("hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M", "one");
  ASSERT_TRUE(store_.copy(one.names.front(), "mine"));
  for (const char* text : {"hf.co/Qwen/Qwen3-8B-GGUF", "hf.co/a/b"}) {
    ASSERT_EQ(store_.find(text)->digest, one.digest) << text;
    const auto removed = store_.remove(text);
    ASSERT_FALSE(removed) << text;
    EXPECT_EQ(removed.error().code, ErrorCode::kInvalidArgument);
    for (const std::string& name : {one.names.front(), std::string("mine")}) {
      EXPECT_NE(removed.error().message.find(name), std::string::npos) << removed.error().message;
    }
  }
  EXPECT_TRUE(std::filesystem::exists(one.parts.front()));
  ASSERT_TRUE(store_.remove("mine"));
  ASSERT_TRUE(store_.remove("hf.co/qwen/Qwen3-8B-GGUF"));  // it has one name now
  EXPECT_FALSE(std::filesystem::exists(one.parts.front()));
}

TEST_F(ModelLibrary, RemovesNothingByAShortNameThatItHasNotAnyMore) {
  const StoredModel one = add("qwen3:8b", "one", "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M");
  ASSERT_TRUE(store_.copy("qwen3:8b", "mine"));
  ASSERT_TRUE(store_.remove("qwen3:8b"));
  for (const char* text : {"qwen3:8b", "qwen3", "qwen3:8b-q4_k_m"}) {
    ASSERT_EQ(store_.find(text)->digest, one.digest) << text;
    const auto removed = store_.remove(text);
    ASSERT_FALSE(removed) << text;
    EXPECT_EQ(removed.error().code, ErrorCode::kNotFound);
    EXPECT_TRUE(removed.error().message.contains("'mine'")) << removed.error().message;
  }
  EXPECT_EQ(store_.find("mine")->names, std::vector<std::string>{"mine"});
}

TEST_F(ModelLibrary, RemovesNoneOfSeveralModelsByTheirRepository) {
  const StoredModel small = add("small", "one", "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M");
  const StoredModel large = add("large", "seven", "hf.co/Qwen/Qwen3-8B-GGUF:Q8_0");
  const auto removed = store_.remove("hf.co/Qwen/Qwen3-8B-GGUF");
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, ErrorCode::kInvalidArgument);
  for (const char* name : {"'small'", "'large'"}) EXPECT_TRUE(removed.error().message.contains(name)) << name;
  EXPECT_TRUE(store_.remove("hf.co/Qwen/Qwen3-8B-GGUF:Q8_0"));
  EXPECT_FALSE(std::filesystem::exists(large.parts.front()));
  EXPECT_TRUE(std::filesystem::exists(small.parts.front()));
}

// Whoever pulls what is here asks for it by that name next.
TEST_F(ModelLibrary, GivesWhatIsHereTheNameThatItIsPulledBy) {
  const std::string source = "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M";
  const StoredModel one = add(source, "one", source);
  const auto names_after = [&](const char* name) {
    const auto pulled = store_.pull(name, {.naming = Naming::kNamesAlone});
    EXPECT_TRUE(pulled) << pulled.error().to_string();
    return pulled ? pulled->names : std::vector<std::string>();
  };
  EXPECT_EQ(names_after("hf.co/qwen/qwen3-8b-gguf"), std::vector{source});
  EXPECT_EQ(names_after("qwen3"), (std::vector<std::string>{source, "qwen3:8b"}));
  EXPECT_EQ(names_after("qwen3:8b-q4_k_m"), (std::vector<std::string>{source, "qwen3:8b", "qwen3:8b-q4_k_m"}));
  ASSERT_TRUE(store_.copy("qwen3", "mine"));
  for (const std::string& gone : {source, std::string("qwen3:8b"), std::string("qwen3:8b-q4_k_m")}) {
    ASSERT_TRUE(store_.remove(gone)) << gone;
  }
  EXPECT_EQ(names_after("mine"), std::vector<std::string>{"mine"});
  EXPECT_EQ(names_after("qwen3:8b"), (std::vector<std::string>{"mine", "qwen3:8b"}));
  EXPECT_EQ(names_after("hf.co/Qwen/Qwen3-8B-GGUF"), (std::vector<std::string>{"mine", "qwen3:8b", source}));
  EXPECT_EQ(store_.find("qwen3:8b")->digest, one.digest);
  // Somebody may object to a name, and then it does not get it.
  const PullOptions options{.naming = Naming::kNamesAlone,
                            .may_be_called = [](const Sha256&, const std::vector<std::string>&) -> Result<void> {
                              return fail(ErrorCode::kNoCapacity, "taken");
                            }};
  EXPECT_EQ(store_.pull("qwen3:8b-q4_k_m", options).error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(store_.find("mine")->names.size(), 3U);
}

TEST_F(ModelLibrary, TakesANameFromTheModelThatHadItInAnotherSpelling) {
  const StoredModel one = add("m:1", "one");
  const StoredModel two = add("m:2", "two");
  ASSERT_TRUE(store_.copy("m:1", "mine"));
  ASSERT_TRUE(store_.copy("m:2", "mine:latest"));
  EXPECT_EQ(store_.find("mine")->digest, two.digest);
  EXPECT_EQ(store_.find("m:1")->names, std::vector<std::string>{"m:1"});
}

TEST_F(ModelLibrary, RemovesTheFilesWithTheLastName) {
  const StoredModel one = add("m:1", "one");
  ASSERT_TRUE(store_.copy("m:1", "alias"));
  EXPECT_EQ(store_.find("alias")->digest, one.digest);
  ASSERT_TRUE(store_.remove("m:1"));
  EXPECT_TRUE(std::filesystem::exists(one.parts.front()));
  EXPECT_EQ(store_.find("m:1").error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(store_.remove("alias"));
  EXPECT_FALSE(std::filesystem::exists(one.parts.front()));
  EXPECT_EQ(store_.remove("alias").error().code, ErrorCode::kNotFound);
}

TEST_F(ModelLibrary, GivesANameToOneModelOnly) {
  add("m:1", "one");
  const StoredModel two = add("m:1", "two");
  EXPECT_EQ(store_.find("m:1")->digest, two.digest);
  EXPECT_EQ(store_.list()->size(), 2U);
  // The other has no name left, and is called by its digest.
  const std::string digest = sha256(as_byte_span("one")).hex();
  EXPECT_TRUE(store_.remove(digest.substr(0, 12)));
  EXPECT_EQ(store_.list()->size(), 1U);
}

TEST_F(ModelLibrary, LeavesANameWithItsModelWhereItMustNotMove) {
  const StoredModel one = add("m:1", "one");
  const StoredModel two = add("m:2", "two");
  EXPECT_EQ(library_.add_name(*two.digest, "m:1", TakenNames::kRefuse).error().code, ErrorCode::kNoCapacity);
  Manifest manifest{.names = {"M:1"}, .source = "node a", .pulled_s = 1, .parts = {}};
  manifest.parts.push_back({"m.gguf", 5, sha256(as_byte_span("three"))});
  Staging staging = library_.stage(manifest.digest().hex()).value();
  ASSERT_TRUE(write_file(staging.folder / "m.gguf", as_byte_span("three")));
  const auto path = staging.folder / "m.gguf";
  const auto refused = library_.adopt(std::move(staging), manifest, TakenNames::kRefuse);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNoCapacity);
  EXPECT_EQ(store_.list()->size(), 2U);
  EXPECT_EQ(store_.find("m:1")->digest, one.digest);
  EXPECT_TRUE(std::filesystem::exists(path));  // what came stays
  EXPECT_TRUE(library_.add_name(*one.digest, "m:1", TakenNames::kRefuse));
}

TEST_F(ModelLibrary, LeavesOtherFilesAlone) {
  const auto file = folder_.path() / "mine.gguf";
  ASSERT_TRUE(write_file(file, as_byte_span("x")));
  EXPECT_EQ(store_.find(file.string())->origin, Origin::kFile);
  EXPECT_EQ(store_.remove(file.string()).error().code, ErrorCode::kRefused);
  EXPECT_TRUE(std::filesystem::exists(file));
  // And gives none of them away.
  EXPECT_FALSE(store_.give(file.string()));
}

TEST_F(ModelLibrary, TrustsNoManifest) {
  const StoredModel one = add("m:1", "one");
  const auto path = one.parts.front().parent_path() / kManifestFile;
  const std::string good = read_text_file(path).value();
  std::string leads_out = good;
  leads_out.replace(leads_out.find("m.gguf"), 6, "../m.x");
  std::string of_another = good;
  const std::size_t sum = of_another.find("\"sha256\": \"") + 11;
  of_another[sum] = of_another[sum] == '0' ? '1' : '0';
  for (const std::string& bad : {std::string("{"), leads_out, of_another, std::string("{\"version\":2}")}) {
    ASSERT_TRUE(write_file(path, as_byte_span(bad)));
    EXPECT_EQ(library_.read_manifest(*one.digest).error().code, ErrorCode::kCorrupt) << bad;
    EXPECT_TRUE(store_.list()->empty());
  }
  ASSERT_TRUE(write_file(path, as_byte_span(good)));
  ASSERT_TRUE(write_file(one.parts.front(), as_byte_span("on")));
  EXPECT_TRUE(store_.list()->empty());
}

TEST_F(ModelLibrary, LetsOneCollectAModelAtATime) {
  const Staging mine = library_.stage("key").value();
  EXPECT_EQ(library_.stage("key").error().code, ErrorCode::kNoCapacity);
  EXPECT_TRUE(library_.stage("other"));
}

// As two pulls of one model do, and somebody who deletes it: who waits goes on in a folder of its own.
TEST_F(ModelLibrary, LetsOneWaitWhileAnotherAdopts) {
  Manifest manifest{.names = {"m:1"}, .source = "node a", .pulled_s = 1, .parts = {}};
  manifest.parts.push_back({"m.gguf", 3, sha256(as_byte_span("one"))});
  std::atomic<int> failed = 0;
  const auto pull = [&] {
    for (int round = 0; round < 50; ++round) {
      auto staging = library_.stage("key");
      while (!staging && staging.error().code == ErrorCode::kNoCapacity) staging = library_.stage("key");
      const bool good = staging && write_file(staging->folder / "m.gguf", as_byte_span("one")) &&
                        library_.adopt(*std::move(staging), manifest);
      if (!good) ++failed;
      if (round % 2 == 0) static_cast<void>(library_.remove(manifest.digest()));
    }
  };
  std::thread other(pull);
  pull();
  other.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(ModelLibrary, LeavesNothingOfAPullBesideTheModel) {
  const StoredModel one = add("m:1", "one");
  EXPECT_TRUE(std::filesystem::is_empty(library_.folder() / "partial"));
  std::vector<std::string> files;
  for (const auto& file : std::filesystem::directory_iterator(one.parts.front().parent_path())) {
    files.push_back(file.path().filename().string());
  }
  std::ranges::sort(files);
  EXPECT_EQ(files, (std::vector<std::string>{"m.gguf", std::string(kManifestFile)}));
}

TEST(PartialFile, GoesOnWhereAnEarlierOneEnded) {
  const auto folder = TemporaryFolder::create("baton-test").value();
  const auto path = folder.path() / "m.gguf";
  {
    PartialFile part = PartialFile::open(path, {}, [](auto) {}).value();
    ASSERT_TRUE(part.restart("\"v1\""));
    ASSERT_TRUE(part.write(as_byte_span("abc")));
  }
  PartialFile part = PartialFile::open(path, {}, [](auto) {}).value();
  EXPECT_EQ(part.size(), 3U);
  EXPECT_EQ(part.version(), "\"v1\"");
  ASSERT_TRUE(part.write(as_byte_span("def")));
  EXPECT_EQ(part.digest(), sha256(as_byte_span("abcdef")));
  ASSERT_TRUE(part.commit());
  EXPECT_EQ(read_text_file(path).value(), "abcdef");
  EXPECT_FALSE(std::filesystem::exists(path.string() + ".part.of"));
}

TEST(PartialFile, ForgetsAnotherVersion) {
  const auto folder = TemporaryFolder::create("baton-test").value();
  PartialFile part = PartialFile::open(folder.path() / "m", {}, [](auto) {}).value();
  ASSERT_TRUE(part.write(as_byte_span("abc")));
  ASSERT_TRUE(part.restart("new"));
  ASSERT_TRUE(part.write(as_byte_span("x")));
  EXPECT_EQ(part.size(), 1U);
  EXPECT_EQ(part.digest(), sha256(as_byte_span("x")));
}

TEST(FreeSpace, IsLookedAtBefore) {
  const auto folder = TemporaryFolder::create("baton-test").value();
  EXPECT_TRUE(check_free_space(folder.path(), 1));
  const auto full = check_free_space(folder.path(), std::uint64_t{1} << 60);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace baton::store
