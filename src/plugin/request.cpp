// SPDX-License-Identifier: BSD-3-Clause
// A client's requests: reads, writes and their kin, from nbdkit's buffer to the script and back.
#include <cerrno>
#include <optional>

#include "../nbdkit/answers.hpp"
#include "door.hpp"
#include "nbdkit_python/convert.hpp"

namespace nbdkit_python::door {

namespace {

// Tells the client that zeroing would not be faster than writing.
int decline() noexcept {
  nbdkit_set_error(EOPNOTSUPP);
  return -1;
}

// A request that the script has promised to take, and has no callback for.
int missing(std::size_t callback, const char* promise) noexcept {
  nbdkit_error("%s: %s: the script has no such callback, though its %s promises it", script->name().c_str(),
               callbacks[callback].name, promise);
  nbdkit_set_error(EINVAL);
  return -1;
}

// Whether the script has zeroed the range: 0 or -1, as nbdkit wants it; empty where it declines.
std::optional<int> zeroed(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  // The zero of version 1 has no flags to be told that it must be fast or not at all.
  if (!has(id::zero) || (version_1() && (flags & NBDKIT_FLAG_FAST_ZERO) != 0)) return {};
  Call call{*script, id::zero};
  const bool may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  const Ref answer =
      version_1() ? call.invoke(handle(h), count, offset, may_trim) : call.invoke(handle(h), count, offset, flags);
  if (answer && to_nothing(answer.get()) && !call.declined()) return 0;
  if (call.fail_or_decline() == EOPNOTSUPP) return {};
  return -1;
}

}  // namespace

int pread(void* h, void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  const Turn turn;
  Call call{*script, id::pread};
  const auto bytes = [&] {
    return version_1() ? call.invoke(handle(h), count, offset) : call.invoke(handle(h), count, offset, flags);
  };
  const auto filled = [&](PyObject* view) { return call.invoke(handle(h), view, offset, flags); };
  const int err = reads_by_count ? receive(call, buf, count, bytes)
                                 : fill(call, buf, count, reads_all.load(std::memory_order_relaxed), filled);
  return err == 0 ? 0 : -1;
}

int pwrite(void* h, const void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  if (!has(id::pwrite)) return missing(id::pwrite, "can_write");
  const Turn turn;
  Call call{*script, id::pwrite};
  const auto written = [&](PyObject* view) {
    return version_1() ? call.invoke(handle(h), view, offset) : call.invoke(handle(h), view, offset, flags);
  };
  return send(call, buf, count, written) == 0 ? 0 : -1;
}

int flush(void* h, uint32_t flags) noexcept {
  if (!has(id::flush)) return missing(id::flush, "can_flush or can_fua");
  return version_1() ? run(id::flush, handle(h)) : run(id::flush, handle(h), flags);
}

int trim(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  if (!has(id::trim)) return missing(id::trim, "can_trim");
  return version_1() ? run(id::trim, handle(h), count, offset) : run(id::trim, handle(h), count, offset, flags);
}

int zero(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  const Turn turn;
  if (const auto done = zeroed(h, count, offset, flags)) return *done;
  if ((flags & NBDKIT_FLAG_FAST_ZERO) != 0) return decline();
  // nbdkit would do it, too, but 1.42 and older write all of a large request's zeros to the place of its first 64 MiB,
  // and say that it is done.
  return write_zeros(count, offset, [&](const char* zeros, uint32_t length, uint64_t at) {
    return pwrite(h, zeros, length, at, flags & NBDKIT_FLAG_FUA);
  });
}

int cache(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  return has(id::cache) ? run(id::cache, handle(h), count, offset, flags) : missing(id::cache, "can_cache");
}

int extents(void* h, uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents* list) noexcept {
  if (!has(id::extents)) return nbdkit_add_extent(list, offset, count, 0);
  const Turn turn;
  Call call{*script, id::extents};
  const Ref answer = call.invoke(handle(h), count, offset, flags);
  if (answer && add_extents(answer.get(), count, offset, list)) return 0;
  call.fail();
  return -1;
}

}  // namespace nbdkit_python::door
