// Packs one weight W[n, k] into panels (README.md). A program like any other: it is given its source
// and target as buffers, and shares the panels among the threads.
//
// buffers: {source, target}; symbols: {n, k, elements between source rows, source type, target type}
// types: 0 float32, 1 bfloat16, 2 float16 (source only). Targets 3 and 4 are quantised weights of
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

// Four weights of a row in the order of packed lines.
BANYAN_INLINE uint32_t four_weights(const uint8_t* source, bool nibbles, bool is_signed) {
  if (nibbles) {
    return (source[0] & 15u) | (source[1] & 15u) << 8 | (source[0] >> 4) << 16 |
           static_cast<uint32_t>(source[1] >> 4) << 24;
  }
  uint32_t four;
  memcpy(&four, source, sizeof four);
  four = (four & 0xff0000ffu) | (four & 0xff00u) << 8 | (four >> 8 & 0xff00u);
  return is_signed ? four ^ 0x80808080u : four;
}

// 64 columns of a quantised weight: rows of the source side by side, a cache line of each at a time.
template <int Bits>
void pack_columns(void* context, int64_t block, int64_t) {
  using namespace quantized;
  const Job& job = *static_cast<const Job*>(context);
  constexpr bool nibbles = Bits == 4;
  constexpr int64_t four = nibbles ? 2 : 4;  // bytes of the source for four weights
  const int64_t depth = padded_depth(job.k * 8 / Bits);
  uint8_t* target = static_cast<uint8_t*>(job.target) + block * depth * kColumns * Bits / 8;
  const int64_t columns = least(kColumns, job.n - block * kColumns);
  memset(target, 0, depth * kColumns * Bits / 8);
  for (int64_t first = 0; first < job.k; first += kBlock) {
    const int64_t count = least(kBlock, job.k - first);
    for (int64_t c = 0; c < columns; ++c) {
      const uint8_t* row = static_cast<const uint8_t*>(job.source) +
                           (block * kColumns + c) * job.source_stride + first;
      uint8_t values[kBlock] = {};
      memcpy(values, row, count);
      // Bytes that are not there become zero like all padding, not the middle of the range.
      for (int64_t i = 0; i < count; i += four) {
        uint32_t weights = four_weights(values + i, nibbles, job.is_signed);
        if (!nibbles && i + 4 > count) {
          for (int64_t b = count - i; b < 4; ++b) {
            const int place = b == 1 ? 2 : b == 2 ? 1 : 3;
            weights &= ~(0xffu << 8 * place);
          }
        }
        const int64_t number = (first + i) / four;
        const int64_t line = nibbles ? number / 2 : number;
        uint32_t* to = reinterpret_cast<uint32_t*>(target + line * kLineBytes) + c;
        *to |= nibbles && number % 2 != 0 ? weights << 4 : weights;
      }
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
  const banyan_task task = symbols[4] == 0 ? packer<float>(symbols[3]) : packer<bfloat16>(symbols[3]);
  if (task == nullptr) return 2;
  return runtime->parallel_for(runtime->pool, ceil_divide(job.n, kPanelColumns), task, &job);
}
