// SPDX-License-Identifier: BSD-3-Clause
// What a script has noted at inodes and fds: GlusterFS keeps a number there, and this table the object.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "nbdkit_python/ref.hpp"

namespace nbdkit_python::gluster {

class Contexts {
 public:
  // All but forget need attachment.
  PyObject* get(std::uint64_t number) const noexcept;  // borrowed; None where there is none
  // The number for a new one, not 0.
  std::uint64_t add(PyObject* object) noexcept;
  void set(std::uint64_t number, PyObject* object) noexcept;
  // Lets those go that GlusterFS has forgotten.
  void sweep() noexcept;
  void clear() noexcept;
  // From any thread, with whatever locks of GlusterFS's: so it does not wait for Python.
  void forget(std::uint64_t number) noexcept;

 private:
  std::unordered_map<std::uint64_t, Ref> objects_;
  std::uint64_t last_ = 0;
  std::mutex mutex_;
  std::vector<std::uint64_t> forgotten_;
  std::atomic<bool> any_forgotten_ = false;
};

}  // namespace nbdkit_python::gluster
