// SPDX-License-Identifier: BSD-3-Clause
// Memory: what a server has requests' data in, and what requests are about.
#pragma once

#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "fuzz.hpp"

namespace nbdkit_python::fuzz {

// The memory of requests, which nbdkit uses for one after the other. Between them, and beyond a request's end, nobody
// may touch it: AddressSanitizer watches, and what it cannot see would show the poison.
class Memory {
 public:
  static constexpr std::size_t size = 4096;
  static constexpr char poison = static_cast<char>(0xDB);  // as in objects.py

  Memory() { hide(); }
  ~Memory() { ASAN_UNPOISON_MEMORY_REGION(bytes_.get(), size); }

  char* lend(std::uint32_t count) {
    ASAN_UNPOISON_MEMORY_REGION(bytes_.get(), count);
    return bytes_.get();
  }
  // Takes it back; the request's bytes.
  std::string take(std::uint32_t count) {
    ASAN_UNPOISON_MEMORY_REGION(bytes_.get(), size);
    std::string seen{bytes_.get(), count};
    require(std::all_of(bytes_.get() + count, bytes_.get() + size, [](char c) { return c == poison; }),
            "a request writes beyond its end");
    hide();
    return seen;
  }

 private:
  void hide() {
    std::fill_n(bytes_.get(), size, poison);
    ASAN_POISON_MEMORY_REGION(bytes_.get(), size);
  }
  const std::unique_ptr<char[]> bytes_ = std::make_unique<char[]>(size);
};

// What a request is about, on a disk of this size: it fits into the memory. None (count 0) on an empty disk.
struct Range {
  std::uint32_t count = 0;
  std::uint64_t offset = 0;
};
inline Range some_range(std::int64_t disk) {
  const auto end = static_cast<std::uint64_t>(disk);
  const std::uint64_t count =
      std::min({std::uint64_t{1} + std::uint64_t{byte()} * 16, std::uint64_t{Memory::size}, end});
  if (count == 0) return {};
  return {static_cast<std::uint32_t>(count), number<std::uint64_t>() % (end - count + 1)};
}

}  // namespace nbdkit_python::fuzz
