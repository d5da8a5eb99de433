// SPDX-License-Identifier: BSD-3-Clause
// The way of one request: from GlusterFS to the script, to the children and back.
//
// Hazards: a request must be answered once, and not while a child still works for it, since its frames go with the
// answer. A script may forget to answer, or do it from another thread. What GlusterFS runs when a child is asked or the
// parent is answered may come back into this file, in the same thread.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "door.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::gluster {
namespace {

std::span<const Field> arguments_of(int fop) noexcept {
  return {graph_fops[fop].arguments, static_cast<std::size_t>(graph_fops[fop].argument_count)};
}

std::span<const Field> answer_of(int fop) noexcept {
  return {graph_fops[fop].answer, static_cast<std::size_t>(graph_fops[fop].answer_count)};
}

Frame* frame_of(PyObject* frame) noexcept { return reinterpret_cast<Frame*>(frame); }

PyTypeObject* answer_type(int fop) noexcept {
  return reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(types.answers, fop));
}

// Some translators answer with an error and do not say which.
int error_number(int err) noexcept { return err > 0 && err < 4096 ? err : EIO; }

// Whether it is an answer of this file operation's, whole.
bool is_answer(PyObject* object, int fop) noexcept {
  return PyObject_TypeCheck(object, answer_type(fop)) && PyTuple_GET_SIZE(object) == visible(answer_of(fop)) + 1;
}

// The script is at work for this instance, which must not end before.
class [[nodiscard]] Busy {
 public:
  explicit Busy(Instance* instance) noexcept : instance_{instance} { ++instance_->open; }
  ~Busy() { --instance_->open; }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  Instance* instance_;
};

// What children give with an error can be anything but these.
void keep_of_error(int fop, Value* answer) noexcept {
  const auto fields = answer_of(fop);
  for (std::size_t i = 0; i < fields.size(); ++i)
    if (const Kind kind = fields[i].kind; kind != kind_dict && kind != kind_iatt && kind != kind_entry) answer[i] = {};
}

// Lets everything go that came with the request.
void expire_all(Frame* frame) noexcept {
  std::vector<PyObject*> views;
  views.swap(*frame->views);
  for (PyObject* const view : views) {
    expire(reinterpret_cast<View*>(view));
    Py_DECREF(view);
  }
}

// Answers the parent, who must not have been answered.
void unwind(Frame* frame, std::int32_t ret, std::int32_t err, const Value* answer) noexcept {
  const Ref alive = Ref::borrow(object(frame));
  call_frame_t* const call_frame = std::exchange(frame->frame, nullptr);
  Instance& instance = *frame->instance;
  {
    const Away away{instance};
    graph_unwind(frame->fop, call_frame, ret, ret < 0 ? err : 0, answer);
  }
  expire_all(frame);
  --instance.open;
}

// Answers with an error, at once or when the children that are asked have answered.
void fail_with(Frame* frame, int err, const Value* answer = nullptr) noexcept {
  if (frame->frame == nullptr) return;
  if (frame->pending > 0)
    frame->deferred = err;
  else
    unwind(frame, -1, err, answer);
}

// A child has answered. False: the request has failed meanwhile, and nobody waits for this answer.
bool answered(Frame* frame) noexcept {
  --frame->pending;
  if (frame->deferred == 0) return true;
  if (frame->pending == 0) unwind(frame, -1, frame->deferred, nullptr);
  return false;
}

// The pending exception ends the request. An Error is what the script means to answer, or its child has answered: then
// it has the child's answer with it. Anything else is a mistake, and logged.
void fail(Frame* frame) noexcept {
  Ref exception = take_exception();
  if (exception && PyObject_IsInstance(exception.get(), types.error) == 1) {
    const Ref number = Ref::take(PyObject_GetAttrString(exception.get(), "errno"));
    const long err = number && PyLong_Check(number.get()) ? PyLong_AsLong(number.get()) : EIO;
    const Ref answer = Ref::take(PyObject_GetAttrString(exception.get(), "answer"));
    Outgoing outgoing;
    const auto fields = answer_of(frame->fop);
    const bool with_answer = answer && is_answer(answer.get(), frame->fop) &&
                             outgoing.fill("", fields, &PyTuple_GET_ITEM(answer.get(), 0), false);
    PyErr_Clear();
    fail_with(frame, static_cast<int>(err), with_answer ? outgoing.values() : nullptr);
  } else {
    put_back(std::move(exception));
    const Failure failure = take_raw_failure();
    complain(frame->fop, failure.message);
    fail_with(frame, failure.err);
  }
}

Ref make_frame(Instance* instance, call_frame_t* call_frame, int fop) noexcept {
  Ref self = Ref::take(types.frame->tp_alloc(types.frame, 0));
  if (!self) return {};
  Frame* const frame = frame_of(self.get());
  frame->views = new std::vector<PyObject*>;
  frame->instance = instance;
  frame->frame = call_frame;
  frame->fop = fop;
  return self;
}

// A child of a fork by the script must not go on as the server.
void stay_alone(pid_t before) noexcept {
  if (getpid() == before) return;
  complain(-1, "a process that was forked in a file operation has come back from it: it must end with os._exit()");
  interpreter::flush();
  _exit(EXIT_FAILURE);
}

Ref call(PyObject* callable, PyObject** stack, std::size_t count) noexcept {
  const pid_t before = getpid();
  Ref result = Ref::take(PyObject_Vectorcall(callable, stack, count | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
  stay_alone(before);
  return result;
}

// An answer of the script's own type, with the op_ret last.
Ref make_answer(int fop, const Ref* fields, std::int32_t ret) noexcept {
  const int count = visible(answer_of(fop));
  PyTypeObject* const type = answer_type(fop);
  Ref answer = Ref::take(type->tp_alloc(type, count + 1));
  Ref number = Ref::take(PyLong_FromLong(ret));
  if (!answer || !number) return {};
  for (int i = 0; i < count; ++i) PyTuple_SET_ITEM(answer.get(), i, Ref::borrow(fields[i].get()).release());
  PyTuple_SET_ITEM(answer.get(), count, number.release());
  return answer;
}

// The op_ret of an answer whose last item is this.
bool op_ret(const char* what, PyObject* last, const Outgoing& outgoing, std::int32_t* ret) noexcept {
  if (outgoing.length() >= 0) {
    *ret = static_cast<std::int32_t>(outgoing.length());
    return true;
  }
  *ret = 0;
  if (last == Py_None) return true;
  const long value = PyLong_Check(last) ? PyLong_AsLong(last) : -1;
  PyErr_Clear();
  if (value >= 0 && value <= INT32_MAX) {
    *ret = static_cast<std::int32_t>(value);
    return true;
  }
  PyErr_Format(PyExc_TypeError, "%s: ret: expected an int from 0 to 2147483647 or None, got %s", what,
               describe(last).c_str());
  return false;
}

// Answers with what the script's direct function has returned.
void finish(Frame* frame, PyObject* returned) noexcept {
  const char* const name = graph_fops[frame->fop].name;
  if (frame->frame == nullptr) return complain(frame->fop, "this request was answered before the function returned");
  if (frame->pending > 0) {
    complain(frame->fop, "the function has returned while another thread waits for a child's answer");
    return fail_with(frame, EIO);
  }
  Outgoing outgoing;
  std::int32_t ret = 0;
  if (!is_answer(returned, frame->fop)) {
    const std::string expected =
        std::string{"an answer, such as what next."} + name + "() returns, or glusterfs.answer." + name + "(...)";
    wrong_answer(expected.c_str(), returned);
    return fail(frame);
  }
  PyObject** const items = &PyTuple_GET_ITEM(returned, 0);
  if (!outgoing.fill(name, answer_of(frame->fop), items, true) ||
      !op_ret(name, items[PyTuple_GET_SIZE(returned) - 1], outgoing, &ret))
    return fail(frame);
  unwind(frame, ret, 0, outgoing.values());
}

// What waits for a child's answer.
struct Asker {
  void (*take)(Asker* asker, std::int32_t ret, std::int32_t err, Value* answer) noexcept;
  int fop;
};

// next.readv() in a thread of the door's, or of the script's.
struct Waiter : Asker {
  explicit Waiter(int fop) noexcept : Asker{answer, fop} {}

  static void answer(Asker* asker, std::int32_t ret, std::int32_t err, Value* answer) noexcept {
    auto& self = *static_cast<Waiter*>(asker);
    const auto fields = answer_of(self.fop);
    if (ret < 0) keep_of_error(self.fop, answer);
    const bool held = graph_hold(fields.data(), static_cast<int>(fields.size()), answer);
    const std::lock_guard lock{self.mutex};
    self.ret = held ? ret : -1;
    self.err = held ? err : ENOMEM;
    if (held) std::memcpy(self.values.data(), answer, fields.size() * sizeof(Value));
    self.done = true;
    // Under the lock: who waits ends this object next.
    self.came.notify_one();
  }
  void wait() noexcept {
    std::unique_lock lock{mutex};
    came.wait(lock, [&] { return done; });
  }

  std::mutex mutex;
  std::condition_variable came;
  bool done = false;
  std::int32_t ret = 0, err = 0;
  std::array<Value, max_values> values{};
};

// wind_readv(), whose answer comes to readv_cbk() or goes to the parent as it is.
struct Callback : Asker {
  Frame* frame;  // owned
};

// Calls SCRIPT_cbk with a held answer.
void call_answer(Frame* frame, int fop, std::int32_t ret, std::int32_t err, Value* held) noexcept {
  Instance* const instance = frame->instance;
  constexpr std::size_t fixed = 5;
  std::array<Ref, max_values> objects;
  const auto fields = answer_of(fop);
  const Ref op_ret = Ref::take(PyLong_FromLong(ret));
  const Ref op_errno = Ref::take(PyLong_FromLong(ret < 0 ? error_number(err) : err));
  if (!incoming(frame, fields, held, objects.data()) || !op_ret || !op_errno) return fail(frame);
  std::array<PyObject*, 1 + fixed + max_values> stack{nullptr,      object(frame), Py_None, instance->translator.get(),
                                                      op_ret.get(), op_errno.get()};
  const auto count = static_cast<std::size_t>(visible(fields));
  for (std::size_t i = 0; i < count; ++i) stack[1 + fixed + i] = objects[i].get();
  if (!call(instance->handlers[static_cast<std::size_t>(fop)].answer.get(), stack.data() + 1, fixed + count))
    fail(frame);
}

// Takes an answer to where it belongs.
//   held: it is ours already
void deliver(Callback* owned, std::int32_t ret, std::int32_t err, Value* answer, bool held) noexcept {
  const std::unique_ptr<Callback> callback{owned};
  const int fop = callback->fop;
  const auto fields = answer_of(fop);
  const int count = static_cast<int>(fields.size());
  Instance* const instance = callback->frame->instance;
  const Busy busy{instance};
  const Attach attach;
  const Ref frame = Ref::take(object(callback->frame));
  const bool wanted = answered(callback->frame);
  if (ret < 0 && !held) keep_of_error(fop, answer);
  if (wanted && instance->handlers[static_cast<std::size_t>(fop)].answer) {
    if (held || graph_hold(fields.data(), count, answer)) return call_answer(callback->frame, fop, ret, err, answer);
    return fail_with(callback->frame, ENOMEM);
  }
  if (wanted) unwind(callback->frame, ret, err, answer);
  if (held) graph_drop(fields.data(), count, answer);
}

void run_answer(Job* owned) noexcept {
  const std::unique_ptr<Job> job{owned};
  deliver(static_cast<Callback*>(job->asker), job->ret, job->err, job->values, true);
}

void take_callback(Asker* asker, std::int32_t ret, std::int32_t err, Value* answer) noexcept {
  auto* const callback = static_cast<Callback*>(asker);
  if (!graph_in_synctask()) return deliver(callback, ret, err, answer, false);
  const auto fields = answer_of(callback->fop);
  if (ret < 0) keep_of_error(callback->fop, answer);
  if (graph_hold(fields.data(), static_cast<int>(fields.size()), answer)) {
    auto* const job = new Job{run_answer, callback->frame->instance, nullptr, callback, callback->fop, ret, err, {}};
    std::memcpy(job->values, answer, fields.size() * sizeof(Value));
    if (callback->frame->instance->workers.post(job)) return;
    delete job;
    return deliver(callback, ret, err, answer, true);
  }
  deliver(callback, ret, err, answer, false);
}

// Asks a child, for the script's callback or nobody. 0 or an errno.
int wind_with_callback(Frame* frame, int fop, xlator_t* child, const Value* arguments) noexcept {
  auto* const callback = new Callback{{take_callback, fop}, frame};
  Py_INCREF(object(frame));
  ++frame->pending;
  call_frame_t* const call_frame = frame->frame;
  int err = 0;
  {
    const Away away{*frame->instance};
    err = graph_wind(fop, call_frame, callback, child, arguments);
  }
  if (err == 0) return 0;
  delete callback;
  answered(frame);
  Py_DECREF(object(frame));
  return err;
}

struct Child {
  PyObject_HEAD xlator_t* xl;  // to be compared only: it goes with the graph
  PyObject* name;
  PyObject* type;
};

struct Next {
  PyObject_HEAD Frame* frame;  // owned
  xlator_t* child;
};

struct Translator {
  PyObject_HEAD Instance* instance;
};

Ref make_next(Frame* frame, xlator_t* child) noexcept {
  Ref self = Ref::take(types.next->tp_alloc(types.next, 0));
  if (!self) return {};
  auto* const next = reinterpret_cast<Next*>(self.get());
  Py_INCREF(object(frame));
  next->frame = frame;
  next->child = child;
  return self;
}

// The script's function for this request, with held arguments.
void call_fop(Instance* instance, call_frame_t* call_frame, int fop, Value* held) noexcept {
  const Busy busy{instance};
  const Attach attach;
  instance->contexts.sweep();
  const auto fields = arguments_of(fop);
  const Handlers& handlers = instance->handlers[static_cast<std::size_t>(fop)];
  const Ref self = make_frame(instance, call_frame, fop);
  if (!self) {
    PyErr_Clear();
    graph_drop(fields.data(), static_cast<int>(fields.size()), held);
    const Away away{*instance};
    graph_unwind(fop, call_frame, -1, ENOMEM, nullptr);
    --instance->open;
    return;
  }
  Frame* const frame = frame_of(self.get());
  std::array<Ref, max_values> objects;
  const bool direct = static_cast<bool>(handlers.direct);
  const std::size_t fixed = direct ? 1 : 2;
  const Ref next = direct ? make_next(frame, graph_child(instance->xl, 0)) : Ref::borrow(self.get());
  if (!incoming(frame, fields, held, objects.data()) || !next) return fail(frame);
  std::array<PyObject*, 3 + max_values> stack{nullptr, next.get(), instance->translator.get()};
  const auto count = static_cast<std::size_t>(visible(fields));
  for (std::size_t i = 0; i < count; ++i) stack[1 + fixed + i] = objects[i].get();
  const Ref returned = call(direct ? handlers.direct.get() : handlers.fop.get(), stack.data() + 1, fixed + count);
  if (!returned)
    fail(frame);
  else if (direct)
    finish(frame, returned.get());
}

// Only the answer is the script's.
void pass_on(Instance* instance, call_frame_t* call_frame, int fop, const Value* arguments) noexcept {
  const Busy busy{instance};
  const Attach attach;
  instance->contexts.sweep();
  const Ref self = make_frame(instance, call_frame, fop);
  if (self) {
    const int err = wind_with_callback(frame_of(self.get()), fop, graph_child(instance->xl, 0), arguments);
    return err != 0 ? fail_with(frame_of(self.get()), err) : void();
  }
  PyErr_Clear();
  const Away away{*instance};
  graph_unwind(fop, call_frame, -1, ENOMEM, nullptr);
  --instance->open;
}

void run_fop(Job* owned) noexcept {
  const std::unique_ptr<Job> job{owned};
  const Handlers& handlers = job->instance->handlers[static_cast<std::size_t>(job->fop)];
  if (handlers.direct || handlers.fop) return call_fop(job->instance, job->frame, job->fop, job->values);
  pass_on(job->instance, job->frame, job->fop, job->values);
  const auto fields = arguments_of(job->fop);
  graph_drop(fields.data(), static_cast<int>(fields.size()), job->values);
}

// Python's functions.

// The child that a script names: None is the first.
xlator_t* child_of(PyObject* child, const Instance* instance) noexcept {
  if (child == Py_None) return graph_child(instance->xl, 0);
  if (PyObject_TypeCheck(child, types.child)) {
    xlator_t* const wanted = reinterpret_cast<Child*>(child)->xl;
    xlator_t* xl = nullptr;
    for (std::size_t i = 0; (xl = graph_child(instance->xl, i)) != nullptr; ++i)
      if (xl == wanted) return xl;
  }
  PyErr_Format(PyExc_TypeError, "expected one of this translator's children or None, got %s", describe(child).c_str());
  return nullptr;
}

// Whether the script may still ask for it, or answer it.
bool is_open(const Frame* frame) noexcept {
  if (frame->frame != nullptr && frame->deferred == 0) return true;
  PyErr_Format(types.expired, "%s: this request has been answered", graph_fops[frame->fop].name);
  return false;
}

bool is_its(const Frame* frame, const Instance* instance) noexcept {
  if (frame->instance == instance) return true;
  PyErr_SetString(PyExc_TypeError, "this request is another translator's");
  return false;
}

// Whether there are as many arguments as fields; the last, xdata, may be left out.
bool count_fits(const std::string& what, std::span<const Field> fields, Py_ssize_t count, bool optional) noexcept {
  const int expected = visible(fields);
  if (count == expected || (optional && count == expected - 1)) return true;
  std::string names;
  for (const Field& field : fields)
    if (field.kind != kind_count && field.kind != kind_iobref) (names += names.empty() ? "" : ", ") += field.name;
  PyErr_Format(PyExc_TypeError, "%s(%s): got %zd of these %d arguments", what.c_str(), names.c_str(), count, expected);
  return false;
}

// glusterfs.Error for what a child has answered.
PyObject* raise_error(int err, PyObject* answer) noexcept {
  const Ref error = Ref::take(PyObject_CallFunction(types.error, "iOO", error_number(err), Py_None, answer));
  if (error) PyErr_SetObject(types.error, error.get());
  return nullptr;
}

// next.FOP(…): asks the child, and waits for the answer.
PyObject* ask(PyObject* self, PyObject* const* given, Py_ssize_t count, int fop) noexcept {
  auto* const next = reinterpret_cast<Next*>(self);
  Frame* const frame = next->frame;
  const std::string what = std::string{"next."} + graph_fops[fop].name;
  const auto fields = arguments_of(fop);
  if (!is_open(frame) || !count_fits(what, fields, count, true)) return nullptr;
  std::array<PyObject*, max_values> objects{};
  objects.fill(Py_None);
  std::copy_n(given, count, objects.begin());
  Waiter waiter{fop};
  {
    Outgoing outgoing;
    if (!outgoing.fill(what.c_str(), fields, objects.data(), true)) return nullptr;
    call_frame_t* const call_frame = frame->frame;
    ++frame->pending;
    int err = 0;
    {
      const Away away{*frame->instance};
      err = graph_wind(fop, call_frame, &waiter, next->child, outgoing.values());
      if (err == 0) waiter.wait();
    }
    const bool wanted = answered(frame);
    if (err != 0) return raise_error(err, Py_None);
    if (!wanted) {
      const auto parts = answer_of(fop);
      graph_drop(parts.data(), static_cast<int>(parts.size()), waiter.values.data());
      is_open(frame);
      return nullptr;
    }
  }
  std::array<Ref, max_values> parts;
  if (!incoming(frame, answer_of(fop), waiter.values.data(), parts.data())) return nullptr;
  Ref answer = make_answer(fop, parts.data(), waiter.ret);
  if (!answer || waiter.ret >= 0) return answer.release();
  return raise_error(waiter.err, answer.get());
}

// translator.wind_FOP(frame, child, …)
PyObject* wind(PyObject* self, PyObject* const* given, Py_ssize_t count, int fop) noexcept {
  Instance* const instance = instance_of(self);
  if (instance == nullptr) return nullptr;
  const std::string what = std::string{"wind_"} + graph_fops[fop].name;
  constexpr Py_ssize_t fixed = 2;
  if (count < fixed || !PyObject_TypeCheck(given[0], types.frame)) {
    PyErr_Format(PyExc_TypeError, "%s: expected a frame, a child or None, and the arguments", what.c_str());
    return nullptr;
  }
  Frame* const frame = frame_of(given[0]);
  xlator_t* const child = child_of(given[1], instance);
  const auto fields = arguments_of(fop);
  if (child == nullptr || !is_open(frame) || !is_its(frame, instance) || !count_fits(what, fields, count - fixed, true))
    return nullptr;
  if (fop != frame->fop && !instance->handlers[static_cast<std::size_t>(fop)].answer) {
    PyErr_Format(PyExc_TypeError, "%s: there is no %s_cbk, and its answer cannot be that of %s", what.c_str(),
                 graph_fops[fop].name, graph_fops[frame->fop].name);
    return nullptr;
  }
  std::array<PyObject*, max_values> objects{};
  objects.fill(Py_None);
  std::copy_n(given + fixed, count - fixed, objects.begin());
  Outgoing outgoing;
  if (!outgoing.fill(what.c_str(), fields, objects.data(), true)) return nullptr;
  const int err = wind_with_callback(frame, fop, child, outgoing.values());
  if (err != 0) return raise_error(err, Py_None);
  Py_RETURN_NONE;
}

// translator.unwind_FOP(frame, cookie, this, op_ret, op_errno, …)
PyObject* unwind_by_script(PyObject* self, PyObject* const* given, Py_ssize_t count, int fop) noexcept {
  Instance* const instance = instance_of(self);
  if (instance == nullptr) return nullptr;
  const std::string what = std::string{"unwind_"} + graph_fops[fop].name;
  constexpr Py_ssize_t fixed = 5;
  if (count < fixed || !PyObject_TypeCheck(given[0], types.frame) || !PyLong_Check(given[3]) ||
      !PyLong_Check(given[4])) {
    PyErr_Format(PyExc_TypeError, "%s: expected frame, cookie, this, op_ret, op_errno, and the answer", what.c_str());
    return nullptr;
  }
  Frame* const frame = frame_of(given[0]);
  const auto fields = answer_of(fop);
  if (!is_open(frame) || !is_its(frame, instance) || !count_fits(what, fields, count - fixed, false)) return nullptr;
  if (fop != frame->fop) {
    PyErr_Format(PyExc_TypeError, "%s: this request is a %s", what.c_str(), graph_fops[frame->fop].name);
    return nullptr;
  }
  if (frame->pending > 0) {
    PyErr_Format(PyExc_RuntimeError, "%s: %d of the children that were asked have not answered yet", what.c_str(),
                 frame->pending);
    return nullptr;
  }
  long ret = PyLong_AsLong(given[3]);
  const long err = PyLong_AsLong(given[4]);
  if (PyErr_Occurred()) return nullptr;
  if (ret < INT32_MIN || ret > INT32_MAX || (ret < 0 && (err <= 0 || err > 4095))) {
    PyErr_Format(PyExc_ValueError, "%s: expected an op_ret of 32 bits and, if it is below 0, an op_errno, got %ld, %ld",
                 what.c_str(), ret, err);
    return nullptr;
  }
  Outgoing outgoing;
  if (!outgoing.fill(what.c_str(), fields, given + fixed, ret >= 0)) return nullptr;
  if (ret >= 0 && outgoing.length() >= 0) ret = outgoing.length();
  unwind(frame, static_cast<std::int32_t>(ret), static_cast<std::int32_t>(err), outgoing.values());
  Py_RETURN_NONE;
}

using Function = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t, int) noexcept;

template <Function function, int fop>
PyObject* bound(PyObject* self, PyObject* const* arguments, Py_ssize_t count) noexcept {
  return function(self, arguments, count, fop);
}

// NOLINTBEGIN(bugprone-macro-parentheses): the arguments are names and texts
#define METHOD(prefix, name, function)                                                                               \
  {prefix #name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(bound<function, fop_##name>)), METH_FASTCALL, \
   nullptr},
// NOLINTEND(bugprone-macro-parentheses)

// next.to(child)
PyObject* next_to(PyObject* self, PyObject* child) noexcept {
  auto* const next = reinterpret_cast<Next*>(self);
  xlator_t* const xl = is_open(next->frame) ? child_of(child, next->frame->instance) : nullptr;
  return xl != nullptr ? make_next(next->frame, xl).release() : nullptr;
}

PyMethodDef next_methods[] = {
#define FOP(name, arguments, answer) METHOD("", name, ask)
#include "fops.def"
#undef FOP
    {"to", next_to, METH_O, "to(child): the same for another child than the first."}, {}};

PyMethodDef translator_methods[] = {
#define FOP(name, arguments, answer) METHOD("wind_", name, wind)
#include "fops.def"
#undef FOP
#define FOP(name, arguments, answer) METHOD("unwind_", name, unwind_by_script)
#include "fops.def"
#undef FOP
    {}};

PyObject* next_frame(PyObject* self, void*) noexcept {
  return Ref::borrow(object(reinterpret_cast<Next*>(self)->frame)).release();
}

PyGetSetDef next_getters[] = {{"frame", next_frame, nullptr, "The request's Frame.", nullptr}, {}};

#define FRAME_GETTER(name, result)                         \
  PyObject* frame_##name(PyObject* self, void*) noexcept { \
    if (!is_open(frame_of(self))) return nullptr;          \
    FrameFacts facts;                                      \
    graph_frame(frame_of(self)->frame, &facts);            \
    return result;                                         \
  }

Ref groups_tuple(const FrameFacts& facts) noexcept {
  Ref groups = Ref::take(PyTuple_New(static_cast<Py_ssize_t>(facts.group_count)));
  for (std::size_t i = 0; groups && i < facts.group_count; ++i) {
    PyObject* const number = PyLong_FromUnsignedLong(facts.groups[i]);
    if (number == nullptr) return {};
    PyTuple_SET_ITEM(groups.get(), static_cast<Py_ssize_t>(i), number);
  }
  return groups;
}

FRAME_GETTER(uid, PyLong_FromUnsignedLong(facts.uid))
FRAME_GETTER(gid, PyLong_FromUnsignedLong(facts.gid))
FRAME_GETTER(pid, PyLong_FromLong(facts.pid))
FRAME_GETTER(unique, PyLong_FromUnsignedLongLong(facts.unique))
FRAME_GETTER(groups, groups_tuple(facts).release())
FRAME_GETTER(lk_owner, PyBytes_FromStringAndSize(facts.lk_owner, static_cast<Py_ssize_t>(facts.lk_owner_size)))
FRAME_GETTER(client, text_or_none(facts.client).release())

PyObject* frame_fop(PyObject* self, void*) noexcept {
  return PyUnicode_FromString(graph_fops[frame_of(self)->fop].name);
}

PyObject* frame_local(PyObject* self, void*) noexcept {
  PyObject* const local = frame_of(self)->local;
  return Ref::borrow(local != nullptr ? local : Py_None).release();
}

int set_frame_local(PyObject* self, PyObject* value, void*) noexcept {
  Ref old = Ref::take(std::exchange(frame_of(self)->local, Ref::borrow(value).release()));
  return 0;
}

PyGetSetDef frame_getters[] = {
    {"fop", frame_fop, nullptr, "The file operation's name.", nullptr},
    {"local", frame_local, set_frame_local, "What the script notes here: any object, or None.", nullptr},
    {"uid", frame_uid, nullptr, "The user who asks.", nullptr},
    {"gid", frame_gid, nullptr, "That user's group.", nullptr},
    {"groups", frame_groups, nullptr, "That user's other groups, a tuple.", nullptr},
    {"pid", frame_pid, nullptr, "The process that asks; below 0: one of GlusterFS's own.", nullptr},
    {"unique", frame_unique, nullptr, "The request's number, where it has one.", nullptr},
    {"lk_owner", frame_lk_owner, nullptr, "Who has the locks, bytes.", nullptr},
    {"client", frame_client, nullptr, "On a brick: the client's name. Else None.", nullptr},
    {}};

int frame_traverse(PyObject* self, visitproc visit, void* arg) noexcept {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(frame_of(self)->local);
  return 0;
}

int frame_clear(PyObject* self) noexcept {
  Py_CLEAR(frame_of(self)->local);
  return 0;
}

// Nobody can answer the request any more: it is answered here, before the object goes.
void frame_finalize(PyObject* self) noexcept {
  Frame* const frame = frame_of(self);
  if (frame->frame == nullptr) return;
  Ref exception = take_exception();
  complain(frame->fop, "the script has not answered this request, and cannot any more: it fails with EIO");
  unwind(frame, -1, EIO, nullptr);
  put_back(std::move(exception));
}

void frame_dealloc(PyObject* self) noexcept {
  if (PyObject_CallFinalizerFromDealloc(self) < 0) return;
  PyObject_GC_UnTrack(self);
  PyTypeObject* const type = Py_TYPE(self);
  frame_clear(self);
  expire_all(frame_of(self));
  delete frame_of(self)->views;
  type->tp_free(self);
  Py_DECREF(type);
}

void next_dealloc(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  Py_XDECREF(object(reinterpret_cast<Next*>(self)->frame));
  type->tp_free(self);
  Py_DECREF(type);
}

void child_dealloc(PyObject* self) noexcept {
  PyTypeObject* const type = Py_TYPE(self);
  Py_XDECREF(reinterpret_cast<Child*>(self)->name);
  Py_XDECREF(reinterpret_cast<Child*>(self)->type);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* child_text(PyObject* self) noexcept {
  return PyUnicode_FromFormat("<glusterfs.Child %U>", reinterpret_cast<Child*>(self)->name);
}

PyObject* child_name(PyObject* self, void*) noexcept {
  return Ref::borrow(reinterpret_cast<Child*>(self)->name).release();
}

PyObject* child_type(PyObject* self, void*) noexcept {
  return Ref::borrow(reinterpret_cast<Child*>(self)->type).release();
}

PyGetSetDef child_getters[] = {{"name", child_name, nullptr, "Its name in the volume file.", nullptr},
                               {"type", child_type, nullptr, "Its type in the volume file.", nullptr},
                               {}};

PyTypeObject* make(const char* name, std::size_t size, unsigned long flags, std::vector<PyType_Slot> slots) noexcept {
  slots.push_back({0, nullptr});
  PyType_Spec spec{name, static_cast<int>(size), 0, static_cast<unsigned>(Py_TPFLAGS_DEFAULT | flags), slots.data()};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

char* doc(const char* text) noexcept { return const_cast<char*>(text); }

}  // namespace

bool make_request_types() noexcept {
  constexpr unsigned long internal = Py_TPFLAGS_DISALLOW_INSTANTIATION;
  types.frame = make("glusterfs.Frame", sizeof(Frame), internal | Py_TPFLAGS_HAVE_GC,
                     {{Py_tp_doc, doc("A request: who asks, and what the script has noted.")},
                      {Py_tp_getset, frame_getters},
                      {Py_tp_traverse, reinterpret_cast<void*>(frame_traverse)},
                      {Py_tp_clear, reinterpret_cast<void*>(frame_clear)},
                      {Py_tp_finalize, reinterpret_cast<void*>(frame_finalize)},
                      {Py_tp_dealloc, reinterpret_cast<void*>(frame_dealloc)}});
  types.next = make("glusterfs.Next", sizeof(Next), internal,
                    {{Py_tp_doc, doc("The translator below: a method for each file operation, which returns its answer "
                                     "or raises its Error.")},
                     {Py_tp_getset, next_getters},
                     {Py_tp_methods, next_methods},
                     {Py_tp_dealloc, reinterpret_cast<void*>(next_dealloc)}});
  types.child = make("glusterfs.Child", sizeof(Child), internal,
                     {{Py_tp_doc, doc("A translator below this one.")},
                      {Py_tp_getset, child_getters},
                      {Py_tp_dealloc, reinterpret_cast<void*>(child_dealloc)},
                      {Py_tp_repr, reinterpret_cast<void*>(child_text)}});
  types.translator =
      make("glusterfs._Translator", sizeof(Translator), Py_TPFLAGS_BASETYPE, {{Py_tp_methods, translator_methods}});
  return types.frame != nullptr && types.next != nullptr && types.child != nullptr && types.translator != nullptr;
}

Instance* instance_of(PyObject* translator) noexcept {
  Instance* const instance = reinterpret_cast<Translator*>(translator)->instance;
  if (instance == nullptr) PyErr_SetString(types.expired, "this translator is not, or no longer, in a graph");
  return instance;
}

void set_instance(PyObject* translator, Instance* instance) noexcept {
  reinterpret_cast<Translator*>(translator)->instance = instance;
}

Ref make_child(xlator_t* xl) noexcept {
  Ref self = Ref::take(types.child->tp_alloc(types.child, 0));
  if (!self) return {};
  auto* const child = reinterpret_cast<Child*>(self.get());
  child->xl = xl;
  child->name = text_or_none(graph_name(xl)).release();
  child->type = text_or_none(graph_type(xl)).release();
  return child->name != nullptr && child->type != nullptr ? std::move(self) : Ref{};
}

}  // namespace nbdkit_python::gluster

using namespace nbdkit_python::gluster;  // NOLINT(google-build-using-namespace): what follows is C's

void door_fop(call_frame_t* frame, xlator_t* xl, int fop, Value* arguments) noexcept {
  auto* const instance = static_cast<Instance*>(*graph_private(xl));
  if (instance == nullptr || instance->ending) return graph_unwind(fop, frame, -1, ESHUTDOWN, nullptr);
  ++instance->open;
  const Handlers& handlers = instance->handlers[static_cast<std::size_t>(fop)];
  // A light thread may go on in another, with the stack that Python would have been called on.
  const bool elsewhere = static_cast<bool>(handlers.direct) || graph_in_synctask();
  if (!elsewhere && !handlers.fop) return pass_on(instance, frame, fop, arguments);
  const auto fields = arguments_of(fop);
  const int count = static_cast<int>(fields.size());
  if (!graph_hold(fields.data(), count, arguments)) {
    --instance->open;
    return graph_unwind(fop, frame, -1, ENOMEM, nullptr);
  }
  if (!elsewhere) return call_fop(instance, frame, fop, arguments);
  auto* const job = new Job{run_fop, instance, frame, nullptr, fop, 0, 0, {}};
  std::memcpy(job->values, arguments, fields.size() * sizeof(Value));
  if (instance->workers.post(job)) return;
  delete job;
  graph_drop(fields.data(), count, arguments);
  --instance->open;
  graph_unwind(fop, frame, -1, EAGAIN, nullptr);
}

void door_answer(void* cookie, int32_t ret, int32_t err, Value* answer) noexcept {
  auto* const asker = static_cast<Asker*>(cookie);
  asker->take(asker, ret, err, answer);
}
