// The configuration of AMX tile registers.
//
// Tests define BANYAN_AMX_EMULATION and the `_tile_*` functions in plain C++, so that the kernels run
// on machines without tiles.
#ifndef BANYAN_AMX_TILES_H
#define BANYAN_AMX_TILES_H

#if !defined(BANYAN_AMX_EMULATION)
#include <immintrin.h>
#endif

#include "packed.h"

namespace banyan {
namespace amx {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 64;  // of one row
constexpr int64_t kStep = 32;       // k of one tile product

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void shape(int tile, int64_t num_rows, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(num_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

BANYAN_INLINE void load_config(const TileConfig& config) {
#if defined(BANYAN_AMX_EMULATION)
  _tile_loadconfig(&config);
#else
  // g++ 12 believes that its intrinsic reads 8 bytes and drops the stores to the other 56.
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
#endif
}

}  // namespace amx
}  // namespace banyan

#endif
