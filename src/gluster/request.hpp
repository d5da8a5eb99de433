// SPDX-License-Identifier: BSD-3-Clause
// What is asked of a child, and who gets the answer.
#pragma once

#include <cstdint>

#include "frame.hpp"

namespace nbdkit_python::gluster {

// What GlusterFS gives back with a child's answer.
struct Cookie {
  explicit Cookie(int fop) noexcept : fop{fop} {}
  virtual ~Cookie() = default;
  Cookie(const Cookie&) = delete;
  Cookie& operator=(const Cookie&) = delete;

  // In whatever thread brings the answer, which is GlusterFS's until this returns. Called once.
  virtual void take(std::int32_t ret, std::int32_t err, Value* answer) noexcept = 0;

  const int fop;
};

// Asks a child; the answer goes to the script's function for it, or as it is to the parent. 0 or an errno. Needs
// attachment.
int wind(Frame* frame, int fop, xlator_t* child, const Value* arguments) noexcept;

}  // namespace nbdkit_python::gluster
