// Packs one weight W[n, k] into panels (README.md). A program like any other: it is given its source
// and target as buffers, and shares the panels among the threads.
//
// buffers: {source, target}; symbols: {n, k, elements between source rows, source type, target type}
// types: 0 float32, 1 bfloat16, 2 float16. Targets 3 and 4 are quantised weights of
// bytes and of pairs of nibbles; then k counts bytes, and the source type tells whether they are
// signed (1) or kept as they are (0).
#include "packed.h"
#include "program_abi.h"
#include "quantized.h"

namespace {

using namespace banyan;

struct Job {
  const void* source;
  void* target;
  int64_t n, k, source_stride;
  bool is_signed;
};

// Columns of a panel are read side by side, so 16 streams of the source advance together; a block of
// k keeps each stream on whole cache lines and the written part in the first-level cache.
constexpr int64_t kBlock = 64;

template <class From>
void read_block(const From* source, int64_t count, float* target) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) target[i] = to_float(source[i]);
}

// Pairs of equal 16-bit type move without a detour through float32.
void pack_block(const bfloat16* const* rows, int64_t columns, int64_t count, bfloat16* target) {
  uint32_t pairs[kPanelColumns][kBlock / 2] = {};
  for (int64_t c = 0; c < columns; ++c) memcpy(pairs[c], rows[c], count * sizeof(bfloat16));
  uint32_t* out = reinterpret_cast<uint32_t*>(target);
  const int64_t lines = ceil_divide(count, 2);
  for (int64_t i = 0; i < lines; ++i) {
    for (int64_t c = 0; c < kPanelColumns; ++c) out[i * kPanelColumns + c] = pairs[c][i];
  }
}

template <class From, class To>
void pack_block(const From* const* rows, int64_t columns, int64_t count, To* target) {
  constexpr int64_t group = Packing<To>::group;
  float values[kPanelColumns][kBlock] = {};
  for (int64_t c = 0; c < columns; ++c) read_block(rows[c], count, values[c]);
  const int64_t lines = ceil_divide(count, group);
  for (int64_t i = 0; i < lines; ++i) {
    To* line = target + i * kPanelColumns * group;
    for (int64_t c = 0; c < kPanelColumns; ++c) {
      for (int64_t g = 0; g < group; ++g) {
        line[c * group + g] = from_float<To>(values[c][i * group + g]);
      }
    }
  }
}

template <class From, class To>
void pack_panel(void* context, int64_t panel, int64_t) {
  const Job& job = *static_cast<const Job*>(context);
  const From* source = static_cast<const From*>(job.source);
  const int64_t depth = panel_elements<To>(job.k) / kPanelColumns;
  To* target = static_cast<To*>(job.target) + panel * panel_elements<To>(job.k);
  const int64_t columns = least(kPanelColumns, job.n - panel * kPanelColumns);
  const From* rows[kPanelColumns] = {};
  for (int64_t c = 0; c < columns; ++c) {
    rows[c] = source + (panel * kPanelColumns + c) * job.source_stride;
  }
  for (int64_t first = 0; first < job.k; first += kBlock) {
    const int64_t count = least(kBlock, job.k - first);
    pack_block(rows, columns, count, target + first * kPanelColumns);
    for (int64_t c = 0; c < columns; ++c) rows[c] += count;
  }
  const int64_t packed = round_up(job.k, Packing<To>::group);
  if (packed < depth) {
    memset(target + packed * kPanelColumns, 0, (depth - packed) * kPanelColumns * sizeof(To));
  }
}

// Four bytes of a row in the order of packed lines: k 0, 2, 1, 3, or the low halves of eight k in
// that order and the high ones behind them.
template <int Bits>
BANYAN_INLINE uint32_t in_order(uint32_t v) {
  if (Bits == 8) return (v & 0xff0000ffu) | (v & 0xff00u) << 8 | (v >> 8 & 0xff00u);
  const uint32_t low = (v & 0x0fu) | (v & 0x0f00u) | (v & 0xf0u) << 12 | (v & 0xf000u) << 12;
  const uint32_t high =
      (v >> 16 & 0x0fu) | (v >> 16 & 0x0f00u) | (v >> 4 & 0x0f0000u) | (v >> 4 & 0x0f000000u);
  return low | high << 4;
}

// 64 columns of a quantised weight: rows of the source side by side, a cache line of each at a time.
template <int Bits>
void pack_columns(void* context, int64_t block, int64_t) {
  using namespace quantized;
  const Job& job = *static_cast<const Job*>(context);
  const int64_t lines = padded_depth(job.k * 8 / Bits) * Bits / 32;
  uint32_t* target = static_cast<uint32_t*>(job.target) + block * lines * kColumns;
  const int64_t columns = least(kColumns, job.n - block * kColumns);
  const uint32_t flip = job.is_signed ? 0x80808080u : 0;
  const uint8_t* source = static_cast<const uint8_t*>(job.source) +
                          block * kColumns * job.source_stride;
  constexpr int64_t wide = kBlock / 4;
  for (int64_t first = 0; first < lines * 4; first += kBlock) {
    const int64_t count = least(kBlock, job.k - first);
    uint32_t fours[kColumns][wide] = {};
    for (int64_t c = 0; c < columns && count > 0; ++c) {
      memcpy(fours[c], source + c * job.source_stride + first, count);
#pragma omp simd
      for (int64_t i = 0; i < wide; ++i) fours[c][i] ^= flip;
      // What is not there stays zero, like all padding.
      if (count < kBlock) memset(reinterpret_cast<uint8_t*>(fours[c]) + count, 0, kBlock - count);
#pragma omp simd
      for (int64_t i = 0; i < wide; ++i) fours[c][i] = in_order<Bits>(fours[c][i]);
    }
    const int64_t stop = least(wide, lines - first / 4);
    for (int64_t i = 0; i < stop; ++i, target += kColumns) {
      for (int64_t c = 0; c < kColumns; ++c) target[c] = fours[c][i];
    }
  }
}

template <class To>
banyan_task packer(int64_t source_type) {
  switch (source_type) {
    case 0: return &pack_panel<float, To>;
    case 1: return &pack_panel<bfloat16, To>;
    case 2: return &pack_panel<float16, To>;
    default: return nullptr;
  }
}

}  // namespace

extern "C" int32_t banyan_run(const banyan_runtime* runtime, void* const* buffers,
                              const int64_t* symbols) {
  Job job{buffers[0], buffers[1], symbols[0], symbols[1], symbols[2], symbols[3] == 1};
  if (symbols[4] == 3 || symbols[4] == 4) {
    const banyan_task pack = symbols[4] == 3 ? &pack_columns<8> : &pack_columns<4>;
    const int64_t blocks = ceil_divide(job.n, quantized::kColumns);
    return runtime->parallel_for(runtime->pool, blocks, pack, &job);
  }
  const banyan_task task = symbols[4] == 0   ? packer<float>(symbols[3])
                           : symbols[4] == 1 ? packer<bfloat16>(symbols[3])
                                             : packer<float16>(symbols[3]);
  if (task == nullptr) return 2;
  return runtime->parallel_for(runtime->pool, ceil_divide(job.n, kPanelColumns), task, &job);
}
