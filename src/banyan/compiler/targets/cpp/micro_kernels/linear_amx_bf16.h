// Packed linear with AMX tiles: one instruction multiplies 16 rows x 32 k by 32 k x 16 columns.
//
// Many rows: blocks of 2x2 tiles. k goes in chunks of 512, so that two weight panels (32 KB) stay in
// the first-level cache while all rows pass; activations come from the second level by the streaming
// load, which leaves the weights in place. Partial sums return to the float32 results after each
// chunk. Four to sixteen rows: one row of tiles against four panels, weights streamed once. Fewer
// rows: vdpbf16ps, which is as fast and rounds as it does everywhere else.
#ifndef BANYAN_LINEAR_AMX_BF16_H
#define BANYAN_LINEAR_AMX_BF16_H

#include <initializer_list>

#include "amx_tiles.h"
#include "linear_avx512_bf16.h"

namespace banyan {
namespace amx {

constexpr int64_t kVectorRows = 3;       // up to here vdpbf16ps
constexpr int64_t kBlockRows = 32;       // rows of a 2x2 block
constexpr int64_t kChunkSteps = 16;      // tile products per chunk of k
constexpr int64_t kTileElements = 512;   // weights of one tile
constexpr int64_t kAheadElements = 1024;  // streaming looks 2 KB ahead
constexpr int64_t kLineElements = 32;    // bfloat16 in a cache line

// The last k of some rows, padded with zeros to a whole step.
struct Tail {
  alignas(64) bfloat16 values[kBlockRows * kStep];

  void fill(const bfloat16* a, int64_t lda, int64_t rows, int64_t k) {
    memset(values, 0, sizeof values);
    for (int64_t r = 0; r < rows; ++r) memcpy(values + r * kStep, a + r * lda, k * 2);
  }
};

// Lines to bring closer while a block computes.
struct Ahead {
  const bfloat16* weights;
  int64_t weight_lines;  // per step
  const float* results;  // of the next rows; null for none
};

// The products of one step: a0 and a1 are rows 0..15 and 16..31.
template <bool TwoRows, bool TwoPanels>
BANYAN_INLINE void step_2x2(const bfloat16* a0, const bfloat16* a1, int64_t stride,
                            const bfloat16* w0, const bfloat16* w1) {
  _tile_stream_loadd(4, a0, stride);
  _tile_loadd(6, w0, kTileBytes);
  _tile_dpbf16ps(0, 4, 6);
  if (TwoPanels) {
    _tile_loadd(7, w1, kTileBytes);
    _tile_dpbf16ps(1, 4, 7);
  }
  if (TwoRows) {
    _tile_stream_loadd(5, a1, stride);
    _tile_dpbf16ps(2, 5, 6);
    if (TwoPanels) _tile_dpbf16ps(3, 5, 7);
  }
}

// c[32][32] (+)= a[32][k] * two panels, k <= 512. Tiles: 0-3 sums, 4-5 rows, 6-7 weights.
template <bool TwoRows, bool TwoPanels>
static void block_2x2(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t panel_stride,
                      int64_t k, int64_t rows, float* c, int64_t ldc, bool accumulate,
                      const Ahead& ahead) {
  const int64_t c_stride = ldc * 4;
  float* below = c + kTileRows * ldc;
  if (accumulate) {
    _tile_stream_loadd(0, c, c_stride);
    if (TwoPanels) _tile_stream_loadd(1, c + 16, c_stride);
    if (TwoRows) _tile_stream_loadd(2, below, c_stride);
    if (TwoRows && TwoPanels) _tile_stream_loadd(3, below + 16, c_stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const bfloat16* a1 = a + kTileRows * lda;
  const bfloat16* w1 = w + panel_stride;
  const int64_t steps = k / kStep;
  for (int64_t s = 0; s < steps; ++s) {
    step_2x2<TwoRows, TwoPanels>(a + s * kStep, a1 + s * kStep, lda * 2, w + s * kTileElements,
                                 w1 + s * kTileElements);
    for (int64_t i = 0; i < ahead.weight_lines; ++i) {
      __builtin_prefetch(ahead.weights + (s * ahead.weight_lines + i) * kLineElements, 0, 2);
    }
    if (ahead.results != nullptr) {
      const float* line = ahead.results + 2 * s * ldc;
      __builtin_prefetch(line, 1, 3);
      __builtin_prefetch(line + 16, 1, 3);
      __builtin_prefetch(line + ldc, 1, 3);
      __builtin_prefetch(line + ldc + 16, 1, 3);
    }
  }
  if (k % kStep != 0) {
    Tail tail;
    tail.fill(a + steps * kStep, lda, rows, k % kStep);
    step_2x2<TwoRows, TwoPanels>(tail.values, tail.values + kTileRows * kStep, kStep * 2,
                                 w + steps * kTileElements, w1 + steps * kTileElements);
  }
  _tile_stored(0, c, c_stride);
  if (TwoPanels) _tile_stored(1, c + 16, c_stride);
  if (TwoRows) _tile_stored(2, below, c_stride);
  if (TwoRows && TwoPanels) _tile_stored(3, below + 16, c_stride);
}

// Tiles for a block of `rows` (1 to 32) rows.
BANYAN_INLINE void configure_block(int64_t rows) {
  TileConfig config;
  const int64_t upper = least(rows, kTileRows);
  const int64_t lower = rows > kTileRows ? rows - kTileRows : kTileRows;
  for (const int tile : {0, 1, 4}) config.shape(tile, upper, kTileBytes);
  for (const int tile : {2, 3, 5}) config.shape(tile, lower, kTileBytes);
  for (const int tile : {6, 7}) config.shape(tile, kTileRows, kTileBytes);
  load_config(config);
}

template <bool TwoPanels>
static void rows_block(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t panel_stride,
                       int64_t k, int64_t rows, float* c, int64_t ldc, bool accumulate,
                       const Ahead& ahead) {
  if (rows > kTileRows) {
    block_2x2<true, TwoPanels>(a, lda, w, panel_stride, k, rows, c, ldc, accumulate, ahead);
  } else {
    block_2x2<false, TwoPanels>(a, lda, w, panel_stride, k, rows, c, ldc, accumulate, ahead);
  }
}

// All rows against one chunk of one or two panels.
template <bool TwoPanels>
static void panel_pair(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t panel_stride,
                       int64_t k, int64_t rows, float* c, int64_t ldc, bool accumulate,
                       const bfloat16* next) {
  const int64_t blocks = ceil_divide(rows, kBlockRows);
  // The next panels of this chunk, spread over all steps of all blocks.
  const int64_t lines = ceil_divide(2 * kTileElements / kLineElements, blocks);
  const int64_t odd_rows = rows % kBlockRows;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t row = i * kBlockRows;
    const int64_t count = least(kBlockRows, rows - row);
    const bool last = i + 1 == blocks;
    if (i == 0 || (last && odd_rows != 0)) configure_block(count);
    Ahead ahead{next, next == nullptr ? 0 : lines, nullptr};
    if (next != nullptr) {
      // The first half of the blocks fetches the first panel, the second half the second.
      const int64_t second = 2 * i < blocks ? 0 : panel_stride - kChunkSteps * kTileElements;
      ahead.weights += second + i * lines * kChunkSteps * kLineElements;
    }
    if (accumulate && !last) ahead.results = c + (row + kBlockRows) * ldc;
    rows_block<TwoPanels>(a + row * lda, lda, w, panel_stride, k, count, c + row * ldc, ldc,
                          accumulate, ahead);
  }
}

static void many_rows(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k, int64_t rows,
                      int64_t panels, float* c, int64_t ldc) {
  const int64_t stride = panel_elements<bfloat16>(k);
  constexpr int64_t chunk = kChunkSteps * kStep;
  for (int64_t first = 0; first < k; first += chunk) {
    const int64_t depth = least(chunk, k - first);
    const bfloat16* base = w + first * kPanelColumns;
    for (int64_t p = 0; p < panels; p += 2) {
      const bfloat16* at = base + p * stride;
      const bfloat16* next = p + 4 <= panels && depth == chunk ? at + 2 * stride : nullptr;
      float* out = c + p * kPanelColumns;
      if (p + 2 <= panels) {
        panel_pair<true>(a + first, lda, at, stride, depth, rows, out, ldc, first > 0, next);
      } else {
        panel_pair<false>(a + first, lda, at, stride, depth, rows, out, ldc, first > 0, nullptr);
      }
    }
  }
}

// One tile of rows against Panels panels, the whole of k. Tiles: 0-3 sums, 4 rows, 5-7 weights.
template <int Panels>
static void stream_panels(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t panel_stride,
                          int64_t k, int64_t rows, float* c, int64_t ldc) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  Tail tail;
  const int64_t steps = ceil_divide(k, kStep);
  for (int64_t s = 0; s < steps; ++s) {
    const bfloat16* at = w + s * kTileElements;
    if ((s + 1) * kStep <= k) {
      _tile_loadd(4, a + s * kStep, lda * 2);
    } else {
      tail.fill(a + s * kStep, lda, rows, k % kStep);
      _tile_loadd(4, tail.values, kStep * 2);
    }
    for (int p = 0; p < Panels; ++p) {
      const bfloat16* ahead = at + p * panel_stride + kAheadElements;
      for (int64_t i = 0; i < kTileRows; ++i) {
        __builtin_prefetch(ahead + i * kLineElements, 0, 3);
      }
    }
    _tile_loadd(5, at, kTileBytes);
    _tile_dpbf16ps(0, 4, 5);
    if (Panels == 4) {
      _tile_loadd(6, at + panel_stride, kTileBytes);
      _tile_dpbf16ps(1, 4, 6);
      _tile_loadd(7, at + 2 * panel_stride, kTileBytes);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, at + 3 * panel_stride, kTileBytes);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, c, ldc * 4);
  if (Panels == 4) {
    _tile_stored(1, c + 16, ldc * 4);
    _tile_stored(2, c + 32, ldc * 4);
    _tile_stored(3, c + 48, ldc * 4);
  }
}

static void few_rows(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k, int64_t rows,
                     int64_t panels, float* c, int64_t ldc) {
  const int64_t stride = panel_elements<bfloat16>(k);
  TileConfig config;
  for (int tile = 0; tile < 5; ++tile) config.shape(tile, rows, kTileBytes);
  for (int tile = 5; tile < 8; ++tile) config.shape(tile, kTileRows, kTileBytes);
  load_config(config);
  int64_t p = 0;
  for (; p + 4 <= panels; p += 4) {
    stream_panels<4>(a, lda, w + p * stride, stride, k, rows, c + p * kPanelColumns, ldc);
  }
  for (; p < panels; ++p) {
    stream_panels<1>(a, lda, w + p * stride, stride, k, rows, c + p * kPanelColumns, ldc);
  }
}

}  // namespace amx

inline void linear_tile_amx_bf16(const bfloat16* a, int64_t lda, const bfloat16* w, int64_t k,
                                 int64_t rows, int64_t panels, float* c, int64_t ldc) {
  if (rows <= amx::kVectorRows) {
    linear_tile_avx512_bf16(a, lda, w, k, rows, panels, c, ldc);
    return;
  }
  if (rows <= amx::kTileRows) {
    amx::few_rows(a, lda, w, k, rows, panels, c, ldc);
  } else {
    amx::many_rows(a, lda, w, k, rows, panels, c, ldc);
  }
  _tile_release();
}

}  // namespace banyan

#endif
