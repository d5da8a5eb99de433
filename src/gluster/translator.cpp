// SPDX-License-Identifier: BSD-3-Clause
// Translator: how a script's callbacks ask a child with wind_FOP(), and answer with unwind_FOP().
#include <cerrno>
#include <climits>

#include "answer.hpp"
#include "fields.hpp"
#include "next.hpp"
#include "request.hpp"

namespace nbdkit_python::gluster {
namespace {

struct Translator {
  PyObject_HEAD Instance* instance;
};

// Whether the request may be asked for, or answered, by this translator. False: Python's error indicator is set.
bool is_open_for(const Frame* frame, const Instance* instance) noexcept {
  if (!is_open(frame)) return false;
  if (frame->instance == instance) return true;
  PyErr_SetString(PyExc_TypeError, "this request is another translator's");
  return false;
}

// translator.wind_FOP(frame, child, …)
PyObject* wind_fop(PyObject* self, std::span<PyObject* const> given, int fop) noexcept {
  constexpr std::size_t fixed = 2;
  Instance* const instance = instance_of(self);
  if (instance == nullptr) return nullptr;
  const Busy busy{instance};
  const char* const name = graph_fops[fop].name;
  if (given.size() < fixed || !PyObject_TypeCheck(given[0], types.frame))
    return PyErr_Format(PyExc_TypeError, "wind_%s: expected a frame, a child or None, and the arguments", name);
  Frame* const frame = frame_of(given[0]);
  xlator_t* const child = child_of(given[1], *instance);
  if (child == nullptr || !is_open_for(frame, instance)) return nullptr;
  if (fop != frame->fop && !instance->handlers_of(fop).answer)
    return PyErr_Format(PyExc_TypeError, "wind_%s: there is no %s_cbk, and its answer cannot be that of %s", name, name,
                        graph_fops[frame->fop].name);
  Outgoing outgoing{"wind_", fop};
  // Asked again, since Python may have run meanwhile.
  if (!outgoing.arguments(given.subspan(fixed)) || !is_open(frame)) return nullptr;
  if (const int err = wind(frame, fop, child, outgoing.values()); err != 0) return raise_error(err, Py_None);
  Py_RETURN_NONE;
}

// Whether the request can be answered now, as one of this file operation. False: Python's error indicator is set.
bool may_unwind(const Frame* frame, const Instance* instance, int fop) noexcept {
  const char* const name = graph_fops[fop].name;
  if (!is_open_for(frame, instance)) return false;
  if (fop != frame->fop)
    PyErr_Format(PyExc_TypeError, "unwind_%s: this request is a %s", name, graph_fops[frame->fop].name);
  else if (frame->pending > 0)
    PyErr_Format(PyExc_RuntimeError, "unwind_%s: %d of the children that were asked have not answered yet", name,
                 frame->pending);
  else
    return true;
  return false;
}

// The two numbers of an answer. False: Python's error indicator is set.
bool take_op(int fop, PyObject* op_ret, PyObject* op_errno, std::int32_t* ret, std::int32_t* err) noexcept {
  const long result = PyLong_AsLong(op_ret);
  const long number = PyLong_AsLong(op_errno);
  if (PyErr_Occurred() != nullptr) return false;
  *ret = static_cast<std::int32_t>(result);
  *err = static_cast<std::int32_t>(number);
  if (*ret == result && (result >= 0 || (*err == number && error_number(*err) == *err))) return true;
  PyErr_Format(PyExc_ValueError,
               "unwind_%s: expected an op_ret of 32 bits and, if it is below 0, an op_errno, got %ld, %ld",
               graph_fops[fop].name, result, number);
  return false;
}

// translator.unwind_FOP(frame, cookie, this, op_ret, op_errno, …)
PyObject* unwind_fop(PyObject* self, std::span<PyObject* const> given, int fop) noexcept {
  constexpr std::size_t fixed = 5;
  Instance* const instance = instance_of(self);
  if (instance == nullptr) return nullptr;
  const Busy busy{instance};
  if (given.size() < fixed || !PyObject_TypeCheck(given[0], types.frame) || !PyLong_Check(given[3]) ||
      !PyLong_Check(given[4]))
    return PyErr_Format(PyExc_TypeError, "unwind_%s: expected frame, cookie, this, op_ret, op_errno, and the answer",
                        graph_fops[fop].name);
  Frame* const frame = frame_of(given[0]);
  std::int32_t ret = 0, err = 0;
  Outgoing outgoing{"unwind_", fop};
  // Asked again at the end, since Python may have run meanwhile.
  if (!may_unwind(frame, instance, fop) || !take_op(fop, given[3], given[4], &ret, &err) ||
      !outgoing.answer(given.subspan(fixed), ret >= 0) || !may_unwind(frame, instance, fop))
    return nullptr;
  if (ret >= 0 && outgoing.length() >= 0) ret = static_cast<std::int32_t>(outgoing.length());
  unwind(frame, ret, err, outgoing.values());
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
#define FOP(name, arguments, answer) fop_method<wind_fop, fop_##name>("wind_" #name),
#include "fops.def"
#undef FOP
#define FOP(name, arguments, answer) fop_method<unwind_fop, fop_##name>("unwind_" #name),
#include "fops.def"
#undef FOP
    {}};

}  // namespace

Instance* instance_of(PyObject* translator) noexcept {
  Instance* const instance = reinterpret_cast<Translator*>(translator)->instance;
  if (instance == nullptr) PyErr_SetString(types.expired, "this translator is not, or no longer, in a graph");
  return instance;
}

void set_instance(PyObject* translator, Instance* instance) noexcept {
  reinterpret_cast<Translator*>(translator)->instance = instance;
}

PyTypeObject* make_translator_type() noexcept {
  return make_type("glusterfs._Translator", "What a script's translator asks with.", sizeof(Translator),
                   Py_TPFLAGS_BASETYPE, {{Py_tp_methods, methods}});
}

}  // namespace nbdkit_python::gluster
