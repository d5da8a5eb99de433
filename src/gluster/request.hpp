// SPDX-License-Identifier: BSD-3-Clause
// What is asked of a child, and who gets the answer.
#pragma once

#include <cstdint>
#include <memory>

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

// An answer that is dealt with where it comes; in a worker, if Python cannot be called there. Ends itself then.
class Delivery : public Cookie {
 public:
  Delivery(int fop, Frame* frame) noexcept : Cookie{fop}, frame_{Ref::borrow(object(frame))} {}

  void take(std::int32_t ret, std::int32_t err, Value* answer) noexcept final;

 private:
  // With Python attached, for the last time.
  //   wanted: the request is still open
  //   held: the answer is the door's already, and to be dropped
  virtual void deliver(Frame* frame, bool wanted, std::int32_t ret, std::int32_t err, Value* answer,
                       bool held) noexcept = 0;
  static void run(Job& job) noexcept;
  void arrive(std::int32_t ret, std::int32_t err, Value* answer, bool held) noexcept;

  Ref frame_;
};

// These need attachment.

// Asks a child. 0 or an errno.
int wind(std::unique_ptr<Delivery> delivery, Frame* frame, xlator_t* child, const Value* arguments) noexcept;
// The same; the answer goes to the script's function for it, or as it is to the parent.
int wind(Frame* frame, int fop, xlator_t* child, const Value* arguments) noexcept;
// Answers with what the script's direct function, or its coroutine, has returned.
void finish(Frame* frame, PyObject* returned) noexcept;

}  // namespace nbdkit_python::gluster
