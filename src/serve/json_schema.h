// JSON, and the values that a JSON Schema (draft 2020-12) describes, as a language of bytes. Every text of the language
// is valid; not every valid text is in it: members come in the schema's order, blanks are few, numbers have at most 15
// digits. docs/serving.md says which keywords there are; any other is refused by its name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "serve/json.h"
#include "text/byte_language.h"

namespace baton::serve {

// The schemas of strangers: no larger and no deeper.
inline constexpr std::size_t kMostSchemaBytes = 64U << 10;
inline constexpr int kMostSchemaDepth = 48;

class JsonLanguage {
 public:
  using Node = text::ByteLanguage::Node;

  // Borrows the language.
  explicit JsonLanguage(text::ByteLanguage& language);

  Node any_value();
  Node any_object();
  // A string that holds exactly this, in quotes.
  Node constant(std::string_view text);
  // The values that the schema allows. kUnsupported or kInvalidArgument with the keyword's path, which begins with
  // `path`, as context.
  Result<Node> values(const Json& schema, const std::string& path);
  // At most a blank, or a line's end and what indents the next line.
  Node blank();

 private:
  struct Root {
    const Json* schema;
    std::string path;
    std::map<std::string, Node, std::less<>> rules;  // by reference
    std::vector<std::string> to_define;
  };

  Result<Node> value(const Json& schema, const std::string& path, int depth);
  // What is said value by value, as far as it is of the types.
  Result<Node> named(const Fields& fields, const Json* constant, const Json* choices, unsigned types);
  Result<Node> of_types(Fields& fields, const std::vector<std::string>& types, const std::string& path, int depth);
  Result<Node> object(Fields& fields, const std::string& path, int depth);
  Result<Node> array(Fields& fields, const std::string& path, int depth);
  Result<Node> string(Fields& fields);
  Result<Node> number(Fields& fields, std::string_view type);
  Result<Node> any_of(const Json& choices, const std::string& path, int depth);
  Result<Node> one_of(const Json& choices, const std::string& path, int depth);
  Result<Node> reference(const std::string& name, const std::string& path);
  Result<const Json*> find_reference(std::string_view name, const std::string& path) const;
  const Json* resolved(const Json& schema) const;
  bool disjoint(const Json& left, const Json& right) const;

  Node members(const std::vector<std::pair<Node, bool>>& declared, Node extra);
  Node other_key(std::vector<std::string> names);
  Node other_key(const std::vector<std::string>& names, std::size_t begin, std::size_t end, std::size_t depth);
  Node list(Node item, std::uint32_t least, std::uint32_t most);
  Node character();
  Node make_character();
  Node plain_character(const text::ByteSet& but_not_first);
  Node text_of(std::uint32_t least, std::uint32_t most);
  Node separator();
  Node member(std::string_view name, Node value);

  text::ByteLanguage& language_;
  Node any_ = text::ByteLanguage::kNothing;
  Node character_ = text::ByteLanguage::kNothing;
  Root* root_ = nullptr;
};

}  // namespace baton::serve
