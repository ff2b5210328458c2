// The thread pool of the CPU device: N - 1 workers and the caller share every loop.
//
// Kernels of a decode step last tens of microseconds, so a sleeping worker that has to be woken costs
// more than the work. Workers therefore spin for a bounded time after each loop, then park.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "program_abi.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = 2 << 20;
constexpr int kSpinsPerClockRead = 32;

// Children made by fork() have no workers; they notice it through this count and run loops alone.
std::atomic<int> fork_count{0};
void count_fork() { fork_count.fetch_add(1, std::memory_order_relaxed); }

// The pool whose task this thread is running, if any.
thread_local const void* running_pool = nullptr;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until ready() or the time is over; true when ready.
template <class Ready>
bool spin_until(std::chrono::nanoseconds limit, Ready ready) {
  const auto end = Clock::now() + limit;
  do {
    for (int i = 0; i < kSpinsPerClockRead; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (Clock::now() < end);
  return ready();
}

void* allocate_scratch(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  const int64_t size = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, size);
#if defined(MADV_HUGEPAGE)
  if (memory != nullptr && alignment == kHugePage) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return memory;
}

class Pool {
 public:
  Pool(int64_t num_threads, const int32_t* cpus, int64_t spin_nanoseconds)
      : num_threads_(num_threads),
        spin_(spin_nanoseconds),
        forks_at_start_(fork_count.load()),
        scratch_(num_threads, nullptr) {
    if (cpus != nullptr) cpus_.assign(cpus, cpus + num_threads);
  }

  ~Pool() {
    stop_workers();
    for (void* memory : scratch_) std::free(memory);
  }

  const banyan_runtime* runtime(int64_t scratch_bytes) {
    std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
    if (!forked()) turn.lock();  // in a child, a thread that is gone may hold it
    if (scratch_bytes > scratch_bytes_ && !grow_scratch(scratch_bytes)) return nullptr;
    runtime_ = {num_threads_, &Pool::parallel_for, this, scratch_.data()};
    return &runtime_;
  }

  bool forked() const { return fork_count.load(std::memory_order_relaxed) != forks_at_start_; }

 private:
  static int32_t parallel_for(void* pool, int64_t num_items, banyan_task task, void* context) {
    return static_cast<Pool*>(pool)->run(num_items, task, context);
  }

  int32_t run(int64_t num_items, banyan_task task, void* context) {
    if (running_pool == this) return BANYAN_NESTED;
    const void* outer = running_pool;
    running_pool = this;
    if (forked()) {
      for (int64_t item = 0; item < num_items; ++item) task(context, item, 0);
    } else {
      std::lock_guard<std::mutex> turn(turn_);
      num_items_ = num_items;
      task_ = task;
      context_ = context;
      if (num_items > 1 && num_threads_ > 1) {
        start_workers();
        share();
      } else {
        run_range(0);
      }
    }
    running_pool = outer;
    return BANYAN_OK;
  }

  void share() {
    pending_.store(num_threads_ - 1, std::memory_order_relaxed);
    generation_.fetch_add(1);  // publishes the loop; ordered against parked_ below
    if (parked_.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    run_range(0);
    const auto done = [this] { return pending_.load(std::memory_order_acquire) == 0; };
    if (spin_until(spin_, done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    caller_parked_.store(true);
    done_.wait(lock, [this] { return pending_.load() == 0; });
    caller_parked_.store(false);
  }

  void run_range(int64_t thread) {
    const int64_t share = num_items_ / num_threads_;
    const int64_t extra = num_items_ % num_threads_;
    const int64_t begin = thread * share + (thread < extra ? thread : extra);
    const int64_t end = begin + share + (thread < extra ? 1 : 0);
    for (int64_t item = begin; item < end; ++item) task_(context_, item, thread);
  }

  void work(int64_t thread) {
    running_pool = this;
    uint64_t seen = 0;
    const auto changed = [this, &seen] { return generation_.load() != seen; };
    for (;;) {
      if (!spin_until(spin_, changed)) {
        std::unique_lock<std::mutex> lock(mutex_);
        parked_.fetch_add(1);
        wake_.wait(lock, changed);
        parked_.fetch_sub(1);
      }
      ++seen;
      if (stopping_.load()) return;
      run_range(thread);
      if (pending_.fetch_sub(1) == 1 && caller_parked_.load()) {
        std::lock_guard<std::mutex> lock(mutex_);
        done_.notify_one();
      }
    }
  }

  void start_workers() {
    if (!workers_.empty()) return;
    for (int64_t thread = 1; thread < num_threads_; ++thread) {
      workers_.emplace_back(&Pool::work, this, thread);
      pin(workers_.back(), thread);
    }
  }

  void stop_workers() {
    stopping_.store(true);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      generation_.fetch_add(1);
      wake_.notify_all();
    }
    for (std::thread& worker : workers_) worker.join();
  }

  void pin(std::thread& worker, int64_t thread) {
#if defined(__linux__)
    if (cpus_.empty()) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus_[thread], &set);
    pthread_setaffinity_np(worker.native_handle(), sizeof set, &set);  // a wish: failure is harmless
#else
    (void)worker, (void)thread;
#endif
  }

  bool grow_scratch(int64_t bytes) {
    for (void*& memory : scratch_) {
      std::free(memory);
      memory = allocate_scratch(bytes);
      if (memory == nullptr) {
        scratch_bytes_ = 0;
        return false;
      }
    }
    scratch_bytes_ = bytes;
    return true;
  }

  const int64_t num_threads_;
  const std::chrono::nanoseconds spin_;
  const int forks_at_start_;
  std::vector<int32_t> cpus_;
  std::vector<std::thread> workers_;
  std::vector<void*> scratch_;
  int64_t scratch_bytes_ = 0;
  banyan_runtime runtime_{};

  std::mutex turn_;  // held by the thread whose loop runs
  int64_t num_items_ = 0;
  banyan_task task_ = nullptr;
  void* context_ = nullptr;

  std::mutex mutex_;  // guards only parking and waking
  std::condition_variable wake_;
  std::condition_variable done_;
  alignas(kCacheLine) std::atomic<uint64_t> generation_{0};
  alignas(kCacheLine) std::atomic<int64_t> pending_{0};
  alignas(kCacheLine) std::atomic<int64_t> parked_{0};
  std::atomic<bool> caller_parked_{false};
  std::atomic<bool> stopping_{false};
};

}  // namespace

extern "C" {

// cpus: one CPU number per thread (entry 0, the caller, is not used), or null for no pinning.
// Threads start with the first loop that needs them. Returns null when memory is short.
void* banyan_pool_create(int64_t num_threads, const int32_t* cpus, int64_t spin_nanoseconds) {
  static const bool watching_forks = pthread_atfork(nullptr, nullptr, &count_fork) == 0;
  (void)watching_forks;
  return new (std::nothrow) Pool(num_threads, cpus, spin_nanoseconds);
}

// The runtime to hand to a program that needs scratch_bytes per thread; null when memory is short.
// Stays valid until the next call for this pool or banyan_pool_destroy.
const banyan_runtime* banyan_pool_runtime(void* pool, int64_t scratch_bytes) {
  return static_cast<Pool*>(pool)->runtime(scratch_bytes);
}

// In a child of fork() the pool is left alone: its threads do not exist there, and waiting for them
// would never end.
void banyan_pool_destroy(void* pool) {
  Pool* const own = static_cast<Pool*>(pool);
  if (!own->forked()) delete own;
}

}  // extern "C"
