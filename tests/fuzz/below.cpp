// SPDX-License-Identifier: BSD-3-Clause
// The rules are those of backend.c, the answers the input's.
#include "below.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fuzz.hpp"
#include "nbdkit.hpp"

namespace nbdkit_python::fuzz {
namespace {

std::size_t open_now = 0;

bool refuses() noexcept { return byte() % 8 == 1; }

int refuse(const char* name) {
  nbdkit_error("%s: refused below", name);
  return -1;
}

int answer(const char* name) { return refuses() ? refuse(name) : 0; }

// A request's: 0, or -1 and *err, which is never 0.
int answer(const char* name, int* err) {
  if (!refuses()) return 0;
  *err = 1 + byte() % 40;
  return refuse(name);
}

}  // namespace

std::size_t Below::count() noexcept { return open_now; }

Below::~Below() { --open_now; }

Below::Below(bool readonly) noexcept : nbdkit_next_ops{} {
  ++open_now;
  abilities_.fill(-1);
  if (readonly) abilities_[write] = 0;

  nbdkit_next_ops::prepare = [](nbdkit_next* next) {
    if (refuses()) return refuse("prepare");
    of(next).prepared_ = true;
    return 0;
  };
  nbdkit_next_ops::finalize = [](nbdkit_next* next) {
    of(next).prepared_ = false;
    return refuses() ? refuse("finalize") : 0;
  };
  nbdkit_next_ops::get_size = [](nbdkit_next* next) { return of(next).size(); };
  nbdkit_next_ops::export_description = [](nbdkit_next* next) {
    of(next).require_prepared("export_description");
    return refuses() ? nullptr : nbdkit_strdup_intern(text(31).c_str());
  };
  nbdkit_next_ops::block_size = [](nbdkit_next* next, std::uint32_t* minimum, std::uint32_t* preferred,
                                   std::uint32_t* maximum) {
    of(next).require_prepared("block_size");
    if (refuses()) return refuse("block_size");
    *minimum = 1;
    *preferred = 4096;
    *maximum = UINT32_MAX;
    return 0;
  };
  nbdkit_next_ops::can_write = [](nbdkit_next* next) { return of(next).able(write, 1); };
  nbdkit_next_ops::can_flush = [](nbdkit_next* next) { return of(next).able(flushing, 1); };
  nbdkit_next_ops::is_rotational = [](nbdkit_next* next) { return of(next).able(rotational, 1); };
  nbdkit_next_ops::can_trim = [](nbdkit_next* next) { return of(next).able(trimming, 1); };
  nbdkit_next_ops::can_zero = [](nbdkit_next* next) { return of(next).able(zeroing, 2); };
  nbdkit_next_ops::can_fast_zero = [](nbdkit_next* next) { return of(next).able(fast_zeroing, 1); };
  nbdkit_next_ops::can_extents = [](nbdkit_next* next) { return of(next).able(extending, 1); };
  nbdkit_next_ops::can_fua = [](nbdkit_next* next) { return of(next).able(fua, 2); };
  nbdkit_next_ops::can_multi_conn = [](nbdkit_next* next) { return of(next).able(multi, 1); };
  nbdkit_next_ops::can_cache = [](nbdkit_next* next) { return of(next).able(caching, 2); };

  nbdkit_next_ops::pread = [](nbdkit_next* next, void* buf, std::uint32_t count, std::uint64_t offset,
                              std::uint32_t flags, int* err) {
    of(next).check("pread", count, offset, flags, 0);
    std::memset(buf, 'r', count);
    return answer("pread", err);
  };
  nbdkit_next_ops::pwrite = [](nbdkit_next* next, const void* buf, std::uint32_t count, std::uint64_t offset,
                               std::uint32_t flags, int* err) {
    of(next).check("pwrite", count, offset, flags, NBDKIT_FLAG_FUA);
    of(next).check_has("pwrite", write);
    // AddressSanitizer sees what is read here.
    static_cast<void>(std::string(static_cast<const char*>(buf), count));
    return answer("pwrite", err);
  };
  nbdkit_next_ops::flush = [](nbdkit_next* next, std::uint32_t flags, int* err) {
    of(next).check("flush", flags, 0);
    of(next).check_has("flush", flushing);
    return answer("flush", err);
  };
  nbdkit_next_ops::trim = [](nbdkit_next* next, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
                             int* err) {
    of(next).check("trim", count, offset, flags, NBDKIT_FLAG_FUA);
    of(next).check_has("trim", write);
    of(next).check_has("trim", trimming);
    return answer("trim", err);
  };
  nbdkit_next_ops::zero = [](nbdkit_next* next, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
                             int* err) {
    of(next).check("zero", count, offset, flags, NBDKIT_FLAG_MAY_TRIM | NBDKIT_FLAG_FUA | NBDKIT_FLAG_FAST_ZERO);
    of(next).check_has("zero", write);
    of(next).check_has("zero", zeroing);
    if ((flags & NBDKIT_FLAG_FAST_ZERO) == 0) return answer("zero", err);
    of(next).check_has("zero", fast_zeroing);
    if (!refuses()) return 0;
    return *err = EOPNOTSUPP, -1;
  };
  nbdkit_next_ops::extents = [](nbdkit_next* next, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
                                nbdkit_extents* list, int* err) {
    of(next).check("extents", count, offset, flags, NBDKIT_FLAG_REQ_ONE);
    of(next).check_has("extents", extending, 0);
    if (answer("extents", err) == -1) return -1;
    // Often more than was asked for, and sometimes not all of it.
    nbdkit_add_extent(list, offset, 1 + byte(), byte() % 4);
    if (byte() % 2 == 0) nbdkit_add_extent(list, list->next, count, byte() % 4);
    return 0;
  };
  nbdkit_next_ops::cache = [](nbdkit_next* next, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
                              int* err) {
    of(next).check("cache", count, offset, flags, 0);
    of(next).check_has("cache", caching);
    return answer("cache", err);
  };
}

int Below::able(Ability ability, int most) {
  require_prepared("an ability");
  int& known = abilities_[ability];
  if (known != -1) return known;
  if (refuses()) return refuse("an ability");
  return known = std::min(byte() % 4, most);
}

std::int64_t Below::size() {
  require_prepared("get_size");
  constexpr std::int64_t sizes[] = {1 << 16, 1 << 16, 1 << 20, INT64_MAX, 0, 1, 513, 1 << 16};
  if (size_ != -1) return size_;
  if (refuses()) return refuse("get_size");
  return size_ = sizes[byte() % std::size(sizes)];
}

void Below::require_prepared(const char* name) const {
  require(prepared_, std::string{name} + ": asked for before prepare, or after finalize");
}

void Below::check(const char* name, std::uint32_t flags, std::uint32_t allowed) const {
  require_prepared(name);
  require((flags & ~allowed) == 0, std::string{name} + ": flags that it does not have");
  if ((flags & NBDKIT_FLAG_FUA) != 0) check_has(name, fua);
}

void Below::check(const char* name, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
                  std::uint32_t allowed) const {
  check(name, flags, allowed);
  require(size_ != -1, std::string{name} + ": asked for before the size");
  const auto size = static_cast<std::uint64_t>(size_);
  require(count > 0 && offset <= size && count <= size - offset, std::string{name} + ": out of range");
}

void Below::check_has(const char* name, Ability ability, int least) const {
  require(abilities_[ability] >= least, std::string{name} + ": something that is not there, or not asked about");
}

int take_parameter(nbdkit_backend*, const char* key, const char* value) {
  static_cast<void>(std::string{key} + value);
  return answer("config");
}

int agree(nbdkit_backend*) { return 0; }

int let_in(nbdkit_backend*, int) { return answer("preconnect"); }

int tell_exports(nbdkit_backend*, int, nbdkit_exports* exports) {
  for (int i = byte() % 4; i > 0; --i) nbdkit_add_export(exports, text(31).c_str(), byte() % 2 == 0 ? nullptr : "text");
  return answer("list_exports");
}

const char* tell_default(nbdkit_backend*, int) {
  return answer("default_export") == -1 ? nullptr : nbdkit_strdup_intern(text(31).c_str());
}

int open_below(nbdkit_context* context, int readonly, const char* name) {
  require(context->next == nullptr, "what is below is opened twice");
  static_cast<void>(std::string{name});
  if (answer("open") == -1) return -1;
  context->next = new Below{readonly != 0};
  return 0;
}

}  // namespace nbdkit_python::fuzz

using nbdkit_python::fuzz::Below;
using nbdkit_python::fuzz::require;

extern "C" {

nbdkit_extents* nbdkit_extents_new(std::uint64_t start, std::uint64_t end) {
  require(start <= end && end <= INT64_MAX, "extents beyond the largest disk");
  return new nbdkit_extents{.start = start, .next = start};
}
void nbdkit_extents_free(nbdkit_extents* list) { delete list; }
std::size_t nbdkit_extents_count(const nbdkit_extents* list) { return list->all.size(); }
nbdkit_extent nbdkit_get_extent(const nbdkit_extents* list, std::size_t i) {
  const auto& [offset, length, type] = list->all.at(i);
  return {.offset = offset, .length = length, .type = type};
}

nbdkit_exports* nbdkit_exports_new() { return new nbdkit_exports; }
void nbdkit_exports_free(nbdkit_exports* list) { delete list; }
std::size_t nbdkit_exports_count(const nbdkit_exports* list) { return list->all.size(); }
// NOLINTNEXTLINE(readability-const-return-type): the type is nbdkit's
const nbdkit_export nbdkit_get_export(const nbdkit_exports* list, std::size_t i) {
  const auto& [name, description] = list->all.at(i);
  return {.name = const_cast<char*>(name.c_str()),
          .description = description ? const_cast<char*>(description->c_str()) : nullptr};
}

nbdkit_next* nbdkit_next_context_open(nbdkit_backend*, int readonly, const char* name, int shared) {
  require(shared == 1, "a connection without a client that is not shared");
  static_cast<void>(std::string{name});
  if (nbdkit_python::fuzz::byte() % 4 == 1) return nbdkit_error("refused below"), nullptr;
  return new Below{readonly != 0};
}
void nbdkit_next_context_close(nbdkit_next* next) {
  if (next != nullptr) delete &Below::of(next);
}
nbdkit_next* nbdkit_context_set_next(nbdkit_context* context, nbdkit_next* next) {
  nbdkit_next* const old = context->next;
  context->next = next != nullptr ? &Below::of(next) : nullptr;
  return old;
}

}  // extern "C"
