// SPDX-License-Identifier: BSD-3-Clause
// nbdkit.Next: the Python type whose methods are the operations of what is below.
//
// While such an operation runs, the thread has let go of Python: the operation may wait, and may come back to Python in
// this thread, in a translator further down or in a disk.
#include "next.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "background.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::filter {
namespace {

struct Object {
  PyObject_HEAD const Call* call;  // a Next's; null: it is over
  Level* below;                    // null: before the connection's requests, or closed
  Passing* passing;
  Background* background;  // a Background's; null: closed
};

// Those that are open. Guarded by the GIL; never destroyed.
std::vector<Ref>& backgrounds = *new std::vector<Ref>;

PyTypeObject* background_type() noexcept;

// ---- errors

// Raises TYPE: next.METHOD: text.
void raise(PyObject* type, const char* method, const std::string& text) noexcept {
  PyErr_SetString(type, ("next." + std::string{method} + ": " + text).c_str());
}

// ---- whether it may be used

// Null: the error indicator is set.
Object* usable(PyObject* self, const char* method) noexcept {
  auto* const next = reinterpret_cast<Object*>(self);
  if (next->call != nullptr && next->call == Call::current()) [[likely]]
    return next;
  raise(PyExc_RuntimeError, method,
        next->call == nullptr ? "the call that this next was for is over: each call of a callback gets its own"
                              : "this next is for another call: it cannot be used in other threads or callbacks");
  return nullptr;
}

Object* usable_in_background(PyObject* self, const char* method) noexcept {
  auto* const next = reinterpret_cast<Object*>(self);
  const char* const reason = next->background == nullptr ? "it is closed" : Background::forbidden();
  if (reason == nullptr) return next;
  PyErr_SetString(PyExc_RuntimeError, ("nbdkit.Background." + std::string{method} + ": " + reason).c_str());
  return nullptr;
}

// For what is of a connection that is open. Null: as above.
Object* connected(PyObject* self, const char* method) noexcept {
  if (Py_IS_TYPE(self, background_type())) return usable_in_background(self, method);
  Object* const next = usable(self, method);
  if (next == nullptr || next->below != nullptr) return next;
  raise(PyExc_RuntimeError, method,
        std::string{"not in "} + next->call->name() + ": the disk can be used from prepare to finalize");
  return nullptr;
}

// ---- what is called

// Of an ability: NBDKIT_ZERO_NONE and the like, or a truth value.
bool is_level(Ability ability) noexcept {
  return ability == Ability::can_zero || ability == Ability::can_fua || ability == Ability::can_cache;
}

template <Ability ability>
PyObject* ask(PyObject* self, PyObject*) noexcept {
  static constexpr const char* names[] = {"can_write",      "can_flush",     "is_rotational", "can_trim",
                                          "can_zero",       "can_fast_zero", "can_extents",   "can_fua",
                                          "can_multi_conn", "can_cache"};
  const char* const name = names[static_cast<std::size_t>(ability)];
  Object* const next = connected(self, name);
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  int answer = level->known(ability);
  if (answer == -1) {
    const Background::Use use{next->background};
    answer = level->able(ability);
  }
  if (answer == -1) return raise_failed(name, EIO), nullptr;
  return is_level(ability) ? PyLong_FromLong(answer) : PyBool_FromLong(answer);
}

PyObject* get_size(PyObject* self, PyObject*) noexcept {
  Object* const next = connected(self, "get_size");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  std::int64_t size = level->known_size();
  if (size == -1) {
    const Background::Use use{next->background};
    size = level->size();
  }
  if (size == -1) return raise_failed("get_size", EIO), nullptr;
  return PyLong_FromLongLong(size);
}

PyObject* export_description(PyObject* self, PyObject*) noexcept {
  Object* const next = connected(self, "export_description");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  const char* text = nullptr;
  {
    const Background::Use use{next->background};
    text = level->export_description();
  }
  if (text == nullptr) Py_RETURN_NONE;
  return PyUnicode_DecodeFSDefault(text);
}

PyObject* block_size(PyObject* self, PyObject*) noexcept {
  Object* const next = connected(self, "block_size");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  std::uint32_t minimum = 0, preferred = 0, maximum = 0;
  int done = 0;
  {
    const Background::Use use{next->background};
    done = level->block_size(&minimum, &preferred, &maximum);
  }
  if (done == -1) return raise_failed("block_size", EIO), nullptr;
  return Py_BuildValue("III", minimum, preferred, maximum);
}

// Makes a request, if nothing is wrong with it: 0, or -1 and the error indicator is set.
template <typename Make>
int request(const Object& next, const char* name, Request kind, std::uint32_t count, std::uint64_t offset,
            std::uint32_t flags, const Make& make) noexcept {
  std::optional<std::string> fault;
  int err = 0;
  int done = -1;
  {
    const Background::Use use{next.background};
    fault = next.below->fault(kind, count, offset, flags);
    if (!fault) done = make(&err);
  }
  if (fault)
    raise(PyExc_ValueError, name, *fault);
  else if (done == -1)
    raise_failed(name, err);
  return done;
}

// The memory of an object; released at the end of the block.
class Memory {
 public:
  Memory() noexcept = default;
  ~Memory() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // False: the error indicator is set.
  bool get(const char* method, PyObject* object, bool writable) noexcept {
    if (PyObject_GetBuffer(object, &view_, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) == -1) {
      view_.obj = nullptr;
      PyErr_Clear();
      raise(PyExc_TypeError, method,
            std::string{"buf: expected a contiguous "} +
                (writable ? "writable buffer, or a count" : "bytes-like object") + ", got " + describe(object));
      return false;
    }
    if (view_.len <= static_cast<Py_ssize_t>(most_data)) return true;
    raise(PyExc_ValueError, method,
          "buf: expected at most " + std::to_string(most_data) + " bytes, got " + std::to_string(view_.len));
    return false;
  }
  void* data() const noexcept { return view_.buf; }
  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(view_.len); }

 private:
  Py_buffer view_{};
};

// A new buffer of zeros; one that a disk leaves unfilled must not be somebody's data.
Ref zeros(std::uint32_t count) noexcept {
  Ref bytes = Ref::take(PyByteArray_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(count)));
  if (bytes) std::memset(PyByteArray_AS_STRING(bytes.get()), 0, count);
  return bytes;
}

PyObject* pread(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Object* const next = connected(self, "pread");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  Arguments arguments{"pread", values, given, names};
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;
  PyObject* buf = arguments.take("buf");
  const bool named_count = buf == nullptr;
  if (named_count) buf = arguments.take("count");
  if (buf == nullptr) return arguments.missing("buf"), nullptr;
  if (!arguments.take("offset", offset) || !arguments.take("flags", flags) || !arguments.done()) return nullptr;
  Ref bytes;
  if (PyIndex_Check(buf) != 0 && PyObject_CheckBuffer(buf) == 0) {
    Arguments again{"pread", &buf, 1, nullptr};
    std::uint32_t count = 0;
    if (!again.take("count", count)) return nullptr;
    if (count > most_data)
      return raise(PyExc_ValueError, "pread",
                   "expected at most " + std::to_string(most_data) + " bytes, got " + std::to_string(count)),
             nullptr;
    bytes = zeros(count);
    if (!bytes) return nullptr;
    buf = bytes.get();
  }
  Memory memory;
  if (!memory.get("pread", buf, true)) return nullptr;
  if (request(*next, "pread", Request::pread, memory.size(), offset, flags,
              [&](int* err) { return level->pread(memory.data(), memory.size(), offset, flags, err); }) == -1)
    return nullptr;
  if (bytes) return bytes.release();
  Py_RETURN_NONE;
}

PyObject* pwrite(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Object* const next = connected(self, "pwrite");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  Arguments arguments{"pwrite", values, given, names};
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;
  PyObject* const buf = arguments.take("buf");
  if (buf == nullptr) return arguments.missing("buf"), nullptr;
  if (!arguments.take("offset", offset) || !arguments.take("flags", flags) || !arguments.done()) return nullptr;
  Memory memory;
  if (!memory.get("pwrite", buf, false)) return nullptr;
  if (request(*next, "pwrite", Request::pwrite, memory.size(), offset, flags,
              [&](int* err) { return level->pwrite(memory.data(), memory.size(), offset, flags, err); }) == -1)
    return nullptr;
  Py_RETURN_NONE;
}

PyObject* flush(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Object* const next = connected(self, "flush");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  Arguments arguments{"flush", values, given, names};
  std::uint32_t flags = 0;
  if (!arguments.take("flags", flags) || !arguments.done()) return nullptr;
  if (request(*next, "flush", Request::flush, 0, 0, flags, [&](int* err) { return level->flush(flags, err); }) == -1)
    return nullptr;
  Py_RETURN_NONE;
}

// Of a request that is about a range: count, offset, flags.
struct Range {
  std::uint32_t count = 0;
  std::uint64_t offset = 0;
  std::uint32_t flags = 0;

  bool take(Arguments& arguments) noexcept {
    return arguments.take("count", count) && arguments.take("offset", offset) && arguments.take("flags", flags) &&
           arguments.done();
  }
};

template <Request kind, int (Level::*method)(std::uint32_t, std::uint64_t, std::uint32_t, int*) noexcept>
PyObject* range(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  constexpr const char* name = kind == Request::trim ? "trim" : kind == Request::zero ? "zero" : "cache";
  Object* const next = connected(self, name);
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  Arguments arguments{name, values, given, names};
  Range r;
  if (!r.take(arguments)) return nullptr;
  if (request(*next, name, kind, r.count, r.offset, r.flags,
              [&](int* err) { return (level->*method)(r.count, r.offset, r.flags, err); }) == -1)
    return nullptr;
  Py_RETURN_NONE;
}

PyObject* extents(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept {
  Object* const next = connected(self, "extents");
  if (next == nullptr) return nullptr;
  Level* const level = next->below;
  Arguments arguments{"extents", values, given, names};
  Range r;
  if (!r.take(arguments)) return nullptr;
  nbdkit_extents* found = nullptr;
  const int done = request(*next, "extents", Request::extents, r.count, r.offset, r.flags, [&](int* err) {
    found = nbdkit_extents_new(r.offset, r.offset + r.count);
    if (found == nullptr) return *err = ENOMEM, -1;
    return level->extents(r.count, r.offset, r.flags, found, err);
  });
  Ref list = done == 0 ? to_list(found) : Ref{};
  nbdkit_extents_free(found);
  return list.release();
}

// What a callback passes on: for most, the operation of its own name.
PyObject* pass(PyObject* self, const char* name, const char* callback, PyObject* const* values, Py_ssize_t given,
               PyObject* names) noexcept {
  const Object* const next = usable(self, name);
  if (next == nullptr) return nullptr;
  if (next->passing == nullptr || std::strcmp(next->passing->name(), name) != 0) {
    raise(PyExc_RuntimeError, name, std::string{"not in "} + next->call->name() + ": only in " + callback);
    return nullptr;
  }
  Arguments arguments{name, values, given, names};
  return next->passing->pass(arguments).release();
}

#define PASS(name, callback)                                                                                   \
  PyObject* pass_##name(PyObject* self, PyObject* const* values, Py_ssize_t given, PyObject* names) noexcept { \
    return pass(self, #name, callback, values, given, names);                                                  \
  }
PASS(config, "config")
PASS(background, "after_fork")
PASS(preconnect, "preconnect")
PASS(list_exports, "list_exports")
PASS(default_export, "default_export")
PASS(open, "open")
#undef PASS

// ---- Background's own

// Ends what nobody uses.
void end(Object& object) noexcept {
  std::erase_if(backgrounds, [&](const Ref& ref) { return ref.get() == reinterpret_cast<PyObject*>(&object); });
  const std::unique_ptr<Background> owned{std::exchange(object.background, nullptr)};
  const Detach others_run;
  owned->end();
}

PyObject* close(PyObject* self, PyObject*) noexcept {
  auto* const object = reinterpret_cast<Object*>(self);
  if (object->background == nullptr) Py_RETURN_NONE;
  if (usable_in_background(self, "close") == nullptr) return nullptr;
  if (object->background->used())
    return PyErr_SetString(PyExc_RuntimeError, "nbdkit.Background.close: another thread is using it"), nullptr;
  const Ref kept = Ref::borrow(self);
  end(*object);
  Py_RETURN_NONE;
}

PyObject* enter(PyObject* self, PyObject*) noexcept { return Py_NewRef(self); }
PyObject* leave(PyObject* self, PyObject*) noexcept { return close(self, nullptr); }

// ---- the types

template <typename Function>
PyCFunction function(Function* f) noexcept {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

constexpr int fast = METH_FASTCALL | METH_KEYWORDS;

#define CONNECTED                                                                                                     \
  {"get_size", get_size, METH_NOARGS, nullptr}, {"export_description", export_description, METH_NOARGS, nullptr},     \
      {"block_size", block_size, METH_NOARGS, nullptr}, {"can_write", ask<Ability::can_write>, METH_NOARGS, nullptr}, \
      {"can_flush", ask<Ability::can_flush>, METH_NOARGS, nullptr},                                                   \
      {"is_rotational", ask<Ability::is_rotational>, METH_NOARGS, nullptr},                                           \
      {"can_trim", ask<Ability::can_trim>, METH_NOARGS, nullptr},                                                     \
      {"can_zero", ask<Ability::can_zero>, METH_NOARGS, nullptr},                                                     \
      {"can_fast_zero", ask<Ability::can_fast_zero>, METH_NOARGS, nullptr},                                           \
      {"can_extents", ask<Ability::can_extents>, METH_NOARGS, nullptr},                                               \
      {"can_fua", ask<Ability::can_fua>, METH_NOARGS, nullptr},                                                       \
      {"can_multi_conn", ask<Ability::can_multi_conn>, METH_NOARGS, nullptr},                                         \
      {"can_cache", ask<Ability::can_cache>, METH_NOARGS, nullptr}, {"pread", function(pread), fast, nullptr},        \
      {"pwrite", function(pwrite), fast, nullptr}, {"flush", function(flush), fast, nullptr},                         \
      {"trim", function(range<Request::trim, &Level::trim>), fast, nullptr},                                          \
      {"zero", function(range<Request::zero, &Level::zero>), fast, nullptr},                                          \
      {"extents", function(extents), fast, nullptr}, {                                                                \
    "cache", function(range<Request::cache, &Level::cache>), fast, nullptr                                            \
  }

PyMethodDef next_methods[] = {
    {"config", function(pass_config), fast, nullptr},
    {"background", function(pass_background), fast, nullptr},
    {"preconnect", function(pass_preconnect), fast, nullptr},
    {"list_exports", function(pass_list_exports), fast, nullptr},
    {"default_export", function(pass_default_export), fast, nullptr},
    {"open", function(pass_open), fast, nullptr},
    CONNECTED,
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef background_methods[] = {
    CONNECTED,
    {"close", close, METH_NOARGS, nullptr},
    {"__enter__", enter, METH_NOARGS, nullptr},
    {"__exit__", leave, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
#undef CONNECTED

PyTypeObject* make_type(const char* name, const char* doc, PyMethodDef* methods) noexcept {
  PyType_Slot slots[] = {{Py_tp_methods, methods}, {Py_tp_doc, const_cast<char*>(doc)}, {0, nullptr}};
  PyType_Spec spec = {name, sizeof(Object), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

PyTypeObject* next_type() noexcept {
  static PyTypeObject* const type =
      make_type("nbdkit.Next", "What is below a translator, good for one call of a callback.", next_methods);
  return type;
}

PyTypeObject* background_type() noexcept {
  static PyTypeObject* const type =
      make_type("nbdkit.Background", "A translator's own connection to what is below.", background_methods);
  return type;
}

Object* make(PyTypeObject* type) noexcept {
  Object* const object = type ? PyObject_New(Object, type) : nullptr;
  if (object == nullptr) return nullptr;
  object->call = nullptr;
  object->below = nullptr;
  object->passing = nullptr;
  object->background = nullptr;
  return object;
}

Ref make_next(const Call& call, Level* below, Passing* passing) noexcept {
  Object* const next = make(next_type());
  if (next == nullptr) return {};
  next->call = &call;
  next->below = below;
  next->passing = passing;
  return Ref::take(reinterpret_cast<PyObject*>(next));
}

}  // namespace

// ---- Arguments

PyObject* Arguments::take(const char* name) noexcept {
  if (position_ < given_) return values_[position_++];
  const Py_ssize_t named = names_ ? PyTuple_GET_SIZE(names_) : 0;
  for (Py_ssize_t i = 0; i < named; ++i)
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names_, i), name) == 0) {
      ++named_;
      return values_[given_ + i];
    }
  return nullptr;
}

bool Arguments::take(const char* name, std::string& text) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return true;
  // As parameters and export names arrive: any bytes but NULs.
  PyObject* bytes = nullptr;
  if (PyUnicode_Check(value) != 0 && PyUnicode_FSConverter(value, &bytes) != 0) {
    const Ref owned = Ref::take(bytes);
    text.assign(PyBytes_AS_STRING(bytes), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes)));
    return true;
  }
  PyErr_Clear();
  raise(PyExc_TypeError, method_,
        std::string{name} + ": expected a str without NUL characters, got " + describe(value));
  return false;
}

bool Arguments::take(const char* name, bool& truth) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return true;
  const auto answer = to_bool(value);
  if (!answer) return false;
  truth = *answer;
  return true;
}

bool Arguments::take(const char* name, std::uint64_t& number) noexcept {
  PyObject* const value = take(name);
  if (value == nullptr) return missing(name), false;
  const Ref index = PyIndex_Check(value) != 0 ? Ref::take(PyNumber_Index(value)) : Ref{};
  const unsigned long long result = index ? PyLong_AsUnsignedLongLong(index.get()) : 0;
  if (index && PyErr_Occurred() == nullptr) {
    number = result;
    return true;
  }
  PyErr_Clear();
  raise(index ? PyExc_ValueError : PyExc_TypeError, method_,
        std::string{name} + ": expected an int from 0 to 2**64 - 1, got " + describe(value));
  return false;
}

bool Arguments::take(const char* name, std::uint32_t& number) noexcept {
  const bool is_flags = std::strcmp(name, "flags") == 0;
  PyObject* const value = take(name);
  if (value == nullptr) return is_flags || (missing(name), false);
  const Ref index = PyIndex_Check(value) != 0 ? Ref::take(PyNumber_Index(value)) : Ref{};
  const unsigned long long result = index ? PyLong_AsUnsignedLongLong(index.get()) : 0;
  if (index && PyErr_Occurred() == nullptr && result <= UINT32_MAX) {
    number = static_cast<std::uint32_t>(result);
    return true;
  }
  PyErr_Clear();
  raise(index ? PyExc_ValueError : PyExc_TypeError, method_,
        std::string{name} + ": expected an int from 0 to 2**32 - 1, got " + describe(value));
  return false;
}

bool Arguments::done() const noexcept {
  const Py_ssize_t named = names_ ? PyTuple_GET_SIZE(names_) : 0;
  if (position_ == given_ && named_ == named) return true;
  raise(PyExc_TypeError, method_, "there are arguments too many, or of other names");
  return false;
}

void Arguments::missing(const char* name) const noexcept {
  raise(PyExc_TypeError, method_, std::string{"the argument "} + name + " is missing");
}

// ---- Next

Next::Next(const Call& call, Level& below) noexcept : object_{make_next(call, &below, nullptr)} {}
Next::Next(const Call& call, Passing& passing) noexcept : object_{make_next(call, nullptr, &passing)} {}

bool Next::prepare() noexcept { return next_type() != nullptr && background_type() != nullptr; }

Next::~Next() {
  if (object_) reinterpret_cast<Object*>(object_.get())->call = nullptr;
}

Ref open_background(std::size_t translator, nbdkit_backend* backend, Arguments& arguments) noexcept {
  bool readonly = false;
  std::string name;
  if (!arguments.take("readonly", readonly) || !arguments.take("export_name", name) || !arguments.done()) return {};
  if (const char* const reason = Background::forbidden()) return raise_misuse("background", reason), Ref{};
  auto background = std::make_unique<Background>(translator, backend);
  bool started = false;
  {
    const Detach others_run;
    started = background->start(readonly, name);
  }
  if (!started) return raise_failed("background", EIO), Ref{};
  Object* const object = make(background_type());
  if (object == nullptr) {
    const Detach others_run;
    return background->end(), Ref{};
  }
  object->below = &background->top();
  object->background = background.release();
  backgrounds.push_back(Ref::borrow(reinterpret_cast<PyObject*>(object)));
  return Ref::take(reinterpret_cast<PyObject*>(object));
}

void close_backgrounds() noexcept {
  while (!backgrounds.empty()) {
    const Ref kept = std::move(backgrounds.back());
    backgrounds.pop_back();
    auto& object = *reinterpret_cast<Object*>(kept.get());
    // No more of them come in: a Use of this one is over soon, as the plugin answers.
    Background* const background = std::exchange(object.background, nullptr);
    while (background->used()) {
      const Detach others_run;
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    object.background = background;
    end(object);
  }
}

void raise_failed(const char* name, int err) noexcept {
  const std::string text = "next." + std::string{name} + " has failed";
  const Ref error = Ref::take(PyObject_CallFunction(interpreter::package().error.get(), "is", err, text.c_str()));
  if (error) PyErr_SetObject(interpreter::package().error.get(), error.get());
}

void raise_misuse(const char* name, const char* text) noexcept { raise(PyExc_RuntimeError, name, text); }

Ref to_list(const nbdkit_exports* exports) noexcept {
  Ref list = Ref::take(PyList_New(0));
  for (std::size_t i = 0; list && i < nbdkit_exports_count(exports); ++i) {
    const nbdkit_export item = nbdkit_get_export(exports, i);
    const Ref name = to_python(static_cast<const char*>(item.name));
    const Ref description =
        item.description ? to_python(static_cast<const char*>(item.description)) : Ref::borrow(Py_None);
    const Ref pair = name && description ? Ref::take(PyTuple_Pack(2, name.get(), description.get())) : Ref{};
    if (!pair || PyList_Append(list.get(), pair.get()) == -1) return {};
  }
  return list;
}

Ref to_list(const nbdkit_extents* extents) noexcept {
  const std::size_t count = nbdkit_extents_count(extents);
  Ref list = Ref::take(PyList_New(static_cast<Py_ssize_t>(count)));
  for (std::size_t i = 0; list && i < count; ++i) {
    const nbdkit_extent item = nbdkit_get_extent(extents, i);
    PyObject* const triple = Py_BuildValue("KKI", static_cast<unsigned long long>(item.offset),
                                           static_cast<unsigned long long>(item.length), item.type);
    if (triple == nullptr) return {};
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), triple);
  }
  return list;
}

}  // namespace nbdkit_python::filter
