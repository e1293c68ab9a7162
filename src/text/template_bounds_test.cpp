// What a hostile template comes to: an error that says why, in a process that goes on.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <format>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "text/chat_template.h"

namespace baton::text {
namespace {

constexpr std::string_view kTooMuchMemory = "it takes more than 256 MiB of memory";
constexpr std::string_view kEndless = "it does not come to an end within 2 seconds";
constexpr std::string_view kTooDeep = "it recurses or nests deeper than 64 MiB of stack bear";

// A sanitizer takes time and stack of its own, and ends a process in its own way.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kReasonsAreOurs = false;
#else
constexpr bool kReasonsAreOurs = true;
#endif

ChatRequest bounded_request(std::string words) {
  ChatRequest request;
  request.messages.push_back({.role = Role::kUser, .content = std::move(words)});
  return request;
}

Error bounds_error(std::string_view source) {
  const auto chat_template = ChatTemplate::create(source, {});
  if (!chat_template) return chat_template.error();
  const auto text = chat_template->render(bounded_request("hello"));
  EXPECT_FALSE(text) << source.substr(0, 200) << "\n" << text->bytes().substr(0, 200);
  return text ? Error{} : text.error();
}

void expect_stopped(std::string_view source, std::string_view why) {
  const Error error = bounds_error(source);
  EXPECT_EQ(error.code, ErrorCode::kCorrupt) << source.substr(0, 200);
  constexpr std::string_view kStopped = "the chat template was stopped, as it is broken or hostile: ";
  EXPECT_TRUE(error.message.starts_with(kStopped)) << source.substr(0, 200) << "\n" << error.message;
  if (!kReasonsAreOurs) return;
  EXPECT_TRUE(error.message.ends_with(why)) << source.substr(0, 200) << "\n" << error.message;
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

TEST(TemplateBounds, EndATemplateThatFillsMemory) {
  for (const std::string_view source :
       {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% macro f(s) %}{% set s = s ~ s %}{{ f(s) }}{% endmacro %}{{ f('0123456789abcdef') }}",
        "{% set s = 'a' * 9999 %}{{ s * 9999999999 }}", "{{ range(1000000000) }}", "{{ range(9, 0, 0) }}",
        "{{ 'abc'.split('') }}", "{% set s = 'a' * 99999 %}{{ s | replace('a', s) }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
        "{{ ns.x | tojson }}"}) {
    expect_stopped(source, kTooMuchMemory);
  }
}

TEST(TemplateBounds, EndATemplateThatDoesNotEnd) {
  for (const std::string_view source :
       {"{% set r = range(9999) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set s = 'a' * 9999999 %}{% set t = 'a' * 4999999 ~ 'b' %}{{ t in s }}"}) {
    expect_stopped(source, kEndless);
  }
}

TEST(TemplateBounds, EndATemplateThatIsNotParsedInTime) {
  expect_stopped(repeated("{{ a }}", 100'000), "it does not come to an end within 5 seconds");
}

TEST(TemplateBounds, EndATemplateThatExhaustsTheStack) {
  const std::string nest =
      "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [[[[[[[[ns.l]]]]]]]] %}{% endfor %}";
  for (const std::string& source : {std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), nest + "{{ ns.l }}",
                                    nest + "{{ ns.l | tojson }}", "{#" + std::string(900'000, '-') + "#}"}) {
    expect_stopped(source, kTooDeep);
  }
  // Nobody has to free what is nested.
  const auto chat_template = ChatTemplate::create(
      "{% set ns = namespace(l=[]) %}{% for i in range(9000) %}{% set ns.l = [[[[[[[[ns.l]]]]]]]] %}{% endfor %}done",
      {});
  ASSERT_TRUE(chat_template);
  const auto text = chat_template->render(bounded_request("hello"));
  ASSERT_TRUE(text) << text.error().to_string();
  EXPECT_EQ(text->bytes(), "done");
}

TEST(TemplateBounds, EndATemplateThatCrashesWhatRendersIt) {
  expect_stopped("{{ 1 % 0 }}", "it divides by zero");
  expect_stopped("{% set n = 0 %}{{ 1 // n }}", "it divides by zero");
  expect_stopped("{{ 'abcdef'[0:1000:7] }}", "it reads beyond the end of a text");
}

TEST(TemplateBounds, RefuseATextThatIsMuchLongerThanItsConversation) {
  EXPECT_EQ(bounds_error("{{ 'a' * 9000000 }}").message,
            "the chat template failed: it makes 9000000 bytes of text, more than 4194344 for this conversation");
}

TEST(TemplateBounds, ShortenTheWordsOfARefusal) {
  const Error error = bounds_error("{{ raise_exception('no' * 5000000) }}");
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_LT(error.message.size(), 2000U);
}

TEST(TemplateBounds, LeaveTheNextRenderingAndThisProcessAsTheyWere) {
  const auto chat_template = ChatTemplate::create(
      "{% set words = messages[0].content %}"
      "{% if words == 'divide' %}{{ 1 % 0 }}{% elif words == 'fill' %}{% set s = 'a' * 9999 %}{{ s * 9999999999 }}"
      "{% elif words == 'recurse' %}{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{% else %}{{ words }}{% endif %}",
      {});
  ASSERT_TRUE(chat_template);
  const auto peak_kib = [] {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const auto before = peak_kib();
  for (int i = 0; i < 3; ++i) {
    for (const std::string_view words : {"divide", "fill", "recurse"}) {
      EXPECT_FALSE(chat_template->render(bounded_request(std::string(words))));
      const auto text = chat_template->render(bounded_request("words"));
      ASSERT_TRUE(text) << text.error().to_string();
      EXPECT_EQ(text->bytes(), "words");
    }
  }
  EXPECT_LT(peak_kib() - before, 32 << 10);
}

TEST(TemplateBounds, KeepNothingOfAConversation) {
  // Names that a template sets live in one rendering.
  const auto chat_template = ChatTemplate::create(
      "{% if seen is defined %}seen{% endif %}{% set seen = messages[0].content %}{% macro f() %}{{ seen }}{% endmacro "
      "%}"
      "{{ f() }}",
      {});
  ASSERT_TRUE(chat_template);
  for (const std::string words : {"one", "two"})
    EXPECT_EQ(chat_template->render(bounded_request(words))->bytes(), words);
}

TEST(TemplateBounds, HoldForThreadsThatTakeTurns) {
  const auto chat_template = ChatTemplate::create("{% for m in messages %}{{ m.content }}{% endfor %}", {});
  ASSERT_TRUE(chat_template);
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 50; ++i) {
        const std::string words = std::format("{} of {}", i, thread);
        const auto text = chat_template->render(bounded_request(words));
        ASSERT_TRUE(text) << text.error().to_string();
        EXPECT_EQ(text->bytes(), words);
      }
    });
  }
}

TEST(TemplateBounds, StartTheProcessAgainWhereItWasKilled) {
  std::ifstream list("/proc/thread-self/children");
  if (!list) GTEST_SKIP() << "this system does not list the children of a thread";
  const auto chat_template = ChatTemplate::create("{{ messages[0].content }}", {});
  ASSERT_TRUE(chat_template);
  pid_t process = 0;
  for (pid_t child = 0; list >> child;) process = child;
  ASSERT_GT(process, 0);
  ::kill(process, SIGINT);  // is for the program in front
  EXPECT_EQ(chat_template->render(bounded_request("one"))->bytes(), "one");
  ::kill(process, SIGKILL);
  const auto text = chat_template->render(bounded_request("two"));
  ASSERT_TRUE(text) << text.error().to_string();
  EXPECT_EQ(text->bytes(), "two");
}

}  // namespace
}  // namespace baton::text
