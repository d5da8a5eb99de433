// SPDX-License-Identifier: BSD-3-Clause
// Frame: one request of GlusterFS's, as scripts see it, and what it takes to answer it once. Needs attachment.
#pragma once

#include <utility>

#include "door.hpp"

namespace nbdkit_python::gluster {

struct View;

// Whoever lets the last reference go answers the request, if nobody has.
struct Frame {
  PyObject_HEAD Instance* instance;
  call_frame_t* frame;  // null: answered
  int fop;
  int pending;   // children that are asked and have not answered
  int deferred;  // the errno to answer with once they have, or 0
  PyObject* local;
  View* views;  // a list of what expires with the answer; they are not owned
};

inline Frame* frame_of(PyObject* frame) noexcept { return reinterpret_cast<Frame*>(frame); }

// Until the end of the block, the script is at work for this instance, which must not end before; nor must the graph:
// what came with a request is let go after the answer, with which a client may end the graph, and its inodes go first.
class [[nodiscard]] Busy {
 public:
  explicit Busy(Instance* instance) noexcept : instance_{instance}, outer_{std::exchange(current_, instance)} {
    if (outer_ == instance_) return;
    ++instance_->open;
    work_ = graph_begin_work(instance_->xl);
  }
  ~Busy() {
    current_ = outer_;
    if (outer_ == instance_) return;
    graph_end_work(work_);
    --instance_->open;
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  static inline thread_local const Instance* current_ = nullptr;

  Instance* const instance_;
  const Instance* const outer_;
  call_frame_t* work_ = nullptr;
};

Ref make_frame(Instance* instance, call_frame_t* call_frame, int fop) noexcept;
// Whether the script may still ask for it, or answer it. False: Python's error indicator is set.
bool is_open(const Frame* frame) noexcept;
// A child has answered. False: the request has failed meanwhile, and nobody waits for this answer.
bool child_answered(Frame* frame) noexcept;
// Answers the parent, who must not have been answered.
void unwind(Frame* frame, std::int32_t ret, std::int32_t err, const Value* answer) noexcept;
// Answers with an error, at once or when the children that are asked have answered; not if it has been answered.
void fail_with(Frame* frame, int err, const Value* answer = nullptr) noexcept;
// The same with the pending exception.
void fail(Frame* frame) noexcept;

PyTypeObject* make_frame_type() noexcept;

}  // namespace nbdkit_python::gluster
