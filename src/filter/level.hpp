// SPDX-License-Identifier: BSD-3-Clause
// Level: what is below a translator on one connection: the next translator, or at the bottom nbdkit's own next.
//
// nbdkit ends the process where a filter asks for what it must not: out of range, not announced, an ability that it has
// never asked about. So nothing is asked of a level before fault() has found nothing wrong with it, and a level's
// answers are asked for when they are first needed.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#define NBDKIT_API_VERSION 2
#include <nbdkit-filter.h>

namespace nbdkit_python::filter {

// In the order of callbacks.def.
enum class Ability : std::uint8_t {
  can_write,
  can_flush,
  is_rotational,
  can_trim,
  can_zero,
  can_fast_zero,
  can_extents,
  can_fua,
  can_multi_conn,
  can_cache
};
constexpr std::size_t abilities = 10;

enum class Request : std::uint8_t { pread, pwrite, flush, trim, zero, extents, cache };

// The most that one pread or pwrite may be about: nbdkit's plugins never get more from a client.
constexpr std::uint32_t most_data = 64 << 20;

class Level {
 public:
  Level() noexcept {
    for (auto& known : abilities_) known.store(-1, std::memory_order_relaxed);
  }
  virtual ~Level() = default;
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

  // In bytes; asked once. -1: an error, and the log says why.
  std::int64_t size() noexcept;
  // 0 or 1, or one of NBDKIT_ZERO_*, NBDKIT_FUA_*, NBDKIT_CACHE_*; asked once. -1: as above.
  int able(Ability ability) noexcept;
  // What there is to know of these without asking; else -1.
  std::int64_t known_size() const noexcept { return size_.load(std::memory_order_relaxed); }
  int known(Ability ability) const noexcept {
    return abilities_[static_cast<std::size_t>(ability)].load(std::memory_order_relaxed);
  }

  // What is wrong with a request to this level, if anything.
  std::optional<std::string> fault(Request request, std::uint32_t count, std::uint64_t offset,
                                   std::uint32_t flags) noexcept;

  // Null: none. Kept by nbdkit.
  virtual const char* export_description() noexcept = 0;
  virtual int block_size(std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) noexcept = 0;

  // Requests without a fault: 0, or -1 and *err, which is then not 0.
  virtual int pread(void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept = 0;
  virtual int pwrite(const void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
                     int* err) noexcept = 0;
  virtual int flush(std::uint32_t flags, int* err) noexcept = 0;
  virtual int trim(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept = 0;
  // Not ENOTSUP without NBDKIT_FLAG_FAST_ZERO.
  virtual int zero(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept = 0;
  virtual int extents(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* list,
                      int* err) noexcept = 0;
  virtual int cache(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept = 0;

 private:
  virtual std::int64_t ask_size() noexcept = 0;
  // Where can_write is false, the abilities that need it are not asked about.
  virtual int ask(Ability ability) noexcept = 0;

  // Two threads may both be the first to ask, and get the same answer.
  std::atomic<std::int64_t> size_ = -1;
  std::array<std::atomic<std::int8_t>, abilities> abilities_;
};

// What nbdkit has below this filter on one connection.
class Bottom final : public Level {
 public:
  // Called once, before all else.
  void set(nbdkit_next* next) noexcept { next_ = next; }

  const char* export_description() noexcept override { return next_->export_description(next_); }
  int block_size(std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) noexcept override {
    return next_->block_size(next_, minimum, preferred, maximum);
  }
  int pread(void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override {
    return next_->pread(next_, buf, count, offset, flags, err);
  }
  int pwrite(const void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
             int* err) noexcept override {
    return next_->pwrite(next_, buf, count, offset, flags, err);
  }
  int flush(std::uint32_t flags, int* err) noexcept override { return next_->flush(next_, flags, err); }
  int trim(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override {
    return next_->trim(next_, count, offset, flags, err);
  }
  int zero(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override {
    return next_->zero(next_, count, offset, flags, err);
  }
  int extents(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* list,
              int* err) noexcept override {
    return next_->extents(next_, count, offset, flags, list, err);
  }
  int cache(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override {
    return next_->cache(next_, count, offset, flags, err);
  }

 private:
  std::int64_t ask_size() noexcept override { return next_->get_size(next_); }
  int ask(Ability ability) noexcept override;

  nbdkit_next* next_ = nullptr;
};

}  // namespace nbdkit_python::filter
