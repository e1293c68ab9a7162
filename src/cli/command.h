// The commands a person types. Each adds itself to the CLI11 application and leaves its work in `chosen`.
#pragma once

#include <functional>

#include "base/result.h"

namespace CLI {
class App;
}

namespace baton::cli {

// What the chosen command does once the whole command line was read.
using Action = std::function<Result<void>()>;

void add_run(CLI::App& app, Action& chosen);
void add_up(CLI::App& app, Action& chosen);
void add_node(CLI::App& app, Action& chosen);
void add_id(CLI::App& app, Action& chosen);
// join, token, nodes, promote, revoke, leave
void add_cluster(CLI::App& app, Action& chosen);
// key create, key ls, key rm
void add_key(CLI::App& app, Action& chosen);
// pull, ls, cp, rm
void add_models(CLI::App& app, Action& chosen);
void add_doctor(CLI::App& app, Action& chosen);
void add_bench(CLI::App& app, Action& chosen);
void add_plan(CLI::App& app, Action& chosen);
void add_logits(CLI::App& app, Action& chosen);
void add_tokenize(CLI::App& app, Action& chosen);
void add_synth(CLI::App& app, Action& chosen);
void add_demo(CLI::App& app, Action& chosen);

// `baton man` and `baton completion SHELL`, made from the same description that --help prints.
void add_manual(CLI::App& app, Action& chosen);

}  // namespace baton::cli
