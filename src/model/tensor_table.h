// Finds the tensors that a description asks for in a file, and checks them. Private to the model room.
#pragma once

#include "base/result.h"
#include "model/hyperparameters.h"
#include "model/key_reader.h"

namespace baton::model {

// Fills in the tensors of `hyperparameters`, whose sizes are known, and the sums over them in its shape. Each tensor
// must be there, of exactly the right shape, of a type that can be computed with; errors name it.
Result<void> find_tensors(const KeyReader& keys, const Description& description, Hyperparameters& hyperparameters);

// Whether this layer routes to experts: the file has a router for it.
bool is_sparse(const GgufFile& file, const Description& description, std::uint32_t layer);

}  // namespace baton::model
