// CUDA's threads on a CPU: enough of the language for the sources in csrc/cuda, so that their kernels run where there
// is no GPU. A thread is a fiber; it runs until it waits at a barrier or a shuffle. The order in which threads run is
// drawn anew for every block, and so are warps that run only when all others wait: what a missing barrier leaves to
// chance comes out different.
//
// What a GPU would leave undefined is an error: a barrier or a shuffle that a thread of the block or warp does not
// reach, and shuffles of different kinds in one warp.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after another

namespace on_host {

struct Index {
  unsigned x;
};

// Threads that wait for each other: a block, or a warp.
struct Group {
  unsigned size = 0;
  unsigned num_arrived = 0;
  uint64_t turn = 0;
  int kind = 0;  // of what they wait at
};

struct Fiber {
  ucontext_t start;
  jmp_buf place;
  std::vector<char> stack;
  bool is_started = false;
  bool is_done = false;
};

constexpr unsigned kWarpSize = 32;
constexpr size_t kStackBytes = 256 * 1024;

struct Machine {
  std::vector<Fiber> fibers = std::vector<Fiber>(1024);
  std::vector<unsigned> order;
  Group block;
  std::vector<Group> warps;
  std::vector<uint32_t> words;  // what shuffles hand over, one a thread
  std::function<void()> body;
  jmp_buf scheduler;
  ucontext_t caller;
  unsigned current = 0;
  unsigned num_done = 0;
  uint64_t progress = 0;
  const char* kernel = "";
  std::string error;
  std::mt19937 random;
  std::mutex mutex;
};

inline Machine machine;

}  // namespace on_host

inline on_host::Index threadIdx, blockIdx, blockDim, gridDim;

namespace on_host {

inline void yield() {
  if (_setjmp(machine.fibers[machine.current].place) == 0) {
    _longjmp(machine.scheduler, 1);
  }
}

inline void wait_for_all(Group& group, int kind) {
  if (group.num_arrived > 0 && group.kind != kind) {
    machine.error = "threads wait at different places";
  }
  group.kind = kind;
  ++machine.progress;
  const uint64_t turn = group.turn;
  if (++group.num_arrived == group.size) {
    group.num_arrived = 0;
    ++group.turn;
    return;
  }
  while (group.turn == turn) {
    yield();
  }
}

inline uint32_t shuffle(int kind, uint32_t word, unsigned source) {
  Group& warp = machine.warps[threadIdx.x / kWarpSize];
  machine.words[threadIdx.x] = word;
  wait_for_all(warp, kind);
  const uint32_t out = machine.words[threadIdx.x / kWarpSize * kWarpSize + source];
  wait_for_all(warp, kind);
  return out;
}

inline void enter() {
  machine.body();
  Fiber& fiber = machine.fibers[machine.current];
  fiber.is_done = true;
  ++machine.num_done;
  ++machine.progress;
  _longjmp(machine.scheduler, 1);
}

inline void resume(unsigned thread) {
  machine.current = thread;
  threadIdx.x = thread;
  if (_setjmp(machine.scheduler) == 0) {
    Fiber& fiber = machine.fibers[thread];
    if (fiber.is_started) {
      _longjmp(fiber.place, 1);
    }
    fiber.is_started = true;
    setcontext(&fiber.start);
  }
}

inline void run_block(unsigned num_threads) {
  machine.block = {num_threads};
  machine.warps.assign(num_threads / kWarpSize, {kWarpSize});
  machine.words.assign(num_threads, 0);
  machine.order.resize(num_threads);
  machine.num_done = 0;
  for (unsigned thread = 0; thread < num_threads; ++thread) {
    machine.order[thread] = thread;
    Fiber& fiber = machine.fibers[thread];
    fiber.stack.resize(kStackBytes);
    fiber.is_started = fiber.is_done = false;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.data();
    fiber.start.uc_stack.ss_size = kStackBytes;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
  }
  std::shuffle(machine.order.begin(), machine.order.end(), machine.random);
  const uint32_t slow_warps = machine.random();  // a bit each
  const auto resume_all = [&](bool slow) {
    const uint64_t before = machine.progress;
    for (const unsigned thread : machine.order) {
      if (!machine.fibers[thread].is_done && (slow_warps >> thread / kWarpSize & 1) == slow) {
        resume(thread);
      }
    }
    return machine.progress > before;
  };
  while (machine.num_done < num_threads && machine.error.empty()) {
    if (!resume_all(false) && !resume_all(true)) {
      machine.error = "some threads wait for others that never come";
    }
  }
}

template <typename... Parameters, typename... Arguments>
void launch(
    const char* name, void (*kernel)(Parameters...), int64_t num_blocks, int64_t num_threads, Arguments... arguments) {
  const std::lock_guard<std::mutex> lock(machine.mutex);
  if (num_threads % kWarpSize != 0 || num_threads > 1024) {
    throw std::runtime_error(std::string(name) + ": a block of " + std::to_string(num_threads) + " threads");
  }
  machine.body = [&] { kernel(arguments...); };
  machine.error.clear();
  gridDim.x = static_cast<unsigned>(num_blocks);
  blockDim.x = static_cast<unsigned>(num_threads);
  for (unsigned block = 0; block < gridDim.x && machine.error.empty(); ++block) {
    blockIdx.x = block;
    run_block(blockDim.x);
  }
  if (!machine.error.empty()) {
    throw std::runtime_error(std::string(name) + ": " + machine.error);
  }
}

}  // namespace on_host

inline void __syncthreads() { on_host::wait_for_all(on_host::machine.block, -1); }
inline uint32_t __shfl_xor_sync(unsigned, uint32_t word, int mask) {
  return on_host::shuffle(mask, word, threadIdx.x % on_host::kWarpSize ^ static_cast<unsigned>(mask));
}
inline uint32_t __shfl_down_sync(unsigned, uint32_t word, unsigned by) {
  const unsigned lane = threadIdx.x % on_host::kWarpSize;
  return on_host::shuffle(100 + static_cast<int>(by), word, lane + by < on_host::kWarpSize ? lane + by : lane);
}
inline uint32_t __shfl_sync(unsigned, uint32_t word, int source) {
  return on_host::shuffle(200, word, static_cast<unsigned>(source));
}
