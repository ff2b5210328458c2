// What benchmarks/kernels.py times: limits of the machine, and linears as generated programs call
// them (cut by the grid, rounded to the output type by the epilogue, on the thread pool).
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "program_abi.h"
#include KERNEL_HEADER

namespace {

using namespace banyan;

volatile float result_sink;

// Register-resident multiply-adds: nothing but arithmetic.
void arithmetic(void* context, int64_t, int64_t) {
  const int64_t rounds = *static_cast<int64_t*>(context);
#if defined(__AVX512F__)
  __m512 sum[16];
  for (__m512& value : sum) value = _mm512_setzero_ps();
  __m512 x = _mm512_setzero_ps();
  for (int64_t i = 0; i < rounds; ++i) {
    __asm__ volatile("" : "+v"(x));
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
#if PEAK_IS_BF16
      sum[j] = _mm512_dpbf16_ps(sum[j], (__m512bh)x, (__m512bh)x);
#else
      sum[j] = _mm512_fmadd_ps(x, x, sum[j]);
#endif
    }
  }
  for (int j = 1; j < 16; ++j) sum[0] = _mm512_add_ps(sum[0], sum[j]);
  result_sink = _mm512_reduce_add_ps(sum[0]);
#else
  (void)rounds;
#endif
}

// The same of four bytes at a time, in registers of our choice: g++ 12 adds moves of its own.
void byte_arithmetic(void* context, int64_t, int64_t) {
  const int64_t rounds = *static_cast<int64_t*>(context);
#if defined(__AVX512VNNI__)
#define BYTES_INTO(n) "vpdpbusd %%zmm17, %%zmm16, %%zmm" #n "\n"
  for (int64_t i = 0; i < rounds; ++i) {
    __asm__ volatile(
        BYTES_INTO(0) BYTES_INTO(1) BYTES_INTO(2) BYTES_INTO(3) BYTES_INTO(4) BYTES_INTO(5)
        BYTES_INTO(6) BYTES_INTO(7) BYTES_INTO(8) BYTES_INTO(9) BYTES_INTO(10) BYTES_INTO(11)
        BYTES_INTO(12) BYTES_INTO(13) BYTES_INTO(14) BYTES_INTO(15)
        ::: "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10",
            "zmm11", "zmm12", "zmm13", "zmm14", "zmm15");
  }
#undef BYTES_INTO
#else
  (void)rounds;
#endif
}

struct Stretch {
  const float* base;
  int64_t floats;
};

// Four streams at once, as the streaming kernels read panels.
void read(void* context, int64_t item, int64_t) {
  const Stretch& all = *static_cast<const Stretch*>(context);
  const float* from = all.base + item * all.floats;
  const int64_t quarter = all.floats / 4;
  float sum[64] = {};
  for (int64_t i = 0; i < quarter; i += 16) {
    for (int s = 0; s < 4; ++s) {
#pragma omp simd
      for (int j = 0; j < 16; ++j) sum[16 * s + j] += from[s * quarter + i + j];
    }
  }
  float total = 0;
  for (float value : sum) total += value;
  result_sink = total;
}

struct Linear {
  const banyan_runtime* runtime;
  const ACTIVATION* a;
  const WEIGHT* w;
  ACTIVATION* out;
  int64_t rows, n, k;
  int64_t row_block, panel_block, row_blocks;
};

// Items as the compiler cuts them: all row blocks of some panels, then the next panels.
void linear_item(void* context, int64_t index, int64_t thread) {
  const Linear& self = *static_cast<const Linear*>(context);
  const int64_t row = index % self.row_blocks * self.row_block;
  const int64_t panel = index / self.row_blocks * self.panel_block;
  const int64_t rows = least(self.row_block, self.rows - row);
  const int64_t panels = least(self.panel_block, ceil_divide(self.n, kPanelColumns) - panel);
  const int64_t columns = least(panels * kPanelColumns, self.n - panel * kPanelColumns);
  const int64_t ldc = self.panel_block * kPanelColumns;
  float* c = static_cast<float*>(self.runtime->scratch[thread]);
  KERNEL(self.a + row * self.k, self.k, self.w + panel * panel_elements<WEIGHT>(self.k), self.k,
         rows, panels, c, ldc);
  for (int64_t r = 0; r < rows; ++r) {
    ACTIVATION* to = self.out + (row + r) * self.n + panel * kPanelColumns;
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) to[j] = from_float<ACTIVATION>(c[r * ldc + j]);
  }
}

}  // namespace

extern "C" void run_arithmetic(const banyan_runtime* runtime, int64_t rounds) {
  runtime->parallel_for(runtime->pool, runtime->num_threads, arithmetic, &rounds);
}

extern "C" void run_byte_arithmetic(const banyan_runtime* runtime, int64_t rounds) {
  runtime->parallel_for(runtime->pool, runtime->num_threads, byte_arithmetic, &rounds);
}

extern "C" void run_read(const banyan_runtime* runtime, const float* base, int64_t bytes) {
  Stretch all{base, bytes / 4 / runtime->num_threads / 64 * 64};
  runtime->parallel_for(runtime->pool, runtime->num_threads, read, &all);
}

// shape: rows, n, k; blocks: rows and panels of one item.
extern "C" void run_linear(const banyan_runtime* runtime, const void* a, const void* w, void* out,
                           const int64_t* shape, const int64_t* blocks) {
  Linear self{runtime,
              static_cast<const ACTIVATION*>(a),
              static_cast<const WEIGHT*>(w),
              static_cast<ACTIVATION*>(out),
              shape[0],
              shape[1],
              shape[2],
              blocks[0],
              blocks[1],
              ceil_divide(shape[0], blocks[0])};
  const int64_t panels = ceil_divide(shape[1], kPanelColumns);
  const int64_t items = self.row_blocks * ceil_divide(panels, self.panel_block);
  runtime->parallel_for(runtime->pool, items, linear_item, &self);
}
