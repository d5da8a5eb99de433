// SPDX-License-Identifier: BSD-3-Clause
// Below: what a filter has below it on one connection, and nbdkit's functions for filters. Where nbdkit would end the
// server for what it is asked, this process ends; the answers are as the input says.
#pragma once

#define NBDKIT_API_VERSION 2
#include <nbdkit-filter.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace nbdkit_python::fuzz {
class Below;
}

// A client's connection, in which the filter opens what is below.
struct nbdkit_context {
  nbdkit_python::fuzz::Below* next = nullptr;
};

namespace nbdkit_python::fuzz {

class Below : public nbdkit_next_ops {
 public:
  explicit Below(bool readonly) noexcept;
  ~Below();
  Below(const Below&) = delete;
  Below& operator=(const Below&) = delete;

  static Below& of(nbdkit_next* next) noexcept { return static_cast<Below&>(*next); }
  // How many are open.
  static std::size_t count() noexcept;

 private:
  enum Ability {
    write,
    flushing,
    rotational,
    trimming,
    zeroing,
    fast_zeroing,
    extending,
    fua,
    multi,
    caching,
    abilities
  };

  // Answers, as nbdkit remembers them: the first one stays. At most 1 or 2; -1 is a failure, or not asked yet.
  int able(Ability ability, int most);
  std::int64_t size();

  void require_prepared(const char* name) const;
  // Each ends the process where the request must not be made.
  void check(const char* name, std::uint32_t flags, std::uint32_t allowed) const;
  void check(const char* name, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
             std::uint32_t allowed) const;
  void check_has(const char* name, Ability ability, int least = 1) const;

  bool prepared_ = false;
  std::int64_t size_ = -1;
  std::array<int, abilities> abilities_;
};

// What the filter's callbacks of before a connection may be passed on to.
int take_parameter(nbdkit_backend* backend, const char* key, const char* value);
int agree(nbdkit_backend* backend);
int let_in(nbdkit_backend* backend, int readonly);
int tell_exports(nbdkit_backend* backend, int readonly, nbdkit_exports* exports);
const char* tell_default(nbdkit_backend* backend, int readonly);
int open_below(nbdkit_context* context, int readonly, const char* name);

}  // namespace nbdkit_python::fuzz
