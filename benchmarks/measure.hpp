// SPDX-License-Identifier: BSD-3-Clause
// What in_process and floor share: requests given as words, time taken, figures told.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace benchmarks {

// One thing to measure: a callback and, where it has one, the length of its request in bytes: "pread:4096".
struct Subject {
  std::string word, callback;
  std::uint32_t size = 0;
};

inline Subject subject(std::string_view word) {
  const auto colon = word.find(':');
  Subject result{std::string{word}, std::string{word.substr(0, colon)}};
  if (colon != word.npos) result.size = static_cast<std::uint32_t>(std::strtoul(word.data() + colon + 1, nullptr, 10));
  return result;
}

// The nanoseconds that one call takes: the median of batches, made for `seconds` in all. A batch is so short that few
// of them lose the processor to another process.
template <typename Function>
double time_of(double seconds, const Function& call) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  constexpr Seconds batch{100e-6};
  const auto time = [&](std::uint64_t calls) {
    const auto begin = Clock::now();
    for (std::uint64_t i = 0; i < calls; ++i) call();
    return Seconds{Clock::now() - begin};
  };
  std::uint64_t calls = 1;
  // This also fills caches, CPython's among them.
  while (time(calls) < batch) calls *= 2;
  std::vector<double> times;
  for (const auto begin = Clock::now(); times.empty() || Seconds{Clock::now() - begin}.count() < seconds;)
    times.push_back(time(calls).count() * 1e9 / static_cast<double>(calls));
  std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2));
  return times[times.size() / 2];
}

// One line for each subject: its word and its nanoseconds.
inline void tell(const Subject& what, double nanoseconds) {
  std::printf("%s %.2f\n", what.word.c_str(), nanoseconds);
  std::fflush(stdout);
}

[[noreturn]] inline void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(EXIT_FAILURE);
}

// SECONDS and the subjects are the last of a program's arguments.
struct Arguments {
  std::vector<std::string> settings;  // what comes before SECONDS
  double seconds = 0;
  std::vector<Subject> subjects;
};

inline Arguments arguments(int argc, char** argv, const char* usage) {
  Arguments result;
  int i = 1;
  for (; i < argc && std::strtod(argv[i], nullptr) <= 0; ++i) result.settings.emplace_back(argv[i]);
  if (i >= argc || result.settings.empty()) give_up(usage);
  result.seconds = std::strtod(argv[i], nullptr);
  for (++i; i < argc; ++i) result.subjects.push_back(subject(argv[i]));
  return result;
}

}  // namespace benchmarks
