// SPDX-License-Identifier: BSD-3-Clause
// A client's requests: reads, writes and their kin, from nbdkit's buffer to the script and back.
#include <cstring>

#include "door.hpp"
#include "nbdkit_python/buffer.hpp"
#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/error.hpp"

namespace nbdkit_python::door {

namespace {

// Asks nbdkit to write zeros instead, or to tell the client that it would not be fast.
int decline() noexcept {
  nbdkit_set_error(EOPNOTSUPP);
  return -1;
}

// A request that the script has promised to take, and has no callback for.
int missing(std::size_t callback, const char* promise) noexcept {
  nbdkit_error("%s: %s: the script has no such callback, though its %s promises it", script->name().c_str(),
               callbacks[callback].name, promise);
  return decline();
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
  Call call{*script, id::pread};
  if (reads_by_count) return pread_by_count(call, h, buf, count, offset, flags);
  // What the script does not fill must not be an earlier request's data.
  std::memset(buf, 0, count);
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
  // The zero of version 1 has no flags to be told that it must be fast or not at all.
  if (!has(id::zero) || (version_1() && (flags & NBDKIT_FLAG_FAST_ZERO) != 0)) return decline();
  Call call{*script, id::zero};
  const bool may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  const Ref answer =
      version_1() ? call.invoke(handle(h), count, offset, may_trim) : call.invoke(handle(h), count, offset, flags);
  if (answer && to_nothing(answer.get()) && !call.declined()) return 0;
  // To decline is to ask for pwrite instead.
  call.decline_or_fail();
  return -1;
}

int cache(void* h, uint32_t count, uint64_t offset, uint32_t flags) noexcept {
  return has(id::cache) ? run(id::cache, handle(h), count, offset, flags) : missing(id::cache, "can_cache");
}

int extents(void* h, uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents* list) noexcept {
  if (!has(id::extents)) return nbdkit_add_extent(list, offset, count, 0);
  Call call{*script, id::extents};
  const Ref answer = call.invoke(handle(h), count, offset, flags);
  bool any = false;
  const auto add = [&](PyObject* item) {
    const auto extent = to_extent(item);
    if (!extent) return false;
    any = true;
    if (nbdkit_add_extent(list, extent->offset, extent->length, extent->type) == 0) return true;
    script_error("nbdkit refuses the extent " + describe(item));
    return false;
  };
  if (answer && for_each(answer.get(), "(offset, length, type) tuples, such as a list of them", add)) {
    if (any) return 0;
    script_error("expected at least one extent, got none");
  }
  call.fail();
  return -1;
}

}  // namespace nbdkit_python::door
