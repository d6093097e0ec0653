// The rate of fused multiply-adds that a processor sustains from its registers: no memory, no dependence between chains.
// Build: c++ -O3 -std=c++17 -ffp-contract=fast -pthread -DBYTES=32 -DCHAINS=12 -mavx2 -mfma peak.cpp
// Run: peak THREADS SECONDS -> GFLOP/s of all threads together (a multiply-add is two operations), by the time that each
// thread was on a processor: what else runs on the machine lowers no peak.
#include <time.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

typedef float Lanes __attribute__((vector_size(BYTES)));

static double on_processor() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + 1e-9 * now.tv_nsec;
}

// `rounds` times CHAINS multiply-adds; as many chains as hide the latency, as few as stay in registers.
static float multiply_add(long rounds, float start) {
  Lanes sum[CHAINS], x = {}, y = {};
  x += .999f;
  y += start;
#pragma GCC unroll 64
  for (int chain = 0; chain < CHAINS; ++chain) sum[chain] = y;
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 64
    for (int chain = 0; chain < CHAINS; ++chain) sum[chain] = sum[chain] * x + y;
#pragma GCC unroll 64
    for (int chain = 0; chain < CHAINS; ++chain) __asm__ volatile("" : REGISTER(sum[chain]));  // keep every round
  }
  float total = 0;
#pragma GCC unroll 64
  for (int chain = 0; chain < CHAINS; ++chain) total += sum[chain][0];
  return total;
}

int main(int count, char** given) {
  const int threads = count > 1 ? std::atoi(given[1]) : 1;
  const double seconds = count > 2 ? std::atof(given[2]) : .3;
  constexpr long ROUNDS = 1 << 16;
  std::atomic<int> ready{0};
  std::atomic<long> done{0};
  std::atomic<float> kept{0};
  std::vector<double> taken(threads);
  std::vector<std::thread> pool;
  for (int place = 0; place < threads; ++place)
    pool.emplace_back([&, place] {
      kept = multiply_add(ROUNDS, .001f);  // warm: frequency, and vector units that are powered on demand
      for (++ready; ready < threads;) std::this_thread::yield();
      const double start = on_processor();
      long rounds = 0;
      do {
        kept = multiply_add(ROUNDS, .001f);
        rounds += ROUNDS;
        taken[place] = on_processor() - start;
      } while (taken[place] < seconds);
      done += rounds;
    });
  for (auto& one : pool) one.join();
  double mean = 0;
  for (double one : taken) mean += one / threads;
  std::printf("%.3f\n", 2e-9 * done * CHAINS * (BYTES / 4) / mean);
  return kept == 12345.f;  // the sums are used
}
