#include "store/url.h"

#include <gtest/gtest.h>

#include "store/http_client.h"

namespace baton::store {
namespace {

TEST(Url, IsTakenApart) {
  const Url url = Url::parse("https://Hub.example:8443/a/b?c=d#e").value();
  EXPECT_EQ(url.scheme, Scheme::kHttps);
  EXPECT_EQ(url.host, "hub.example");
  EXPECT_EQ(url.port, 8443);
  EXPECT_EQ(url.target, "/a/b?c=d");
  EXPECT_EQ(url.to_string(), "https://hub.example:8443/a/b?c=d");
  EXPECT_EQ(Url::parse("http://[::1]/x")->host, "::1");
  EXPECT_EQ(Url::parse("http://[::1]:80/x")->authority(), "[::1]");
  EXPECT_EQ(Url::parse("https://h?x")->target, "/?x");
  EXPECT_EQ(Url::parse("https://h")->to_string(), "https://h/");
}

TEST(Url, RefusesWhatIsNone) {
  for (const char* text : {"", "h", "ftp://h", "https://", "https:///x", "https://u:p@h/", "https://h:0", "https://h:x",
                           "https://h:70000", "https://h:1:2/", "https://[::1/", "https://h/a b", "https://h\r\n/",
                           "https://h\xc3\xa4/", "https://[::1]x/"}) {
    EXPECT_FALSE(Url::parse(text)) << text;
  }
}

TEST(Url, FollowsARedirect) {
  const Url url = Url::parse("https://h:1/a/b?c").value();
  EXPECT_EQ(url.resolve("https://other/x")->to_string(), "https://other/x");
  EXPECT_EQ(url.resolve("//other/x")->to_string(), "https://other/x");
  EXPECT_EQ(url.resolve("/x?y")->to_string(), "https://h:1/x?y");
  EXPECT_EQ(url.resolve("x")->to_string(), "https://h:1/a/x");
  EXPECT_FALSE(url.resolve("x\r\ny"));
}

TEST(Url, EncodesWhatAPathMustNotHold) { EXPECT_EQ(percent_encode_path("Q8_0/a b+c.gguf"), "Q8_0/a%20b%2Bc.gguf"); }

TEST(ProxySettings, LeaveOutTheHostsThatAreNamed) {
  const ProxySettings proxies{.http = "p:3128", .https = "http://q:1", .never = {"intern.example", ".lan"}};
  const auto proxy = [&](const char* url) { return proxies.proxy_for(Url::parse(url).value()); };
  EXPECT_EQ(proxy("http://h/"), "http://p:3128");
  EXPECT_EQ(proxy("https://h/"), "http://q:1");
  EXPECT_EQ(proxy("https://intern.example/"), std::nullopt);
  EXPECT_EQ(proxy("https://a.intern.example/"), std::nullopt);
  EXPECT_EQ(proxy("https://notintern.example/"), "http://q:1");
  EXPECT_EQ(proxy("https://nas.lan/"), std::nullopt);
  EXPECT_EQ(proxy("http://127.0.0.1:80/"), std::nullopt);
  EXPECT_EQ((ProxySettings{.https = "q", .never = {"*"}}).proxy_for(Url::parse("https://h/").value()), std::nullopt);
}

}  // namespace
}  // namespace baton::store
