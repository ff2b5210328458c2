// The C interface between a compiled CPU program and the process that runs it.
//
// A program is a shared object with one entry (by convention `banyan_run`). It owns no threads and
// no memory: both come in through `banyan_runtime`.
#ifndef BANYAN_PROGRAM_ABI_H
#define BANYAN_PROGRAM_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// One item of a parallel loop. `thread` is in [0, num_threads) and selects the scratch memory; two
// items that run at the same time never see the same `thread`.
typedef void (*banyan_task)(void* context, int64_t item, int64_t thread);

enum {
  BANYAN_OK = 0,
  BANYAN_NESTED = 1,  // parallel_for was called from inside one of its own tasks: nothing was run
};

typedef struct banyan_runtime {
  int64_t num_threads;
  // Runs task(context, item, thread) once for every item in [0, num_items) and returns when all are
  // done. Thread t begins with the t-th part of the items and goes on to its end; who is done takes
  // from the ends of the others. Returns BANYAN_OK or BANYAN_NESTED. Callers on different threads
  // take turns.
  int32_t (*parallel_for)(void* pool, int64_t num_items, banyan_task task, void* context);
  void* pool;      // first argument of parallel_for
  void** scratch;  // [num_threads], each 64-byte aligned, as large as the program asked for
} banyan_runtime;

// buffers: one pointer per argument, weight, state and output; symbols: the sizes bound at run time.
// Returns 0, or a number that the program's report explains.
typedef int32_t (*banyan_entry)(const banyan_runtime* runtime, void* const* buffers,
                                const int64_t* symbols);

#ifdef __cplusplus
}
#endif

#endif
