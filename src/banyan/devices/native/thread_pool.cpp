// The thread pool of the CPU device: N - 1 workers and the caller share every loop.
//
// Kernels of a decode step last tens of microseconds, so a sleeping worker that has to be woken costs
// more than the work. Workers therefore spin for a bounded time after each loop, then park.
//
// Every thread owns a contiguous range of the items and takes from its front; who is done takes from
// the back of the others. So neighbouring items stay on one core, yet nobody waits for a core that is
// slow, asleep or lent to another program: a worker that comes late finds the loop closed.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
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
constexpr std::chrono::microseconds kBetweenLoops{20};
constexpr int64_t kOwnShare = 32;    // a thread takes 1/32 of what is left of its own range
constexpr int64_t kOtherShare = 4;   // and 1/4 of what is left of another's

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

// Spins until ready() or the time is over; true when ready. A wait that is longer than those between
// two loops of a program is one between two programs, and another process may want the core by then.
template <class Ready>
bool spin_until(std::chrono::nanoseconds limit, Ready ready) {
  const auto begin = Clock::now();
  for (auto now = begin; now < begin + limit; now = Clock::now()) {
    if (now >= begin + kBetweenLoops) sched_yield();
    for (int i = 0; i < kSpinsPerClockRead; ++i) {
      if (ready()) return true;
      relax();
    }
  }
  return ready();
}

// What is left of one thread's items: a count of loops (so that a thread that slept through a loop
// cannot take from the next one by mistake), the first item and the end, in units of items.
constexpr int kUnitBits = 22;
constexpr uint64_t kMostUnits = (uint64_t{1} << kUnitBits) - 1;

struct Units {
  int64_t begin;
  int64_t end;
};

class alignas(kCacheLine) Range {
 public:
  void open(uint64_t loop, int64_t begin, int64_t end) {
    left_.store(packed(loop, begin, end), std::memory_order_release);
  }

  // Takes 1 / `share` of what is left, at least one unit; empty when nothing is left of this loop.
  Units take(uint64_t loop, bool from_front, int64_t share) {
    uint64_t left = left_.load(std::memory_order_acquire);
    for (;;) {
      const int64_t begin = left >> kUnitBits & kMostUnits, end = left & kMostUnits;
      if (packed(loop, begin, end) != left || begin == end) return {0, 0};
      const int64_t count = std::max<int64_t>(1, (end - begin) / share);
      const Units taken = from_front ? Units{begin, begin + count} : Units{end - count, end};
      const uint64_t rest = from_front ? packed(loop, taken.end, end) : packed(loop, begin, taken.begin);
      if (left_.compare_exchange_weak(left, rest, std::memory_order_acq_rel)) return taken;
    }
  }

 private:
  static uint64_t packed(uint64_t loop, uint64_t begin, uint64_t end) {
    return loop << (2 * kUnitBits) | begin << kUnitBits | end;
  }

  std::atomic<uint64_t> left_{0};
};

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
        starts_(num_threads),
        scratch_(num_threads, nullptr),
        ranges_(num_threads) {
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
    if (forked() || num_threads_ == 1 || num_items <= 1) {
      std::unique_lock<std::mutex> turn(turn_, std::defer_lock);
      if (!forked()) turn.lock();
      for (int64_t item = 0; item < num_items; ++item) task(context, item, 0);
    } else {
      std::lock_guard<std::mutex> turn(turn_);
      start_workers();
      share(num_items, task, context);
    }
    running_pool = outer;
    return BANYAN_OK;
  }

  void share(int64_t num_items, banyan_task task, void* context) {
    const int64_t unit = (num_items - 1) / static_cast<int64_t>(kMostUnits) + 1;
    const int64_t units = (num_items - 1) / unit + 1;
    const uint64_t loop = generation_.load(std::memory_order_relaxed) + 1;
    num_items_.store(num_items, std::memory_order_relaxed);
    unit_.store(unit, std::memory_order_relaxed);
    task_.store(task, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    units_left_.store(units, std::memory_order_relaxed);
    int64_t begin = 0;
    for (int64_t thread = 0; thread < num_threads_; ++thread) {
      const int64_t end = begin + units / num_threads_ + (thread < units % num_threads_ ? 1 : 0);
      ranges_[thread].open(loop, begin, end);
      begin = end;
    }
    generation_.store(loop);  // publishes the loop; ordered against parked_ below
    if (parked_.load() > 0) {
      keep_off_caller();
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    take_part(0, loop);
    const auto done = [this] { return units_left_.load(std::memory_order_acquire) == 0; };
    if (spin_until(spin_, done)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    caller_parked_.store(true);
    done_.wait(lock, [this] { return units_left_.load() == 0; });
    caller_parked_.store(false);
  }

  // Runs items of a loop until none is left to take. What is read here belongs to that loop whenever
  // a unit of it can be taken: the caller changes nothing before all units are done.
  void take_part(int64_t thread, uint64_t loop) {
    const banyan_task task = task_.load(std::memory_order_relaxed);
    void* const context = context_.load(std::memory_order_relaxed);
    const int64_t num_items = num_items_.load(std::memory_order_relaxed);
    const int64_t unit = unit_.load(std::memory_order_relaxed);
    int64_t done = 0;
    for (int64_t i = 0; i < num_threads_; ++i) {
      const bool own = i == 0;
      Range& range = ranges_[(thread + i) % num_threads_];
      for (;;) {
        const Units taken = range.take(loop, own, own ? kOwnShare : kOtherShare);
        if (taken.begin == taken.end) break;
        const int64_t end = std::min(taken.end * unit, num_items);
        for (int64_t item = taken.begin * unit; item < end; ++item) task(context, item, thread);
        done += taken.end - taken.begin;
      }
    }
    if (done > 0 && units_left_.fetch_sub(done) == done && caller_parked_.load()) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
  }

  struct Start {
    Pool* pool;
    int64_t thread;
  };

  static void* begin(void* context) {
    const Start* const start = static_cast<Start*>(context);
    start->pool->work(start->thread);
    return nullptr;
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
      seen = generation_.load();
      if (stopping_.load()) return;
      take_part(thread, seen);
    }
  }

  // In a virtual machine the system takes an idle CPU for one that the host has taken away, and wakes a
  // worker on the CPU of the caller, where it does not run before the caller pauses: half the machine
  // stays idle, for seconds on end. So workers that sleep are forbidden the CPU that the caller is on.
  void keep_off_caller() {
#if defined(__linux__)
    const int cpu = sched_getcpu();
    if (!cpus_.empty() || cpu < 0 || cpu >= CPU_SETSIZE || cpu == cpu_of_caller_) return;
    cpu_of_caller_ = cpu;
    cpu_set_t others = allowed_;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0) return;
    for (const pthread_t worker : workers_) {
      pthread_setaffinity_np(worker, sizeof others, &others);  // a wish
    }
#endif
  }

  // Where the system refuses a thread (a limit on processes, say), those that there are take its items.
  void start_workers() {
    if (started_) return;
    started_ = true;
#if defined(__linux__)
    CPU_ZERO(&allowed_);
    pthread_getaffinity_np(pthread_self(), sizeof allowed_, &allowed_);
#endif
    for (int64_t thread = 1; thread < num_threads_; ++thread) {
      starts_[thread] = {this, thread};
      pthread_t worker;
      if (pthread_create(&worker, nullptr, &Pool::begin, &starts_[thread]) != 0) return;
      workers_.push_back(worker);
      pin(worker, thread);
    }
  }

  void stop_workers() {
    stopping_.store(true);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      generation_.fetch_add(1);
      wake_.notify_all();
    }
    for (const pthread_t worker : workers_) pthread_join(worker, nullptr);
  }

  void pin(pthread_t worker, int64_t thread) {
#if defined(__linux__)
    if (cpus_.empty()) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus_[thread], &set);
    pthread_setaffinity_np(worker, sizeof set, &set);  // a wish: failure is harmless
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
  std::vector<Start> starts_;
  std::vector<pthread_t> workers_;
  bool started_ = false;
  std::vector<void*> scratch_;
  int64_t scratch_bytes_ = 0;
  banyan_runtime runtime_{};

#if defined(__linux__)
  cpu_set_t allowed_;  // to the process when the workers started
  int cpu_of_caller_ = -1;  // that workers keep off
#endif
  std::vector<Range> ranges_;

  std::mutex turn_;  // held by the thread whose loop runs
  std::atomic<int64_t> num_items_{0};
  std::atomic<int64_t> unit_{1};  // items of a unit: 1, unless there are millions
  std::atomic<banyan_task> task_{nullptr};
  std::atomic<void*> context_{nullptr};

  std::mutex mutex_;  // guards only parking and waking
  std::condition_variable wake_;
  std::condition_variable done_;
  alignas(kCacheLine) std::atomic<uint64_t> generation_{0};
  alignas(kCacheLine) std::atomic<int64_t> units_left_{0};
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
