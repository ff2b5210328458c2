// Linear of quantised weights and quantised activations with AMX tiles: one instruction multiplies
// 16 rows x 64 k of signed bytes by 64 k x 16 columns of unsigned ones.
//
// Blocks of 2x2 tiles, or 1x4 for up to 16 rows. k goes in chunks that stay in the first-level cache
// while all rows pass; nibbles are written out as bytes for each chunk. Sums of a group that goes on
// lie in the results as integers. Few rows: the vector kernel, which is as fast.
#ifndef BANYAN_LINEAR_AMX_INT8_H
#define BANYAN_LINEAR_AMX_INT8_H

#include <initializer_list>

#include "amx_tiles.h"
#include "linear_int8.h"

namespace banyan {
namespace amx_int8 {

using quantized::Floats;
using quantized::Ints;
using quantized::kColumns;
using quantized::kLineBytes;
using Place = quantized::Place<int8_t>;
using quantized::Weight;

constexpr int64_t kVectorRows = 4;      // up to here vpdpbusd
constexpr int64_t kTileRows = 16;
constexpr int64_t kBytesChunk = 1024;   // k of two panels in 32 KB
constexpr int64_t kNibblesChunk = 256;  // k of four panels in 16 KB

// The shapes tiles have now; configuring clears them.
struct Shapes {
  int64_t rows = 0;
  int64_t step = 0;

  // Tiles 0-3 sums, 4-5 rows, 6-7 weights of `step` k; for up to 16 rows tile 5 holds weights too.
  void set(int64_t count, int64_t depth) {
    if (count == rows && depth == step) return;
    rows = count;
    step = depth;
    amx::TileConfig config;
    const int64_t upper = least(count, kTileRows);
    const int64_t lower = count > kTileRows ? count - kTileRows : upper;
    for (const int tile : {0, 1, 4}) config.shape(tile, upper, tile == 4 ? step : 64);
    for (const int tile : {2, 3}) config.shape(tile, lower, 64);
    if (count > kTileRows) config.shape(5, lower, step);
    for (const int tile : {5, 6, 7}) {
      if (tile > 5 || count <= kTileRows) config.shape(tile, step / 4, 64);
    }
    amx::load_config(config);
  }
};

struct Chunk {
  const uint8_t* lines;  // of its first k; kLineBytes apart
  int64_t depth;         // a multiple of `step`
  int64_t step;
  bool streams;  // from memory
};

// sums[32 or 16][32] (+)= a[32 or 16][depth] * two panels.
template <bool TwoRows>
BANYAN_INLINE void multiply_2x2(const int8_t* a, int64_t lda, const Chunk& chunk, int32_t* sums,
                                int64_t stride, bool accumulate) {
  int32_t* below = sums + kTileRows * stride;
  if (accumulate) {
    _tile_loadd(0, sums, stride * 4);
    _tile_loadd(1, sums + 16, stride * 4);
    if (TwoRows) _tile_loadd(2, below, stride * 4);
    if (TwoRows) _tile_loadd(3, below + 16, stride * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const int8_t* a1 = a + kTileRows * lda;
  for (int64_t k = 0; k < chunk.depth; k += chunk.step) {
    const uint8_t* line = chunk.lines + k / 4 * kLineBytes;
    _tile_stream_loadd(4, a + k, lda);
    _tile_loadd(6, line, kLineBytes);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, line + 64, kLineBytes);
    _tile_dpbsud(1, 4, 7);
    if (TwoRows) {
      _tile_stream_loadd(5, a1 + k, lda);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  }
  _tile_stored(0, sums, stride * 4);
  _tile_stored(1, sums + 16, stride * 4);
  if (TwoRows) _tile_stored(2, below, stride * 4);
  if (TwoRows) _tile_stored(3, below + 16, stride * 4);
}

// sums[16][64] (+)= a[16][depth] * four panels.
BANYAN_INLINE void multiply_1x4(const int8_t* a, int64_t lda, const Chunk& chunk, int32_t* sums,
                                int64_t stride, bool accumulate) {
  if (accumulate) {
    _tile_loadd(0, sums, stride * 4);
    _tile_loadd(1, sums + 16, stride * 4);
    _tile_loadd(2, sums + 32, stride * 4);
    _tile_loadd(3, sums + 48, stride * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < chunk.depth; k += chunk.step) {
    const uint8_t* line = chunk.lines + k / 4 * kLineBytes;
    for (int64_t i = 0; chunk.streams && i < chunk.step; ++i) {
      __builtin_prefetch(line + quantized::kAhead + 64 * i, 0, 3);
    }
    _tile_loadd(4, a + k, lda);
    _tile_loadd(5, line, kLineBytes);
    _tile_dpbsud(0, 4, 5);
    _tile_loadd(6, line + 64, kLineBytes);
    _tile_dpbsud(1, 4, 6);
    _tile_loadd(7, line + 128, kLineBytes);
    _tile_dpbsud(2, 4, 7);
    _tile_loadd(5, line + 192, kLineBytes);
    _tile_dpbsud(3, 4, 5);
  }
  _tile_stored(0, sums, stride * 4);
  _tile_stored(1, sums + 16, stride * 4);
  _tile_stored(2, sums + 32, stride * 4);
  _tile_stored(3, sums + 48, stride * 4);
}

// Sums of whole groups, scaled and added to c: `panels` of them from at.panel on.
template <int Bits>
static void finish(const Place& at, const Weight& w, int64_t g, bool last, const int32_t* sums,
                   int64_t stride, int64_t rows, int panels) {
  for (int64_t r = 0; r < rows; ++r) {
    const int8_t* row = at.a + r * at.lda;
    const float step = last ? quantized::row_step(row, w.k) : 1.0f;
    for (int64_t j = 0; j < panels * 16; j += quantized::kLanes) {
      const int64_t column = at.panel * 16 + j;
      const Ints start = quantized::Integers<Bits>(w).start(w, g, column, row);
      const Ints sum = start + *reinterpret_cast<const Ints*>(sums + r * stride + j);
      Floats& out = *reinterpret_cast<Floats*>(at.c + r * at.ldc + j);
      const Floats value =
          __builtin_convertvector(sum, Floats) * quantized::load_scales(w, g, column);
      out = (g > 0 ? out + value : value) * step;
    }
  }
}

// Nibbles of k in [begin, end) as bytes.
BANYAN_INLINE void write_bytes(const Weight& w, int64_t begin, int64_t end, uint8_t* out) {
  for (int64_t k = begin; k < end; k += 8) {
    const uint8_t* line = w.lines + k / 8 * kLineBytes;
    for (int i = 0; i < 4; ++i) {
      __builtin_prefetch(line + quantized::kAhead + 64 * i, 0, 3);
    }
    for (int half = 0; half < 2; ++half, out += kLineBytes) {
      for (int64_t i = 0; i < kLineBytes; i += 64) {
        *reinterpret_cast<quantized::Bytes*>(out + i) = quantized::load_weights<4>(line + i, half);
      }
    }
  }
}

// All rows against one block of columns.
template <int Bits>
static void columns_block(const int8_t* a, int64_t lda, const Weight& w, int64_t rows, float* c,
                          int64_t ldc, Shapes& shapes) {
  alignas(64) uint8_t bytes[Bits == 4 ? kNibblesChunk / 4 * kLineBytes : 64];
  alignas(64) int32_t sums[2 * kTileRows * kTileRows * 2];
  const int64_t total = quantized::summed_depth(w);
  const int64_t group = w.k == w.group ? total : w.group;
  const bool wide = rows <= kTileRows;
  int64_t step = 64;
  while (group % step != 0) step -= 4;
  const int64_t most = (Bits == 4 ? kNibblesChunk : kBytesChunk) / step * step;
  for (int64_t begin = 0; begin < total;) {
    const int64_t g = begin / group;
    const int64_t end = least(begin + most, (g + 1) * group);
    const bool starts = begin == g * group, ends = end == (g + 1) * group;
    if (Bits == 4) write_bytes(w, begin, end, bytes);
    const uint8_t* lines = Bits == 4 ? bytes : w.lines + begin / 4 * kLineBytes;
    for (int panel = 0; panel < 4; panel += wide ? 4 : 2) {
      const Chunk chunk{lines + panel * 64, end - begin, step, Bits == 8};
      for (int64_t r = 0; r < rows; r += 2 * kTileRows) {
        const int64_t count = least(2 * kTileRows, rows - r);
        const Place at{a + r * lda, lda, panel, 0, 0, c + r * ldc + panel * 16, ldc, nullptr, 0};
        // A group in one chunk needs no place in c, which may hold sums of earlier groups.
        const bool whole = starts && ends;
        int32_t* kept = whole ? sums : reinterpret_cast<int32_t*>(at.c);
        const int64_t stride = !whole ? ldc : wide ? kColumns : 2 * kTileRows;
        shapes.set(count, step);
        if (wide) {
          multiply_1x4(at.a + begin, lda, chunk, kept, stride, !starts);
        } else if (count > kTileRows) {
          multiply_2x2<true>(at.a + begin, lda, chunk, kept, stride, !starts);
        } else {
          multiply_2x2<false>(at.a + begin, lda, chunk, kept, stride, !starts);
        }
        if (ends) {
          finish<Bits>(at, w, g, end == total, kept, stride, count, wide ? 4 : 2);
        }
      }
    }
    begin = end;
  }
}

}  // namespace amx_int8

// See linear_int8 in linear_int8.h.
template <int Bits>
static inline void linear_amx_int8(const int8_t* a, int64_t lda, const quantized::Weight& w,
                                   int64_t rows, int64_t blocks, float* c, int64_t ldc) {
  const int64_t chunk = Bits == 8 ? amx_int8::kBytesChunk : amx_int8::kNibblesChunk;
  const bool long_groups = w.group < w.k && w.group > chunk;
  if (rows <= amx_int8::kVectorRows || long_groups) {
    return linear_int8<Bits>(a, lda, w, rows, blocks, c, ldc);
  }
  amx_int8::Shapes shapes;
  for (int64_t b = 0; b < blocks; ++b) {
    amx_int8::columns_block<Bits>(a, lda, quantized::from_block<Bits>(w, b), rows,
                                  c + b * quantized::kColumns, ldc, shapes);
  }
  _tile_release();
}

}  // namespace banyan

#endif
