// Runs a program and notes when each of its kernel launches begins and ends.
//
// A program sees its threads only through `banyan_runtime`, so it is given one whose parallel_for
// takes the time around the real one. The program's text stays as it is.
#include <chrono>
#include <cstdint>

#include "program_abi.h"

namespace {

struct recording {
  const banyan_runtime* inner;
  int64_t* nanoseconds;  // [capacity][2]: begin and end of each launch
  int64_t capacity;
  int64_t count;
};

int64_t now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

int32_t timed_loop(void* pool, int64_t num_items, banyan_task task, void* context) {
  auto* const self = static_cast<recording*>(pool);
  const int64_t begin = now();
  const int32_t code = self->inner->parallel_for(self->inner->pool, num_items, task, context);
  const int64_t end = now();
  if (self->count < self->capacity) {
    self->nanoseconds[2 * self->count] = begin;
    self->nanoseconds[2 * self->count + 1] = end;
  }
  ++self->count;
  return code;
}

}  // namespace

// As calling `entry`; `count` becomes the number of launches, of which at most `capacity` are noted.
extern "C" int32_t banyan_record(banyan_entry entry, const banyan_runtime* runtime,
                                 void* const* buffers, const int64_t* symbols, int64_t* nanoseconds,
                                 int64_t capacity, int64_t* count) {
  recording self = {runtime, nanoseconds, capacity, 0};
  const banyan_runtime timed = {runtime->num_threads, timed_loop, &self, runtime->scratch};
  const int32_t code = entry(&timed, buffers, symbols);
  *count = self.count;
  return code;
}
