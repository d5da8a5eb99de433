// SPDX-License-Identifier: BSD-3-Clause
// Data: the bytes of a read or a write, in GlusterFS's own memory.
#include <algorithm>
#include <numeric>
#include <span>

#include "view.hpp"

namespace nbdkit_python::gluster {

namespace {

std::span<const struct iovec> buffers(const View* view) noexcept {
  return {view->held.value.vector, static_cast<std::size_t>(view->held.count.number)};
}

Py_ssize_t size_of(const View* view) noexcept {
  const auto parts = buffers(view);
  const auto add = [](std::size_t size, const struct iovec& part) { return size + part.iov_len; };
  return static_cast<Py_ssize_t>(std::accumulate(parts.begin(), parts.end(), std::size_t{0}, add));
}

Py_ssize_t length(PyObject* self) noexcept { return is_alive(view_of(self)) ? size_of(view_of(self)) : -1; }

// All of it in one piece: the memory itself where that is one already. False: Python's error indicator is set.
bool join(View* view, const char** begin) noexcept {
  const auto parts = buffers(view);
  if (parts.size() <= 1) {
    *begin = parts.empty() ? "" : static_cast<const char*>(parts[0].iov_base);
    return true;
  }
  if (view->joined == nullptr) {
    view->joined = PyBytes_FromStringAndSize(nullptr, size_of(view));
    if (view->joined == nullptr) return false;
    char* to = PyBytes_AS_STRING(view->joined);
    for (const struct iovec& part : parts) to = std::copy_n(static_cast<const char*>(part.iov_base), part.iov_len, to);
  }
  *begin = PyBytes_AS_STRING(view->joined);
  return true;
}

int get_buffer(PyObject* self, Py_buffer* buffer, int flags) noexcept {
  View* const view = view_of(self);
  const char* begin = nullptr;
  buffer->obj = nullptr;
  if (!is_alive(view) || !join(view, &begin)) return -1;
  if (PyBuffer_FillInfo(buffer, self, const_cast<char*>(begin), size_of(view), 1, flags) == -1) return -1;
  ++view->instance->exported;
  pin(view);
  return 0;
}

void release_buffer(PyObject* self, Py_buffer*) noexcept {
  --view_of(self)->instance->exported;
  unpin(view_of(self));
}

PyObject* text(PyObject* self) noexcept {
  const View* const view = view_of(self);
  return view->expired ? PyUnicode_FromString("<glusterfs.Data, expired>")
                       : PyUnicode_FromFormat("<glusterfs.Data of %zd bytes>", size_of(view));
}

}  // namespace

PyTypeObject* make_data_type() noexcept {
  return make_view_type("glusterfs.Data", "The bytes of a read or a write: bytes-like, read-only, and not copied.",
                        no_constructor,
                        {{Py_sq_length, slot(length)},
                         {Py_bf_getbuffer, slot(get_buffer)},
                         {Py_bf_releasebuffer, slot(release_buffer)},
                         {Py_tp_repr, slot(text)}});
}

}  // namespace nbdkit_python::gluster
