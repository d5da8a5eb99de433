// SPDX-License-Identifier: BSD-3-Clause
// View: a request's buffer as a memoryview that is good for one callback.
//
// The memory is the server's and is used again for the next request. The memoryview is made by a lender of our own,
// by which it is seen who still looks: a script that keeps one is told so, and what it kept is taken from it.
#pragma once

#include <cstddef>

#include "attach.hpp"
#include "ref.hpp"

namespace nbdkit_python {

// Whether nothing of the script's has the address of these `size` bytes, from an earlier request and beyond recall.
// False: Python's error indicator is set, and no request may use them.
bool is_free(const void* data, std::size_t size) noexcept;

class [[nodiscard]] View {
 public:
  // size in bytes. The memory must outlive this object, and be free.
  View(void* data, std::size_t size, bool writable) noexcept;
  // Ends the view, as close() does, where nobody asks for the result any more.
  ~View();
  View(const View&) = delete;
  View& operator=(const View&) = delete;

  // The memoryview, borrowed; null: Python's error indicator is set.
  PyObject* get() const noexcept { return memoryview_.get(); }
  // Ends the view. False: something still looked at it, and Python's error indicator is set. Call it with the
  // indicator clear and after everything that the callback returned or raised is gone.
  bool close() noexcept;

 private:
  PyObject* lender_;
  Ref memoryview_;
};

}  // namespace nbdkit_python
