// Tile dot with AMX: up to 64 rows against 16 columns at a time; the rest goes to vdpbf16ps.
#ifndef BANYAN_TILE_DOT_AMX_BF16_H
#define BANYAN_TILE_DOT_AMX_BF16_H

#include "amx_tiles.h"
#include "linear_avx512_bf16.h"

namespace banyan {

// Holds the tile configuration of this thread while a task item does its dots.
// Tiles: 0-3 sums, 4 rows (k = 32), 5 rows (k = 16), 6 columns (k = 32), 7 columns (k = 16).
struct DotSession {
  DotSession() {
    amx::TileConfig config;
    for (int tile = 0; tile < 5; ++tile) config.shape(tile, amx::kTileRows, amx::kTileBytes);
    config.shape(5, amx::kTileRows, amx::kTileBytes / 2);
    config.shape(6, amx::kTileRows, amx::kTileBytes);
    config.shape(7, amx::kTileRows / 2, amx::kTileBytes);
    amx::load_config(config);
  }
  ~DotSession() { _tile_release(); }
  DotSession(const DotSession&) = delete;
  DotSession& operator=(const DotSession&) = delete;
};

namespace amx {

template <int Tiles>
BANYAN_INLINE void load_sums(const float* c, int64_t ldc, bool accumulate) {
  if (!accumulate) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    return;
  }
  _tile_loadd(0, c, ldc * 4);
  if (Tiles > 1) _tile_loadd(1, c + 16 * ldc, ldc * 4);
  if (Tiles > 2) _tile_loadd(2, c + 32 * ldc, ldc * 4);
  if (Tiles > 3) _tile_loadd(3, c + 48 * ldc, ldc * 4);
}

template <int Tiles>
BANYAN_INLINE void store_sums(float* c, int64_t ldc) {
  _tile_stored(0, c, ldc * 4);
  if (Tiles > 1) _tile_stored(1, c + 16 * ldc, ldc * 4);
  if (Tiles > 2) _tile_stored(2, c + 32 * ldc, ldc * 4);
  if (Tiles > 3) _tile_stored(3, c + 48 * ldc, ldc * 4);
}

// 16 * Tiles rows x 16 columns; k a multiple of 16.
template <int Tiles>
static void dot_rows(const bfloat16* a, int64_t lda, const bfloat16* b, int64_t line_stride,
                     int64_t k, float* c, int64_t ldc, bool accumulate) {
  load_sums<Tiles>(c, ldc, accumulate);
  const int64_t rows = 16 * lda;
  int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
    _tile_loadd(6, b + i / 2 * line_stride, line_stride * 2);
    _tile_loadd(4, a + i, lda * 2);
    _tile_dpbf16ps(0, 4, 6);
    if (Tiles > 1) {
      _tile_loadd(4, a + rows + i, lda * 2);
      _tile_dpbf16ps(1, 4, 6);
    }
    if (Tiles > 2) {
      _tile_loadd(4, a + 2 * rows + i, lda * 2);
      _tile_dpbf16ps(2, 4, 6);
    }
    if (Tiles > 3) {
      _tile_loadd(4, a + 3 * rows + i, lda * 2);
      _tile_dpbf16ps(3, 4, 6);
    }
  }
  if (i < k) {
    _tile_loadd(7, b + i / 2 * line_stride, line_stride * 2);
    _tile_loadd(5, a + i, lda * 2);
    _tile_dpbf16ps(0, 5, 7);
    if (Tiles > 1) {
      _tile_loadd(5, a + rows + i, lda * 2);
      _tile_dpbf16ps(1, 5, 7);
    }
    if (Tiles > 2) {
      _tile_loadd(5, a + 2 * rows + i, lda * 2);
      _tile_dpbf16ps(2, 5, 7);
    }
    if (Tiles > 3) {
      _tile_loadd(5, a + 3 * rows + i, lda * 2);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  store_sums<Tiles>(c, ldc);
}

}  // namespace amx

inline void tile_dot_amx_bf16(const DotSession&, const bfloat16* a, int64_t lda, const bfloat16* b,
                              int64_t line_stride, int64_t k, int64_t rows, int64_t n, float* c,
                              int64_t ldc, bool accumulate, const bfloat16* ahead) {
  const int64_t tiled = k % 16 == 0 ? rows / 16 * 16 : 0;
  for (int64_t r = 0; r < tiled; r += 64) {
    const int64_t tiles = least(4, (tiled - r) / 16);
    for (int64_t j = 0; j < n; j += 16) {
      const bfloat16* left = a + r * lda;
      const bfloat16* right = b + 2 * j;
      float* out = c + r * ldc + j;
      switch (tiles) {
        case 1: amx::dot_rows<1>(left, lda, right, line_stride, k, out, ldc, accumulate); break;
        case 2: amx::dot_rows<2>(left, lda, right, line_stride, k, out, ldc, accumulate); break;
        case 3: amx::dot_rows<3>(left, lda, right, line_stride, k, out, ldc, accumulate); break;
        default: amx::dot_rows<4>(left, lda, right, line_stride, k, out, ldc, accumulate); break;
      }
    }
  }
  if (tiled < rows) {
    tile_dot_avx512_bf16(a + tiled * lda, lda, b, line_stride, k, rows - tiled, n, c + tiled * ldc,
                         ldc, accumulate, ahead);
  }
}

}  // namespace banyan

#endif
