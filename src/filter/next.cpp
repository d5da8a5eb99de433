// SPDX-License-Identifier: BSD-3-Clause
// nbdkit.Next and nbdkit.Background: the Python types that have the operations of what is below.
#include "next.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "object.hpp"

namespace nbdkit_python::filter {
namespace {

// The Backgrounds that are open. Guarded by the GIL; never destroyed.
std::vector<Ref>& backgrounds = *new std::vector<Ref>;

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

// These methods, and those of a connection that is open.
std::vector<PyMethodDef> with_operations(std::vector<PyMethodDef> methods) {
  methods.insert(methods.end(), operations.begin(), operations.end());
  methods.push_back({nullptr, nullptr, 0, nullptr});
  return methods;
}

// The methods last as long as the type.
PyTypeObject* make_type(const char* name, const char* doc, std::vector<PyMethodDef>& methods) noexcept {
  return nbdkit_python::make_type(name, doc, sizeof(Object), no_constructor, {{Py_tp_methods, methods.data()}});
}

PyTypeObject* next_type() noexcept {
  static auto& methods = *new auto(with_operations({
      {"config", function(pass_config), fast, nullptr},
      {"background", function(pass_background), fast, nullptr},
      {"preconnect", function(pass_preconnect), fast, nullptr},
      {"list_exports", function(pass_list_exports), fast, nullptr},
      {"default_export", function(pass_default_export), fast, nullptr},
      {"open", function(pass_open), fast, nullptr},
  }));
  static PyTypeObject* const type =
      make_type("nbdkit.Next", "What is below a translator, good for one call of a callback.", methods);
  return type;
}

PyTypeObject* background_type() noexcept {
  static auto& methods = *new auto(with_operations({
      {"close", close, METH_NOARGS, nullptr},
      {"__enter__", enter, METH_NOARGS, nullptr},
      {"__exit__", leave, METH_VARARGS, nullptr},
  }));
  static PyTypeObject* const type =
      make_type("nbdkit.Background", "A translator's own connection to what is below.", methods);
  return type;
}

// Null: Python's error indicator is set.
Object* make(PyTypeObject* type, bool in_background) noexcept {
  Object* const object = type ? PyObject_New(Object, type) : nullptr;
  if (object == nullptr) return nullptr;
  object->in_background = in_background;
  object->call = nullptr;
  object->below = nullptr;
  object->passing = nullptr;
  object->background = nullptr;
  return object;
}

Ref make_next(const Call& call, Level* below, Passing* passing) noexcept {
  Object* const next = make(next_type(), false);
  if (next == nullptr) return {};
  next->call = &call;
  next->below = below;
  next->passing = passing;
  return Ref::take(reinterpret_cast<PyObject*>(next));
}

}  // namespace

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
  if (const char* const reason = Background::forbidden()) return raise(PyExc_RuntimeError, "background", reason), Ref{};
  auto background = std::make_unique<Background>(translator, backend);
  bool started = false;
  {
    const Detach others_run;
    started = background->start(readonly, name);
  }
  if (!started) return raise_failed("background", EIO), Ref{};
  Object* const object = make(background_type(), true);
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
