// What this processor can do at most: reading memory, and multiplying and adding per number format.
//
// Built for one instruction set; asks the compiler's macros which loops exist. Every loop keeps its
// operands in registers (or tiles), so the numbers are ceilings that no kernel exceeds.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "program_abi.h"

namespace {

using Clock = std::chrono::steady_clock;

// Starts all threads at one moment; seconds from then until the last is done.
template <class Work>
double seconds_of(int32_t num_threads, Work work) {
  std::atomic<int32_t> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int32_t thread = 0; thread < num_threads; ++thread) {
    threads.emplace_back([&, thread] {
      ready.fetch_add(1);
      while (!go.load()) std::this_thread::yield();
      work(thread);
    });
  }
  while (ready.load() < num_threads) std::this_thread::yield();
  const auto began = Clock::now();
  go.store(true);
  for (std::thread& thread : threads) thread.join();
  return std::chrono::duration<double>(Clock::now() - began).count();
}

typedef uint64_t Words __attribute__((vector_size(64), aligned(64), may_alias));

// Eight streams at once: one stream leaves memory requests unused.
constexpr int64_t kStreams = 8;

void read_part(const char* memory, int64_t num_bytes) {
  const int64_t lines = num_bytes / (kStreams * 64);
  const Words* start = reinterpret_cast<const Words*>(memory);
  Words sum[kStreams] = {};
  for (int64_t line = 0; line < lines; ++line) {
    for (int64_t stream = 0; stream < kStreams; ++stream) sum[stream] ^= start[stream * lines + line];
  }
  for (int64_t stream = 0; stream < kStreams; ++stream) asm volatile("" ::"m"(sum[stream]));
}

// Tells the compiler that a register may have changed, so that it cannot fold the loop.
#if defined(__x86_64__)
#define BANYAN_KEEP(value) asm volatile("" : "+v"(value))
#elif defined(__aarch64__)
#define BANYAN_KEEP(value) asm volatile("" : "+w"(value))
#else
#define BANYAN_KEEP(value) asm volatile("" : "+m"(value))
#endif

#if defined(__AVX512F__)
typedef float Floats __attribute__((vector_size(64)));
constexpr int kAccumulators = 24;
#elif defined(__AVX2__)
typedef float Floats __attribute__((vector_size(32)));
constexpr int kAccumulators = 12;
#else
typedef float Floats __attribute__((vector_size(16)));
constexpr int kAccumulators = 8;
#endif

double float32_loop(int64_t iterations) {
  Floats sums[kAccumulators] = {};
  Floats left = {}, right = {};
  for (int64_t i = 0; i < iterations; ++i) {
    BANYAN_KEEP(left);
#pragma GCC unroll 24
    for (int a = 0; a < kAccumulators; ++a) {
      sums[a] += left * right;
      BANYAN_KEEP(sums[a]);
    }
  }
  return 2.0 * kAccumulators * (sizeof(Floats) / sizeof(float)) * iterations;
}

#if defined(__AMX_TILE__)
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Four accumulators, two left and two right tiles, as a matrix kernel holds them.
#define BANYAN_TILE_LOOP(instruction)                                   \
  TileShapes shapes;                                                    \
  /* g++ 12 believes that the load reads 8 bytes, and drops the rest */ \
  asm volatile("" ::"r"(&shapes) : "memory");                           \
  _tile_loadconfig(&shapes);                                            \
  _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);           \
  _tile_zero(4); _tile_zero(5); _tile_zero(6); _tile_zero(7);           \
  for (int64_t i = 0; i < iterations; ++i) {                            \
    instruction(0, 4, 6);                                               \
    instruction(1, 4, 7);                                               \
    instruction(2, 5, 6);                                               \
    instruction(3, 5, 7);                                               \
  }                                                                     \
  _tile_release();

double bfloat16_loop(int64_t iterations) {
  BANYAN_TILE_LOOP(_tile_dpbf16ps)
  return 4.0 * 16 * 16 * 32 * 2 * iterations;
}

double int8_loop(int64_t iterations) {
  BANYAN_TILE_LOOP(_tile_dpbssd)
  return 4.0 * 16 * 16 * 64 * 2 * iterations;
}
#else

#if defined(__AVX512BF16__)
double bfloat16_loop(int64_t iterations) {
  __m512 sums[kAccumulators] = {};
  __m512bh left = {}, right = {};
  for (int64_t i = 0; i < iterations; ++i) {
    BANYAN_KEEP(left);
#pragma GCC unroll 24
    for (int a = 0; a < kAccumulators; ++a) {
      sums[a] = _mm512_dpbf16_ps(sums[a], left, right);
      BANYAN_KEEP(sums[a]);
    }
  }
  return 2.0 * kAccumulators * 32 * iterations;
}
#else
double bfloat16_loop(int64_t) { return 0; }
#endif

#if defined(__AVX512VNNI__)
double int8_loop(int64_t iterations) {
  __m512i sums[kAccumulators] = {};
  __m512i left = {}, right = {};
  for (int64_t i = 0; i < iterations; ++i) {
    BANYAN_KEEP(left);
#pragma GCC unroll 24
    for (int a = 0; a < kAccumulators; ++a) {
      sums[a] = _mm512_dpbusd_epi32(sums[a], left, right);
      BANYAN_KEEP(sums[a]);
    }
  }
  return 2.0 * kAccumulators * 64 * iterations;
}
#else
double int8_loop(int64_t) { return 0; }
#endif

#endif

void do_nothing(void*, int64_t, int64_t) {}

}  // namespace

extern "C" {

// Seconds to read `num_bytes` once, cut evenly over the threads.
double banyan_measure_read(const void* memory, int64_t num_bytes, int32_t num_threads) {
  const int64_t part = num_bytes / num_threads / 4096 * 4096;
  return seconds_of(num_threads, [&](int32_t thread) {
    read_part(static_cast<const char*>(memory) + thread * part, part);
  });
}

// Runs `iterations` of one number format's loop on every thread and gives the seconds; writes how
// many multiplications and additions that were, 0 where this build has no such loop.
double banyan_measure_peak(int32_t format, int64_t iterations, int32_t num_threads, double* operations) {
  double (*const loops[])(int64_t) = {float32_loop, bfloat16_loop, int8_loop};
  *operations = loops[format](1) * static_cast<double>(iterations) * num_threads;
  return seconds_of(num_threads, [&](int32_t) { loops[format](iterations); });
}

// The smallest program: one loop in which every thread does nothing.
int32_t banyan_run(const banyan_runtime* runtime, void* const*, const int64_t*) {
  return runtime->parallel_for(runtime->pool, runtime->num_threads, do_nothing, nullptr);
}

}  // extern "C"
