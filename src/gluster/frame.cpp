// SPDX-License-Identifier: BSD-3-Clause
// One request: its state, its one answer, and the Python type Frame.
//
// Hazards: a request must be answered once, and not while a child still works for it, since its frames go with the
// answer. A script may forget to answer, or do it from another thread. What GlusterFS runs when the parent is answered
// may come back into the door, in the same thread.
#include "frame.hpp"

#include <cerrno>
#include <utility>

#include "answer.hpp"
#include "nbdkit_python/error.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {
namespace {

// What came with the request cannot be used any more.
void expire_all(Frame* frame) noexcept {
  for (View* view = frame->views; view != nullptr; view = view->after) view->expired = true;
}

// And is let go.
void let_go_of_all(Frame* frame) noexcept {
  while (frame->views != nullptr) let_go(frame->views);
}

// What there is to know of an open request.
template <Ref (*get)(const FrameFacts&) noexcept>
PyObject* fact(PyObject* self, void*) noexcept {
  if (!is_open(frame_of(self))) return nullptr;
  FrameFacts facts;
  graph_frame(frame_of(self)->frame, &facts);
  return get(facts).release();
}

Ref uid(const FrameFacts& facts) noexcept { return Ref::take(PyLong_FromUnsignedLong(facts.uid)); }
Ref gid(const FrameFacts& facts) noexcept { return Ref::take(PyLong_FromUnsignedLong(facts.gid)); }
Ref pid(const FrameFacts& facts) noexcept { return Ref::take(PyLong_FromLong(facts.pid)); }
Ref unique(const FrameFacts& facts) noexcept { return Ref::take(PyLong_FromUnsignedLongLong(facts.unique)); }
Ref client(const FrameFacts& facts) noexcept { return text_or_none(facts.client); }

Ref lk_owner(const FrameFacts& facts) noexcept {
  return Ref::take(PyBytes_FromStringAndSize(facts.lk_owner, static_cast<Py_ssize_t>(facts.lk_owner_size)));
}

Ref groups(const FrameFacts& facts) noexcept {
  Ref tuple = Ref::take(PyTuple_New(static_cast<Py_ssize_t>(facts.group_count)));
  for (std::size_t i = 0; tuple && i < facts.group_count; ++i) {
    PyObject* const number = PyLong_FromUnsignedLong(facts.groups[i]);
    if (number == nullptr) return {};
    PyTuple_SET_ITEM(tuple.get(), static_cast<Py_ssize_t>(i), number);
  }
  return tuple;
}

PyObject* get_fop(PyObject* self, void*) noexcept { return PyUnicode_FromString(graph_fops[frame_of(self)->fop].name); }

PyObject* get_local(PyObject* self, void*) noexcept {
  PyObject* const local = frame_of(self)->local;
  return Ref::borrow(local != nullptr ? local : Py_None).release();
}

int set_local(PyObject* self, PyObject* value, void*) noexcept {
  const Ref old = Ref::take(std::exchange(frame_of(self)->local, Ref::borrow(value).release()));
  return 0;
}

PyGetSetDef getters[] = {
    {"fop", get_fop, nullptr, "The file operation's name.", nullptr},
    {"local", get_local, set_local, "What the script notes here: any object, or None.", nullptr},
    {"uid", fact<uid>, nullptr, "The user who asks.", nullptr},
    {"gid", fact<gid>, nullptr, "That user's group.", nullptr},
    {"groups", fact<groups>, nullptr, "That user's other groups, a tuple.", nullptr},
    {"pid", fact<pid>, nullptr, "The process that asks; below 0: one of GlusterFS's own.", nullptr},
    {"unique", fact<unique>, nullptr, "The request's number, where it has one.", nullptr},
    {"lk_owner", fact<lk_owner>, nullptr, "Who has the locks, bytes.", nullptr},
    {"client", fact<client>, nullptr, "On a brick: the client's name. Else None.", nullptr},
    {}};

int traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(frame_of(self)->local);
  return 0;
}

int clear(PyObject* self) noexcept {
  Py_CLEAR(frame_of(self)->local);
  return 0;
}

// Nobody can answer the request any more: it is answered here, before the object goes.
void finalize(PyObject* self) noexcept {
  Frame* const frame = frame_of(self);
  if (frame->frame == nullptr) return;
  const Busy busy{frame->instance};
  Ref exception = take_exception();
  complain(frame->fop, "the script has not answered this request, and cannot any more: it fails with EIO");
  unwind(frame, -1, EIO, nullptr);
  put_back(std::move(exception));
}

void dealloc(PyObject* self) noexcept {
  if (PyObject_CallFinalizerFromDealloc(self) < 0) return;
  PyObject_GC_UnTrack(self);
  clear(self);
  expire_all(frame_of(self));
  let_go_of_all(frame_of(self));
  deallocate(self);
}

}  // namespace

Ref make_frame(Instance* instance, call_frame_t* call_frame, int fop) noexcept {
  Ref self = allocate(types.frame);
  if (!self) return {};
  Frame* const frame = frame_of(self.get());
  frame->instance = instance;
  frame->frame = call_frame;
  frame->fop = fop;
  return self;
}

bool is_open(const Frame* frame) noexcept {
  if (frame->frame != nullptr && frame->deferred == 0) return true;
  PyErr_Format(types.expired, "%s: this request has been answered", graph_fops[frame->fop].name);
  return false;
}

bool child_answered(Frame* frame) noexcept {
  --frame->pending;
  if (frame->deferred == 0) return true;
  if (frame->pending == 0) unwind(frame, -1, frame->deferred, nullptr);
  return false;
}

void unwind(Frame* frame, std::int32_t ret, std::int32_t err, const Value* answer) noexcept {
  const Ref alive = Ref::borrow(object(frame));
  call_frame_t* const call_frame = std::exchange(frame->frame, nullptr);
  Instance& instance = *frame->instance;
  // First: whoever learns of the answer finds nothing that can still be used. But the answer may be of it.
  expire_all(frame);
  {
    const Away away{instance};
    graph_unwind(frame->fop, call_frame, ret, ret < 0 ? err : 0, answer);
  }
  let_go_of_all(frame);
  --instance.open;
}

void fail_with(Frame* frame, int err, const Value* answer) noexcept {
  if (frame->frame == nullptr) return;
  if (frame->pending > 0)
    frame->deferred = err;
  else
    unwind(frame, -1, err, answer);
}

// An Error is what the script means to answer, or its child has answered: then it has the child's answer with it.
// Anything else is a mistake, and logged.
void fail(Frame* frame) noexcept {
  if (PyErr_ExceptionMatches(types.error) == 0) {
    const Failure failure = take_raw_failure();
    complain(frame->fop, failure.message);
    return fail_with(frame, failure.err);
  }
  const Ref error = take_exception();
  Outgoing outgoing{"", frame->fop};
  bool with_answer = false;
  const int err = take_error(error.get(), frame->fop, &outgoing, &with_answer);
  fail_with(frame, err, with_answer ? outgoing.values() : nullptr);
}

PyTypeObject* make_frame_type() noexcept {
  return make_type("glusterfs.Frame", "A request: who asks, and what the script has noted.", sizeof(Frame),
                   no_constructor | Py_TPFLAGS_HAVE_GC,
                   {{Py_tp_getset, getters},
                    {Py_tp_traverse, slot(traverse)},
                    {Py_tp_clear, slot(clear)},
                    {Py_tp_finalize, slot(finalize)},
                    {Py_tp_dealloc, slot(dealloc)}});
}

}  // namespace nbdkit_python::gluster
