// SPDX-License-Identifier: BSD-3-Clause
// A client's requests: reads, writes and their kin, from nbdkit's buffer to the script and back.
#include <algorithm>
#include <cstring>
#include <optional>

#include "door.hpp"
#include "nbdkit_python/buffer.hpp"
#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/error.hpp"

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

// What zero has declined, by pwrite. nbdkit would do it, too, but 1.42 and older write all of a large
// request's zeros to the place of its first 64 MiB, and say that it is done.
int write_zeros(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  // In .bss, and never written to.
  static char zeros[64 << 20];
  while (count > 0) {
    const uint32_t length = std::min<uint32_t>(count, sizeof zeros);
    if (pwrite(h, zeros, length, offset, flags) == -1) return -1;
    count -= length;
    offset += length;
  }
  return 0;
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
  if (call.declines()) return {};
  return -1;
}

int pread_by_count(Call& call, void* h, void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  if (is_free(buf, count)) {
    const Ref answer =
        version_1() ? call.invoke(handle(h), count, offset) : call.invoke(handle(h), count, offset, flags);
    if (answer && copy_bytes(answer.get(), buf, count)) return 0;
  }
  call.fail();
  return -1;
}

}  // namespace

int pread(void* h, void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  const Turn turn;
  Call call{*script, id::pread};
  if (reads_by_count) return pread_by_count(call, h, buf, count, offset, flags);
  // What the script does not fill must not be an earlier request's data.
  if (!reads_all.load(std::memory_order_relaxed)) std::memset(buf, 0, count);
  View view{buf, count, true};
  const auto filled = [&] {
    const Ref answer = view.get() ? call.invoke(handle(h), view.get(), offset, flags) : Ref{};
    if (!answer || answer.get() == Py_None || answer.get() == view.get()) return static_cast<bool>(answer);
    // Some scripts return the data all the same.
    return PyObject_CheckBuffer(answer.get()) != 0 ? copy_bytes(answer.get(), buf, count) : to_nothing(answer.get());
  };
  if (filled() && view.close()) return 0;
  call.fail();
  return -1;
}

int pwrite(void* h, const void* buf, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  if (!has(id::pwrite)) return missing(id::pwrite, "can_write");
  const Turn turn;
  Call call{*script, id::pwrite};
  // The view is a read-only one.
  View view{const_cast<void*>(buf), count, false};
  const auto written = [&] {
    if (view.get() == nullptr) return false;
    const Ref answer =
        version_1() ? call.invoke(handle(h), view.get(), offset) : call.invoke(handle(h), view.get(), offset, flags);
    return answer && to_nothing(answer.get());
  };
  if (written() && view.close()) return 0;
  call.fail();
  return -1;
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
  return (flags & NBDKIT_FLAG_FAST_ZERO) != 0 ? decline() : write_zeros(h, count, offset, flags & NBDKIT_FLAG_FUA);
}

int cache(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  return has(id::cache) ? run(id::cache, handle(h), count, offset, flags) : missing(id::cache, "can_cache");
}

int extents(void* h, uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents* list) noexcept {
  if (!has(id::extents)) return nbdkit_add_extent(list, offset, count, 0);
  const Turn turn;
  Call call{*script, id::extents};
  const Ref answer = call.invoke(handle(h), count, offset, flags);
  const uint64_t end = offset + count;
  bool any = false, enough = false;
  const auto add = [&](PyObject* item) {
    const auto extent = to_extent(item);
    if (!extent) return false;
    any = any || (extent->length > 0 && extent->offset + extent->length > offset);
    // Nothing beyond the request: told more about one of 2**32 - 1 bytes, nbdkit 1.42.2 and older would abort.
    if (enough) return true;
    const uint64_t rest = end - std::min(end, extent->offset);
    enough = rest > 0 && extent->length >= rest;
    if (nbdkit_add_extent(list, extent->offset, enough ? rest : extent->length, extent->type) == 0) return true;
    script_error("nbdkit refuses the extent " + describe(item));
    return false;
  };
  if (answer && for_each(answer.get(), "(offset, length, type) tuples, such as a list of them", add)) {
    if (any) return 0;
    script_error("expected at least one extent of the range, got none");
  }
  call.fail();
  return -1;
}

}  // namespace nbdkit_python::door
