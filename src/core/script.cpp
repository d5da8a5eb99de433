// SPDX-License-Identifier: BSD-3-Clause
// Loading a script and resolving its callbacks; the rules are in python/nbdkit/_script.py.
#include "nbdkit_python/script.hpp"

#include <algorithm>

#include "nbdkit_python/convert.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"

// Set by the server before the door's load: `-D python.calls=1` and `-D python.timing=1`. nbdkit looks for them in the
// door, which leads it here, so that one variable serves all doors.
extern "C" {
int python_debug_calls = 0;
int python_debug_timing = 0;
}

namespace nbdkit_python {
namespace {

// The callbacks as `resolve` takes them: (name, need, may_yield, parameters).
Ref specs(std::span<const Callback> callbacks, int api_version) noexcept {
  Ref list = Ref::take(PyList_New(0));
  if (!list) return {};
  for (const Callback& c : callbacks) {
    const Ref spec = Ref::take(Py_BuildValue("siOs", c.name, static_cast<int>(c.need), c.may_yield ? Py_True : Py_False,
                                             api_version == 1 ? c.v1 : c.v2));
    if (!spec || PyList_Append(list.get(), spec.get()) == -1) return {};
  }
  return list;
}

// The one that is `__main__`, while it is there.
const Script* main_script = nullptr;

}  // namespace

Script::Script(const Server& server, const char* name, std::span<const Callback> callbacks, const char* kind)
    : server_{server},
      name_{name},
      callbacks_{callbacks},
      kind_{kind},
      own_(callbacks.size()),
      table_(callbacks.size()) {}

std::unique_ptr<Script> Script::load(const Server& server, const char* name, std::span<const Callback> callbacks,
                                     const char* kind) noexcept {
  auto script = std::unique_ptr<Script>{new Script{server, name, callbacks, kind}};
  if (script->run()) return script;
  return {};
}

Script::~Script() {
  if (main_script == this) main_script = nullptr;
}

bool Script::run() noexcept {
  PyObject* const loader = interpreter::package().script.get();
  const Ref path = to_python(name_.c_str());
  const bool main = main_script == nullptr && &server_ == &interpreter::server();
  if (main) main_script = this;
  if (path) module_ = Ref::take(PyObject_CallMethod(loader, "load", "OO", path.get(), main ? Py_True : Py_False));
  if (!module_) return report(""), false;

  const Ref version =
      Ref::take(PyObject_CallMethod(loader, "api_version", "Ois", module_.get(), max_api_version, kind_));
  if (!version) return report(""), false;
  api_version_ = static_cast<int>(PyLong_AsLong(version.get()));

  const Ref key = Ref::take(PyObject_CallMethod(loader, "magic_config_key", "Os", module_.get(), kind_));
  if (!key) return report(""), false;
  if (key.get() != Py_None) {
    magic_config_key_ = to_text(key.get());
    if (!magic_config_key_) return report("magic_config_key"), false;
  }
  return true;
}

bool Script::resolve() noexcept {
  const Ref list = specs(callbacks_, api_version_);
  const Ref found = list ? Ref::take(PyObject_CallMethod(interpreter::package().script.get(), "resolve", "OOs",
                                                         module_.get(), list.get(), kind_))
                         : Ref{};
  if (!found) return report(""), false;
  PyObject* const resolved = PyTuple_GET_ITEM(found.get(), 0);
  PyObject* const warnings = PyTuple_GET_ITEM(found.get(), 1);
  for (std::size_t id = 0; id < table_.size(); ++id) {
    PyObject* const callback = PyList_GET_ITEM(resolved, static_cast<Py_ssize_t>(id));
    own_[id] = callback == Py_None ? Ref{} : Ref::borrow(callback);
    table_[id] = own_[id] ? traced(callbacks_[id], callback) : Ref{};
    if (own_[id] && !table_[id]) return report(""), false;
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(warnings); ++i) {
    std::string warning = log_text(PyList_GET_ITEM(warnings, i));
    if (std::ranges::find(warnings_, warning) != warnings_.end()) continue;
    complain("", warning);
    warnings_.push_back(std::move(warning));
  }
  return true;
}

Ref Script::traced(const Callback& callback, PyObject* own) const noexcept {
  if (python_debug_calls == 0 && python_debug_timing == 0) return Ref::borrow(own);
  const Ref trace = Ref::take(PyImport_ImportModule("nbdkit._trace"));
  const Ref name = to_python(name_.c_str());
  if (!trace || !name) return {};
  return Ref::take(PyObject_CallMethod(trace.get(), "wrap", "OsOii", name.get(), callback.name, own, python_debug_calls,
                                       python_debug_timing));
}

std::optional<bool> Script::ask(const char* question, std::size_t id) const noexcept {
  const Ref answer =
      Ref::take(PyObject_CallMethod(interpreter::package().script.get(), question, "Os", own(id), callbacks_[id].v2));
  return answer ? to_bool(answer.get()) : std::nullopt;
}

std::optional<bool> Script::takes_count(std::size_t id) const noexcept { return ask("takes_count", id); }

std::optional<bool> Script::fills_buffer(std::size_t id) const noexcept { return ask("fills_buffer", id); }

std::optional<std::string> Script::summary() const noexcept {
  const Ref doc = Ref::take(PyObject_GetAttrString(module_.get(), "__doc__"));
  PyErr_Clear();
  if (!doc || !PyUnicode_Check(doc.get())) return {};
  std::string text = log_text(doc.get());
  text.erase(0, text.find_first_not_of(" \t\n"));
  text.erase(std::min(text.find('\n'), text.size()));
  return text;
}

std::optional<std::string> Script::dump() const noexcept {
  const Ref text = Ref::take(PyObject_CallMethod(interpreter::package().script.get(), "dump", "O", module_.get()));
  return text ? std::optional{log_text(text.get())} : std::nullopt;
}

int Script::report(const char* where, int set_error) const noexcept {
  const Failure failure = take_failure(set_error);
  complain(where, failure.message);
  return failure.err;
}

void Script::complain(const char* where, const std::string& message) const noexcept {
  std::string line = name_ + ": ";
  if (*where != '\0') line += std::string{where} + ": ";
  line += message;
  server_.error(line.c_str());
}

}  // namespace nbdkit_python
