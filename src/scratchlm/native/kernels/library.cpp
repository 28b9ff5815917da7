// What there is once, whatever the processor: the threads, and which instruction set to take.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#define PUBLIC extern "C" __attribute__((visibility("default")))

namespace {

struct Work {
    std::atomic<long> next{0};
    long tasks;
    void (*run)(void*, long);
    void* data;

    void drain() {
        for (long task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) run(data, task);
    }
};

// Threads of our own, for a process without GNU OpenMP. They sleep between the calls.
class Pool {
  public:
    void run(Work& work, int threads) {
        std::lock_guard<std::mutex> one_caller(entry);
        {
            std::lock_guard<std::mutex> hold(lock);
            while (int(helpers.size()) < threads - 1) helpers.emplace_back([this] { serve(); });
            current = &work;
            wanted = threads - 1;
        }
        wake.notify_all();
        work.drain();
        std::unique_lock<std::mutex> hold(lock);
        wanted = 0;
        done.wait(hold, [this] { return busy == 0; });
        current = nullptr;
    }

  private:
    void serve() {
        std::unique_lock<std::mutex> hold(lock);
        for (;;) {
            wake.wait(hold, [this] { return wanted > 0; });
            wanted--, busy++;
            Work* work = current;
            hold.unlock();
            work->drain();
            hold.lock();
            if (--busy == 0) done.notify_one();
        }
    }

    std::mutex entry, lock;
    std::condition_variable wake, done;
    std::vector<std::thread> helpers;
    Work* current = nullptr;
    int wanted = 0, busy = 0;
};

Pool& pool() {
    static Pool* only = new Pool;  // never destroyed: its threads wait until the process ends
    return *only;
}

using Team = void (*)(void (*)(void*), void*, unsigned, unsigned);

// PyTorch's own threads: a second set beside them would fight for the same processors.
Team gnu_openmp() {
#if defined(__linux__)
    return (Team)dlsym(RTLD_DEFAULT, "GOMP_parallel");
#else
    return nullptr;
#endif
}

}  // namespace

PUBLIC void scratchlm_parallel(long tasks, int threads, void (*run)(void*, long), void* data) {
    Work work;
    work.tasks = tasks, work.run = run, work.data = data;
    if (threads > tasks) threads = int(tasks);
    if (threads <= 1) return work.drain();
    static const Team team = gnu_openmp();
    if (team)
        team([](void* given) { ((Work*)given)->drain(); }, &work, unsigned(threads), 0);
    else
        pool().run(work, threads);
}

// Which sources this was made from (build.py): Python refuses a library of others.
PUBLIC const char* scratchlm_sources() { return SOURCES; }

// The best instruction set of this processor among those that were compiled, best first.
PUBLIC const char* scratchlm_instruction_set() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return "avx512bf16";
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "basic";
}
