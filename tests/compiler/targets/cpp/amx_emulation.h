// AMX tiles in plain C++, so that the AMX micro-kernels run on machines without them.
//
// Semantics of TDPBF16PS follow Intel's manual: even and odd products are summed in two chains of
// fused multiply-adds, subnormals count as zero, and the two sums join the destination at the end.
// A wrong shape aborts, as the instruction would fault.
#ifndef BANYAN_AMX_EMULATION
#define BANYAN_AMX_EMULATION

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbsud

namespace amx_emulation {

struct Tile {
  int rows = 0;
  int row_bytes = 0;
  unsigned char bytes[16][64] = {};
};

struct State {
  bool configured = false;
  Tile tiles[8];
  long products = 0;
};

inline State& state() {
  static thread_local State value;
  return value;
}

inline void require(bool condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "AMX emulation: %s\n", what);
  abort();
}

inline Tile& tile(int number) {
  require(state().configured, "a tile is used without a configuration");
  Tile& value = state().tiles[number];
  require(value.rows > 0 && value.row_bytes > 0, "a tile without rows or columns is used");
  return value;
}

inline float flush(float value) { return fpclassify(value) == FP_SUBNORMAL ? 0.0f : value; }

inline float bfloat(const unsigned char* at) {
  uint16_t half;
  memcpy(&half, at, sizeof half);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return flush(value);
}

inline void load_config(const void* address) {
  unsigned char config[64];
  memcpy(config, address, sizeof config);
  require(config[0] == 1, "the palette must be 1");
  for (int i = 2; i < 16; ++i) require(config[i] == 0, "reserved bytes must be 0");
  State fresh;
  fresh.configured = true;
  fresh.products = state().products;
  for (int t = 0; t < 8; ++t) {
    uint16_t row_bytes;
    memcpy(&row_bytes, config + 16 + 2 * t, sizeof row_bytes);
    fresh.tiles[t].row_bytes = row_bytes;
    fresh.tiles[t].rows = config[48 + t];
    require(row_bytes <= 64 && config[48 + t] <= 16, "a tile is larger than 16 rows of 64 bytes");
    require((row_bytes == 0) == (config[48 + t] == 0), "a tile has rows or columns, not both");
  }
  state() = fresh;
}

inline void release() { state().configured = false; }

inline void load(int number, const void* base, long stride) {
  Tile& to = tile(number);
  memset(to.bytes, 0, sizeof to.bytes);
  for (int r = 0; r < to.rows; ++r) {
    memcpy(to.bytes[r], static_cast<const char*>(base) + r * stride, to.row_bytes);
  }
}

inline void store(int number, void* base, long stride) {
  const Tile& from = tile(number);
  for (int r = 0; r < from.rows; ++r) {
    memcpy(static_cast<char*>(base) + r * stride, from.bytes[r], from.row_bytes);
  }
}

inline void zero(int number) { memset(tile(number).bytes, 0, sizeof tile(number).bytes); }

inline void multiply(int to, int left, int right) {
  Tile& c = tile(to);
  const Tile& a = tile(left);
  const Tile& b = tile(right);
  require(c.rows == a.rows, "rows of the sums differ from rows of the left tile");
  require(a.row_bytes / 4 == b.rows, "columns of the left tile differ from rows of the right");
  require(c.row_bytes == b.row_bytes, "columns of the sums differ from those of the right tile");
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      float even = 0;
      float odd = 0;
      for (int k = 0; k < a.row_bytes / 4; ++k) {
        const unsigned char* x = a.bytes[m] + 4 * k;
        const unsigned char* y = b.bytes[k] + 4 * n;
        even = flush(fmaf(bfloat(x), bfloat(y), even));
        odd = flush(fmaf(bfloat(x + 2), bfloat(y + 2), odd));
      }
      float sum;
      memcpy(&sum, c.bytes[m] + 4 * n, sizeof sum);
      sum = flush(flush(sum) + flush(even + odd));
      memcpy(c.bytes[m] + 4 * n, &sum, sizeof sum);
    }
  }
  ++state().products;
}

// TDPBSUD: signed bytes of the left tile times unsigned bytes of the right one, summed in 32 bits.
inline void multiply_bytes(int to, int left, int right) {
  Tile& c = tile(to);
  const Tile& a = tile(left);
  const Tile& b = tile(right);
  require(c.rows == a.rows, "rows of the sums differ from rows of the left tile");
  require(a.row_bytes / 4 == b.rows, "columns of the left tile differ from rows of the right");
  require(c.row_bytes == b.row_bytes, "columns of the sums differ from those of the right tile");
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      int32_t sum;
      memcpy(&sum, c.bytes[m] + 4 * n, sizeof sum);
      for (int k = 0; k < a.row_bytes; ++k) {
        sum += static_cast<int8_t>(a.bytes[m][k]) * b.bytes[k / 4][4 * n + k % 4];
      }
      memcpy(c.bytes[m] + 4 * n, &sum, sizeof sum);
    }
  }
  ++state().products;
}

}  // namespace amx_emulation

#define _tile_loadconfig(address) amx_emulation::load_config(address)
#define _tile_release() amx_emulation::release()
#define _tile_loadd(tile, base, stride) amx_emulation::load(tile, base, stride)
#define _tile_stream_loadd(tile, base, stride) amx_emulation::load(tile, base, stride)
#define _tile_stored(tile, base, stride) amx_emulation::store(tile, base, stride)
#define _tile_zero(tile) amx_emulation::zero(tile)
#define _tile_dpbf16ps(to, left, right) amx_emulation::multiply(to, left, right)
#define _tile_dpbsud(to, left, right) amx_emulation::multiply_bytes(to, left, right)

#endif
