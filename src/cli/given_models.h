// Which models this node gives to the other members of its cluster.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/model.h"
#include "store/store.h"

namespace baton::cli {

// Those of the store's own folder, and those that are served, wherever their files lie; no other file. Any thread may
// call the function.
std::function<Result<store::GivenModel>(const std::string& name)> given_models(
    store::Store store, std::vector<std::shared_ptr<const engine::Model>> served);

}  // namespace baton::cli
