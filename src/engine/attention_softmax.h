// The vector work of tiled attention between two matrix products. Private to the engine room.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::engine {

// Whether this processor can do the following at all.
bool can_soften();

// One row of scores, in units of log2: exponentials take the place of scores [begin, end), zeros those of the others.
// `largest` and `sum` go on from the tiles before (-infinity and 0 at first). Returns the factor by which what was
// summed up before must be multiplied. `columns` is a multiple of 16; begin < end.
float soften_row(float* scores, std::int64_t columns, std::int64_t begin, std::int64_t end, float& largest, float& sum);

// values *= factor; `count` is a multiple of 8.
void scale_row(float* values, std::int64_t count, float factor);

// F16 rows, `stride` bytes apart, to F32 [rows][columns]; `columns` is a multiple of 8.
void widen(const std::byte* source, std::int64_t stride, std::int64_t rows, std::int64_t columns, float* target);
// The same, transposed: F32 [columns][rows]; `rows` and `columns` are multiples of 8.
void widen_transposed(const std::byte* source, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                      float* target);

}  // namespace baton::engine
