// SPDX-License-Identifier: BSD-3-Clause
// What callbacks answer, given to nbdkit: lists, strings, and a request's data. Needs attachment.
#pragma once

#include <cstdint>
#include <cstring>

#include "nbdkit_python/buffer.hpp"
#include "nbdkit_python/call.hpp"
#include "nbdkit_python/convert.hpp"

struct nbdkit_exports;
struct nbdkit_extents;

namespace nbdkit_python {

// Lists and strings; false or null: Python's error indicator is set.

// A str that nbdkit keeps for as long as the connection lasts.
const char* to_interned(PyObject* answer) noexcept;
// Names or (name, description) pairs.
bool add_exports(PyObject* answer, nbdkit_exports* exports) noexcept;
// (offset, length, type) tuples, from `offset` on.
bool add_extents(PyObject* answer, std::uint32_t count, std::uint64_t offset, nbdkit_extents* extents) noexcept;

// Requests with data: 0, or the errno of a call that has failed. A view of the data ends after the call's exception.

// A read that fills a buffer. invoke(VIEW) is its answer; `sure`: it is known to fill all of it.
template <typename Invoke>
int fill(Call& call, void* buf, std::uint32_t count, bool sure, const Invoke& invoke) noexcept {
  // What the script does not fill must not be an earlier request's data.
  if (!sure) std::memset(buf, 0, count);
  View view{buf, count, true};
  const auto filled = [&] {
    const Ref answer = view.get() ? invoke(view.get()) : Ref{};
    if (!answer || answer.get() == Py_None || answer.get() == view.get()) return static_cast<bool>(answer);
    // Some scripts return the data all the same.
    return PyObject_CheckBuffer(answer.get()) != 0 ? copy_bytes(answer.get(), buf, count) : to_nothing(answer.get());
  };
  return filled() && view.close() ? 0 : call.fail();
}

// A read that returns bytes, which is what invoke() is.
template <typename Invoke>
int receive(Call& call, void* buf, std::uint32_t count, const Invoke& invoke) noexcept {
  if (is_free(buf, count)) {
    const Ref answer = invoke();
    if (answer && copy_bytes(answer.get(), buf, count)) return 0;
  }
  return call.fail();
}

// A write. invoke(VIEW) is its answer.
template <typename Invoke>
int send(Call& call, const void* buf, std::uint32_t count, const Invoke& invoke) noexcept {
  // The view is a read-only one.
  View view{const_cast<void*>(buf), count, false};
  const auto written = [&] {
    const Ref answer = view.get() ? invoke(view.get()) : Ref{};
    return answer && to_nothing(answer.get());
  };
  return written() && view.close() ? 0 : call.fail();
}

// What zero has declined, in pieces that nbdkit takes: write(ZEROS, count, offset) for each, as long as it is not -1.
template <typename Write>
int write_zeros(std::uint32_t count, std::uint64_t offset, const Write& write) noexcept {
  // In .bss, and never written to.
  static char zeros[64 << 20];
  while (count > 0) {
    const std::uint32_t length = count < sizeof zeros ? count : std::uint32_t{sizeof zeros};
    if (write(zeros, length, offset) == -1) return -1;
    count -= length;
    offset += length;
  }
  return 0;
}

}  // namespace nbdkit_python
