// SPDX-License-Identifier: BSD-3-Clause
// Next, AsyncNext and Child: how a script's direct function asks a child, and waits for its answer; or its coroutine.
#include "next.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

#include "answer.hpp"
#include "fields.hpp"
#include "nbdkit_python/error.hpp"
#include "request.hpp"
#include "view.hpp"

namespace nbdkit_python::gluster {
namespace {

struct Next {
  PyObject_HEAD Frame* frame;  // owned
  xlator_t* child;
};

struct Child {
  PyObject_HEAD xlator_t* xl;  // to be compared only: it goes with the graph
  PyObject* name;
  PyObject* type;
};

Next* next_of(PyObject* self) noexcept { return reinterpret_cast<Next*>(self); }
Child* as_child(PyObject* self) noexcept { return reinterpret_cast<Child*>(self); }

// The thread that has asked sleeps until the answer is there; it is detached, and may be one of the script's.
class Waiter final : public Cookie {
 public:
  using Cookie::Cookie;

  void take(std::int32_t op_ret, std::int32_t op_errno, Value* answer) noexcept override {
    const Fields fields = answer_of(fop);
    const bool held = hold(fields, answer);
    const std::lock_guard lock{mutex_};
    ret = held ? op_ret : -1;
    err = held ? op_errno : ENOMEM;
    if (held) std::copy_n(answer, fields.size(), values.begin());
    done_ = true;
    // Under the lock: who waits ends this object next.
    came_.notify_one();
  }

  // Asks the child. 0 when the answer has come; or an errno, and none will.
  int ask(const Frame* frame, xlator_t* child, const Value* arguments) noexcept {
    call_frame_t* const call_frame = frame->frame;
    const Away away{*frame->instance};
    const int unasked = graph_wind(fop, call_frame, static_cast<Cookie*>(this), child, arguments);
    if (unasked != 0) return unasked;
    std::unique_lock lock{mutex_};
    came_.wait(lock, [&] { return done_; });
    return 0;
  }

  // What has come.
  std::int32_t ret = 0, err = 0;
  std::array<Value, max_values> values{};  // held

 private:
  std::mutex mutex_;
  std::condition_variable came_;
  bool done_ = false;
};

// next.FOP(…): asks the child, and waits for the answer.
PyObject* ask(PyObject* self, std::span<PyObject* const> given, int fop) noexcept {
  const Next* const next = next_of(self);
  Frame* const frame = next->frame;
  if (!is_open(frame)) return nullptr;
  const Busy busy{frame->instance};
  Waiter waiter{fop};
  {
    Outgoing outgoing{"next.", fop};
    // Asked again, since Python may have run meanwhile.
    if (!outgoing.arguments(given) || !is_open(frame)) return nullptr;
    ++frame->pending;
    const int err = waiter.ask(frame, next->child, outgoing.values());
    const bool wanted = child_answered(frame);
    if (err != 0) return raise_error(err, Py_None);
    if (!wanted) {
      drop(answer_of(fop), waiter.values.data());
      is_open(frame);
      return nullptr;
    }
  }
  const Incoming fields{frame, answer_of(fop), waiter.values.data()};
  Ref answer = fields ? make_answer(fop, fields.objects(), waiter.ret) : Ref{};
  return !answer || waiter.ret >= 0 ? answer.release() : raise_error(waiter.err, answer.get());
}

// The half of this in Python, which there is once a coroutine runs.
Ref requests() noexcept { return Ref::take(PyImport_ImportModule("glusterfs._requests")); }

// A coroutine awaits a future of asyncio's, which gets the answer.
class Awaiter final : public Delivery {
 public:
  Awaiter(int fop, Frame* frame, Ref future) noexcept : Delivery{fop, frame}, future_{std::move(future)} {}

 private:
  void deliver(Frame* frame, bool wanted, std::int32_t ret, std::int32_t err, Value* answer,
               bool held) noexcept override {
    const Ref future = std::move(future_);
    Ref result;
    if (!wanted) {
      if (held) drop(answer_of(fop), answer);
      is_open(frame);
    } else if (!held && !hold(answer_of(fop), answer)) {
      raise_error(ENOMEM, Py_None);
    } else {
      const Incoming fields{frame, answer_of(fop), answer};
      if (fields) result = make_answer(fop, fields.objects(), ret);
      if (result && ret < 0) raise_error(err, std::exchange(result, Ref{}).get());
    }
    const Ref error = result ? Ref{} : take_exception();
    const auto object_or_none = [](const Ref& ref) { return ref ? ref.get() : Py_None; };
    const Ref module = requests();
    if (!module || !Ref::take(PyObject_CallMethod(module.get(), "settle", "OOO", future.get(), object_or_none(result),
                                                  object_or_none(error))))
      PyErr_Clear();  // the loop has ended, and what waited with it
  }

  Ref future_;
};

// await next.FOP(…)
PyObject* ask_later(PyObject* self, std::span<PyObject* const> given, int fop) noexcept {
  const Next* const next = next_of(self);
  if (!is_open(next->frame)) return nullptr;
  const Busy busy{next->frame->instance};
  Outgoing outgoing{"next.", fop};
  const Ref module = requests();
  Ref future = module ? Ref::take(PyObject_CallMethod(module.get(), "future", nullptr)) : Ref{};
  // Asked again, since Python may have run meanwhile.
  if (!future || !outgoing.arguments(given) || !is_open(next->frame)) return nullptr;
  auto awaiter = std::make_unique<Awaiter>(fop, next->frame, Ref::borrow(future.get()));
  const int err = wind(std::move(awaiter), next->frame, next->child, outgoing.values());
  return err == 0 ? future.release() : raise_error(err, Py_None);
}

// The end of its coroutine: answers the request. While that is open, there is an instance.
template <typename Answer>
void end_coroutine(Frame* frame, const Answer& answer) noexcept {
  if (frame->frame == nullptr) return answer();  // which says so
  const Busy busy{frame->instance};
  const Here here{*frame->instance};
  answer();
}

PyObject* finish_later(PyObject* self, PyObject* returned) noexcept {
  Frame* const frame = next_of(self)->frame;
  end_coroutine(frame, [&] { finish(frame, returned); });
  Py_RETURN_NONE;
}

PyObject* fail_later(PyObject* self, PyObject* error) noexcept {
  Frame* const frame = next_of(self)->frame;
  end_coroutine(frame, [&] {
    put_back(Ref::borrow(error));
    fail(frame);
  });
  Py_RETURN_NONE;
}

Ref make(PyTypeObject* type, Frame* frame, xlator_t* child) noexcept {
  Ref self = allocate(type);
  if (!self) return {};
  Py_INCREF(object(frame));
  next_of(self.get())->frame = frame;
  next_of(self.get())->child = child;
  return self;
}

// next.to(child)
PyObject* to(PyObject* self, PyObject* child) noexcept {
  Frame* const frame = next_of(self)->frame;
  xlator_t* const xl = is_open(frame) ? child_of(child, *frame->instance) : nullptr;
  return xl != nullptr ? make(Py_TYPE(self), frame, xl).release() : nullptr;
}

constexpr PyMethodDef to_method{"to", to, METH_O, "to(child): the same for another child than the first."};

PyMethodDef methods[] = {
#define FOP(name, arguments, answer) fop_method<ask, fop_##name>(#name),
#include "fops.def"
#undef FOP
    to_method, {}};

PyMethodDef async_methods[] = {
#define FOP(name, arguments, answer) fop_method<ask_later, fop_##name>(#name),
#include "fops.def"
#undef FOP
    to_method, {"_finish", finish_later, METH_O, nullptr}, {"_fail", fail_later, METH_O, nullptr}, {}};

PyObject* get_frame(PyObject* self, void*) noexcept { return Ref::borrow(object(next_of(self)->frame)).release(); }

PyGetSetDef getters[] = {{"frame", get_frame, nullptr, "The request's Frame.", nullptr}, {}};

int traverse_next(PyObject* self, visitproc visit, void* arg) noexcept {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(object(next_of(self)->frame));
  return 0;
}

void dealloc_next(PyObject* self) noexcept {
  PyObject_GC_UnTrack(self);
  Py_XDECREF(object(next_of(self)->frame));
  deallocate(self);
}

// One that a script notes at its own request is a cycle, which the request's `local` is cleared to end.
PyTypeObject* make_type_of_next(const char* name, const char* doc, PyMethodDef* its_methods) noexcept {
  return make_type(name, doc, sizeof(Next), no_constructor | Py_TPFLAGS_HAVE_GC,
                   {{Py_tp_getset, getters},
                    {Py_tp_methods, its_methods},
                    {Py_tp_traverse, slot(traverse_next)},
                    {Py_tp_dealloc, slot(dealloc_next)}});
}

void dealloc_child(PyObject* self) noexcept {
  Py_XDECREF(as_child(self)->name);
  Py_XDECREF(as_child(self)->type);
  deallocate(self);
}

PyObject* child_text(PyObject* self) noexcept {
  return PyUnicode_FromFormat("<glusterfs.Child %U>", as_child(self)->name);
}

PyObject* child_name(PyObject* self, void*) noexcept { return Ref::borrow(as_child(self)->name).release(); }
PyObject* child_type(PyObject* self, void*) noexcept { return Ref::borrow(as_child(self)->type).release(); }

PyGetSetDef child_getters[] = {{"name", child_name, nullptr, "Its name in the volume file.", nullptr},
                               {"type", child_type, nullptr, "Its type in the volume file.", nullptr},
                               {}};

}  // namespace

Ref make_next(Frame* frame, xlator_t* child) noexcept { return make(types.next, frame, child); }
Ref make_async_next(Frame* frame, xlator_t* child) noexcept { return make(types.async_next, frame, child); }

PyTypeObject* make_next_type() noexcept {
  return make_type_of_next(
      "glusterfs.Next",
      "The translator below: a method for each file operation, which returns its answer or raises its Error.", methods);
}

PyTypeObject* make_async_next_type() noexcept {
  return make_type_of_next(
      "glusterfs.AsyncNext",
      "The translator below, for an async def: a method for each file operation, which is awaited.", async_methods);
}

Ref make_child(xlator_t* xl) noexcept {
  Ref self = allocate(types.child);
  if (!self) return {};
  Child* const child = as_child(self.get());
  child->xl = xl;
  child->name = text_or_none(graph_name(xl)).release();
  child->type = text_or_none(graph_type(xl)).release();
  return child->name != nullptr && child->type != nullptr ? std::move(self) : Ref{};
}

xlator_t* child_of(PyObject* child, const Instance& instance) noexcept {
  if (child == Py_None) return graph_child(instance.xl, 0);
  if (PyObject_TypeCheck(child, types.child)) {
    xlator_t* xl = nullptr;
    for (std::size_t i = 0; (xl = graph_child(instance.xl, i)) != nullptr; ++i)
      if (xl == as_child(child)->xl) return xl;
  }
  PyErr_Format(PyExc_TypeError, "expected one of this translator's children or None, got %s", describe(child).c_str());
  return nullptr;
}

PyTypeObject* make_child_type() noexcept {
  return make_type(
      "glusterfs.Child", "A translator below this one.", sizeof(Child), no_constructor,
      {{Py_tp_getset, child_getters}, {Py_tp_dealloc, slot(dealloc_child)}, {Py_tp_repr, slot(child_text)}});
}

}  // namespace nbdkit_python::gluster
