#include "serve/page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace baton::serve {
namespace {

constexpr std::array kFiles = {
    PageFile{.path = "/", .type = "text/html", .tag = "\"1\"", .bytes = "<p>page</p>", .gzip = "small"},
    PageFile{.path = "/assets/a.js", .type = "text/javascript", .tag = "\"2\"", .bytes = "x", .gzip = {}}};

// Keeps what is sent.
class Sent : public HttpReply {
 public:
  void send(int of_status, std::string_view of_type, std::string of_body, HttpHeaders of_headers) override {
    status = of_status;
    type = of_type;
    body = std::move(of_body);
    headers = std::move(of_headers);
  }
  void begin(int, std::string_view, HttpHeaders) override {}
  void write(std::string) override {}
  void end() override {}
  bool begun() const override { return status != 0; }
  bool gone() const override { return false; }
  void on_gone(std::function<void()>) override {}

  std::string header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return {};
  }

  int status = 0;
  std::string type;
  std::string body;
  HttpHeaders headers;
};

Sent sent(std::string path, HttpHeaders headers = {}) {
  HttpRequest request;
  request.method = "GET";
  request.path = std::move(path);
  request.headers = std::move(headers);
  Sent reply;
  EXPECT_EQ(send_page_file(kFiles, request, reply), reply.status);
  return reply;
}

TEST(Page, IsCompressedForWhoTakesThat) {
  EXPECT_EQ(sent("/").body, "<p>page</p>");
  for (const std::string accepted : {"gzip", "br, gzip", "deflate , gzip;q=0.5"}) {
    const Sent reply = sent("/", {{"accept-encoding", accepted}});
    EXPECT_EQ(reply.body, "small") << accepted;
    EXPECT_EQ(reply.header("Content-Encoding"), "gzip");
    EXPECT_EQ(reply.header("Vary"), "Accept-Encoding");
  }
  for (const std::string accepted : {"br", "gzip;q=0", "gzip; q=0.0", "x-gzip"}) {
    EXPECT_EQ(sent("/", {{"accept-encoding", accepted}}).body, "<p>page</p>") << accepted;
  }
  EXPECT_EQ(sent("/assets/a.js", {{"accept-encoding", "gzip"}}).body, "x");
}

TEST(Page, IsNotSentAgainToWhoHasIt) {
  for (const std::string known : {"\"1\"", "W/\"1\"", "\"0\", \"1\"", "*"}) {
    const Sent reply = sent("/", {{"if-none-match", known}});
    EXPECT_EQ(reply.status, 304) << known;
    EXPECT_EQ(reply.body, "");
    EXPECT_EQ(reply.header("ETag"), "\"1\"");
  }
  EXPECT_EQ(sent("/", {{"if-none-match", "\"2\""}}).status, 200);
}

TEST(Page, LetsAssetsBeKeptAndItselfBeAskedFor) {
  EXPECT_EQ(sent("/").header("Cache-Control"), "no-cache");
  EXPECT_NE(sent("/assets/a.js").header("Cache-Control").find("immutable"), std::string::npos);
  EXPECT_EQ(sent("/assets/b.js").status, 404);
  EXPECT_NE(sent("/").header("Content-Security-Policy").find("default-src 'none'"), std::string::npos);
}

TEST(Page, HasAFileForTheRootOfThisProgram) {
  ASSERT_FALSE(page_files().empty());
  for (const PageFile& file : page_files()) {
    EXPECT_FALSE(file.bytes.empty()) << file.path;
  }
  EXPECT_EQ(std::ranges::count(page_files(), "/", &PageFile::path), 1);
}

}  // namespace
}  // namespace baton::serve
