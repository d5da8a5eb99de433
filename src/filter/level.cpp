// SPDX-License-Identifier: BSD-3-Clause
// What a level can do, asked once, and what is wrong with a request to it: the rules of nbdkit's server/backend.c.
#include "level.hpp"

namespace nbdkit_python::filter {
namespace {

// What each request may have, in the order of Request.
struct Rule {
  std::uint32_t flags;
  std::optional<Ability> needs;
};
constexpr Rule rules[] = {
    {0, {}},                                                                              // pread
    {NBDKIT_FLAG_FUA, Ability::can_write},                                                // pwrite
    {0, Ability::can_flush},                                                              // flush
    {NBDKIT_FLAG_FUA, Ability::can_trim},                                                 // trim
    {NBDKIT_FLAG_MAY_TRIM | NBDKIT_FLAG_FUA | NBDKIT_FLAG_FAST_ZERO, Ability::can_zero},  // zero
    {NBDKIT_FLAG_REQ_ONE, Ability::can_extents},                                          // extents
    {0, Ability::can_cache},                                                              // cache
};

// What to say where an ability is needed and not there. Of can_extents nbdkit must only have asked, whatever the
// answer.
constexpr const char* reasons[abilities] = {
    "what is below is read-only: ask next.can_write() first",
    "what is below cannot flush: ask next.can_flush() first",
    nullptr,
    "what is below cannot trim: ask next.can_trim() first",
    "what is below cannot zero: ask next.can_zero() first",
    "what is below cannot tell that a zero would be slow: ask next.can_fast_zero() first",
    nullptr,
    "what is below has no FUA: ask next.can_fua() first",
    nullptr,
    "what is below cannot cache: ask next.can_cache() first",
};

// Null: the level has it.
const char* lacking(Level& level, Ability ability) noexcept {
  const int answer = level.able(ability);
  if (answer == -1) return "what is below has failed to tell whether it can do that; the log says why";
  return answer == 0 ? reasons[static_cast<std::size_t>(ability)] : nullptr;
}

const char* lacking(Level& level, const Rule& rule, std::uint32_t flags) noexcept {
  const char* reason = rule.needs ? lacking(level, *rule.needs) : nullptr;
  if (reason == nullptr && (flags & NBDKIT_FLAG_FUA) != 0) reason = lacking(level, Ability::can_fua);
  if (reason == nullptr && (flags & NBDKIT_FLAG_FAST_ZERO) != 0) reason = lacking(level, Ability::can_fast_zero);
  return reason;
}

// As nbdkit has it: none of these on a disk that cannot be written to, and no fast zero without a zero.
std::optional<Ability> prerequisite(Ability ability) noexcept {
  switch (ability) {
    case Ability::can_trim:
    case Ability::can_zero:
    case Ability::can_fua:
      return Ability::can_write;
    case Ability::can_fast_zero:
      return Ability::can_zero;
    default:
      return {};
  }
}

}  // namespace

std::int64_t Level::size() noexcept {
  std::int64_t size = known_size();
  if (size == -1) size_.store(size = ask_size(), std::memory_order_relaxed);
  return size;
}

int Level::able(Ability ability) noexcept {
  int answer = known(ability);
  if (answer != -1) return answer;
  const auto first = prerequisite(ability);
  answer = first ? able(*first) : 1;
  if (answer > 0) answer = ask(ability);
  abilities_[static_cast<std::size_t>(ability)].store(static_cast<std::int8_t>(answer), std::memory_order_relaxed);
  return answer;
}

std::optional<std::string> Level::fault(Request request, std::uint32_t count, std::uint64_t offset,
                                        std::uint32_t flags) noexcept {
  const Rule& rule = rules[static_cast<std::size_t>(request)];
  if ((flags & ~rule.flags) != 0)
    return "flags: expected " + (rule.flags == 0 ? "0" : "none but those of " + std::to_string(rule.flags)) + ", got " +
           std::to_string(flags);
  if (const char* const reason = lacking(*this, rule, flags)) return reason;
  if (request == Request::flush) return {};
  if (count == 0) return "expected at least one byte, got none";
  if (count > most_data && (request == Request::pread || request == Request::pwrite))
    return "expected at most " + std::to_string(most_data) + " bytes, got " + std::to_string(count);
  const std::int64_t end = size();
  if (end == -1) return "what is below has failed to tell its size; the log says why";
  const auto bytes = static_cast<std::uint64_t>(end);
  if (offset <= bytes && count <= bytes - offset) return {};
  return "expected a range within the " + std::to_string(bytes) + " bytes of what is below, got " +
         std::to_string(count) + " at offset " + std::to_string(offset);
}

int Bottom::ask(Ability ability) noexcept {
  switch (ability) {
    case Ability::can_write:
      return next_->can_write(next_);
    case Ability::can_flush:
      return next_->can_flush(next_);
    case Ability::is_rotational:
      return next_->is_rotational(next_);
    case Ability::can_trim:
      return next_->can_trim(next_);
    case Ability::can_zero:
      return next_->can_zero(next_);
    case Ability::can_fast_zero:
      return next_->can_fast_zero(next_);
    case Ability::can_extents:
      return next_->can_extents(next_);
    case Ability::can_fua:
      return next_->can_fua(next_);
    case Ability::can_multi_conn:
      return next_->can_multi_conn(next_);
    case Ability::can_cache:
      return next_->can_cache(next_);
  }
  return -1;
}

}  // namespace nbdkit_python::filter
