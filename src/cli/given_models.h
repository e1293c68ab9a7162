// Which models this node gives to the other members of its cluster.
#pragma once

#include <functional>
#include <string>

#include "engine/model.h"
#include "store/store.h"

namespace baton::cli {

// Those of the store's own folder, and the one that is served, wherever its file lies; no other file. `model` must
// outlive the function, which any thread may call.
std::function<Result<store::GivenModel>(const std::string& name)> given_models(store::Store store,
                                                                               const engine::Model& model,
                                                                               const Sha256& digest);

}  // namespace baton::cli
