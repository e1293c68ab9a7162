#include "text/template_guard.h"

#include <gtest/gtest.h>

#include <vector>

namespace baton::text {
namespace {

TEST(TemplateGuard, LetsOrdinaryTemplatesPassUnchanged) {
  for (const std::string_view source :
       {"plain", "{", "{{ a }}", "{% if a %}b{% endif %}", "{{ a % 2 == 0 }}", "{{ (a - 1) // 2 }}", "{{ m[::-1] }}",
        "{{ m[1:] }}{{ m[:-1] }}", "{{ {'a': 1, 'b': {'c': x[1:2]}} }}", "{{ x.split('</think>')[-1] }}",
        "{{ ' ' * 4 }}", "{{ f(*args, **more) }}", "{{ {'a': {}}}}", "{{- \"}}\" -}}", "{{ '%} / % *' }}"}) {
    EXPECT_EQ(check_template(source), source);
  }
}

TEST(TemplateGuard, EmptiesComments) {
  EXPECT_EQ(check_template("a{#- long {{ text }} -#}b{# c #}d{#-#}"), "a{#--#}b{##}d{#-#}");
}

TEST(TemplateGuard, MakesLoopsCountTheirTurns) {
  EXPECT_EQ(check_template("{% for a in b %}\nc{% endfor %}"),
            "{% for a in b %}{% if baton_step_ %}{% endif %}\nc{% endfor %}");
  EXPECT_EQ(check_template("{%- for a in b -%} c{% endfor %}"),
            "{%- for a in b -%}{%- if baton_step_ -%}{%- endif -%} c{% endfor %}");
  EXPECT_FALSE(check_template("{% set baton_step_ = 1 %}"));
}

TEST(TemplateGuard, RefusesWhatWouldStopOrHangTheProcess) {
  for (const std::string_view source :
       {"{{ 1 % 0 }}", "{{ 1 // n }}", "{{ 1 / (n) }}", "{{ x % -1 }}", "{{ s[0:9:7] }}", "{{ s[::2] }}",
        "{{ s[n::-1] }}", "{{ s.split('') }}", "{{ s.split(n) }}", "{{ 'a' * 99999 }}", "{{ s * n }}", "{{ n * s }}",
        "{# open", "{% for a in b recursive %}", "{{ 'open }}", "{{ open", "{% if \uFDD0 %}"}) {
    const auto checked = check_template(source);
    ASSERT_FALSE(checked) << source;
    EXPECT_EQ(checked.error().code, ErrorCode::kUnsupported);
  }
}

TEST(TemplateGuard, RefusesWhatWouldExhaustTheStack) {
  std::string blocks;
  for (int i = 0; i < 50; ++i) blocks += "{% if 1 %}";
  std::string loops;
  for (int i = 0; i < 6; ++i) loops += "{% for a in b %}";
  std::string sum = "{{ 1";
  for (int i = 0; i < 1000; ++i) sum += "+1";
  for (const std::string& source :
       {blocks, loops, sum + "}}", "{{ " + std::string(40, '(') + "1" + std::string(40, ')') + " }}",
        std::string(2000, 'a'), "{{" + std::string(2000, ' ') + "}}", std::string(200'000, '-')}) {
    EXPECT_FALSE(check_template(source)) << source.substr(0, 60);
  }
}

TEST(TemplateGuard, RefusesWhatTakesTooLongToParse) {
  std::string tags;
  for (int i = 0; i < 5000; ++i) tags += "{{ a }}";
  EXPECT_FALSE(check_template(tags));
  EXPECT_TRUE(check_template(std::string_view(tags).substr(0, 7000)));
}

TEST(TemplateGuard, NamesTheLine) {
  const auto checked = check_template("one\ntwo\n{{ 1 % 0 }}");
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().message,
            "the chat template is refused at line 3: it divides by something else than a number");
}

}  // namespace
}  // namespace baton::text
