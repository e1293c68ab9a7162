// Where guesses of a text's next tokens come from.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/layer_range.h"
#include "base/result.h"

namespace baton::node {

struct Guess {
  std::vector<Token> tokens;     // those that follow the text, best knowledge permitting; may be none
  std::uint32_t confidence = 0;  // ranks the guesses of one proposer
  double seconds = 0;            // what it took to make them
  double reading_seconds = 0;    // and before, to read the text that nobody had asked about
};

// One text's. Lives on the loop's thread.
class Proposer {
 public:
  virtual ~Proposer() = default;

  virtual std::string_view name() const = 0;
  // The node that guesses; empty where it is this one.
  virtual std::string where() const { return {}; }
  // Why there are none now; empty where there may be some.
  virtual std::string why_silent() const { return {}; }
  // Where guesses cost time, only those are asked for that will be checked.
  enum class Cost { kNone, kTime };
  virtual Cost cost() const = 0;

  // The text goes on.
  virtual void push(Token token) = 0;
  // The device has nothing else to do for a while: what the first guess needs may be done now.
  virtual void prepare() {}
  // `most` tokens or fewer. Calls back once, at once or later, and never after the proposer is gone; an error means
  // that there will be no more guesses. One at a time.
  using Done = std::move_only_function<void(Result<Guess>)>;
  virtual void propose(std::uint32_t most, Done done) = 0;
};

}  // namespace baton::node
