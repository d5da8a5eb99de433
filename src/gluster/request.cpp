// SPDX-License-Identifier: BSD-3-Clause
// The way of one request, where GlusterFS calls: down to the script or the child, and back up with the child's answer.
//
// What GlusterFS runs when a child is asked may come back into this file, in the same thread, before it returns.
#include "request.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <initializer_list>

#include "answer.hpp"
#include "fields.hpp"
#include "nbdkit_python/interpreter.hpp"
#include "next.hpp"

namespace nbdkit_python::gluster {
namespace {

// Gives it to a worker, with these held values. False: there can be none.
bool post(const Job& job, Fields fields, const Value* held) noexcept {
  auto owned = std::make_unique<Job>(job);
  std::copy_n(held, fields.size(), owned->values);
  return job.instance->workers.post(std::move(owned));
}

// A child of a fork by the script must not go on as the server.
void stay_alone(pid_t before) noexcept {
  if (getpid() == before) return;
  complain(-1, "a process that was forked in a file operation has come back from it: it must end with os._exit()");
  interpreter::flush();
  _exit(EXIT_FAILURE);
}

// Calls the script's function with these arguments and the fields' objects.
Ref call(const Ref& callable, std::initializer_list<PyObject*> fixed, std::span<const Ref> objects) noexcept {
  constexpr std::size_t most_fixed = 5;
  // CPython may use the place before the first argument: that saves a bound method a copy.
  std::array<PyObject*, 1 + most_fixed + max_values> stack{};
  PyObject** const begin = stack.data() + 1;
  PyObject** end = std::ranges::copy(fixed, begin).out;
  for (const Ref& object : objects) *end++ = object.get();
  const std::size_t count = static_cast<std::size_t>(end - begin) | PY_VECTORCALL_ARGUMENTS_OFFSET;
  const pid_t before = getpid();
  Ref result = Ref::take(PyObject_Vectorcall(callable.get(), begin, count, nullptr));
  stay_alone(before);
  return result;
}

// Up: a child's answer.

// Calls the script's NAME_cbk with a held answer, which it takes over.
void call_cbk(Frame* frame, int fop, std::int32_t ret, std::int32_t err, Value* held) noexcept {
  const Instance& instance = *frame->instance;
  const Ref op_ret = Ref::take(PyLong_FromLong(ret));
  const Ref op_errno = Ref::take(PyLong_FromLong(ret < 0 ? error_number(err) : err));
  const Incoming answer{frame, answer_of(fop), held};
  if (!answer || !op_ret || !op_errno ||
      !call(instance.handlers_of(fop).answer,
            {object(frame), Py_None, instance.translator.get(), op_ret.get(), op_errno.get()}, answer.objects()))
    fail(frame);
}

// The answer goes to the script's NAME_cbk, or as it is to the parent.
class Callback final : public Delivery {
 public:
  using Delivery::Delivery;

 private:
  void deliver(Frame* frame, bool wanted, std::int32_t ret, std::int32_t err, Value* answer,
               bool held) noexcept override {
    if (wanted && frame->instance->handlers_of(fop).answer) {
      if (held || hold(answer_of(fop), answer)) return call_cbk(frame, fop, ret, err, answer);
      return fail_with(frame, ENOMEM);
    }
    if (wanted) unwind(frame, ret, err, answer);
    if (held) drop(answer_of(fop), answer);
  }
};

// What children give with an error can be anything but these.
void keep_of_error(int fop, Value* answer) noexcept {
  const Fields fields = answer_of(fop);
  for (std::size_t i = 0; i < fields.size(); ++i)
    if (const Kind kind = fields[i].kind; kind != kind_dict && kind != kind_iatt && kind != kind_entry) answer[i] = {};
}

// Down: a request.

// Answers a request that the script has not seen.
void refuse(Instance* instance, call_frame_t* call_frame, int fop, int err) noexcept {
  graph_unwind(fop, call_frame, -1, err, nullptr);
  --instance->open;
}

// Whether a direct function's answer is still awaited. False: the log says why, and the request is or will be answered.
bool is_awaited(Frame* frame) noexcept {
  if (frame->frame == nullptr)
    complain(frame->fop, "this request was answered before the function returned");
  else if (frame->pending > 0)
    complain(frame->fop, "the function has returned before all children that it asked have answered");
  else
    return true;
  fail_with(frame, EIO);
  return false;
}

// Calls the script's NAME with held arguments, which it takes over.
void call_direct(Frame* frame, Value* held) noexcept {
  const Instance& instance = *frame->instance;
  const Incoming arguments{frame, arguments_of(frame->fop), held};
  const Handlers& handlers = instance.handlers_of(frame->fop);
  xlator_t* const child = graph_child(instance.xl, 0);
  Ref next;
  if (arguments) next = handlers.awaits ? make_async_next(frame, child) : make_next(frame, child);
  const Ref returned = next ? call(handlers.direct, {next.get()}, arguments.objects()) : Ref{};
  if (!returned)
    fail(frame);
  else if (!handlers.awaits)
    finish(frame, returned.get());
}

// The same with NAME_fop.
void call_fop(Frame* frame, Value* held) noexcept {
  const Instance& instance = *frame->instance;
  const Incoming arguments{frame, arguments_of(frame->fop), held};
  if (!arguments ||
      !call(instance.handlers_of(frame->fop).fop, {object(frame), instance.translator.get()}, arguments.objects()))
    fail(frame);
}

// A request goes to the script's function for it; or to the first child, where only the answer is the script's.
//   held: the arguments are the door's, and to be dropped; they are where the script has a function
void serve(Instance* instance, call_frame_t* call_frame, int fop, Value* arguments, bool held) noexcept {
  const Busy busy{instance};
  const Attach attach;
  instance->contexts.sweep();
  const Handlers& handlers = instance->handlers_of(fop);
  const Ref self = make_frame(instance, call_frame, fop);
  if (self) {
    Frame* const frame = frame_of(self.get());
    if (handlers.direct) return call_direct(frame, arguments);
    if (handlers.fop) return call_fop(frame, arguments);
    if (const int err = wind(frame, fop, graph_child(instance->xl, 0), arguments); err != 0) fail_with(frame, err);
  } else {
    PyErr_Clear();
    const Away away{*instance};
    refuse(instance, call_frame, fop, ENOMEM);
  }
  if (held) drop(arguments_of(fop), arguments);
}

void run_fop(Job& job) noexcept { serve(job.instance, job.frame, job.fop, job.values, true); }

}  // namespace

void Delivery::take(std::int32_t ret, std::int32_t err, Value* answer) noexcept {
  // Without memory there is no other thread.
  if (graph_can_call() || !hold(answer_of(fop), answer)) return arrive(ret, err, answer, false);
  Instance* const instance = frame_of(frame_.get())->instance;
  const Job job{.run = run, .instance = instance, .cookie = this, .fop = fop, .ret = ret, .err = err};
  if (!post(job, answer_of(fop), answer)) arrive(ret, err, answer, true);
}

void Delivery::run(Job& job) noexcept {
  static_cast<Delivery*>(job.cookie)->arrive(job.ret, job.err, job.values, true);
}

void Delivery::arrive(std::int32_t ret, std::int32_t err, Value* answer, bool held) noexcept {
  const std::unique_ptr<Delivery> self{this};
  const Busy busy{frame_of(frame_.get())->instance};
  const Attach attach;
  const Ref alive = std::move(frame_);  // to go while the thread is attached
  Frame* const frame = frame_of(alive.get());
  deliver(frame, child_answered(frame), ret, err, answer, held);
}

int wind(std::unique_ptr<Delivery> delivery, Frame* frame, xlator_t* child, const Value* arguments) noexcept {
  Delivery* const cookie = delivery.release();  // it ends itself with the answer
  ++frame->pending;
  call_frame_t* const call_frame = frame->frame;
  int err = 0;
  {
    const Away away{*frame->instance};
    err = graph_wind(cookie->fop, call_frame, static_cast<Cookie*>(cookie), child, arguments);
  }
  if (err == 0) return 0;
  delete cookie;
  child_answered(frame);
  return err;
}

int wind(Frame* frame, int fop, xlator_t* child, const Value* arguments) noexcept {
  return wind(std::make_unique<Callback>(fop, frame), frame, child, arguments);
}

void finish(Frame* frame, PyObject* returned) noexcept {
  if (!is_awaited(frame)) return;
  Outgoing outgoing{"", frame->fop};
  std::int32_t ret = 0;
  if (!take_answer(returned, frame->fop, &outgoing, &ret)) return fail(frame);
  // Asked again, since Python may have run meanwhile.
  if (is_awaited(frame)) unwind(frame, ret, 0, outgoing.values());
}

}  // namespace nbdkit_python::gluster

using namespace nbdkit_python::gluster;  // NOLINT(google-build-using-namespace): what follows is C's

void door_fop(call_frame_t* frame, xlator_t* xl, int fop, Value* arguments) noexcept {
  auto* const instance = static_cast<Instance*>(*graph_private(xl));
  if (instance == nullptr || instance->ending) return graph_unwind(fop, frame, -1, ESHUTDOWN, nullptr);
  ++instance->open;
  const Handlers& handlers = instance->handlers_of(fop);
  const bool elsewhere = (handlers.direct && !handlers.awaits) || !graph_can_call();
  if (!elsewhere && !handlers.fop && !handlers.direct) return serve(instance, frame, fop, arguments, false);
  if (!hold(arguments_of(fop), arguments)) return refuse(instance, frame, fop, ENOMEM);
  if (!elsewhere) return serve(instance, frame, fop, arguments, true);
  const Job job{.run = run_fop, .instance = instance, .frame = frame, .fop = fop};
  if (post(job, arguments_of(fop), arguments)) return;
  drop(arguments_of(fop), arguments);
  refuse(instance, frame, fop, EAGAIN);
}

void door_answer(void* cookie, int32_t ret, int32_t err, Value* answer) noexcept {
  auto* const asker = static_cast<Cookie*>(cookie);
  if (ret < 0) keep_of_error(asker->fop, answer);
  asker->take(ret, err, answer);
}
