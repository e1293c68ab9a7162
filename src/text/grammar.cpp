#include "text/grammar.h"

#include <algorithm>
#include <format>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "text/character_set.h"
#include "text/grammar_reader.h"

namespace baton::text {

namespace {

using Node = ByteLanguage::Node;
using Expression = Grammar::Expression;
using Kind = Expression::Kind;

// What follows from all rules together.
class GrammarCheck {
 public:
  explicit GrammarCheck(const Grammar& grammar)
      : grammar_(grammar),
        may_be_empty_(grammar.rules.size()),
        may_end_(grammar.rules.size()),
        state_(grammar.rules.size(), Seen::kNot) {}

  Result<void> check() {
    settle(may_be_empty_, [this](std::size_t body) { return may_be_empty(body); });
    for (std::size_t rule = 0; rule < grammar_.rules.size(); ++rule) TRY(refuse_left_recursion(rule));
    settle(may_end_, [this](std::size_t body) { return may_end(body); });
    for (std::size_t rule = 0; rule < grammar_.rules.size(); ++rule) {
      if (!may_end_[rule]) {
        return refuse(rule, std::format("no text ever ends what the rule '{}' begins", grammar_.rules[rule].name));
      }
    }
    return {};
  }

 private:
  enum class Seen { kNot, kOnPath, kDone };

  std::unexpected<Error> refuse(std::size_t rule, const std::string& why) const {
    return fail(ErrorCode::kInvalidArgument, std::format("line {}: {}", grammar_.rules[rule].line, why));
  }

  // What is true of a rule stays true of it: as many rounds as there are rules at most.
  template <typename Says>
  void settle(std::vector<bool>& of_rules, const Says& says) {
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t rule = 0; rule < of_rules.size(); ++rule) {
        if (of_rules[rule] || !says(grammar_.rules[rule].body)) continue;
        of_rules[rule] = true;
        changed = true;
      }
    }
  }

  bool may_be_empty(std::size_t index) const {
    const Expression& expression = grammar_.expressions[index];
    const auto part = [this](std::size_t one) { return may_be_empty(one); };
    switch (expression.kind) {
      case Kind::kText: return expression.text.empty();
      case Kind::kCharacters: return false;
      case Kind::kRule: return may_be_empty_[expression.rule];
      case Kind::kSequence: return std::ranges::all_of(expression.parts, part);
      case Kind::kChoice: return std::ranges::any_of(expression.parts, part);
      case Kind::kRepeat: return expression.least == 0 || may_be_empty(expression.parts.front());
    }
    return false;
  }

  bool may_end(std::size_t index) const {
    const Expression& expression = grammar_.expressions[index];
    const auto part = [this](std::size_t one) { return may_end(one); };
    switch (expression.kind) {
      case Kind::kText:
      case Kind::kCharacters: return true;
      case Kind::kRule: return may_end_[expression.rule];
      case Kind::kSequence: return std::ranges::all_of(expression.parts, part);
      case Kind::kChoice: return std::ranges::any_of(expression.parts, part);
      case Kind::kRepeat: return expression.least == 0 || may_end(expression.parts.front());
    }
    return false;
  }

  // The rules that may stand at the beginning.
  void collect_first(std::size_t index, std::vector<std::size_t>& rules) const {
    const Expression& expression = grammar_.expressions[index];
    if (expression.kind == Kind::kRule) rules.push_back(expression.rule);
    for (const std::size_t part : expression.parts) {
      collect_first(part, rules);
      if (expression.kind == Kind::kSequence && !may_be_empty(part)) return;
    }
  }

  Result<void> refuse_left_recursion(std::size_t rule) {
    if (state_[rule] == Seen::kDone) return {};
    if (state_[rule] == Seen::kOnPath) {
      std::string path;
      const auto from = std::ranges::find(open_, rule);
      for (auto at = from; at != open_.end(); ++at) path += std::format("{}, ", grammar_.rules[*at].name);
      return refuse(rule, std::format("the rule '{}' begins with itself ({}{}): something has to come before",
                                      grammar_.rules[rule].name, path, grammar_.rules[rule].name));
    }
    state_[rule] = Seen::kOnPath;
    open_.push_back(rule);
    std::vector<std::size_t> first;
    collect_first(grammar_.rules[rule].body, first);
    for (const std::size_t next : first) TRY(refuse_left_recursion(next));
    open_.pop_back();
    state_[rule] = Seen::kDone;
    return {};
  }

  const Grammar& grammar_;
  std::vector<bool> may_be_empty_;
  std::vector<bool> may_end_;
  std::vector<Seen> state_;
  std::vector<std::size_t> open_;  // from the first on each is one that the one before may begin with
};

class GrammarCompiler {
 public:
  GrammarCompiler(const Grammar& grammar, ByteLanguage& language) : grammar_(grammar), language_(language) {
    for (std::size_t rule = 0; rule < grammar.rules.size(); ++rule) rules_.push_back(language.new_rule());
  }

  Node compile() {
    for (std::size_t rule = 0; rule < rules_.size(); ++rule) {
      language_.define(rules_[rule], node_of(grammar_.rules[rule].body));
    }
    return rules_[grammar_.root];
  }

 private:
  Node node_of(std::size_t index) {
    const Expression& expression = grammar_.expressions[index];
    switch (expression.kind) {
      case Kind::kText: return language_.literal(expression.text);
      case Kind::kCharacters: return set_of(expression.characters);
      case Kind::kRule: return rules_[expression.rule];
      case Kind::kSequence: {
        Node node = ByteLanguage::kEmpty;
        for (auto part = expression.parts.rbegin(); part != expression.parts.rend(); ++part) {
          node = language_.sequence(node_of(*part), node);
        }
        return node;
      }
      case Kind::kChoice: {
        std::vector<Node> choices;
        for (const std::size_t part : expression.parts) choices.push_back(node_of(part));
        return language_.either(std::move(choices));
      }
      case Kind::kRepeat: return language_.repeat(node_of(expression.parts.front()), expression.least, expression.most);
    }
    return ByteLanguage::kNothing;
  }

  // Each once, however often it is written.
  Node set_of(const CharacterSet& characters) {
    const auto [found, added] = sets_.try_emplace(characters.ordered(), ByteLanguage::kNothing);
    if (added) found->second = characters.node(language_);
    return found->second;
  }

  const Grammar& grammar_;
  ByteLanguage& language_;
  std::vector<Node> rules_;
  std::map<std::vector<CharacterSet::Range>, Node> sets_;
};

}  // namespace

Result<Node> compile_grammar(std::string_view text, ByteLanguage& language) {
  const Grammar grammar = TRY(read_grammar(text));
  TRY(GrammarCheck(grammar).check());
  return GrammarCompiler(grammar, language).compile();
}

}  // namespace baton::text
