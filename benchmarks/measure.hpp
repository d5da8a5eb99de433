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

// The nanoseconds that one call takes, on average over at least `seconds`.
template <typename Function>
double time_of(double seconds, const Function& call) {
  using Clock = std::chrono::steady_clock;
  // One more time than it takes to fill caches, CPython's among them.
  for (int i = 0; i < 64; ++i) call();
  for (std::uint64_t calls = 16;; calls *= 2) {
    const auto begin = Clock::now();
    for (std::uint64_t i = 0; i < calls; ++i) call();
    const std::chrono::duration<double> taken = Clock::now() - begin;
    if (taken.count() >= seconds) return taken.count() * 1e9 / static_cast<double>(calls);
  }
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
